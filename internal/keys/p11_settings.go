package keys

import (
	"context"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// p11Settings changes what PKCS#11 shows of a key; all of the request or nothing.
func (s *Service) p11Settings(ctx context.Context, c *op.Call, r *api.P11Settings) (*api.P11Key, error) {
	k, err := s.findThis(ctx, c.Mount, r.Name, r.KeyID, "key not found")
	if err != nil {
		return nil, err
	}
	if r.Keep != "" {
		if err := mayKeep(c, k, r.Keep); err != nil {
			return nil, err
		}
	}
	if r.Label == nil && r.ID == nil && r.Subject == nil && r.Keep == "" {
		return s.p11Key(ctx, c, k)
	}
	if r.Keep != "" {
		k, err = s.keep(ctx, k, r)
	} else {
		k, err = s.update(ctx, k.name, func(k *key) (*key, []store.Change, error) {
			meta, err := k.set(r)
			return k.with(meta), nil, err
		})
	}
	if err != nil {
		return nil, orMissing(err, "key not found")
	}
	return s.p11Key(ctx, c, k)
}

// set returns the record of a key with the settings of a request.
func (k *key) set(r *api.P11Settings) (keyRecord, error) {
	meta := k.meta
	if err := k.usable(); err != nil {
		return meta, err
	}
	if meta.Derived {
		return meta, invalid("the key %s is derived, which PKCS#11 has no words for", k.name.name)
	}
	record := meta.PKCS11.copy()
	if r.Label != nil {
		record.Label = *r.Label
	}
	if r.ID != nil {
		record.ID = *r.ID
	}
	if r.Subject != nil {
		record.Subject = *r.Subject
	}
	meta.PKCS11 = record
	return meta, record.check()
}

// mayKeep refuses a name that the caller could not have given to a new key.
func mayKeep(c *op.Call, k *key, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	switch {
	case !k.meta.PKCS11.session():
		return invalid("the key %s is no key of a session: it stays under its name", k.name.name)
	case isSessionName(name):
		return invalid("%q is a name for keys of sessions: choose another for one that stays", name)
	case !c.May(op.Write, "pkcs11/"+name+"/create"):
		return fault.New(fault.Denied, "permission denied").WithHint("a new name needs update on pkcs11/%s/create", name)
	}
	return nil
}

// keep gives a key of a session another name, under which it stays. It is one
// transaction: a crash leaves the key under one of the names.
func (s *Service) keep(ctx context.Context, k *key, r *api.P11Settings) (*key, error) {
	old, now := k.name, keyName{k.name.mount, r.Keep}
	// All who hold two entries lock them in this order.
	first, second := old, now
	if first.name > second.name {
		first, second = second, first
	}
	a := s.cache.lock(first)
	defer s.cache.unlock(first, a)
	b := s.cache.lock(second)
	defer s.cache.unlock(second, b)
	from, to := a, b
	if first == now {
		from, to = b, a
	}
	for range maxTries {
		kept, err := s.rename(ctx, old, now, from, to, r)
		from.key.Store(nil) // whatever happened, the store knows
		to.key.Store(nil)
		s.changed(old)
		s.changed(now)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err == nil {
			s.forgetClock(old)
			to.key.Store(kept)
		}
		return kept, storeFault(err, "keep the key")
	}
	return nil, storeFault(store.ErrConflict, "keep the key")
}

// rename moves all records of a key; both entries are locked.
func (s *Service) rename(ctx context.Context, old, now keyName, from, to *entry, r *api.P11Settings) (*key, error) {
	if _, err := s.load(ctx, now, to); !errors.Is(err, errNoKey) {
		return nil, orConflict(err, "the key %s exists already", now.name)
	}
	k, err := s.load(ctx, old, from)
	if err != nil {
		return nil, err
	}
	meta, err := k.set(r)
	if err != nil {
		return nil, err
	}
	if !meta.PKCS11.session() {
		return nil, fault.New(fault.Conflict, "the key %s was kept by another call meanwhile", old.name)
	}
	meta.PKCS11 = meta.PKCS11.kept()
	put, err := s.store.Put(tableKeys, now.record(), 0, meta)
	if err != nil {
		return nil, err
	}
	changes := []store.Change{
		put, s.store.Remove(tableKeys, old.record(), k.rec),
		s.store.Remove(tableSessions, old.record(), sessionNew),
	}
	for v := max(meta.MinAvailable, 1); v <= meta.Latest; v++ {
		moved, err := s.moveVersion(ctx, old, now, v)
		if err != nil {
			return nil, err
		}
		changes = append(changes, moved...)
	}
	if meta.AutoRotate > 0 {
		due, err := s.putAutoRotate(ctx, now)
		if err != nil {
			return nil, err
		}
		changes = append(changes, due)
	}
	if err := s.store.Apply(ctx, changes...); err != nil {
		return nil, err
	}
	return newKey(now, meta, 1), nil
}

// moveVersion moves the record of a version, with the secret in it as it is.
func (s *Service) moveVersion(ctx context.Context, old, now keyName, number int) ([]store.Change, error) {
	var r versionRecord
	rec, err := s.store.Get(ctx, tableVersions, old.version(number), &r)
	if err != nil {
		return nil, err
	}
	defer r.wipe()
	put, err := s.store.Put(tableVersions, now.version(number), 0, r)
	return []store.Change{put, s.store.Remove(tableVersions, old.version(number), rec)}, err
}
