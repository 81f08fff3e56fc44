package custody

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

func TestInitCreate(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.wantState(false, true)
	r := b.init(5, 3)
	b.wantState(true, true)
	if len(r.Keys) != 5 || len(r.KeysBase64) != 5 || r.RootToken != rootToken || r.PGPFingerprints != nil {
		t.Fatalf("answer %d, %d, %q, %v", len(r.Keys), len(r.KeysBase64), r.RootToken, r.PGPFingerprints)
	}
	for i := range r.Keys {
		raw, err := base64.StdEncoding.DecodeString(r.KeysBase64[i])
		if err != nil || hex.EncodeToString(raw) != r.Keys[i] {
			t.Errorf("share %d: hex and base64 differ", i+1)
		}
	}
	pin := regexp.MustCompile(`^[0-9a-f]{32}$`)
	if !pin.Match(b.device.userPIN) || !pin.Match(b.device.soPIN) || string(b.device.userPIN) == string(b.device.soPIN) {
		t.Error("the PINs are not two random ones of 128 bits")
	}
	s := b.give(r.Keys[1], r.KeysBase64[4], r.Keys[3])
	if s.Sealed || s.Progress != 0 || !b.works() {
		t.Errorf("status %+v, services work: %v", s, b.works())
	}
	b.wantState(true, false)
}

func TestInitPINLength(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.device.st.MinPIN = 41
	b.init(1, 1)
	if len(b.device.userPIN) < 41 {
		t.Errorf("PIN of %d characters", len(b.device.userPIN))
	}
	b = newBed(t)
	b.device.st.MaxPIN = 16
	_, err := b.c.Init(t.Context(), &api.Init{SecretShares: 1, SecretThreshold: 1})
	wantFault(t, err, fault.Unsupported, "at most 16", "adopt")
	b.wantNothingMade()
}

func (b *bed) wantNothingMade() {
	b.t.Helper()
	b.wantState(false, true)
	if b.device.st.Initialized || b.device.tries > 0 || b.runs > 0 || b.store.len() > 0 {
		b.t.Errorf("something was made: token %v, %d logins, %d starts, %d records", b.device.st.Initialized, b.device.tries, b.runs, b.store.len())
	}
}

func TestInitBadNumbers(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, c := range []struct {
		n, t int
		word string
	}{
		{0, 0, "shares must be at least one"}, {-1, 1, "shares must be at least one"}, {256, 3, "less than 256"},
		{5, 0, "threshold must be at least one"}, {5, -2, "threshold must be at least one"},
		{3, 4, "threshold cannot be larger than shares"},
	} {
		_, err := b.c.Init(t.Context(), &api.Init{SecretShares: c.n, SecretThreshold: c.t})
		wantFault(t, err, fault.Invalid, c.word)
	}
	b.wantNothingMade()
}

func TestInitMode(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(o *Options) { o.HSMToken = "" })
	for _, c := range []struct {
		req  api.Init
		word string
	}{
		{api.Init{}, "set hsm_token to create"},
		{api.Init{HSMToken: "make"}, "neither create nor adopt"},
		{api.Init{HSMToken: Create, HSMPIN: "1234"}, "for a token to adopt"},
		{api.Init{HSMToken: Adopt, HSMPIN: "1234"}, "no initialised HSM token to adopt"},
	} {
		c.req.SecretShares, c.req.SecretThreshold = 1, 1
		_, err := b.c.Init(t.Context(), &c.req)
		wantFault(t, err, fault.Invalid, c.word)
	}
	b.wantNothingMade()
	b.device.st.Present = false
	_, err := b.c.Init(t.Context(), &api.Init{SecretShares: 1, SecretThreshold: 1, HSMToken: Adopt, HSMPIN: "1234"})
	wantFault(t, err, fault.Invalid, "no initialised HSM token")
}

func TestInitOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.init(1, 1)
	_, err := b.c.Init(t.Context(), &api.Init{SecretShares: 1, SecretThreshold: 1})
	wantFault(t, err, fault.Invalid, "Vault is already initialized")
	// A second server on the same database knows too, even if it was started before.
	early := newBed(t)
	early.store.records = b.store.records
	_, err = early.c.Init(t.Context(), &api.Init{SecretShares: 1, SecretThreshold: 1})
	wantFault(t, err, fault.Invalid, "Vault is already initialized")
}

func TestInitConcurrently(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		wg.Go(func() {
			_, err := b.c.Init(t.Context(), &api.Init{SecretShares: 3, SecretThreshold: 2})
			if err == nil {
				mu.Lock()
				won++
				mu.Unlock()
				return
			}
			wantFault(t, err, fault.Invalid, "already initialized")
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d initialisations succeeded", won)
	}
}

func TestInitTokenThere(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.device.initialise([]byte("so"), []byte("1234"))
	_, err := b.c.Init(t.Context(), &api.Init{SecretShares: 1, SecretThreshold: 1})
	wantFault(t, err, fault.Conflict, `"claviger" is initialised already`, "adopt", "softhsm2-util --delete-token")
	if b.device.tries != 0 || string(b.device.userPIN) != "1234" {
		t.Error("the token was touched")
	}
}

func adoptBed(t *testing.T, change ...func(o *Options)) *bed {
	b := newBed(t, append(change, func(o *Options) { o.HSMToken = Adopt })...)
	b.device.initialise([]byte("so pin"), []byte("135792"))
	return b
}

func (b *bed) adopt(pin string) error {
	_, err := b.c.Init(b.t.Context(), &api.Init{SecretShares: 1, SecretThreshold: 1, HSMPIN: pin})
	return err
}

func TestInitAdopt(t *testing.T) {
	t.Parallel()
	given := []byte("135792")
	b := adoptBed(t, func(o *Options) { o.PIN = func() ([]byte, error) { return given, nil } })
	r := b.init(2, 2)
	if b.device.tries != 1 {
		t.Errorf("%d logins for one initialisation", b.device.tries)
	}
	if string(given) == "135792" {
		t.Error("the PIN was not wiped")
	}
	b.restart()
	if s := b.give(r.Keys...); s.Sealed || !b.works() {
		t.Error("the adopted token can't be unsealed")
	}
}

func TestInitAdoptRefusedPIN(t *testing.T) {
	t.Parallel()
	b := adoptBed(t)
	wantFault(t, b.adopt("135791"), fault.Invalid, "refuses this PIN", "not be tried again")
	for range 3 {
		wantFault(t, b.adopt("135791"), fault.Invalid, "it was not tried again")
	}
	b.restart()
	wantFault(t, b.adopt("135791"), fault.Invalid, "it was not tried again")
	if b.device.tries != 1 {
		t.Fatalf("the wrong PIN was tried %d times", b.device.tries)
	}
	b.wantState(false, true)
	// Another token may well have that PIN.
	serial := b.device.st.Serial
	b.device.st.Serial = "other"
	wantFault(t, b.adopt("135791"), fault.Invalid, "refuses this PIN")
	b.device.st.Serial = serial
	if err := b.adopt("135792"); err != nil {
		t.Fatalf("the right PIN: %v", err)
	}
	if b.store.has(table, refusedKey) {
		t.Error("the note of refused PINs outlived its use")
	}
}

func TestInitAdoptRefusalKnownWithoutStore(t *testing.T) {
	t.Parallel()
	b := adoptBed(t)
	b.faults.armOn("store.Apply")
	wantFault(t, b.adopt("000000"), fault.Invalid, "refuses this PIN")
	wantFault(t, b.adopt("000000"), fault.Invalid, "it was not tried again")
	if b.device.tries != 1 || !strings.Contains(b.log.String(), "could not be stored") {
		t.Errorf("%d tries; log %s", b.device.tries, b.log.String())
	}
}

func TestInitAdoptBadPIN(t *testing.T) {
	t.Parallel()
	b := adoptBed(t)
	b.device.st.MaxPIN = 8
	wantFault(t, b.adopt(""), fault.Invalid, "PIN of the HSM token to adopt is missing", "hsm_pin")
	wantFault(t, b.adopt("123"), fault.Invalid, "4 to 8 characters", "not tried")
	wantFault(t, b.adopt("123456789"), fault.Invalid, "4 to 8 characters", "not tried")
	b.device.st.PINLocked = true
	wantFault(t, b.adopt("135792"), fault.Conflict, "locked", "SO PIN")
	if b.device.tries != 0 {
		t.Errorf("%d logins were tried", b.device.tries)
	}
	b.device.st.PINLocked = false
	b.device.openErr = token.ErrLocked
	wantFault(t, b.adopt("135792"), fault.Conflict, "locked")
	b.opts.PIN = func() ([]byte, error) { return nil, errors.New("open pin file: permission denied") }
	b.restart()
	wantFault(t, b.adopt(""), fault.Invalid, "can't be read")
}

func TestInitCallerGone(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ctx, cancel := context.WithCancel(t.Context())
	b.genesis = func() (string, []store.Change, error) { cancel(); return rootToken, nil, nil }
	_, err := b.c.Init(ctx, &api.Init{SecretShares: 1, SecretThreshold: 1})
	wantFault(t, err, fault.Unavailable, "caller went away", "Nothing was stored", "was created and stays")
	if b.store.len() != 0 {
		t.Error("a record was stored")
	}
	_, err = b.c.Init(ctx, &api.Init{SecretShares: 1, SecretThreshold: 1})
	if err == nil {
		t.Error("an ended call was served")
	}
}

func TestInitServicesFail(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.faults.err = fault.New(fault.Unavailable, "the audit log can't be written: disk full")
	b.faults.armOn("hook.Unsealed")
	_, err := b.c.Init(t.Context(), &api.Init{SecretShares: 1, SecretThreshold: 1})
	wantFault(t, err, fault.Unavailable, "start the services", "disk full", "Nothing was stored", `"claviger" was created and stays`, "softhsm2-util")
	b.wantState(false, true)
}
