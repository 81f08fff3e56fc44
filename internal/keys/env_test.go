package keys

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/sqlite"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
)

// hsm is the software token in the shape of an HSM: it wraps no Ed25519 keys
// and holds no ChaCha20 keys. It counts its objects and fails when told to.
type hsm struct {
	token.Token
	info token.Info

	mu       sync.Mutex
	objects  map[token.ID]token.Stored
	generate func(token.Spec) error
	destroy  func(token.Stored) error
	use      func() error
	uses     atomic.Int64 // calls of Key.Do
}

func (h *hsm) Info() token.Info { return h.info }

func (h *hsm) Generate(ctx context.Context, spec token.Spec) (token.Stored, error) {
	hold := h.info.Holds[spec.Type]
	if spec.Place == token.PlaceWrapped && !hold.Wrapped || spec.Place == token.PlaceObject && !hold.Object {
		return token.Stored{}, token.ErrUnsupported
	}
	if h.generate != nil {
		if err := h.generate(spec); err != nil {
			return token.Stored{}, err
		}
	}
	s, err := h.Token.Generate(ctx, spec)
	if err == nil && s.Place == token.PlaceObject {
		h.mu.Lock()
		h.objects[s.ID] = s
		h.mu.Unlock()
	}
	return s, err
}

func (h *hsm) Import(ctx context.Context, spec token.Spec, p token.Package) (token.Stored, error) {
	if h.generate != nil {
		if err := h.generate(spec); err != nil {
			return token.Stored{}, err
		}
	}
	s, err := h.Token.Import(ctx, spec, p)
	if err == nil && s.Place == token.PlaceObject {
		h.mu.Lock()
		h.objects[s.ID] = s
		h.mu.Unlock()
	}
	return s, err
}

func (h *hsm) Destroy(ctx context.Context, s token.Stored) error {
	if h.destroy != nil {
		if err := h.destroy(s); err != nil {
			return err
		}
	}
	err := h.Token.Destroy(ctx, s)
	if err == nil {
		h.mu.Lock()
		delete(h.objects, s.ID)
		h.mu.Unlock()
	}
	return err
}

func (h *hsm) Key(s token.Stored) (token.Key, error) {
	k, err := h.Token.Key(s)
	return usedKey{k, h}, err
}

type usedKey struct {
	token.Key
	h *hsm
}

func (k usedKey) Do(ctx context.Context, o token.Op, items []token.Item) error {
	k.h.uses.Add(1)
	if k.h.use != nil {
		if err := k.h.use(); err != nil {
			return err
		}
	}
	return k.Key.Do(ctx, o, items)
}

func (h *hsm) ids() map[token.ID]token.Stored {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.objects)
}

// flaky is a store that fails when told to.
type flaky struct {
	store.Store
	gets  atomic.Int64
	apply atomic.Pointer[func(n int64) (before, after error)]
	n     atomic.Int64
}

// Apply fails before or after the real one, as the test says for the n-th call.
func (f *flaky) Apply(ctx context.Context, changes ...store.Change) error {
	var before, after error
	if hook := f.apply.Load(); hook != nil {
		before, after = (*hook)(f.n.Add(1))
	}
	if before != nil {
		return before
	}
	if err := f.Store.Apply(ctx, changes...); err != nil {
		return err
	}
	return after
}

func (f *flaky) Get(ctx context.Context, table, key string) (store.Record, error) {
	f.gets.Add(1)
	return f.Store.Get(ctx, table, key)
}

func (f *flaky) hook(h func(n int64) (before, after error)) {
	f.n.Store(0)
	if h == nil {
		f.apply.Store(nil)
		return
	}
	f.apply.Store(&h)
}

type env struct {
	*Service
	t      testing.TB
	db     *flaky
	sealed *store.Sealed
	holder *token.Holder
	hsm    *hsm // nil on the embedded token
}

// newEnv returns a service on SQLite and on the embedded token, or on that
// token in the shape of an HSM.
func newEnv(t testing.TB, onHSM bool) *env {
	t.Helper()
	ctx := context.Background()
	db, err := sqlite.Open(ctx, sqlite.Config{Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() { db.Close() })
	e := &env{t: t, db: &flaky{Store: db}, holder: new(token.Holder)}
	e.sealed = store.NewSealed(e.db)
	key := make([]byte, store.StorageKeySize)
	rand.Read(key)
	must(t, e.sealed.Unseal(key))

	device := soft.NewDevice(soft.Config{})
	must(t, device.Create(ctx, []byte("so-pin-123456"), []byte("user-pin-123456")))
	tok, err := device.Open(ctx, []byte("user-pin-123456"))
	must(t, err)
	t.Cleanup(func() { tok.Close() })
	must(t, tok.Provision(ctx, false))
	if onHSM {
		e.hsm = &hsm{Token: tok, info: hsmInfo(tok.Info()), objects: make(map[token.ID]token.Stored)}
		tok = e.hsm
	}
	e.holder.Set(tok)
	e.restart()
	return e
}

func hsmInfo(info token.Info) token.Info {
	info.Embedded, info.Driver, info.Label = false, "pkcs11", "test hsm"
	info.Holds = maps.Clone(info.Holds)
	delete(info.Holds, token.ChaCha20)
	delete(info.Holds, token.XChaCha20)
	info.Holds[token.Ed25519] = token.Hold{Object: true}
	return info
}

// restart makes a new service on the same store and token, as after a crash.
func (e *env) restart() {
	e.t.Helper()
	s, err := New(Options{Store: e.sealed, Token: e.holder, Software: soft.Engine{}})
	must(e.t, err)
	e.Service = s
	must(e.t, s.Start(context.Background()))
}

func call() *op.Call {
	return &op.Call{Mount: "transit/", At: "transit/", MayCreate: true, MayUpdate: true}
}

func (e *env) make(name, typ string) *api.Key {
	e.t.Helper()
	return e.makeAs(api.CreateKey{Name: name, Type: typ})
}

func (e *env) makeAs(r api.CreateKey) *api.Key {
	e.t.Helper()
	k, err := e.createKey(context.Background(), call(), &r)
	must(e.t, err)
	return k
}

func (e *env) rotateNow(name string) *api.Key {
	e.t.Helper()
	k, err := e.rotateKey(context.Background(), call(), &api.RotateKey{Name: name})
	must(e.t, err)
	return k
}

func (e *env) configure(name string, r api.ConfigKey) {
	e.t.Helper()
	r.Name = name
	_, err := e.configKey(context.Background(), call(), &r)
	must(e.t, err)
}

func (e *env) enc(name, plaintext string) string {
	e.t.Helper()
	r, err := e.encrypt(context.Background(), call(), &api.Encrypt{Name: name, Plaintext: []byte(plaintext)})
	must(e.t, err)
	return r.Ciphertext
}

func (e *env) dec(name, ciphertext string) (string, error) {
	r, err := e.decrypt(context.Background(), call(), &api.Decrypt{Name: name, Ciphertext: ciphertext})
	if err != nil {
		return "", err
	}
	return string(*r.Plaintext), nil
}

// count returns how many records a table has.
func (e *env) count(table string) int {
	e.t.Helper()
	rs, err := e.db.List(context.Background(), table, "", "", 0)
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

var errBoom = errors.New("boom")

func ptr[T any](v T) *T { return &v }
