package custody

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// SealPlace is the table and key of the seal record in a store.
const (
	SealTable = table
	SealKey   = recordKey
)

// StorageKeys returns the storage keys of all terms, which the HSM token opens. The
// caller wipes them.
func (c *Custody) StorageKeys(ctx context.Context) (store.Keyring, error) {
	c.mu.Lock()
	rec, tok := c.rec, c.tok
	c.mu.Unlock()
	if tok == nil {
		return nil, fault.New(fault.Sealed, "Vault is sealed")
	}
	keys, err := rec.openStorageKeys(ctx, tok)
	if err != nil {
		keys.Wipe()
		return nil, deviceFault(err, "open the storage keys in the HSM token")
	}
	return keys, nil
}

// NewToken is an HSM token that takes the place of another one.
type NewToken struct {
	Token         token.Token
	Label, Serial string
	PIN           []byte        // of the user; the caller wipes it
	Keys          store.Keyring // the store's; the caller wipes them
}

// Rebind makes of a store's seal record the one for a new HSM token: the custodians
// and their shares stay, of which share gives as many as unseal; the PIN and the
// storage keys are sealed anew. Nothing is stored.
func Rebind(ctx context.Context, seal []byte, n NewToken, share func(ctx context.Context, n, needed int) ([]byte, error)) ([]byte, error) {
	rec, err := parseRecord(seal)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the seal record of the snapshot")
	}
	if len(n.Keys) != 1+len(rec.Terms) {
		return nil, fault.New(fault.Invalid, "the snapshot has %d storage keys, and its seal record %d", len(n.Keys), 1+len(rec.Terms))
	}
	next := *rec
	next.TokenLabel, next.TokenSerial, next.Adopted = n.Label, n.Serial, true
	if rec.Kind != KindPIN { // the PIN of that is in the configuration
		if err := resealPIN(ctx, rec, &next, n.PIN, share); err != nil {
			return nil, err
		}
	}
	if next.StorageKey, err = n.Token.SealSecret(ctx, n.Keys[0], next.storageAAD()); err != nil {
		return nil, deviceFault(err, "seal the storage key in the new HSM token")
	}
	next.Terms = slices.Clone(rec.Terms)
	for i := range next.Terms {
		t := &next.Terms[i]
		if t.Key, err = n.Token.SealSecret(ctx, n.Keys[i+1], next.termAAD(t)); err != nil {
			return nil, deviceFault(err, "seal the storage keys in the new HSM token")
		}
	}
	return json.Marshal(&next)
}

// resealPIN collects shares and seals a PIN under what they open. That they open the
// old one shows that they are genuine. The set that they are of is the one in force
// from then on; a provider of custody, which is bound to the old token, opens no more.
func resealPIN(ctx context.Context, rec, next *record, pin []byte, share func(ctx context.Context, n, needed int) ([]byte, error)) error {
	var given collection
	defer given.wipe()
	for len(given.shares) < given.needed(rec) {
		text, err := share(ctx, len(given.shares)+1, given.needed(rec))
		if err != nil {
			return err
		}
		s, err := ParseShare(string(text))
		clear(text)
		if err == nil {
			err = given.take(&s, rec.sets()...)
		}
		s.Wipe()
		if err != nil {
			return err
		}
	}
	o, err := rec.openWith(given.shares)
	if err != nil {
		return err
	}
	defer o.wipe()
	next.SetID, next.Shares, next.Threshold, next.Commitments, next.set = o.set.ID().String(), o.set.N, o.set.T, o.set.Commitments, o.set
	next.Former, next.Auto = nil, nil
	if next.Kind == KindAuto {
		next.Kind = ""
	}
	next.PINs, err = sealPINs(o.key, &pins{user: pin}, next.pinAAD())
	return err
}
