package keys

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// tableAutoRotate has one autoRotateRecord for each key with a period, so that
// nobody has to read through all keys. A record is written with the key and
// removed when its key turns out to be gone, or to have no period any more.
const tableAutoRotate = "key_auto_rotate"

const (
	minAutoRotate = 3600              // seconds
	maxAutoRotate = 100 * 365 * 86400 // seconds; what is longer is a mistake
)

// defaultRotateEvery is how often the server looks for keys that are due.
const defaultRotateEvery = time.Minute

// rotateTimeout is what one rotation may take: some HSMs make RSA keys slowly.
const rotateTimeout = 5 * time.Minute

// autoRotateRecord says when to look at a key again. It decides nothing: a key
// is due when its newest version is as old as its period.
type autoRotateRecord struct {
	Format int       `json:"format"`
	After  time.Time `json:"after,omitzero"`
}

func checkAutoRotate(period api.Seconds) error {
	switch {
	case period == 0:
		return nil
	case period < minAutoRotate:
		return invalid("auto rotate period must be 0 to disable or at least an hour").
			WithHint("auto_rotate_period is in seconds, or a duration such as 720h")
	case period > maxAutoRotate:
		return invalid("auto_rotate_period of %d seconds is more than 100 years; it is 0 for never", period)
	}
	return nil
}

// putAutoRotate is a change that has a key looked at soon.
func (s *Service) putAutoRotate(ctx context.Context, n keyName) (store.Change, error) {
	var old autoRotateRecord
	rec, err := s.store.Get(ctx, tableAutoRotate, n.record(), &old)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return store.Change{}, err
	}
	return s.store.Put(tableAutoRotate, n.record(), rec, autoRotateRecord{Format: recordFormat})
}

// Run performs what the server does by itself as an operation that is recorded:
// verb and path are the operation's, request is its request, and do its work.
type Run func(ctx context.Context, verb op.Verb, path string, request any, do func(context.Context, *op.Call) (any, error)) error

// KeepRotated rotates the keys that are due, now and then, until ctx ends. While
// the server is sealed it does nothing; what became due then is rotated once
// after it. mounted returns the mounts of the engine: paths to their names.
func (s *Service) KeepRotated(ctx context.Context, mounted func() map[string]string, run Run) {
	ticker := time.NewTicker(s.rotateEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := s.RotateDue(ctx, mounted(), run); err != nil && fault.KindOf(err) != fault.Sealed && ctx.Err() == nil {
			s.log.Warn("keys that are due are not rotated yet; it is tried again soon", "error", err)
		}
	}
}

// RotateDue adds a version to every key whose newest version is as old as the
// key's auto_rotate_period. A key that can't be rotated is logged and does not
// keep others from it; the error concerns them all.
func (s *Service) RotateDue(ctx context.Context, mounted map[string]string, run Run) error {
	paths := make(map[string]string, len(mounted)) // by the names
	for path, name := range mounted {
		paths[name] = path
	}
	if _, err := s.token.Get(); err != nil {
		return tokenFault(err, "rotate keys")
	}
	after := ""
	for {
		page, err := s.store.List(ctx, tableAutoRotate, "", after, listPage)
		if err != nil {
			return storeFault(err, "look for keys to rotate")
		}
		for i := range page {
			after = page[i].Key
			err := s.lookAt(ctx, &page[i], paths, run)
			if err != nil && (ofWhole(err) || ctx.Err() != nil) {
				return err
			}
			if err != nil && fault.KindOf(err) != fault.Conflict {
				s.log.Error("a key that is due can't be rotated", "key", page[i].Key, "error", err)
			}
		}
		if len(page) < listPage {
			return nil
		}
	}
}

// lookAt rotates the key of a record if it is due, and notes when to look again.
func (s *Service) lookAt(ctx context.Context, e *store.Entry, paths map[string]string, run Run) error {
	var r autoRotateRecord
	err := e.Decode(&r)
	if err == nil {
		err = checkFormat(r.Format)
	}
	if err != nil {
		return storeFault(err, "read when the key is due")
	}
	now := s.now()
	if now.Before(r.After) {
		return nil
	}
	slash := strings.LastIndexByte(e.Key, '/') + 1
	n := keyName{e.Key[:slash], e.Key[slash:]}
	at, ok := paths[n.mount]
	if !ok {
		return nil // it is being removed
	}
	k, err := s.key(ctx, n)
	if errors.Is(err, errNoKey) || err == nil && k.meta.AutoRotate == 0 {
		return s.noteAfter(ctx, s.store.Remove(tableAutoRotate, e.Key, e.Version))
	}
	if err != nil {
		return err
	}
	if k.usable() != nil || k.mayRotate() != nil {
		return nil // looked at again when that has changed
	}
	newest, err := s.version(ctx, k, k.meta.Latest)
	if err != nil {
		return err
	}
	period := time.Duration(k.meta.AutoRotate) * time.Second
	next := newest.created.Add(period)
	if !now.Before(next) {
		if err := s.rotateDue(ctx, k, at, run); err != nil {
			return err
		}
		next = now.Add(period)
	}
	put, err := s.store.Put(tableAutoRotate, e.Key, e.Version, autoRotateRecord{Format: recordFormat, After: next.UTC()})
	if err != nil {
		return err
	}
	return s.noteAfter(ctx, put)
}

// noteAfter makes a change of tableAutoRotate. If somebody else was quicker,
// the key is looked at again.
func (s *Service) noteAfter(ctx context.Context, change store.Change) error {
	err := s.store.Apply(ctx, change)
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return storeFault(err, "note when a key is due")
}

// rotateDue rotates k, whose mount is at a path, unless that, or a change of its rules, happened meanwhile:
// whoever else found it due too has written another newest version first.
func (s *Service) rotateDue(ctx context.Context, k *key, at string, run Run) error {
	ctx, cancel := context.WithTimeout(ctx, rotateTimeout)
	defer cancel()
	path := at + "keys/" + k.name.name + "/rotate"
	return run(ctx, op.Write, path, &api.KeyName{Name: k.name.name}, func(ctx context.Context, _ *op.Call) (any, error) {
		k, err := s.rotate(ctx, k, func(now *key) error {
			if now.meta.Latest != k.meta.Latest || now.meta.AutoRotate != k.meta.AutoRotate {
				return fault.New(fault.Conflict, "the key was changed meanwhile; nothing is to do")
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		return s.describe(ctx, k)
	})
}

// dropAutoRotate removes the records of a mount's keys.
func (s *Service) dropAutoRotate(ctx context.Context, mount string) error {
	after := ""
	for {
		page, err := s.store.List(ctx, tableAutoRotate, mount, after, listPage)
		if err != nil {
			return storeFault(err, "list the keys to rotate")
		}
		for i := range page {
			after = page[i].Key
			if strings.Contains(strings.TrimPrefix(after, mount), "/") {
				continue // of a mount below this one
			}
			if err := s.noteAfter(ctx, s.store.Remove(tableAutoRotate, after, page[i].Version)); err != nil {
				return err
			}
		}
		if len(page) < listPage {
			return nil
		}
	}
}
