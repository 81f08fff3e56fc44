package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/keys"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/sqlite"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
)

var bg = context.Background()

// flaky is a store that fails when told to.
type flaky struct {
	store.Store
	before, after atomic.Pointer[func(changes []store.Change) error]
}

// Apply fails before or after the real one, as the test says.
func (f *flaky) Apply(ctx context.Context, changes ...store.Change) error {
	if h := f.before.Load(); h != nil {
		if err := (*h)(changes); err != nil {
			return err
		}
	}
	if err := f.Store.Apply(ctx, changes...); err != nil {
		return err
	}
	if h := f.after.Load(); h != nil {
		return (*h)(changes)
	}
	return nil
}

// env is an authority on the real store and the embedded token.
type env struct {
	*Service
	t        testing.TB
	db       *flaky
	sealed   *store.Sealed
	holder   *token.Holder
	clock    atomic.Int64 // offset in seconds
	answered answers
	excepted []string // lints that the certificates of this test may break
}

func newEnv(t testing.TB) *env {
	t.Helper()
	e := newEnvAt(t, "")
	t.Cleanup(e.lintAll)
	t.Cleanup(e.lintOCSP)
	return e
}

// newEnvAt is newEnv with its database in a file, and without lints at the end.
func newEnvAt(t testing.TB, path string) *env {
	t.Helper()
	db, err := sqlite.Open(bg, sqlite.Config{Path: path, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() { db.Close() })
	e := &env{t: t, db: &flaky{Store: db}, holder: new(token.Holder)}
	e.sealed = store.NewSealed(e.db)
	key := make([]byte, store.StorageKeySize)
	rand.Read(key)
	must(t, e.sealed.Unseal(key))
	device := soft.NewDevice(soft.Config{})
	must(t, device.Create(bg, []byte("so-pin-123456"), []byte("user-pin-123456")))
	tok, err := device.Open(bg, []byte("user-pin-123456"))
	must(t, err)
	t.Cleanup(func() { tok.Close() })
	must(t, tok.Provision(bg, false))
	e.holder.Set(tok)
	e.restart()
	return e
}

// restart makes new services on the same store and token, as after a crash.
func (e *env) restart() {
	e.t.Helper()
	k, err := keys.New(keys.Options{Store: e.sealed, Token: e.holder, Software: soft.Engine{}})
	must(e.t, err)
	must(e.t, k.Start(bg))
	s, err := New(Options{Store: e.sealed, Keys: k, Now: e.time})
	must(e.t, err)
	e.Service = s
	must(e.t, s.Start(bg))
}

func (e *env) time() time.Time { return time.Now().Add(time.Duration(e.clock.Load()) * time.Second) }

// runNow is a Run without a record.
func runNow(ctx context.Context, _ op.Verb, _ string, _ any, do func(context.Context, *op.Call) (any, error)) error {
	_, err := do(ctx, call())
	return err
}

func call() *op.Call { return &op.Call{Mount: "pki/", MayCreate: true, MayUpdate: true} }

// root makes a root authority.
func (e *env) root(kind string, bits int) *api.PKICertificate {
	e.t.Helper()
	r := &api.PKIGenerateRoot{Kind: "internal"}
	r.CommonName, r.KeyType, r.KeyBits = "Root "+kind, kind, bits
	out, err := e.generateRoot(bg, call(), r)
	must(e.t, err)
	return out
}

// makeRole makes a role for names below example.com, changed by edit.
func (e *env) makeRole(name string, edit func(*api.SetPKIRole)) {
	e.t.Helper()
	r := &api.SetPKIRole{Name: name, AllowedDomains: &[]string{"example.com"}, AllowSubdomains: new(true), KeyType: new("any")}
	if edit != nil {
		edit(r)
	}
	_, err := e.setRole(bg, call(), r)
	must(e.t, err)
}

// newCSR makes a certificate request with a key of its own.
func newCSR(t testing.TB, edit func(*x509.CertificateRequest)) (string, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return csrWith(t, key, edit), key
}

func csrWith(t testing.TB, key crypto.Signer, edit func(*x509.CertificateRequest)) string {
	t.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "www.example.com"}}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func parsePEM(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM: %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return cert
}

// count returns how many records a table has.
func (e *env) count(table string) int {
	e.t.Helper()
	rs, err := e.db.List(bg, table, "", "", 0)
	must(e.t, err)
	return len(rs)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected: %v (%s)", err, fault.HintOf(err))
	}
}

// wantFault checks the kind of an error and a part of what the caller reads.
func wantFault(t testing.TB, err error, kind fault.Kind, text string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %v %q", kind, text)
	}
	if fault.KindOf(err) != kind || !strings.Contains(fault.Message(err)+"|"+fault.HintOf(err), text) {
		t.Fatalf("error %v: %q (%s), want %v with %q", fault.KindOf(err), fault.Message(err), fault.HintOf(err), kind, text)
	}
}
