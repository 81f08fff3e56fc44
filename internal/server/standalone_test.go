package server

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
)

func newStandalone(t *testing.T, pin string) *Standalone {
	t.Helper()
	return &Standalone{Dir: t.TempDir(), PIN: func() ([]byte, error) { return []byte(pin), nil }}
}

// alone starts a server that stands alone; its API is at a TCP address.
func alone(t *testing.T, a *Standalone) *Server {
	t.Helper()
	cfg, err := a.Config()
	if err != nil {
		t.Fatal(err)
	}
	return running(t, cfg, Options{Standalone: a})
}

func rootTokenOf(t *testing.T, a *Standalone) string {
	t.Helper()
	info, err := os.Stat(a.RootTokenFile())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the root token's file has mode %v", info.Mode())
	}
	b, err := os.ReadFile(a.RootTokenFile())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestStandalone(t *testing.T) {
	t.Parallel()
	a := newStandalone(t, "1234")
	a.Mounts = map[string]string{"other": "transit"}
	var first string
	t.Run("first start", func(t *testing.T) {
		s := alone(t, a)
		first = rootTokenOf(t, a)
		var status api.SealStatus
		do(t, s, "GET", "sys/seal-status", "", nil, &status)
		if status.Sealed || status.Type != "pin" || !status.RecoverySeal || status.N != 0 {
			t.Errorf("%+v", status)
		}
		for _, mount := range []string{"transit", "other"} {
			if status := do(t, s, "POST", mount+"/keys/k", first, nil, nil); status != 200 {
				t.Errorf("making a key at %s: status %d", mount, status)
			}
		}
	})
	t.Run("second start", func(t *testing.T) {
		s := alone(t, a)
		if rootTokenOf(t, a) != first {
			t.Error("the root token changed")
		}
		if status := do(t, s, "GET", "other/keys/k", first, nil, nil); status != 200 {
			t.Errorf("reading the key: status %d", status)
		}
	})
	t.Run("interrupted first start", func(t *testing.T) {
		if err := writeSecret(a.RootTokenFile(), pendingRootToken); err != nil {
			t.Fatal(err)
		}
		s := alone(t, a)
		if next := rootTokenOf(t, a); next == first || next == pendingRootToken || do(t, s, "GET", "transit/keys/k", next, nil, nil) != 200 {
			t.Errorf("the root token is %q", next)
		}
	})
	t.Run("without its root token", func(t *testing.T) {
		if err := os.Remove(a.RootTokenFile()); err != nil {
			t.Fatal(err)
		}
		alone(t, a)
		if _, err := os.Stat(a.RootTokenFile()); err == nil {
			t.Error("the root token that its owner took away is back")
		}
	})
}

// TestStandaloneWrongPIN: the start fails, and says why; another PIN opens.
func TestStandaloneWrongPIN(t *testing.T) {
	t.Parallel()
	a := newStandalone(t, "1234")
	t.Run("first start", func(t *testing.T) { alone(t, a) })
	right := a.PIN
	a.PIN = func() ([]byte, error) { return []byte("4321"), nil }
	for _, want := range []string{"refuses the configured PIN", "refused this PIN on"} {
		cfg, err := a.Config()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(cfg, Options{Standalone: a, Version: "0.1.0"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	a.PIN = right
	t.Run("right again", func(t *testing.T) { alone(t, a) })
}

// TestStandaloneSocket: the API is at a unix socket of this user alone, or nowhere.
func TestStandaloneSocket(t *testing.T) {
	a := newStandalone(t, "1234")
	cfg, err := a.Config()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(cfg, Options{Standalone: a, Version: "0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", a.Socket())
	}}}
	resp, err := c.Get("http://claviger/v1/sys/health")
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("health: %v %v", resp, err)
	}
	if info, err := os.Stat(a.Socket()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v", info, err)
	}
	c.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	a.NoAPI = true
	if s, err = New(cfg, Options{Standalone: a, Version: "0.1.0"}); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if len(s.Addresses()) != 0 {
		t.Errorf("the API is at %q", s.Addresses())
	}
}

// TestStandaloneAlone: a second process waits for the first, and not for ever.
func TestStandaloneAlone(t *testing.T) {
	t.Parallel()
	cfg := config.Dev(t.TempDir())
	first, second := &Server{cfg: cfg}, &Server{cfg: cfg}
	if err := first.lockDir(t.Context()); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := second.lockDir(short); fault.KindOf(err) != fault.Conflict {
		t.Errorf("beside the first: %v", err)
	}
	time.AfterFunc(20*time.Millisecond, func() { first.lock.Close() })
	if err := second.lockDir(t.Context()); err != nil {
		t.Errorf("after the first: %v", err)
	}
	second.lock.Close()
}

func TestStandaloneConfig(t *testing.T) {
	t.Parallel()
	a := &Standalone{Dir: t.TempDir(), Module: "relative.so", Label: "x", PIN: func() ([]byte, error) { return nil, nil }}
	if _, err := a.Config(); err == nil || !strings.Contains(err.Error(), "token.pkcs11.module") {
		t.Errorf("a module without a path: %v", err)
	}
	a.Module = "/usr/lib/softhsm/libsofthsm2.so"
	c, err := a.Config()
	if err != nil {
		t.Fatal(err)
	}
	if c.Token.OnInit != config.OnInitAdopt || c.Token.Driver != config.DriverPKCS11 || c.Token.PKCS11.CallTimeout.Duration == 0 {
		t.Errorf("%+v", c.Token)
	}
}

// TestCustodyByPIN is a server whose file of configuration says custody "pin".
func TestCustodyByPIN(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pin")
	if err := os.WriteFile(file, []byte("a PIN\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CLAVIGER_TEST_PIN", "a PIN")
	for i, c := range []config.Custody{
		{Kind: config.CustodyPIN, PINFile: file},
		{Kind: config.CustodyPIN, PINFile: file},
		{Kind: config.CustodyPIN, PINEnv: "CLAVIGER_TEST_PIN"},
	} {
		t.Run("", func(t *testing.T) {
			cfg := config.Dev(filepath.Join(dir, "data"))
			cfg.Custody = c
			s := running(t, cfg, Options{})
			if i == 0 {
				var init api.InitResult
				if status := do(t, s, "PUT", "sys/init", "", api.Init{SecretShares: 1, SecretThreshold: 1}, nil); status != 400 {
					t.Errorf("init with shares: status %d", status)
				}
				if status := do(t, s, "PUT", "sys/init", "", api.Init{}, &init); status != 200 || init.RootToken == "" {
					t.Fatalf("init: status %d", status)
				}
			}
			var status api.SealStatus
			do(t, s, "GET", "sys/seal-status", "", nil, &status)
			if status.Sealed || status.Type != "pin" {
				t.Errorf("start %d: %+v", i, status)
			}
			if _, found := os.LookupEnv("CLAVIGER_TEST_PIN"); found && c.PINEnv != "" {
				t.Error("the PIN stays in the environment")
			}
		})
	}
	t.Run("without the file", func(t *testing.T) {
		cfg := config.Dev(filepath.Join(dir, "data"))
		cfg.Custody = config.Custody{Kind: config.CustodyPIN, PINFile: filepath.Join(dir, "absent")}
		s := running(t, cfg, Options{})
		var status api.SealStatus
		do(t, s, "GET", "sys/seal-status", "", nil, &status)
		if !status.Sealed || !status.Initialized {
			t.Errorf("%+v", status)
		}
	})
	t.Run("by shares", func(t *testing.T) {
		cfg := config.Dev(filepath.Join(dir, "data"))
		if _, err := New(cfg, Options{Version: "0.1.0"}); err == nil || !strings.Contains(err.Error(), "custody by pin") {
			t.Errorf("%v", err)
		}
	})
}
