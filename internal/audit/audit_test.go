package audit

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/sqlite"
)

var (
	quiet  = slog.New(slog.NewTextHandler(io.Discard, nil))
	macKey = bytes.Repeat([]byte{3}, MacKeySize)
)

// testKey is a fixed signing key, so that a child process has the same one.
var testKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{5}, 32))
	if err != nil {
		panic(err)
	}
	return key
})

var testPublic = sync.OnceValue(func() []byte {
	der, err := x509.MarshalPKIXPublicKey(&testKey().PublicKey)
	if err != nil {
		panic(err)
	}
	return der
})

func testSign(_ context.Context, digest [32]byte) ([]byte, error) {
	r, s, err := ecdsa.Sign(rand.Reader, testKey(), digest[:])
	if err != nil {
		return nil, err
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), nil
}

// openStore opens a sealed store; path "" is in memory.
func openStore(path string) (*sqlite.Store, *store.Sealed, error) {
	db, err := sqlite.Open(context.Background(), sqlite.Config{Path: path, Logger: quiet})
	if err != nil {
		return nil, nil, err
	}
	s := store.NewSealed(db)
	return db, s, s.Unseal(bytes.Repeat([]byte{1}, store.StorageKeySize))
}

// testConfig is a log in a directory of its own, whose checkpoints come only
// when they are asked for.
func testConfig(t testing.TB) Config {
	t.Helper()
	db, s, err := openStore("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return Config{
		Path:               filepath.Join(t.TempDir(), "log", "audit.log"),
		MacKey:             macKey,
		Sign:               testSign,
		PublicKey:          testPublic(),
		Store:              s,
		CheckpointInterval: time.Hour,
		Logger:             quiet,
	}
}

func mustOpen(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func testEntry(i int) *Entry {
	return &Entry{
		Type:      Request,
		RequestID: fmt.Sprint("id-", i),
		Operation: "transit.encrypt",
		Verb:      "write",
		Path:      "transit/encrypt/app",
		Remote:    "127.0.0.1:4000",
		Policies:  []string{"default", "app"},
		Data:      &api.Encrypt{Name: "app", Plaintext: []byte("attack at dawn"), KeyVersion: i},
	}
}

func mustWrite(t testing.TB, l *Log, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := l.Write(testEntry(i)); err != nil {
			t.Fatalf("write %d: %v", i, err)
		}
	}
}

// crash ends a log as kill -9 would: nothing is signed or remembered.
func crash(l *Log) {
	l.closing.Do(func() {
		close(l.stop)
		<-l.stopped
		l.mu.Lock()
		defer l.mu.Unlock()
		l.closed = true
		closeFile(l.f)
	})
}

func verifyFiles(t testing.TB, paths ...string) *Report {
	t.Helper()
	r, err := VerifyFiles(VerifyOptions{PublicKeys: [][]byte{testPublic()}}, paths...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustVerify(t testing.TB, paths ...string) *Report {
	t.Helper()
	r := verifyFiles(t, paths...)
	if r.Fault != nil {
		t.Fatalf("verify: %v", r.Fault)
	}
	return r
}

func readLines(t testing.TB, path string) []string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(strings.TrimSuffix(string(raw), "\n"), "\n")
}

func TestWriteAndVerify(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	l := mustOpen(t, cfg)
	mustWrite(t, l, 0, 5)
	if err := l.Write(&Entry{Type: Response, RequestID: "id-4", Kind: fault.Denied, Error: "permission denied"}); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, cfg.Path); r.Records != 6 || r.Lines != 7 || r.Unsigned != 7 || r.Signed != 0 {
		t.Errorf("before the checkpoint: %+v", r)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r := mustVerify(t, cfg.Path)
	if r.Records != 6 || r.Lines != 8 || r.Unsigned != 0 || r.Signed != 7 || r.Checkpoints != 1 || r.First != 1 || r.Last.Seq != 8 {
		t.Errorf("after Close: %+v", r)
	}
	if r.Last != l.Status().Head {
		t.Errorf("the log ends at %v, Status says %v", r.Last, l.Status().Head)
	}
	fi, _ := os.Stat(cfg.Path)
	dir, _ := os.Stat(filepath.Dir(cfg.Path))
	if fi.Mode().Perm() != 0o600 || dir.Mode().Perm() != 0o700 {
		t.Errorf("modes %v, %v", fi.Mode(), dir.Mode())
	}
	if err := l.Write(testEntry(0)); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a write after Close: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestGoesOn(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	for i := range 4 {
		l := mustOpen(t, cfg)
		mustWrite(t, l, i*10, i*10+10)
		if i%2 == 0 {
			crash(l)
		} else if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if r := mustVerify(t, cfg.Path); r.Records != 40 || r.Unsigned != 0 || r.Repairs != 0 || r.Checkpoints != 2 {
		t.Errorf("%+v", r)
	}
	l := mustOpen(t, cfg)
	l.Close()
	if r := mustVerify(t, cfg.Path); r.Lines != 43 {
		t.Errorf("a start without records wrote something: %+v", r)
	}
}

func TestConcurrentWrites(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.CheckpointEvery = 50
	l := mustOpen(t, cfg)
	const writers, each = 8, 200
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := l.Write(testEntry(w*each + i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for l.Status().Unsigned >= 50 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	if n := l.Status().Unsigned; n >= 50 {
		t.Errorf("%d records are not signed", n)
	}
	l.Close()
	r := mustVerify(t, cfg.Path)
	if r.Records != writers*each || r.Unsigned != 0 || r.Checkpoints < 2 {
		t.Errorf("%+v", r)
	}
	seen := map[string]bool{}
	for _, line := range readLines(t, cfg.Path) {
		var e struct {
			ID string `json:"request_id"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		seen[e.ID] = true
	}
	if len(seen) != writers*each+1 {
		t.Errorf("%d different records", len(seen)-1)
	}
}

func TestInterval(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.CheckpointInterval = 20 * time.Millisecond
	l := mustOpen(t, cfg)
	mustWrite(t, l, 0, 3)
	deadline := time.Now().Add(10 * time.Second)
	for l.Status().Unsigned > 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond)
	crash(l)
	// The first line may have been signed before the records; nothing more is
	// signed while nothing is written.
	if r := mustVerify(t, cfg.Path); r.Unsigned != 0 || r.Checkpoints > 3 {
		t.Errorf("%+v", r)
	}
}

// A key that does not answer, or answers wrongly, stops no operation; the
// records are signed when it works again.
func TestSignerFails(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	var answer func() ([]byte, error)
	cfg.Sign = func(ctx context.Context, digest [32]byte) ([]byte, error) {
		if answer != nil {
			return answer()
		}
		return testSign(ctx, digest)
	}
	l := mustOpen(t, cfg)
	down := errors.New("the token does not answer")
	for _, a := range []func() ([]byte, error){
		func() ([]byte, error) { return nil, down },
		func() ([]byte, error) { return make([]byte, 64), nil },
		func() ([]byte, error) { return []byte{1}, nil },
	} {
		answer = a
		mustWrite(t, l, 0, 2)
		if err := l.Checkpoint(t.Context()); err == nil {
			t.Error("a checkpoint without a signature")
		}
		if l.head.Seq != l.Status().Head.Seq {
			t.Error("the store does not remember the unsigned records")
		}
	}
	answer = nil
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, cfg.Path); r.Records != 6 || r.Unsigned != 0 || r.Checkpoints != 1 {
		t.Errorf("%+v", r)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"no path":           func(c *Config) { c.Path = "" },
		"no file":           func(c *Config) { c.Path = "-" },
		"short HMAC key":    func(c *Config) { c.MacKey = make([]byte, 16) },
		"no signer":         func(c *Config) { c.Sign = nil },
		"no store":          func(c *Config) { c.Store = nil },
		"no public key":     func(c *Config) { c.PublicKey = nil },
		"other public key":  func(c *Config) { c.PublicKey = otherPublic(t) },
		"negative count":    func(c *Config) { c.CheckpointEvery = -1 },
		"large count":       func(c *Config) { c.CheckpointEvery = 1e6 },
		"negative interval": func(c *Config) { c.CheckpointInterval = -1 },
		"sealed store":      func(c *Config) { c.Store = store.NewSealed(nil) },
		"directory":         func(c *Config) { c.Path = t.TempDir() },
		"device":            func(c *Config) { c.Path = "/dev/null" },
		"below a file":      func(c *Config) { c.Path = "/dev/null/audit.log" },
	} {
		cfg := testConfig(t)
		change(&cfg)
		if l, err := Open(cfg); err == nil {
			l.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

// otherPublic is a key of a curve that checkpoints are not signed with.
func otherPublic(t *testing.T) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestTwoServers(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	mustOpen(t, cfg)
	if _, err := Open(cfg); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "another server") {
		t.Errorf("got %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	l := mustOpen(t, cfg)
	err := l.Write(&Entry{Type: Request, Data: &api.WritePolicy{Policy: strings.Repeat("\x01", maxLine/6+1)}})
	if fault.KindOf(err) != fault.TooLarge {
		t.Errorf("got %v", err)
	}
	mustWrite(t, l, 0, 1)
	l.Close()
	if r := mustVerify(t, cfg.Path); r.Records != 1 {
		t.Errorf("%+v", r)
	}
}

func BenchmarkWrite(b *testing.B) {
	item := api.EncryptItem{Plaintext: make([]byte, 1024)}
	batch := make([]api.EncryptItem, 100)
	for i := range batch {
		batch[i] = item
	}
	for name, data := range map[string]any{
		"encrypt 64 B":        &api.Encrypt{Name: "app", Plaintext: make([]byte, 64)},
		"encrypt 100 x 1 KiB": &api.Encrypt{Name: "app", BatchInput: batch},
		"encrypted":           &api.Encrypted{Ciphertext: "vault:v1:x", KeyVersion: 1},
	} {
		b.Run(name, func(b *testing.B) {
			l := mustOpen(b, testConfig(b))
			e := testEntry(1)
			e.Data = data
			b.ReportAllocs()
			for b.Loop() {
				if err := l.Write(e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
