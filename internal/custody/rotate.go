package custody

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// openStorageKeys returns the storage keys of all terms, also those that were
// opened before an error: the caller wipes them.
func (r *record) openStorageKeys(ctx context.Context, tok token.Token) (store.Keyring, error) {
	key, err := tok.OpenSecret(ctx, r.StorageKey, r.storageAAD())
	if err != nil {
		return nil, err
	}
	keys := store.Keyring{key}
	for i := range r.Terms {
		key, err := tok.OpenSecret(ctx, r.Terms[i].Key, r.termAAD(&r.Terms[i]))
		if err != nil {
			return keys, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Rotate makes a storage key of the next term. What is written from then on is
// sealed under it; what the keys of earlier terms sealed opens as before, and
// moves to the new one when it is written again. The seal record is the one thing
// that changes, in one transaction, so that a crash leaves the old keyring or the
// new one.
func (c *Custody) Rotate(ctx context.Context) error {
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	c.mu.Lock()
	rec, tok := c.rec, c.tok
	c.mu.Unlock()
	if tok == nil {
		return fault.New(fault.Sealed, "Vault is sealed")
	}
	if err := c.rotate(ctx, rec, tok); err != nil {
		c.log.Error("The storage key was not replaced", "error", err)
		return err
	}
	term, _ := c.record().term()
	c.log.Info("The storage key was replaced", "term", term)
	return nil
}

func (c *Custody) rotate(ctx context.Context, rec *record, tok token.Token) error {
	ctx, cancel := deviceContext(ctx)
	defer cancel()
	key := make([]byte, store.StorageKeySize)
	defer clear(key)
	rand.Read(key)
	term, _ := rec.term()
	t := termRecord{Term: term + 1, Installed: c.now().UTC().Truncate(time.Second)}
	var err error
	if t.Key, err = tok.SealSecret(ctx, key, rec.termAAD(&t)); err != nil {
		return deviceFault(err, "seal the new storage key in the HSM token")
	}
	next := *rec
	next.Terms = append(rec.Terms[:len(rec.Terms):len(rec.Terms)], t)
	if err := c.replaceRecord(ctx, rec, &next, "the new storage key"); err != nil {
		return err
	}
	c.mu.Lock()
	c.rec, c.used = &next, useRecord{Term: t.Term}
	c.mu.Unlock()
	// The record is durable: whatever happens now, the next unsealing has the key.
	return c.opts.Records.AddTerm(key)
}

// replaceRecord writes next in the place of rec, and more in the same transaction;
// what names it to people.
func (c *Custody) replaceRecord(ctx context.Context, rec, next *record, what string, more ...store.Change) error {
	raw, err := c.opts.Store.Get(ctx, table, recordKey)
	if err != nil {
		return storeFault(err)
	}
	stored, err := parseRecord(raw.Data)
	if err != nil || !sameRecord(stored, rec) {
		return (&fault.Error{Kind: fault.Conflict, Err: err,
			Msg: "the seal record in the database is not the one that this server unsealed with; nothing was changed"}).
			WithHint("find out who changed it, put the right one back from a backup, and unseal again")
	}
	data, err := json.Marshal(next)
	if err != nil {
		return err
	}
	failure := c.opts.Store.Apply(ctx, append(more, store.Change{Table: table, Key: recordKey, Expect: raw.Version, Data: data})...)
	if failure == nil {
		return nil
	}
	// Only the database knows what an Apply that failed has done.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	stored, err = loadRecord(ctx, c.opts.Store)
	switch {
	case err != nil:
		return (&fault.Error{Kind: fault.Uncertain, Err: errors.Join(failure, err),
			Msg: "the database failed while " + what + " was written and can't be read now; " + seeLog}).
			WithHint("whatever it holds, everything opens: seal and unseal the server to use what is stored")
	case sameRecord(stored, next):
		return nil
	}
	return storeFault(failure)
}

// sameRecord tells whether two records are the same to the last byte.
func sameRecord(a, b *record) bool {
	if a == nil {
		return false
	}
	one, err := json.Marshal(a)
	two, err2 := json.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(one, two)
}
