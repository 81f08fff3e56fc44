package custody

import (
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// No PIN, share, unseal key or storage key shows in the log, in an error, or in
// clear text in the store (promise P6).
func TestSecretsStayIn(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var said []string
	try := func(_ any, err error) {
		if err != nil {
			said = append(said, err.Error(), fault.HintOf(err))
		}
	}
	r := b.init(3, 2)
	shares := parseShares(t, r.Keys...)
	altered := shares[0]
	altered.Value = shares[1].Value
	for _, share := range []string{r.Keys[0], r.Keys[0], altered.Hex(), r.Keys[1][1:], "1" + r.Keys[1][1:], vectorShares[0]} {
		try(b.c.Unseal(t.Context(), share))
	}
	right := b.device.userPIN
	b.device.userPIN = []byte("changed")
	try(b.c.Unseal(t.Context(), r.Keys[1]))
	try(b.c.Unseal(t.Context(), r.Keys[1]))
	try(b.c.Reset(t.Context()))
	b.device.userPIN = right
	b.give(r.Keys[1], r.Keys[2])
	if err := b.c.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}

	a := adoptBed(t)
	for _, pin := range []string{"864209", "864209", "135792"} {
		try(a.c.Init(t.Context(), &api.Init{SecretShares: 1, SecretThreshold: 1, HSMPIN: pin}))
	}
	if len(said) < 2*9 {
		t.Fatalf("only %d texts of errors", len(said))
	}
	all := strings.Join(said, "\n") + b.log.String() + a.log.String()
	for _, s := range []*memStore{b.store, a.store} {
		for _, row := range s.records {
			all += string(row.Data) + hex.EncodeToString(row.Data)
		}
	}
	secrets := []string{string(right), string(b.device.soPIN), "864209", "135792", rootToken}
	for i := range shares {
		secrets = append(secrets, r.Keys[i][20:], r.KeysBase64[i][20:], hex.EncodeToString(shares[i].Value[:16]))
	}
	key, err := (&Set{N: 3, T: 2, Commitments: b.c.rec.Commitments}).Combine(shares[:2])
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, hex.EncodeToString(key))
	for _, s := range secrets {
		if strings.Contains(strings.ToLower(all), strings.ToLower(s)) {
			t.Errorf("the secret %q shows", s)
		}
	}
	for _, word := range []string{"Initialised", "A share was accepted", "A share was refused", "Unsealed", "Sealed", "Unsealing failed"} {
		if !strings.Contains(b.log.String(), word) {
			t.Errorf("the log does not say %q", word)
		}
	}
}

// The device gets a PIN that is wiped as soon as it has answered.
func TestPINIsWiped(t *testing.T) {
	t.Parallel()
	spy := &spyDevice{}
	b := newBed(t)
	spy.memDevice = b.device
	b.opts.Device = spy
	b.restart()
	r := b.init(1, 1)
	b.give(r.Keys...)
	if len(spy.pins) != 4 {
		t.Fatalf("%d PINs were given", len(spy.pins))
	}
	for i, pin := range spy.pins {
		if strings.Trim(string(pin), "\x00") != "" {
			t.Errorf("PIN %d is still there", i)
		}
	}
	if b.c.given.shares != nil {
		t.Error("the shares are still there")
	}
}

func TestCollectionWipes(t *testing.T) {
	t.Parallel()
	var g collection
	for _, s := range parseShares(t, vectorShares...) {
		g.add(s)
	}
	shares := g.shares
	g.drop()
	if shares[4].Value != [32]byte{} || len(g.shares) != 4 {
		t.Error("the dropped share is still there")
	}
	g.wipe()
	for i := range shares {
		if shares[i].Value != [32]byte{} {
			t.Errorf("share %d is still there", i+1)
		}
	}
}

// Everything at once; run it with the race detector.
func TestConcurrently(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(o *Options) { o.OpenGenerateRoot = true })
	r := b.init(5, 3)
	table := b.c.Operations()
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			for range 20 {
				if _, err := b.c.Unseal(t.Context(), r.Keys[i]); err != nil && !errors.Is(err, ErrRepeated) {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if err := b.c.Seal(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := b.c.Reset(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for range 200 {
			b.c.State()
			for _, o := range table {
				if o.Verb == 1 {
					req := o.NewRequest()
					if act, ok := req.(*api.CeremonyAct); ok {
						act.Act = api.ActInit
					}
					_, err := o.Invoke(t.Context(), nil, req)
					if err != nil && fault.KindOf(err) != fault.Sealed && o.Name != "sys.ceremony" {
						t.Error(o.Name, err)
					}
				}
			}
		}
	})
	wg.Wait()
	if err := b.c.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.give(r.Keys[0], r.Keys[1], r.Keys[2])
	b.wantState(true, false)
}
