package custody

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

var errInjected = errors.New("injected failure")

// faults makes the call with that number fail, over store, device, token and hooks.
type faults struct {
	mu     sync.Mutex
	count  int
	failAt int    // 0: never
	killed bool   // from failAt on all calls fail
	failOn string // the name of a call that fails, in place of failAt
	at     string
	err    error
}

func (f *faults) step(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	dead := f.killed && f.failAt > 0 && f.count > f.failAt
	if f.count != f.failAt && (f.failOn == "" || f.failOn != name) && !dead {
		return nil
	}
	if !dead {
		f.at = name
	}
	if f.err != nil {
		return f.err
	}
	return errInjected
}

// arm makes the nth call from now fail.
func (f *faults) arm(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count, f.failAt, f.failOn, f.at, f.killed = 0, n, "", "", false
}

// kill makes the nth call from now and all after it fail, as if the process had ended.
func (f *faults) kill(n int) {
	f.arm(n)
	f.killed = true
}

// armOn makes every call of that name fail.
func (f *faults) armOn(name string) {
	f.arm(0)
	f.failOn = name
}

type memStore struct {
	mu      sync.Mutex
	faults  *faults
	records map[string]store.Record
	// late makes a failing Apply write first, as a connection that breaks does.
	late bool
}

func (s *memStore) Get(_ context.Context, table, key string) (store.Record, error) {
	if err := s.faults.step("store.Get"); err != nil {
		return store.Record{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[table+"/"+key]
	if !ok {
		return store.Record{}, store.ErrNotFound
	}
	r.Data = slices.Clone(r.Data)
	return r, nil
}

func (s *memStore) List(context.Context, string, string, string, int) ([]store.Record, error) {
	return nil, errors.New("custody lists nothing")
}

func (s *memStore) Names(context.Context, string, string, string, int) ([]string, error) {
	return nil, errors.New("not used here")
}

func (s *memStore) Apply(_ context.Context, changes ...store.Change) error {
	failure := s.faults.step("store.Apply")
	if failure != nil && !s.late {
		return failure
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		if s.records[c.Table+"/"+c.Key].Version != c.Expect {
			return store.ErrConflict
		}
	}
	for _, c := range changes {
		if c.Data == nil {
			delete(s.records, c.Table+"/"+c.Key)
			continue
		}
		s.records[c.Table+"/"+c.Key] = store.Record{Table: c.Table, Key: c.Key, Version: c.Expect + 1, Data: slices.Clone(c.Data)}
	}
	return failure
}

func (s *memStore) Check(context.Context) error { return s.faults.step("store.Check") }
func (s *memStore) Close() error                { return nil }

func (s *memStore) has(table, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.records[table+"/"+key]
	return ok
}

func (s *memStore) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.records)
}

// edit changes the seal record as somebody with access to the database could.
func (s *memStore) edit(t *testing.T, change func(r *record)) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	row := s.records[table+"/"+recordKey]
	var r record
	if err := json.Unmarshal(row.Data, &r); err != nil {
		t.Fatal(err)
	}
	change(&r)
	row.Data, _ = json.Marshal(&r)
	s.records[table+"/"+recordKey] = row
}

// memDevice is a device with one slot. Wrong PINs count, as on a real HSM.
type memDevice struct {
	mu       sync.Mutex
	faults   *faults
	st       token.State
	soPIN    []byte
	userPIN  []byte
	key      []byte // storage key, nil before Provision
	tries    int    // logins tried
	wrong    int    // refused one after another
	openErr  error
	openings int // tokens that are open now
	slow     time.Duration
}

func newMemDevice(f *faults) *memDevice {
	return &memDevice{faults: f, st: token.State{Present: true, Label: "claviger", MinPIN: 4, MaxPIN: 255}}
}

func (d *memDevice) State(context.Context) (token.State, error) {
	if err := d.faults.step("device.State"); err != nil {
		return token.State{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.st, nil
}

func (d *memDevice) Create(_ context.Context, soPIN, userPIN []byte) error {
	if err := d.faults.step("device.Create"); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.st.Initialized {
		return token.ErrExists
	}
	d.initialise(soPIN, userPIN)
	return nil
}

func (d *memDevice) initialise(soPIN, userPIN []byte) {
	d.soPIN, d.userPIN = slices.Clone(soPIN), slices.Clone(userPIN)
	d.st.Initialized, d.st.Serial = true, "0123abcd"
}

func (d *memDevice) Open(_ context.Context, pin []byte) (token.Token, error) {
	if err := d.faults.step("device.Open"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	time.Sleep(d.slow)
	if d.openErr != nil {
		return nil, d.openErr
	}
	d.tries++
	if !bytes.Equal(pin, d.userPIN) {
		d.wrong++
		return nil, fmt.Errorf("C_Login: CKR_PIN_INCORRECT: %w", token.ErrPIN)
	}
	d.wrong = 0
	d.openings++
	return &memToken{device: d}, nil
}

type memToken struct {
	token.Token // what custody does not use
	device      *memDevice
	once        sync.Once
}

func (t *memToken) Info() token.Info {
	return token.Info{Driver: "mem", Label: "claviger", Serial: "0123abcd", Manufacturer: "tests", Model: "memory",
		Holds: map[token.Type]token.Hold{token.AES256: {Wrapped: true}, token.Ed25519: {Object: true, Note: "not wrappable"}}}
}

func (t *memToken) AuditKey(context.Context) (token.Stored, error) {
	return token.Stored{Type: token.P256, Public: auditPublic}, nil
}

// auditKey is that of every memToken.
var auditKey, auditPublic = func() (*ecdsa.PrivateKey, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err)
	}
	return key, public
}()

func (t *memToken) Key(token.Stored) (token.Key, error) { return memAuditKey{t}, nil }

// memAuditKey signs with auditKey: r and s, 32 bytes each.
type memAuditKey struct{ *memToken }

func (k memAuditKey) Do(_ context.Context, _ token.Op, items []token.Item) error {
	if err := k.device.faults.step("token.Sign"); err != nil {
		return err
	}
	for i := range items {
		r, s, err := ecdsa.Sign(rand.Reader, auditKey, items[i].In)
		if err != nil {
			return err
		}
		items[i].Out = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	return nil
}

func (t *memToken) Provision(context.Context, bool) error {
	if err := t.device.faults.step("token.Provision"); err != nil {
		return err
	}
	t.device.mu.Lock()
	defer t.device.mu.Unlock()
	if t.device.key == nil {
		t.device.key = make([]byte, 32)
		rand.Read(t.device.key)
	}
	return nil
}

func (t *memToken) aead() (cipher.AEAD, error) {
	t.device.mu.Lock()
	defer t.device.mu.Unlock()
	if t.device.key == nil {
		return nil, token.ErrNotFound
	}
	block, err := aes.NewCipher(t.device.key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (t *memToken) SealSecret(_ context.Context, secret, aad []byte) ([]byte, error) {
	if err := t.device.faults.step("token.SealSecret"); err != nil {
		return nil, err
	}
	a, err := t.aead()
	if err != nil {
		return nil, err
	}
	return a.Seal(nil, nil, secret, aad), nil
}

func (t *memToken) OpenSecret(_ context.Context, sealed, aad []byte) ([]byte, error) {
	if err := t.device.faults.step("token.OpenSecret"); err != nil {
		return nil, err
	}
	a, err := t.aead()
	if err != nil {
		return nil, err
	}
	secret, err := a.Open(nil, nil, sealed, aad)
	if err != nil {
		return nil, token.ErrOpen
	}
	return secret, nil
}

// ChangePIN can fail before and after the change.
func (t *memToken) ChangePIN(_ context.Context, role token.PINRole, old, pin []byte) error {
	d := t.device
	name := fmt.Sprintf("token.ChangePIN %d", role)
	if err := d.faults.step(name); err != nil {
		return err
	}
	d.mu.Lock()
	at := d.pin(role)
	if !bytes.Equal(*at, old) {
		d.wrong++
		d.mu.Unlock()
		return token.ErrPIN
	}
	d.wrong = 0
	*at = slices.Clone(pin)
	d.mu.Unlock()
	return d.faults.step(name + " done")
}

func (t *memToken) ProvePIN(_ context.Context, role token.PINRole, pin []byte) error {
	d := t.device
	if err := d.faults.step("token.ProvePIN"); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !bytes.Equal(*d.pin(role), pin) {
		d.wrong++
		return token.ErrPIN
	}
	d.wrong = 0
	return nil
}

func (d *memDevice) pin(role token.PINRole) *[]byte {
	if role == token.SOPIN {
		return &d.soPIN
	}
	return &d.userPIN
}

func (t *memToken) Close() error {
	t.once.Do(func() {
		t.device.mu.Lock()
		defer t.device.mu.Unlock()
		t.device.openings--
	})
	return nil
}

// bed is a server's custody with everything around it.
type bed struct {
	t      *testing.T
	faults *faults
	store  *memStore
	device *memDevice
	log    syncBuffer
	opts   Options
	c      *Custody

	mu      sync.Mutex
	sealed  *store.Sealed // the services behind the seal
	running bool
	runs    int
	stops   int
	// genesis overrides the records of a new server.
	genesis func() (string, []store.Change, error)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const rootToken = "s.rootTokenOfTheTest"

func newBed(t *testing.T, change ...func(o *Options)) *bed {
	t.Helper()
	f := &faults{}
	b := &bed{t: t, faults: f, store: &memStore{faults: f, records: map[string]store.Record{}}, device: newMemDevice(f)}
	b.sealed = store.NewSealed(b.store)
	b.opts = Options{
		Store: b.store, Records: b.sealed, Device: b.device, HSMToken: Create,
		Hooks:           Hooks{Unsealed: b.unsealed, Sealed: b.sealedHook, Genesis: b.firstRecords, RootToken: b.newRoot},
		RootTokenLength: len(rootToken),
		Version:         "1.2.3", StorageType: "memory", ClusterName: "test",
		Logger: slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&b.opts)
	}
	b.restart()
	return b
}

// restart is a new process over the same store and HSM.
func (b *bed) restart() {
	b.t.Helper()
	c, err := New(b.opts)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.c != nil {
		b.c.Close()
	}
	b.c = c
	b.t.Cleanup(c.Close)
}

func (b *bed) unsealed(_ context.Context, t token.Token, keys store.Keyring) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.runs++
	if err := b.faults.step("hook.Unsealed"); err != nil {
		return err
	}
	if b.running || t == nil {
		b.t.Error("services were started twice, or without a token")
	}
	b.running = true
	return b.sealed.UnsealAll(keys)
}

func (b *bed) sealedHook() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stops++
	b.running = false
	b.sealed.Seal()
}

func (b *bed) newRoot(context.Context) (string, error) {
	if err := b.faults.step("hook.RootToken"); err != nil {
		return "", err
	}
	return rootToken, nil
}

func (b *bed) firstRecords(context.Context) (string, []store.Change, error) {
	if err := b.faults.step("hook.Genesis"); err != nil {
		return "", nil, err
	}
	if b.genesis != nil {
		return b.genesis()
	}
	c, err := b.sealed.Put("first", "record", 0, "genesis")
	return rootToken, []store.Change{c}, err
}

// works tells whether the services read what genesis wrote.
func (b *bed) works() bool {
	var v string
	_, err := b.sealed.Get(context.Background(), "first", "record", &v)
	return err == nil && v == "genesis"
}

func (b *bed) init(n, t int) *api.InitResult {
	b.t.Helper()
	r, err := b.c.Init(b.t.Context(), &api.Init{SecretShares: n, SecretThreshold: t})
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bed) give(shares ...string) *api.SealStatus {
	b.t.Helper()
	var s *api.SealStatus
	for i, share := range shares {
		var err error
		if s, err = b.c.Unseal(b.t.Context(), share); err != nil {
			b.t.Fatalf("share %d: %v (%s)", i+1, err, fault.HintOf(err))
		}
	}
	return s
}

func (b *bed) wantState(initialized, sealed bool) {
	b.t.Helper()
	i, s := b.c.State()
	if i != initialized || s != sealed {
		b.t.Errorf("initialized %v, sealed %v; want %v, %v", i, s, initialized, sealed)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running == sealed {
		b.t.Errorf("services run: %v while sealed is %v", b.running, sealed)
	}
	b.device.mu.Lock()
	defer b.device.mu.Unlock()
	if want := map[bool]int{true: 0, false: 1}[sealed]; b.device.openings != want {
		b.t.Errorf("%d logins are open, want %d", b.device.openings, want)
	}
}

// wantFault checks the kind and that the message and hint speak of what they should.
func wantFault(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Fatalf("error %v is for the log only; want one that the caller may read", err)
	}
	if e.Kind != kind {
		t.Errorf("kind %v, want %v: %v", e.Kind, kind, err)
	}
	said := fault.Message(err) + " // " + fault.HintOf(err)
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("%q does not say %q", said, w)
		}
	}
}

// flakyStore writes, says that it failed, and can't be read afterwards.
type flakyStore struct {
	*memStore
	on, dead bool
}

func (s *flakyStore) Apply(ctx context.Context, changes ...store.Change) error {
	err := s.memStore.Apply(ctx, changes...)
	if s.on {
		s.dead = true
		return errInjected
	}
	return err
}

func (s *flakyStore) Get(ctx context.Context, table, key string) (store.Record, error) {
	if s.dead {
		return store.Record{}, errInjected
	}
	return s.memStore.Get(ctx, table, key)
}

// spyDevice keeps the very slices that it was given.
type spyDevice struct {
	*memDevice
	pins [][]byte
}

func (d *spyDevice) Create(ctx context.Context, soPIN, userPIN []byte) error {
	d.pins = append(d.pins, soPIN, userPIN)
	return d.memDevice.Create(ctx, soPIN, userPIN)
}

func (d *spyDevice) Open(ctx context.Context, pin []byte) (token.Token, error) {
	d.pins = append(d.pins, pin)
	return d.memDevice.Open(ctx, pin)
}
