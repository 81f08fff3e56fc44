package custody

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// memProvider keeps keys under one of its own, in memory.
type memProvider struct {
	mu   sync.Mutex
	name string
	key  []byte
	down error // of Open and Seal
	lost bool  // opens another key
	seen [][]byte
}

func (p *memProvider) Name() string { return p.name }

func (p *memProvider) Seal(_ context.Context, key []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down != nil {
		return nil, p.down
	}
	p.seen = append(p.seen, slices.Clone(key))
	return p.xor(key), nil
}

func (p *memProvider) Open(_ context.Context, blob []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down != nil {
		return nil, p.down
	}
	key := p.xor(blob)
	if p.lost {
		key[0] ^= 1
	}
	return key, nil
}

func (p *memProvider) xor(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = b[i] ^ p.key[i%len(p.key)]
	}
	return out
}

func (p *memProvider) breakWith(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = err
}

func byProvider(p *memProvider) func(*Options) {
	return func(o *Options) { o.Kind, o.Provider = KindAuto, p }
}

func newAutoBed(t *testing.T) (*bed, *memProvider) {
	t.Helper()
	p := &memProvider{name: "mem", key: []byte("a key of the provider in memory ")}
	return newBed(t, byProvider(p)), p
}

func (b *bed) initAuto(n, t int) []string {
	b.t.Helper()
	r, err := b.c.Init(b.t.Context(), &api.Init{RecoveryShares: n, RecoveryThreshold: t})
	if err != nil {
		b.t.Fatalf("%v (%s)", err, fault.HintOf(err))
	}
	if r.RootToken == "" || len(r.Keys)+len(r.KeysBase64) != 0 || r.Keys == nil || len(r.RecoveryKeys) != n || len(r.RecoveryKeysBase64) != n {
		b.t.Errorf("answer %+v", r)
	}
	return r.RecoveryKeys
}

// configure is a restart with another configuration.
func (b *bed) configure(kind string, p Provider) {
	b.t.Helper()
	b.opts.Kind, b.opts.Provider = kind, p
	b.restart()
}

func (b *bed) migrate(shares ...string) *api.SealStatus {
	b.t.Helper()
	var s *api.SealStatus
	for i, share := range shares {
		var err error
		if s, err = b.c.Migrate(b.t.Context(), share); err != nil {
			b.t.Fatalf("share %d: %v (%s)", i+1, err, fault.HintOf(err))
		}
	}
	return s
}

func TestAutoCustody(t *testing.T) {
	t.Parallel()
	b, _ := newAutoBed(t)
	if s := b.c.Status(); s.Type != "mem" || !s.RecoverySeal || s.Initialized || s.Migration {
		t.Errorf("before: %+v", s)
	}
	shares := b.initAuto(3, 2)
	b.wantState(true, false)
	if s := b.c.Status(); s.Type != "mem" || !s.RecoverySeal || s.T != 2 || s.N != 3 || s.Migration {
		t.Errorf("open: %+v", s)
	}
	b.restart()
	b.wantState(true, true)
	for range 2 {
		if err := b.c.OpenAuto(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.wantState(true, false)
	}
	if !b.works() {
		t.Error("the services do not read what genesis wrote")
	}
	if err := b.c.Rotate(t.Context()); err != nil {
		t.Error(err)
	}
	// Sealed on purpose it stays sealed; the recovery shares open it.
	if err := b.c.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantFault(t, b.c.OpenAuto(t.Context()), fault.Invalid, "sealed on purpose", "recovery shares")
	b.give(shares[2], shares[0])
	b.wantState(true, false)
	b.restart()
	if err := b.c.OpenAuto(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.makeRoot(shares[:2])
}

// makeRoot makes a root token with recovery shares.
func (b *bed) makeRoot(shares []string) {
	b.t.Helper()
	s, err := b.c.startRoot(b.t.Context(), &api.StartGenerateRoot{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, share := range shares {
		if s, err = b.c.giveRoot(b.t.Context(), &api.GiveRootShare{Key: share, Nonce: s.Nonce}); err != nil {
			b.t.Fatal(err)
		}
	}
	if !s.Complete || s.EncodedToken == "" {
		b.t.Errorf("root token: %+v", s)
	}
}

// Nothing of the provider's key, of the envelope's and of the shares is in the log or
// in the store.
func TestAutoSecrets(t *testing.T) {
	t.Parallel()
	b, p := newAutoBed(t)
	shares := b.initAuto(2, 2)
	b.restart()
	if err := b.c.OpenAuto(t.Context()); err != nil {
		t.Fatal(err)
	}
	secrets := append(slices.Clone(p.seen), p.key, []byte(shares[0]), []byte(shares[1]), b.device.userPIN)
	raw := b.store.records[table+"/"+recordKey].Data
	for i, s := range secrets {
		encoded, _ := json.Marshal(s)
		if strings.Contains(b.log.String(), string(s)) || bytes.Contains(raw, s) || bytes.Contains(raw, encoded) {
			t.Errorf("secret %d shows", i)
		}
	}
}

func TestAutoInitRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		req  api.Init
		down error
		lost bool
		kind fault.Kind
		want string
	}{
		{"shares", api.Init{SecretShares: 1, SecretThreshold: 1}, nil, false, fault.Invalid, "recovery_shares"},
		{"both", api.Init{SecretShares: 1, SecretThreshold: 1, RecoveryShares: 1, RecoveryThreshold: 1}, nil, false, fault.Invalid, "not applicable to seal type mem"},
		{"nothing", api.Init{}, nil, false, fault.Invalid, "recovery_shares"},
		{"threshold", api.Init{RecoveryShares: 2, RecoveryThreshold: 3}, nil, false, fault.Invalid, "recovery_threshold"},
		{"keys", api.Init{RecoveryShares: 2, RecoveryThreshold: 2, RecoveryPGPKeys: []string{"x"}}, nil, false, fault.Invalid, "1 recovery_pgp_keys for 2"},
		{"a key", api.Init{RecoveryShares: 1, RecoveryThreshold: 1, RecoveryPGPKeys: []string{"x"}}, nil, false, fault.Invalid, "pgp_keys"},
		{"provider down", api.Init{RecoveryShares: 1, RecoveryThreshold: 1}, fault.New(fault.Unavailable, "no answer"), false, fault.Unavailable, "mem could not seal"},
		{"provider fails", api.Init{RecoveryShares: 1, RecoveryThreshold: 1}, errInjected, false, fault.Unavailable, "mem could not seal"},
		{"provider lies", api.Init{RecoveryShares: 1, RecoveryThreshold: 1}, nil, true, fault.Conflict, "another secret"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, p := newAutoBed(t)
			p.down, p.lost = tt.down, tt.lost
			_, err := b.c.Init(t.Context(), &tt.req)
			wantFault(t, err, tt.kind, tt.want)
			if b.store.len() != 0 || b.device.st.Initialized {
				t.Error("something was made")
			}
		})
	}
	b := newBed(t)
	_, err := b.c.Init(t.Context(), &api.Init{SecretShares: 1, SecretThreshold: 1, RecoveryShares: 1})
	wantFault(t, err, fault.Invalid, "not applicable to seal type shamir", "auto")
}

// What can go wrong at a start. Nothing is tried with the HSM token, and nothing opens.
func TestAutoRefused(t *testing.T) {
	t.Parallel()
	other, _ := newAutoBed(t)
	other.initAuto(1, 1)
	var foreign record
	if err := json.Unmarshal(other.store.records[table+"/"+recordKey].Data, &foreign); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*bed, *memProvider)
		kind   fault.Kind
		want   string
	}{
		{"provider down", func(_ *bed, p *memProvider) { p.breakWith(fault.New(fault.Unavailable, "no answer")) }, fault.Unavailable, "no answer"},
		{"provider refuses", func(_ *bed, p *memProvider) { p.breakWith(fault.New(fault.Denied, "no")) }, fault.Denied, "recovery shares"},
		{"key deleted", func(_ *bed, p *memProvider) { p.breakWith(fault.New(fault.Conflict, "gone")) }, fault.Conflict, "gone"},
		{"its own fault", func(_ *bed, p *memProvider) { p.breakWith(errors.New("detail")) }, fault.Unavailable, "log has the details"},
		{"another key of the provider", func(_ *bed, p *memProvider) { p.lost = true }, fault.Conflict, "is not the unseal secret of this server"},
		{"record of another server", func(b *bed, _ *memProvider) {
			b.store.edit(t, func(r *record) { r.Auto = foreign.Auto })
		}, fault.Conflict, "copied from another server"},
		{"altered", func(b *bed, _ *memProvider) {
			b.store.edit(t, func(r *record) { r.Auto.Sealed[20] ^= 1 })
		}, fault.Conflict, "altered"},
		{"truncated", func(b *bed, _ *memProvider) {
			b.store.edit(t, func(r *record) { r.Auto.Sealed = r.Auto.Sealed[:5] })
		}, fault.Conflict, "altered"},
		{"label altered", func(b *bed, _ *memProvider) {
			b.store.edit(t, func(r *record) { r.ClusterID = "x" })
		}, fault.Conflict, "altered"},
		{"PINs altered", func(b *bed, _ *memProvider) {
			b.store.edit(t, func(r *record) { r.PINs[20] ^= 1 })
		}, fault.Conflict, "PINs do not open"},
		{"token gone", func(b *bed, _ *memProvider) { b.device.st.Present = false }, fault.Unavailable, "is not there"},
		{"token replaced", func(b *bed, _ *memProvider) { b.device.st.Serial = "other" }, fault.Conflict, "no PIN was tried"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, p := newAutoBed(t)
			b.initAuto(1, 1)
			b.c.Close()
			tt.change(b, p)
			b.restart()
			tries := b.device.tries
			wantFault(t, b.c.OpenAuto(t.Context()), tt.kind, tt.want)
			b.wantState(true, true)
			if b.device.tries != tries {
				t.Error("a PIN was tried")
			}
		})
	}
}

func TestAutoRecordRefused(t *testing.T) {
	t.Parallel()
	b, _ := newAutoBed(t)
	b.initAuto(1, 1)
	for name, change := range map[string]func(*record){
		"kind taken away":     func(r *record) { r.Kind = "" },
		"envelope taken away": func(r *record) { r.Auto = nil },
		"no key":              func(r *record) { r.Auto.Key = nil },
		"no provider":         func(r *record) { r.Auto.Provider = "" },
		"PIN":                 func(r *record) { r.Kind = KindPIN },
	} {
		var r record
		if err := json.Unmarshal(b.store.records[table+"/"+recordKey].Data, &r); err != nil {
			t.Fatal(err)
		}
		change(&r)
		data, _ := json.Marshal(&r)
		if _, err := parseRecord(data); err == nil || !strings.Contains(err.Error(), "altered") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*Options){
		"no provider":      func(o *Options) { o.Provider = nil },
		"a PIN":            func(o *Options) { o.Kind, o.PIN = KindPIN, func() ([]byte, error) { return nil, nil } },
		"PIN, no provider": func(o *Options) { o.Kind, o.Provider, o.PIN = KindPIN, nil, func() ([]byte, error) { return nil, nil } },
		"another kind":     func(o *Options) { o.Kind = "automatic" },
	} {
		o := b.opts
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("options: %s", name)
		}
	}
}

// A stored PIN that the HSM token refuses is tried once, not at each try to open.
func TestAutoPINRefused(t *testing.T) {
	t.Parallel()
	b, _ := newAutoBed(t)
	b.initAuto(1, 1)
	b.c.Close()
	b.device.userPIN = []byte("changed from outside")
	tries := b.device.tries
	for range 3 {
		b.restart()
		wantFault(t, b.c.OpenAuto(t.Context()), fault.Conflict, "refused the stored PIN")
	}
	if b.device.tries != tries+1 {
		t.Errorf("%d tries", b.device.tries-tries)
	}
	b.wantState(true, true)
}

func TestMigrateCustody(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	shares := b.init(3, 2).Keys
	b.give(shares[:2]...)
	before := b.record()
	_, err := b.c.Migrate(t.Context(), shares[0])
	if err != nil {
		t.Errorf("an unsealed server says its status: %v", err)
	}
	one := &memProvider{name: "one", key: []byte("one")}
	two := &memProvider{name: "two", key: []byte("two")}

	b.restart()
	_, err = b.c.Migrate(t.Context(), shares[0])
	wantFault(t, err, fault.Invalid, "migrate must be false")

	b.configure(KindAuto, one)
	if s := b.c.Status(); !s.Migration || s.Type != "shamir" {
		t.Errorf("to be migrated: %+v", s)
	}
	wantFault(t, b.c.OpenAuto(t.Context()), fault.Conflict, "custody by shares", "provider one", "--migrate")
	_, err = b.c.Unseal(t.Context(), shares[0])
	wantFault(t, err, fault.Conflict, "stays sealed until it is migrated")
	if s := b.migrate(shares[0], shares[2]); s.Sealed || s.Migration || s.Type != "one" || !s.RecoverySeal {
		t.Errorf("migrated: %+v", s)
	}
	b.opensAlone()

	// To another provider.
	b.configure(KindAuto, two)
	wantFault(t, b.c.OpenAuto(t.Context()), fault.Conflict, "provider one", "provider two")
	if s := b.migrate(shares[:2]...); s.Type != "two" {
		t.Errorf("%+v", s)
	}
	b.opensAlone()

	// The provider lost its key: the shares open, and give it the secret anew.
	two.key = []byte("two's new key")
	b.restart()
	wantFault(t, b.c.OpenAuto(t.Context()), fault.Conflict)
	b.give(shares[:2]...)
	b.restart()
	wantFault(t, b.c.OpenAuto(t.Context()), fault.Conflict)
	b.migrate(shares[1:]...)
	b.opensAlone()

	// And back.
	b.configure(KindShares, nil)
	_, err = b.c.Unseal(t.Context(), shares[0])
	wantFault(t, err, fault.Conflict, "provider two", "custody by shares")
	if s := b.migrate(shares[:2]...); s.Sealed || s.Type != "shamir" || s.RecoverySeal || s.Migration {
		t.Errorf("back: %+v", s)
	}
	b.restart()
	b.give(shares[1:]...)
	b.wantState(true, false)
	if after := b.record(); !sameRecord(before, after) {
		t.Errorf("the record is not what it was:\n%+v\n%+v", before, after)
	}

	// A server with a PIN can't be migrated.
	b.opts.Kind, b.opts.PIN = KindPIN, func() ([]byte, error) { return nil, nil }
	if _, err := New(b.opts); fault.KindOf(err) != fault.Conflict {
		t.Errorf("to a PIN: %v", err)
	}
}

func (b *bed) record() *record {
	b.t.Helper()
	r, err := loadRecord(b.t.Context(), b.store)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bed) opensAlone() {
	b.t.Helper()
	b.restart()
	if err := b.c.OpenAuto(b.t.Context()); err != nil {
		b.t.Fatalf("%v (%s)", err, fault.HintOf(err))
	}
	b.wantState(true, false)
}

// Shares given for different ends do not mix, and what fails leaves the old custody.
func TestMigrateRefused(t *testing.T) {
	t.Parallel()
	b, p := newAutoBed(t)
	shares := b.initAuto(3, 2)
	b.restart()
	b.give(shares[0])
	_, err := b.c.Migrate(t.Context(), shares[1])
	wantFault(t, err, fault.Invalid, "given with migrate false", "reset")
	if _, err := b.c.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}

	before := b.record()
	b.migrate(shares[0])
	p.breakWith(fault.New(fault.Unavailable, "no answer"))
	_, err = b.c.Migrate(t.Context(), shares[1])
	wantFault(t, err, fault.Unavailable, "mem could not seal")
	b.wantState(true, true)
	p.breakWith(nil)
	b.faults.armOn("store.Apply")
	_, err = b.c.Migrate(t.Context(), shares[1])
	wantFault(t, err, fault.Unavailable, "database")
	b.wantState(true, true)
	b.faults.arm(0)
	if !sameRecord(before, b.record()) {
		t.Error("the record was changed")
	}
	b.migrate(shares[1])
	b.opensAlone()
	if sameRecord(before, b.record()) {
		t.Error("the secret was not sealed anew")
	}
}

// Whatever call fails, the server opens afterwards, in the old custody or the new.
func TestMigrateEveryFailure(t *testing.T) {
	t.Parallel()
	p := &memProvider{name: "mem", key: []byte("key")}
	for n := 1; ; n++ {
		b := newBed(t)
		shares := b.init(1, 1).Keys
		b.configure(KindAuto, p)
		b.faults.arm(n)
		_, err := b.c.Migrate(t.Context(), shares[0])
		at := b.faults.at
		b.faults.arm(0)
		if err == nil && at == "" {
			return
		}
		b.restart()
		if b.record().Kind == KindAuto {
			b.opensAlone()
			continue
		}
		b.migrate(shares[0])
		b.wantState(true, false)
	}
}

// New shares of a server that opens by itself: the provider keeps the new secret.
func TestAutoRekey(t *testing.T) {
	t.Parallel()
	b, p := newAutoBed(t)
	shares := b.initAuto(3, 2)
	rekey := func() (*api.RekeyStatus, error) {
		s, err := b.c.startRekey(t.Context(), &api.StartRekey{SecretShares: 2, SecretThreshold: 2})
		if err != nil {
			return nil, err
		}
		for _, share := range shares[:2] {
			if s, err = b.c.giveRekey(t.Context(), &api.GiveRekeyShare{Key: share, Nonce: s.Nonce}); err != nil {
				return nil, err
			}
		}
		return s, nil
	}
	p.breakWith(fault.New(fault.Unavailable, "no answer"))
	_, err := rekey()
	wantFault(t, err, fault.Unavailable, "mem could not seal")
	p.breakWith(nil)
	b.opensAlone()
	s, err := rekey()
	if err != nil || len(s.Keys) != 2 {
		t.Fatalf("%v %+v", err, s)
	}
	b.opensAlone()
	b.restart()
	b.give(s.Keys...)
	b.wantState(true, false)
	b.opensAlone()
	b.restart()
	_, err = b.c.Unseal(t.Context(), shares[0])
	wantFault(t, err, fault.Invalid, "another set")
}

func FuzzAutoRecord(f *testing.F) {
	f.Add([]byte(`{"provider":"mem","key":"AA==","sealed":"AA=="}`))
	f.Add([]byte(`null`))
	p := &memProvider{name: "mem", key: make([]byte, 1)}
	f.Fuzz(func(t *testing.T, data []byte) {
		var a *autoRecord
		if json.Unmarshal(data, &a) != nil {
			return
		}
		r := &record{Kind: KindAuto, Auto: a}
		if r.checkAuto() != nil {
			return
		}
		c := &Custody{opts: Options{Kind: KindAuto, Provider: p}}
		if _, err := c.openAuto(t.Context(), r); err == nil {
			t.Fatal("a forged envelope was opened")
		}
	})
}
