package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/sqlite"
)

// probedStore is the real store, in memory, which can be made to fail.
type probedStore struct {
	store.Store
	mu      sync.Mutex
	fail    error // of Apply
	applied int
	// read, if set, is called after each Get, before its answer is seen
	read func(table string)
}

func newProbedStore(t testing.TB) *probedStore {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return &probedStore{Store: db}
}

func (m *probedStore) Get(ctx context.Context, table, key string) (store.Record, error) {
	r, err := m.Store.Get(ctx, table, key)
	m.mu.Lock()
	read := m.read
	m.mu.Unlock()
	if read != nil {
		read(table)
	}
	return r, err
}

func (m *probedStore) Apply(ctx context.Context, changes ...store.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	err := m.Store.Apply(ctx, changes...)
	if err == nil {
		m.applied++
	}
	return err
}

func (m *probedStore) setFail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

func (m *probedStore) setRead(read func(table string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read = read
}

func (m *probedStore) count(table string) int { return len(m.all(table)) }

func (m *probedStore) all(tables ...string) []store.Record {
	var records []store.Record
	for _, table := range tables {
		found, err := m.List(context.Background(), table, "", "", 0)
		if err != nil {
			panic(err)
		}
		records = append(records, found...)
	}
	return records
}

// recorder keeps copies of events and can be made to fail on a type.
type recorder struct {
	mu     sync.Mutex
	events []Event
	failOn string
}

func (r *recorder) Record(e *Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failOn == e.Type {
		return errors.New("disk full")
	}
	r.events = append(r.events, *e)
	return nil
}

func (r *recorder) take() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

func (r *recorder) setFail(on string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failOn = on
}

// server is a guard with a few operations of its own around it.
type server struct {
	*Guard
	t      testing.TB
	mem    *probedStore
	sealed *store.Sealed
	rec    *recorder
	logs   *lockedBuffer
	root   string

	mu          sync.Mutex
	clock       time.Time
	initialized bool
	isSealed    bool
	noRecorder  bool
	did         []string // names of things that the test operations touched
	exists      map[string]bool
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newServer(t testing.TB) *server {
	t.Helper()
	s := blankServer(t)
	root, changes, err := s.Genesis(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.sealed.Apply(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
	s.root = root
	return s
}

// blankServer is unsealed, without Genesis' records.
func blankServer(t testing.TB) *server {
	t.Helper()
	s := &server{t: t, mem: newProbedStore(t), rec: &recorder{}, logs: &lockedBuffer{}, initialized: true,
		clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), exists: map[string]bool{}}
	s.sealed = store.NewSealed(s.mem)
	if err := s.sealed.Unseal(bytes.Repeat([]byte{7}, store.StorageKeySize)); err != nil {
		t.Fatal(err)
	}
	g, err := New(Options{
		Store:  s.sealed,
		Logger: slog.New(slog.NewTextHandler(s.logs, nil)),
		Now:    s.time,
		Recorder: func() Recorder {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.noRecorder || s.isSealed {
				return nil
			}
			return s.rec
		},
		State: func() (bool, bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.initialized, s.isSealed
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Guard = g
	if err := g.Register(g.Operations()...); err != nil {
		t.Fatal(err)
	}
	if err := g.Register(s.operations()...); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) time() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock
}

func (s *server) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.Add(d)
}

func (s *server) setSealed(sealed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isSealed = sealed
}

func (s *server) done() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	did := s.did
	s.did = nil
	return did
}

type thing struct {
	Name string `json:"-" path:"name" audit:"plain"`
	N    int    `json:"n,omitempty"`
}

// operations are what a service behind the guard might have.
func (s *server) operations() []*op.Operation {
	touch := func(_ context.Context, c *op.Call, req *thing) (*thing, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.did = append(s.did, c.Mount+req.Name)
		return req, nil
	}
	fails := func(err error) func(context.Context, *op.Call, *thing) (*thing, error) {
		return func(context.Context, *op.Call, *thing) (*thing, error) { return nil, err }
	}
	keys := func(name, path string, verb op.Verb) op.Meta {
		return op.Meta{Name: "transit." + name, Mount: kindTransit, Path: path, Verb: verb}
	}
	create := op.WithExists(op.Define(keys("create", "keys/{name}", op.Write), touch),
		func(_ context.Context, _ *op.Call, req *thing) (bool, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.exists[req.Name], nil
		})
	sudo := keys("wipe", "wipe/{name}", op.Write)
	sudo.Sudo = true
	health := op.Meta{Name: "sys.health", Mount: kindSys, Path: "health", Verb: op.Read, Public: true, Sealed: true,
		Audit: op.AuditNone, Bare: true}
	public := op.Meta{Name: "sys.open", Mount: kindSys, Path: "open", Verb: op.Read, Public: true}
	seal := op.Meta{Name: "sys.seal", Mount: kindSys, Path: "seal", Verb: op.Write, Sudo: true, Audit: op.AuditIntent}
	return []*op.Operation{
		create, op.Define(sudo, touch), op.Define(health, touch), op.Define(public, touch),
		op.Define(keys("read", "keys/{name}", op.Read), touch),
		op.Define(keys("list", "keys", op.List), func(context.Context, *op.Call, *api.Empty) (*api.Keys, error) {
			return &api.Keys{Keys: []string{"a"}}, nil
		}),
		op.Define(keys("delete", "keys/{name}", op.Delete), touch),
		op.Define(keys("rotate", "keys/{name}/rotate", op.Write), touch),
		op.Define(keys("encrypt", "encrypt/{name}", op.Write), touch),
		op.Define(keys("panic", "panic", op.Write), func(context.Context, *op.Call, *thing) (*thing, error) { panic("boom") }),
		op.Define(keys("broken", "broken", op.Write), fails(errors.New("inner detail"))),
		op.Define(keys("busy", "busy", op.Write), fails(fmt.Errorf("reading: %w", store.ErrSealed))),
		op.Define(keys("invalid", "invalid", op.Write), fails(fault.New(fault.Invalid, "no good"))),
		op.Define(seal, func(context.Context, *op.Call, *thing) (*thing, error) {
			s.setSealed(true)
			s.rec.setFail(EventResponse)
			s.Reset()
			return nil, nil
		}),
	}
}

// call passes the door; fill sets the request as a front would.
func (s *server) call(token string, verb op.Verb, path string, fill func(req any)) (*Answer, error) {
	return s.Handle(context.Background(), &Request{Verb: verb, Path: path, Token: token, Remote: "127.0.0.1:1",
		Decode: func(req any) ([]string, error) {
			if fill != nil {
				fill(req)
			}
			return nil, nil
		}})
}

// must is call for what has to work; it returns the answer's data.
func (s *server) must(token string, verb op.Verb, path string, fill func(req any)) any {
	s.t.Helper()
	a, err := s.call(token, verb, path, fill)
	if err != nil {
		s.t.Fatalf("%v %s: %v", verb, path, err)
	}
	return a.Data
}

// refused fails unless the call is refused with a kind and a part of the text.
func (s *server) refused(kind fault.Kind, text string, token string, verb op.Verb, path string, fill func(req any)) {
	s.t.Helper()
	_, err := s.call(token, verb, path, fill)
	if err == nil {
		s.t.Errorf("%v %s: allowed", verb, path)
		return
	}
	if fault.KindOf(err) != kind || !strings.Contains(fault.Message(err), text) {
		s.t.Errorf("%v %s: %v error %q; want %v %q", verb, path, fault.KindOf(err), fault.Message(err), kind, text)
	}
}

// fill adapts a function on one request type.
func fill[Req any](f func(*Req)) func(any) {
	return func(req any) { f(req.(*Req)) }
}

func (s *server) policy(name, text string) {
	s.t.Helper()
	s.must(s.root, op.Write, "sys/policies/acl/"+name, fill(func(r *api.WritePolicy) { r.Policy = text }))
}

func (s *server) token(maker string, f func(*api.CreateToken)) *api.Auth {
	s.t.Helper()
	return s.must(maker, op.Write, "auth/token/create", fill(f)).(*api.Auth)
}

// limited returns the text of a token with one policy.
func (s *server) limited(text string) string {
	s.t.Helper()
	s.policy("limited", text)
	return s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"limited"} }).ClientToken
}
