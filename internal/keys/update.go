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
			return next, nil
		}
		e.key.Store(nil) // whatever happened, the store knows
		if !errors.Is(err, store.ErrConflict) {
			return nil, storeFault(err, "store the key")
		}
	}
	return nil, storeFault(store.ErrConflict, "store the key")
}
