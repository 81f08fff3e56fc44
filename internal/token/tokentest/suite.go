// Package tokentest is the suite that every driver of package token passes, and
// the tokens that tests of drivers run on: SoftHSM2, and a TPM emulated by swtpm.
//
// Promise: what the suite asks for is what the seam promises and no more, so
// that a driver that passes can stand in for another. Results are checked with
// Go's crypto packages, never with the driver itself alone. It trusts these
// packages, and that a driver reports truly in Info what it can hold.
package tokentest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token"
)

// Options tells the suite what the device is like.
type Options struct {
	// PIN is the user PIN of a token that exists already, for modules whose
	// tokens other tools make. Every device of newDevice is then that token, and
	// the tests that make tokens are left out. Empty: devices have no token yet.
	PIN []byte
	// Sequential runs one test after another, for a module that can't hold many
	// keys in use at once.
	Sequential bool
	// Timeout bounds each call to the token; 0 means one minute.
	Timeout time.Duration
}

// Run checks a driver. newDevice returns a device that no other test uses (or
// see Options.PIN); it may use t to clean up.
func Run(t *testing.T, newDevice func(t *testing.T) token.Device, opts Options) {
	s := &suite{newDevice: newDevice, Options: opts, pin: opts.PIN, soPIN: []byte("so-pin-8765")}
	if s.Timeout == 0 {
		s.Timeout = time.Minute
	}
	if len(s.pin) == 0 {
		s.pin = []byte("user-pin-1234")
		s.run(t, "Device", s.testDevice)
		s.run(t, "PIN", s.testPIN)
	}
	t.Run("Token", s.testToken)
}

// RunSoftware checks the engine for keys in server memory.
func RunSoftware(t *testing.T, engine token.Software) {
	s := &suite{Options: Options{Timeout: time.Minute}}
	for _, typ := range types() {
		s.run(t, typ.String(), func(t *testing.T) { s.testSoftware(t, engine, typ) })
	}
}

type suite struct {
	Options
	newDevice  func(t *testing.T) token.Device
	pin, soPIN []byte

	mu   sync.Mutex
	kept []keptKey // keys to use again after the token was closed and opened
}

// run is t.Run, parallel unless the device can't bear it.
func (s *suite) run(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		if !s.Sequential {
			t.Parallel()
		}
		f(t)
	})
}

// types returns the key types to test; the large RSA keys take long to make.
func types() []token.Type {
	return slices.DeleteFunc(token.Types(), func(t token.Type) bool {
		return testing.Short() && (t == token.RSA3072 || t == token.RSA4096)
	})
}

func (s *suite) context(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), s.Timeout)
	t.Cleanup(cancel)
	return ctx
}

// testToken runs everything that one provisioned token can share.
func (s *suite) testToken(t *testing.T) {
	d := s.newDevice(t)
	if len(s.Options.PIN) == 0 {
		must(t, d.Create(s.context(t), s.soPIN, s.pin))
	}
	tok := s.open(t, d)
	must(t, tok.Provision(s.context(t), false))
	t.Run("Use", func(t *testing.T) {
		s.run(t, "Info", func(t *testing.T) { s.testInfo(t, d, tok) })
		s.run(t, "Secrets", func(t *testing.T) { s.testSecrets(t, tok) })
		s.run(t, "AuditKey", func(t *testing.T) { s.testAuditKey(t, tok) })
		s.run(t, "Random", func(t *testing.T) { s.testRandom(t, tok) })
		s.run(t, "Unsupported", func(t *testing.T) { s.testUnsupported(t, tok) })
		s.run(t, "Blobs", func(t *testing.T) { s.testBlobs(t, tok) })
		s.run(t, "Import", func(t *testing.T) { s.testImport(t, tok) })
		s.run(t, "Objects", func(t *testing.T) { s.testObjects(t, tok) })
		s.run(t, "Contexts", func(t *testing.T) { s.testContexts(t, tok) })
		s.run(t, "Agree", func(t *testing.T) { s.testAgree(t, tok) })
		s.run(t, "ManyAtOnce", func(t *testing.T) { s.testManyAtOnce(t, tok) })
		for typ, places := range s.held(tok) {
			for _, place := range places {
				s.run(t, typ.String()+"/"+placeName(place), func(t *testing.T) { s.testKey(t, tok, typ, place) })
			}
		}
	})
	if t.Failed() {
		return
	}
	t.Run("Reopen", func(t *testing.T) { s.testReopen(t, d, tok) })
}

func (s *suite) open(t *testing.T, d token.Device) token.Token {
	t.Helper()
	tok, err := d.Open(s.context(t), s.pin)
	must(t, err)
	t.Cleanup(func() { must(t, tok.Close()) })
	return tok
}

// held returns the types that the token claims, with the places for each.
func (s *suite) held(tok token.Token) map[token.Type][]token.Place {
	held := make(map[token.Type][]token.Place)
	for _, typ := range types() {
		hold := tok.Info().Holds[typ]
		if hold.Wrapped {
			held[typ] = append(held[typ], token.PlaceWrapped)
		}
		if hold.Object {
			held[typ] = append(held[typ], token.PlaceObject)
		}
	}
	return held
}

func placeName(p token.Place) string {
	return [...]string{token.PlaceAuto: "auto", token.PlaceObject: "object", token.PlaceWrapped: "wrapped"}[p]
}

func newID() (id token.ID) {
	rand.Read(id[:])
	return id
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func wantEqual(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %x, want %x", what, got, want)
	}
}

// subject is a key to test, wherever it lives.
type subject struct {
	token.Key
	typ    token.Type
	size   int
	public []byte
	s      *suite
}

// do performs op on items and fails the test if the whole fails.
func (k subject) do(t *testing.T, op token.Op, items ...token.Item) []token.Item {
	t.Helper()
	if err := k.Do(k.s.context(t), op, items); err != nil {
		t.Fatalf("%s, operation %+v: %v", k.typ, op, err)
	}
	return items
}

// one performs op on one item and returns its result.
func (k subject) one(t *testing.T, op token.Op, it token.Item) []byte {
	t.Helper()
	it = k.do(t, op, it)[0]
	if it.Err != nil {
		t.Fatalf("%s, operation %+v: %v", k.typ, op, it.Err)
	}
	return it.Out
}

// try performs op on one item and returns the failure of the item or of the whole.
func (k subject) try(t *testing.T, op token.Op, it token.Item) ([]byte, error) {
	t.Helper()
	items := []token.Item{it}
	if err := k.Do(k.s.context(t), op, items); err != nil {
		return nil, err
	}
	return items[0].Out, items[0].Err
}

// refused checks that op fails on the item.
func (k subject) refused(t *testing.T, what string, op token.Op, it token.Item) {
	t.Helper()
	if out, err := k.try(t, op, it); err == nil {
		t.Errorf("%s, %s: no error but %x", k.typ, what, out)
	}
}

// use checks everything that a key of its type can do.
func (k subject) use(t *testing.T) {
	t.Helper()
	switch k.typ.Class() {
	case token.ClassAEAD:
		k.useAEAD(t)
		if k.typ == token.AES128 || k.typ == token.AES256 {
			k.useCBC(t)
		}
	case token.ClassEd25519:
		k.useEd25519(t)
	case token.ClassECDSA:
		k.useECDSA(t)
	case token.ClassRSA:
		k.useRSA(t)
	case token.ClassHMAC:
		k.useHMAC(t)
	}
	k.wrongKinds(t)
}

// wrongKinds checks that a key refuses the work of others, as a whole.
func (k subject) wrongKinds(t *testing.T) {
	kinds := map[token.Class][]token.Kind{
		token.ClassAEAD:    {token.Sign, token.MAC, token.Decrypt, 0, 99},
		token.ClassEd25519: {token.Seal, token.Open, token.MAC, token.Decrypt, 0, 99},
		token.ClassECDSA:   {token.Seal, token.Open, token.MAC, token.Decrypt, 0, 99},
		token.ClassRSA:     {token.Seal, token.Open, token.MAC, 0, 99},
		token.ClassHMAC:    {token.Seal, token.Open, token.Sign, token.Decrypt, 0, 99},
	}
	for _, kind := range kinds[k.typ.Class()] {
		it := token.Item{Nonce: make([]byte, 12), In: make([]byte, 32)}
		k.refused(t, "operation of another kind", token.Op{Kind: kind}, it)
	}
}
