package keys

import (
	"context"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// deleteKey removes a key for ever. One transaction removes its records and
// turns its token objects into intents; the objects are destroyed after it, now
// or, if the HSM token does not answer, at the next Start.
func (s *Service) deleteKey(ctx context.Context, c *op.Call, r *api.KeyName) (*api.Empty, error) {
	n := keyName{c.Mount, r.Name}
	k, err := s.key(ctx, n)
	if errors.Is(err, errNoKey) {
		return nil, invalid("error deleting policy %s: could not delete key; not found", n.name)
	}
	if err != nil {
		return nil, err
	}
	if err := deletable(k); err != nil {
		return nil, err
	}
	gone, err := s.removeRecords(ctx, n, deletable)
	if err != nil {
		return nil, err
	}
	s.destroy(ctx, n, gone)
	return nil, nil
}

func notDeletable(n keyName) error {
	return invalid("error deleting policy %s: deletion is not allowed for this key", n.name).
		WithHint("set deletion_allowed=true with keys/%s/config first", n.name)
}

// deletable refuses a key whose rules forbid its deletion.
func deletable(k *key) error {
	if !k.meta.DeletionAllowed {
		return notDeletable(k.name)
	}
	return nil
}

// removeRecords makes the transaction and returns the secrets of the key that
// are in the HSM token. may, if given, may refuse the state that the key has by
// then: with its mount a key goes whatever its rules say.
func (s *Service) removeRecords(ctx context.Context, n keyName, may func(*key) error) ([]secretRecord, error) {
	e := s.cache.lock(n)
	defer s.cache.unlock(n, e)
	for range maxTries {
		k, err := s.load(ctx, n, e)
		if errors.Is(err, errNoKey) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if may != nil {
			if err := may(k); err != nil {
				return nil, err
			}
		}
		changes, secrets, err := s.removal(ctx, k)
		if err == nil {
			err = s.store.Apply(ctx, changes...)
		}
		e.key.Store(nil)
		s.changed(n)
		if err == nil {
			s.forgetClock(n)
			return secrets, nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return nil, storeFault(err, "delete the key")
		}
	}
	return nil, storeFault(store.ErrConflict, "delete the key")
}

// removal collects the changes that remove every record of k.
func (s *Service) removal(ctx context.Context, k *key) ([]store.Change, []secretRecord, error) {
	changes, secrets, err := s.removeVersions(ctx, k, 1, k.meta.Latest)
	if k.meta.PKCS11.session() {
		changes = append(changes, s.store.Remove(tableSessions, k.name.record(), sessionNew))
	}
	return append(changes, s.store.Remove(tableKeys, k.name.record(), k.rec)), secrets, err
}

// removeVersions collects the changes that remove the versions first to last
// of k, and their secrets that are in the HSM token. Token objects become
// intents: destroy ends them after the transaction.
func (s *Service) removeVersions(ctx context.Context, k *key, first, last int) ([]store.Change, []secretRecord, error) {
	var changes []store.Change
	var secrets []secretRecord
	for v := first; v <= last; v++ {
		var r versionRecord
		rec, err := s.store.Get(ctx, tableVersions, k.name.version(v), &r)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		changes = append(changes, s.store.Remove(tableVersions, k.name.version(v), rec))
		secrets = appendInToken(secrets, &r)
		if k.meta.copied() {
			continue // the count goes on if the secret comes back
		}
		var counted counterRecord
		counter := counterKey(k.meta.ID, v)
		rec, err = s.store.Get(ctx, tableCounters, counter, &counted)
		if err == nil {
			changes = append(changes, s.store.Remove(tableCounters, counter, rec))
		} else if !errors.Is(err, store.ErrNotFound) {
			return nil, nil, err
		}
	}
	for _, secret := range secrets {
		if secret.Place != api.ProtectionToken || secret.kept() {
			continue
		}
		put, err := s.putIntent(k.name, secret)
		if err != nil {
			return nil, nil, err
		}
		changes = append(changes, put)
	}
	return changes, secrets, nil
}

// appendInToken adds the secrets of a version that the HSM token knows, and
// wipes those that it does not.
func appendInToken(to []secretRecord, r *versionRecord) []secretRecord {
	for _, secret := range []*secretRecord{&r.Main, r.MAC} {
		switch {
		case secret == nil, secret.publicOnly():
		case secret.Place == api.ProtectionSoftware:
			clear(secret.Secret)
		default:
			to = append(to, *secret)
		}
	}
	return to
}

// destroy ends the use of secrets inside the HSM token: objects are destroyed,
// wrapped keys dropped from its caches.
func (s *Service) destroy(ctx context.Context, n keyName, secrets []secretRecord) {
	if len(secrets) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	for i := range secrets {
		err := s.destroyOne(ctx, &secrets[i])
		if err != nil {
			s.log.Warn("a secret of a deleted key is still in the HSM token; an object is destroyed at the next start",
				"mount", n.mount, "key", n.name, "id", secrets[i].ID, "error", err)
		}
	}
}

func (s *Service) destroyOne(ctx context.Context, secret *secretRecord) error {
	if secret.Place == api.ProtectionToken && !secret.kept() {
		return s.dropIntent(ctx, secret.ID, true)
	}
	stored, err := secret.stored()
	if err != nil {
		return err
	}
	var t token.Token
	if t, err = s.token.Get(); err != nil {
		return err
	}
	return t.Destroy(ctx, stored)
}
