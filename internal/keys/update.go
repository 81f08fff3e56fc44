package keys

import (
	"context"
	"errors"

	"github.com/claviger/claviger/internal/store"
)

// update changes a key in one transaction. edit gets the newest state and
// returns the state to be (k itself: nothing to change) with what else belongs
// to the transaction; it is called again if another process was quicker. On
// success the cache shows the new state before update returns.
func (s *Service) update(ctx context.Context, n keyName, edit func(k *key) (*key, []store.Change, error)) (*key, error) {
	if _, err := s.token.Get(); err != nil {
		return nil, tokenFault(err, "change the key")
	}
	e := s.cache.lock(n)
	defer s.cache.unlock(n, e)
	for range maxTries {
		k, err := s.load(ctx, n, e)
		if err != nil {
			return nil, err
		}
		next, changes, err := edit(k)
		if err != nil || next == k {
			return next, err
		}
		put, err := s.store.Put(tableKeys, n.record(), k.rec, next.meta)
		if err == nil {
			err = s.store.Apply(ctx, append(changes, put)...)
		}
		if err == nil {
			e.key.Store(next)
			s.changed(n)
			return next, nil
		}
		if errors.Is(err, store.ErrConflict) || !s.unchanged(ctx, k) {
			e.key.Store(nil) // whatever happened, the store knows
			s.changed(n)
		}
		if !errors.Is(err, store.ErrConflict) {
			return nil, storeFault(err, "store the key")
		}
	}
	return nil, storeFault(store.ErrConflict, "store the key")
}

// unchanged tells whether the store still has a key in the state k. Then k
// stays loaded, with the encryptions that are reserved for its versions: they
// serve callers while the store can be read but not written.
func (s *Service) unchanged(ctx context.Context, k *key) bool {
	var meta keyRecord
	rec, err := s.store.Get(ctx, tableKeys, k.name.record(), &meta)
	return err == nil && rec == k.rec && meta.ID == k.meta.ID
}
