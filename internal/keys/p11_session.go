package keys

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// Keys of sessions (CKA_TOKEN false) are named keys that end when nobody uses them:
// the program that made them may be gone without a word. When a key was used is
// kept in memory only; a restart of the server counts as a use.

// tableSessions has one sessionRecord for each key of a session, so that nobody has
// to read through all keys. It is written and removed with the key.
const tableSessions = "p11_sessions"

const (
	sessionPrefix = "session-"
	sessionNew    = 1 // version of a sessionRecord, which is written once
	sessionLife   = 10 * time.Minute
	maxSessions   = 4096 // of a mount
	sweepEvery    = time.Minute
	endTimeout    = time.Minute
)

type sessionRecord struct {
	Format int `json:"format"`
}

// clockOf is where the uses of a key of a session are noted, nil for any other.
func (s *Service) clockOf(n keyName, m *keyRecord) *atomic.Int64 {
	if !m.PKCS11.session() {
		return nil
	}
	return s.clock(n)
}

// clock starts now if it is new.
func (s *Service) clock(n keyName) *atomic.Int64 {
	if c, ok := s.sessions.Load(n); ok {
		return c.(*atomic.Int64)
	}
	fresh := new(atomic.Int64)
	fresh.Store(s.now().UnixNano())
	c, _ := s.sessions.LoadOrStore(n, fresh)
	return c.(*atomic.Int64)
}

func (s *Service) forgetClock(n keyName) { s.sessions.Delete(n) }

// idle tells whether a key of a session has not been used for its whole life.
func (s *Service) idle(n keyName) bool {
	return s.now().Sub(time.Unix(0, s.clock(n).Load())) >= sessionLife
}

// KeepSessions deletes the keys of sessions that are not used any more, now and
// then, until ctx ends. mounted returns the paths of mounts and what the keys'
// records call each.
func (s *Service) KeepSessions(ctx context.Context, mounted func() map[string]string, run Run) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := s.EndSessions(ctx, mounted(), run); err != nil && fault.KindOf(err) != fault.Sealed && ctx.Err() == nil {
			s.log.Warn("keys of sessions that ended are not deleted yet; it is tried again soon", "error", err)
		}
	}
}

// EndSessions deletes the keys of sessions that have not been used for ten minutes.
// One that can't be deleted is logged and does not keep others from it.
func (s *Service) EndSessions(ctx context.Context, mounted map[string]string, run Run) error {
	if _, err := s.token.Get(); err != nil {
		return tokenFault(err, "delete keys")
	}
	for path, mount := range mounted {
		names, err := s.sessionNames(ctx, mount)
		if err != nil {
			return err
		}
		for name := range names {
			n := keyName{mount, name}
			if !s.idle(n) {
				continue
			}
			err := s.endSession(ctx, n, path, run)
			if err != nil && (ofWhole(err) || ctx.Err() != nil) {
				return err
			}
			if err != nil && fault.KindOf(err) != fault.Conflict {
				s.log.Error("a key of a session that ended can't be deleted", "mount", mount, "key", name, "error", err)
			}
		}
	}
	return nil
}

// endSession deletes a key unless it was used or kept meanwhile.
func (s *Service) endSession(ctx context.Context, n keyName, path string, run Run) error {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	return run(ctx, op.Delete, path+"keys/"+n.name, &api.KeyName{Name: n.name}, func(ctx context.Context, _ *op.Call) (any, error) {
		gone, err := s.removeRecords(ctx, n, func(k *key) error {
			if k.meta.PKCS11.session() && s.idle(n) {
				return nil
			}
			return fault.New(fault.Conflict, "the key was used or kept meanwhile; nothing is to do")
		})
		if err != nil {
			return nil, err
		}
		s.destroy(ctx, n, gone)
		return nil, nil
	})
}

// sessionNames returns the names of the keys of sessions of a mount.
func (s *Service) sessionNames(ctx context.Context, mount string) (map[string]bool, error) {
	records, err := s.store.Names(ctx, tableSessions, mount, "", 0)
	if err != nil || len(records) == 0 {
		return nil, storeFault(err, "list the keys of sessions")
	}
	names := make(map[string]bool, len(records))
	for _, record := range records {
		if name := strings.TrimPrefix(record, mount); !strings.Contains(name, "/") {
			names[name] = true
		}
	}
	return names, nil
}
