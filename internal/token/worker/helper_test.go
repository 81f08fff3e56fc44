package worker

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token"
)

// The test binary is its own worker.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "token-worker" {
		os.Exit(Main())
	}
	code := m.Run()
	if shimDir != "" {
		os.RemoveAll(shimDir)
	}
	os.Exit(code)
}

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

const (
	testPIN = "user-pin-4711"
	testSO  = "so-pin-81500"
)

// softConfig returns a configuration for a SoftHSM2 of its own, without a token.
func softConfig(t testing.TB) Config {
	t.Helper()
	if _, err := os.Stat(softHSM); err != nil {
		t.Skip("SoftHSM2 is not installed")
	}
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	text := "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return Config{
		Module: softHSM, Label: "test", Workers: 2, Env: []string{"SOFTHSM2_CONF=" + conf},
		LockFile: filepath.Join(dir, "lock"), Logger: log,
	}
}

func within(t testing.TB) context.Context { return contextOf(t, 30*time.Second) }

func contextOf(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func newDevice(t testing.TB, cfg Config) *Device {
	t.Helper()
	d, err := NewDevice(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// openToken creates, opens and provisions a token.
func openToken(t testing.TB, cfg Config) *hsm {
	t.Helper()
	d := newDevice(t, cfg)
	ctx := within(t)
	if err := d.Create(ctx, []byte(testSO), []byte(testPIN)); err != nil {
		t.Fatal(err)
	}
	h := openDevice(t, d)
	if err := h.Provision(ctx, false); err != nil {
		t.Fatal(err)
	}
	return h
}

func openDevice(t testing.TB, d *Device) *hsm {
	t.Helper()
	h, err := d.open(within(t), []byte(testPIN))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func newSpec(typ token.Type, place token.Place) token.Spec {
	s := token.Spec{Type: typ, Place: place, Label: "k-" + typ.String()}
	if typ == token.HMAC {
		s.Size = 64
	}
	rand.Read(s.ID[:])
	return s
}

func generate(t testing.TB, h token.Token, typ token.Type, place token.Place) (token.Stored, token.Key) {
	t.Helper()
	st, err := h.Generate(within(t), newSpec(typ, place))
	if err != nil {
		t.Fatalf("generating %v: %v", typ, err)
	}
	k, err := h.Key(st)
	if err != nil {
		t.Fatal(err)
	}
	return st, k
}

// do1 performs op on one item and returns its output.
func do1(t testing.TB, k token.Key, op token.Op, it token.Item) []byte {
	t.Helper()
	items := []token.Item{it}
	if err := k.Do(within(t), op, items); err != nil {
		t.Fatalf("%+v: %v", op, err)
	}
	if items[0].Err != nil {
		t.Fatalf("%+v: %v", op, items[0].Err)
	}
	return items[0].Out
}
