package custody

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/claviger/claviger/api"
)

// rebind makes the seal record for a new token of the one that is stored, with shares.
func (b *bed) rebind(shares ...string) (*record, error) {
	b.t.Helper()
	seal, err := json.Marshal(b.record())
	if err != nil {
		b.t.Fatal(err)
	}
	keys, err := b.c.StorageKeys(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	defer keys.Wipe()
	n := NewToken{Token: b.c.tok, Label: "spare", Serial: "2", PIN: []byte("the new PIN"), Keys: keys}
	made, err := Rebind(b.t.Context(), seal, n, func(_ context.Context, n, _ int) ([]byte, error) {
		if n > len(shares) {
			return nil, errors.New("no more shares")
		}
		return []byte(shares[n-1]), nil
	})
	if err != nil {
		return nil, err
	}
	return parseRecord(made)
}

// wantBound fails unless these shares open the new token's PIN in a record.
func (b *bed) wantBound(r *record, shares ...string) {
	b.t.Helper()
	var given collection
	for _, text := range shares {
		s, err := ParseShare(text)
		if err == nil {
			err = given.take(&s, r.sets()...)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	o, err := r.openWith(given.shares)
	if err != nil {
		b.t.Fatal(err)
	}
	defer o.wipe()
	if string(o.pins.user) != "the new PIN" || len(o.pins.so) > 0 || r.TokenLabel != "spare" || !r.Adopted || r.Former != nil || r.Auto != nil || r.Kind == KindAuto {
		b.t.Errorf("%+v", r.describe())
	}
}

// On a new token the recovery shares alone open what a provider opened on the old one.
func TestRebindFromProvider(t *testing.T) {
	t.Parallel()
	b, _ := newAutoBed(t)
	shares := b.initAuto(3, 2)
	r, err := b.rebind(shares[2], shares[0])
	if err != nil {
		t.Fatal(err)
	}
	b.wantBound(r, shares[0], shares[1])
	if _, err := b.rebind(shares[0]); err == nil {
		t.Error("one share was enough")
	}
}

// While two sets of shares open the seal, the one that is given is in force afterwards.
func TestRebindWithFormerShares(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	old := b.init(3, 2).Keys
	b.give(old[:2]...)
	s := b.rekeyStart(api.StartRekey{SecretShares: 2, SecretThreshold: 1})
	made := b.rekeyGive(s.Nonce, old[:2]...)
	if b.record().Former == nil {
		t.Fatal("there is no former set")
	}
	for name, shares := range map[string][]string{"former": old[1:], "new": made.Keys[:1]} {
		r, err := b.rebind(shares...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b.wantBound(r, shares...)
	}
	if _, err := b.rebind(old[0], made.Keys[0]); err == nil {
		t.Error("shares of two sets opened together")
	}
}
