package keys

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/claviger/claviger/internal/store"
)

// Versions of an intent's record. The transaction that gives the object to a
// key version removes intentNew; whoever wants to destroy the object first
// writes intentClaimed over it. So only one of them can succeed, in whatever
// order they come and however uncertain the outcome of the first is.
const (
	intentNew     = 1
	intentClaimed = 2
)

const (
	cleanTimeout = 15 * time.Second
	intentPage   = 256
)

// putIntent is a change that notes a token object. Its primary key is the
// object's ID in hex.
func (s *Service) putIntent(n keyName, secret secretRecord) (store.Change, error) {
	return s.noteIntent(n, secret, false)
}

func (s *Service) noteIntent(n keyName, secret secretRecord, unsure bool) (store.Change, error) {
	secret.Blob, secret.Public = nil, nil
	r := intentRecord{Format: recordFormat, Key: n.record(), Time: s.now().UTC(), Secret: secret, Unsure: unsure}
	return s.store.Put(tableIntents, secret.ID, 0, r)
}

// dropIntent claims an intent, destroys its object and removes it. If the
// intent is gone the object belongs to a version, and it does nothing. An object
// of which it is unsure that it is ours is destroyed only if made says so.
func (s *Service) dropIntent(ctx context.Context, id string, made bool) error {
	var r intentRecord
	rec, err := s.store.Get(ctx, tableIntents, id, &r)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = checkFormat(r.Format)
	}
	if err != nil {
		return err
	}
	if rec == intentNew {
		put, err := s.store.Put(tableIntents, id, intentNew, r)
		if err == nil {
			err = s.store.Apply(ctx, put)
		}
		if errors.Is(err, store.ErrConflict) {
			return s.dropIntent(ctx, id, made)
		}
		if err != nil {
			return err
		}
	}
	stored, err := r.Secret.stored()
	if err != nil {
		return err
	}
	t, err := s.token.Get()
	if err != nil {
		return err
	}
	if r.Unsure && !made {
		s.log.Warn("making a key object of a given name was interrupted; if it is in the HSM token, it stays there and can be adopted",
			"key", r.Key, "label", stored.Name.Label, "id", hex.EncodeToString(stored.Name.ID))
	} else if err := t.Destroy(ctx, stored); err != nil {
		return err
	}
	err = s.store.Apply(ctx, s.store.Remove(tableIntents, id, intentClaimed))
	if errors.Is(err, store.ErrConflict) {
		return nil // another process finished the same work
	}
	return err
}

func (s *Service) cleanIntents(ctx context.Context) error {
	after := ""
	for {
		page, err := s.store.List(ctx, tableIntents, "", after, intentPage)
		if err != nil {
			return storeFault(err, "look for unfinished key objects")
		}
		for _, e := range page {
			after = e.Key
			if err := s.dropIntent(ctx, e.Key, false); err != nil {
				s.log.Error("an unused key object stays in the HSM token until the next start", "id", e.Key, "error", err)
				continue
			}
			s.log.Info("destroyed a key object that no key uses", "id", e.Key)
		}
		if len(page) < intentPage {
			return nil
		}
	}
}
