package custody

import (
	"errors"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

const configured = "configured-pin-4711"

func byPIN(pin *string) func(*Options) {
	return func(o *Options) {
		o.Kind, o.HSMToken = KindPIN, Adopt
		o.PIN = func() ([]byte, error) {
			if *pin == "" {
				return nil, errors.New("no such file")
			}
			return []byte(*pin), nil
		}
	}
}

// newPINBed is a server with custody by a PIN before a token with another's PIN.
func newPINBed(t *testing.T) (*bed, *string) {
	t.Helper()
	pin := configured
	b := newBed(t, byPIN(&pin))
	b.device.initialise([]byte("so"), []byte(configured))
	return b, &pin
}

func (b *bed) initByPIN() *api.InitResult {
	b.t.Helper()
	r, err := b.c.Init(b.t.Context(), &api.Init{})
	if err != nil {
		b.t.Fatalf("%v (%s)", err, fault.HintOf(err))
	}
	return r
}

func TestPINCustody(t *testing.T) {
	t.Parallel()
	b, _ := newPINBed(t)
	if s := b.c.Status(); s.Type != "pin" || !s.RecoverySeal || s.T != 0 || s.N != 0 || s.Initialized || !s.Sealed {
		t.Errorf("before: %+v", s)
	}
	r := b.initByPIN()
	if r.RootToken != rootToken || r.Keys == nil || len(r.Keys)+len(r.KeysBase64) != 0 {
		t.Errorf("answer %+v", r)
	}
	b.wantState(true, false)
	if !b.works() {
		t.Error("the services do not read what genesis wrote")
	}
	if _, err := b.c.startRoot(t.Context(), &api.StartGenerateRoot{}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a root token without shares: %v", err)
	}
	if err := b.c.Rotate(t.Context()); err != nil {
		t.Errorf("rotation: %v", err)
	}
	b.restart()
	b.wantState(true, true)
	for range 2 {
		if err := b.c.OpenByPIN(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.wantState(true, false)
	}
	if s := b.c.Status(); s.Type != "pin" || s.Sealed || s.T != 0 || s.N != 0 || s.ClusterID == "" {
		t.Errorf("open: %+v", s)
	}
	if err := b.c.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.wantState(true, true)
	_, err := b.c.Unseal(t.Context(), strings.Repeat("00", ShareSize))
	wantFault(t, err, fault.Invalid, "no shares", "restart")
	if strings.Contains(b.log.String(), configured) {
		t.Error("the log shows the PIN")
	}
}

// TestPINCustodyCreates: the new token has the configured user PIN.
func TestPINCustodyCreates(t *testing.T) {
	t.Parallel()
	pin := configured
	b := newBed(t, byPIN(&pin), func(o *Options) { o.HSMToken = Create })
	b.initByPIN()
	if string(b.device.userPIN) != configured || len(b.device.soPIN) != pinSize {
		t.Errorf("user PIN is the configured one: %v; SO PIN of %d characters", string(b.device.userPIN) == configured, len(b.device.soPIN))
	}
	b.wantState(true, false)
}

func TestPINCustodyRefusesShares(t *testing.T) {
	t.Parallel()
	b, _ := newPINBed(t)
	for _, req := range []api.Init{
		{SecretShares: 1, SecretThreshold: 1}, {SecretThreshold: 1}, {PGPKeys: []string{"x"}}, {HSMPIN: configured},
	} {
		_, err := b.c.Init(t.Context(), &req)
		wantFault(t, err, fault.Invalid, "must be absent")
	}
	if b.device.tries != 0 || b.store.len() != 0 {
		t.Errorf("%d logins, %d records", b.device.tries, b.store.len())
	}
}

// TestPINTriedOnce: a refused PIN is not tried again, by this process or the next;
// another one is.
func TestPINTriedOnce(t *testing.T) {
	t.Parallel()
	b, pin := newPINBed(t)
	b.initByPIN()
	b.device.userPIN = []byte("changed from outside")
	tries := b.device.tries
	for i, words := range []string{"refuses the configured PIN", "refused this PIN", "refused this PIN"} {
		b.restart()
		err := b.c.OpenByPIN(t.Context())
		wantFault(t, err, fault.Invalid, words)
		if b.device.tries != tries+1 {
			t.Fatalf("start %d: %d tries", i+1, b.device.tries-tries)
		}
		b.wantState(true, true)
	}
	if _, err := b.c.Reset(t.Context()); err != nil { // anybody may call it
		t.Fatal(err)
	}
	wantFault(t, b.c.OpenByPIN(t.Context()), fault.Invalid, "refused this PIN")
	*pin = "changed from outside"
	if err := b.c.OpenByPIN(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.wantState(true, false)
}

func TestPINRefusedAtInit(t *testing.T) {
	t.Parallel()
	b, pin := newPINBed(t)
	*pin = "wrong"
	for range 2 {
		_, err := b.c.Init(t.Context(), &api.Init{})
		wantFault(t, err, fault.Invalid, "PIN")
		b.restart()
	}
	if b.device.tries != 1 {
		t.Errorf("the wrong PIN was tried %d times", b.device.tries)
	}
	b.wantState(false, true)
}

// TestPINOpeningFails: what may pass by itself is told apart, and no try is lost.
func TestPINOpeningFails(t *testing.T) {
	t.Parallel()
	b, pin := newPINBed(t)
	wantFault(t, b.c.OpenByPIN(t.Context()), fault.Invalid, "not initialised")
	b.initByPIN()
	b.restart()
	tries := b.device.tries
	b.device.st.Present = false
	wantFault(t, b.c.OpenByPIN(t.Context()), fault.Unavailable, "not there")
	b.device.st.Present, b.device.st.Serial = true, "another"
	wantFault(t, b.c.OpenByPIN(t.Context()), fault.Conflict, "no PIN was tried")
	b.device.st.Serial, b.device.st.PINLocked = "0123abcd", true
	wantFault(t, b.c.OpenByPIN(t.Context()), fault.Conflict, "locked")
	b.device.st.PINLocked = false
	*pin = ""
	wantFault(t, b.c.OpenByPIN(t.Context()), fault.Invalid, "can't be read")
	*pin = strings.Repeat("1", 256)
	wantFault(t, b.c.OpenByPIN(t.Context()), fault.Invalid, "256 bytes")
	*pin = configured
	b.device.openErr = token.ErrUnavailable
	wantFault(t, b.c.OpenByPIN(t.Context()), fault.Unavailable, "does not answer")
	b.device.openErr = nil
	b.faults.armOn("hook.Unsealed")
	wantFault(t, b.c.OpenByPIN(t.Context()), fault.Unavailable, "services")
	b.wantState(true, true)
	if b.device.tries != tries+1 {
		t.Errorf("%d tries", b.device.tries-tries)
	}
	b.faults.arm(0)
	if err := b.c.OpenByPIN(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestKindIsKept: a server is not opened in another way than it was made for.
func TestKindIsKept(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.init(1, 1)
	pin := configured
	o := b.opts
	byPIN(&pin)(&o)
	if _, err := New(o); fault.KindOf(err) != fault.Conflict || !strings.Contains(fault.HintOf(err), `"shares"`) {
		t.Errorf("shares, then pin: %v", err)
	}
	wantFault(t, b.c.OpenByPIN(t.Context()), fault.Invalid, "not initialised with custody by a PIN")
	b, _ = newPINBed(t)
	b.initByPIN()
	o = b.opts
	o.Kind = ""
	if _, err := New(o); fault.KindOf(err) != fault.Conflict || !strings.Contains(fault.HintOf(err), `"pin"`) {
		t.Errorf("pin, then shares: %v", err)
	}
}

// TestAlteredKind: who writes the database can't turn one kind into the other.
func TestAlteredKind(t *testing.T) {
	t.Parallel()
	b, _ := newPINBed(t)
	b.initByPIN()
	for name, change := range map[string]func(r *record){
		"unknown kind": func(r *record) { r.Kind = "none" },
		"set":          func(r *record) { r.SetID = "0011223344556677" },
		"shares":       func(r *record) { r.Shares, r.Threshold = 1, 1 },
		"PINs":         func(r *record) { r.PINs = []byte{1} },
		"no kind":      func(r *record) { r.Kind = "" },
	} {
		before := *b.c.record()
		b.store.edit(t, change)
		if _, err := New(b.opts); err == nil {
			t.Errorf("%s: taken", name)
		}
		b.store.edit(t, func(r *record) { *r = before })
	}
	b.store.edit(t, func(r *record) { r.Adopted = !r.Adopted })
	b.restart()
	wantFault(t, b.c.OpenByPIN(t.Context()), fault.Conflict, "altered")
}

func TestOptionsKind(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, change := range []func(o *Options){
		func(o *Options) { o.Kind = "other" },
		func(o *Options) { o.Kind = KindPIN },
	} {
		o := b.opts
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("kind %q without a PIN was taken", o.Kind)
		}
	}
}
