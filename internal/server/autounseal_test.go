package server

import (
	"bytes"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/tpm/tpmtest"
)

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// machine is the data of one server, through several processes and configurations.
type machine struct {
	dir string
	log lines
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	return &machine{dir: filepath.Join(t.TempDir(), "data")}
}

// serve runs f against a server of this machine with that custody.
func (m *machine) serve(t *testing.T, c config.Custody, f func(t *testing.T, s *Server)) {
	t.Helper()
	ok := t.Run("", func(t *testing.T) {
		cfg := config.Dev(m.dir)
		cfg.Custody = c
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		f(t, running(t, cfg, Options{Logger: slog.New(slog.NewTextHandler(&m.log, nil))}))
	})
	if !ok {
		t.FailNow()
	}
}

func sealStatus(t *testing.T, s *Server) (st api.SealStatus) {
	t.Helper()
	if status := do(t, s, "GET", "sys/seal-status", "", nil, &st); status != http.StatusOK {
		t.Fatalf("seal-status: %d", status)
	}
	return st
}

func wantSealed(t *testing.T, s *Server, sealed bool, sealType string) {
	t.Helper()
	if st := sealStatus(t, s); st.Sealed != sealed || st.Type != sealType || !st.Initialized {
		t.Fatalf("%+v", st)
	}
}

// eventually waits for the server to open by itself.
func eventually(t *testing.T, s *Server) {
	t.Helper()
	for range 200 {
		if !sealStatus(t, s).Sealed {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the server does not open by itself")
}

func initAuto(t *testing.T, s *Server) (shares []string, root string) {
	t.Helper()
	var refused api.ErrorResponse
	if status := do(t, s, "PUT", "sys/init", "", api.Init{SecretShares: 3, SecretThreshold: 2}, &refused); status != 400 ||
		!strings.Contains(refused.Errors[0], "not applicable to seal type") {
		t.Errorf("init with secret shares: %d %v", status, refused)
	}
	var r api.InitResult
	if status := do(t, s, "PUT", "sys/init", "", api.Init{RecoveryShares: 3, RecoveryThreshold: 2}, &r); status != 200 || len(r.RecoveryKeys) != 3 || len(r.Keys) != 0 {
		t.Fatalf("init: status %d", status)
	}
	return r.RecoveryKeysBase64, r.RootToken
}

func giveShares(t *testing.T, s *Server, migrate bool, shares ...string) (st api.SealStatus) {
	t.Helper()
	for _, share := range shares {
		if status := do(t, s, "PUT", "sys/unseal", "", api.Unseal{Key: share, Migrate: migrate}, &st); status != 200 {
			t.Fatalf("unseal: status %d", status)
		}
	}
	return st
}

// quiet fails if a secret shows in the log.
func (m *machine) quiet(t *testing.T, secrets ...string) {
	t.Helper()
	for i, secret := range secrets {
		if strings.Contains(m.log.String(), secret) {
			t.Errorf("secret %d is in the log", i)
		}
	}
}

// TestAutoUnsealTPM is a server that a TPM opens, from its initialisation to its
// migration to shares.
func TestAutoUnsealTPM(t *testing.T) {
	t.Parallel()
	chip := tpmtest.New(t)
	auto := config.Custody{Kind: config.CustodyAuto, Provider: config.ProviderTPM, TPM: config.CustodyTPM{Device: chip.Device, PCRs: []int{23}}}
	m := newMachine(t)
	var shares []string
	var root string
	m.serve(t, auto, func(t *testing.T, s *Server) {
		shares, root = initAuto(t, s)
		wantSealed(t, s, false, "tpm")
	})
	m.serve(t, auto, func(t *testing.T, s *Server) {
		wantSealed(t, s, false, "tpm")
		if status := do(t, s, "GET", "auth/token/lookup-self", root, nil, nil); status != 200 {
			t.Errorf("the root token: %d", status)
		}
	})
	// The platform changed: the recovery shares open, and seal to its new state.
	chip.Tool(t, "tpm2_pcrextend", "23:sha256="+strings.Repeat("01", 32))
	m.serve(t, auto, func(t *testing.T, s *Server) {
		wantSealed(t, s, true, "tpm")
		if !strings.Contains(m.log.String(), "PCR 23 changed") {
			t.Error("the log does not say why")
		}
		if st := giveShares(t, s, true, shares[:2]...); st.Sealed {
			t.Errorf("%+v", st)
		}
	})
	m.serve(t, auto, func(t *testing.T, s *Server) { wantSealed(t, s, false, "tpm") })
	m.serve(t, config.Custody{Kind: config.CustodyShares}, func(t *testing.T, s *Server) {
		if st := sealStatus(t, s); !st.Sealed || !st.Migration {
			t.Errorf("%+v", st)
		}
		giveShares(t, s, true, shares[1:]...)
		wantSealed(t, s, false, "shamir")
	})
	m.serve(t, config.Custody{Kind: config.CustodyShares}, func(t *testing.T, s *Server) {
		wantSealed(t, s, true, "shamir")
		giveShares(t, s, false, shares[0], shares[2])
		wantSealed(t, s, false, "shamir")
	})
	m.quiet(t, append(shares, root)...)
}

// TestAutoUnsealTransit is a server that the transit engine of another one opens,
// which is not always there.
func TestAutoUnsealTransit(t *testing.T) {
	t.Parallel()
	keeper := newMachine(t)
	socket := filepath.Join(t.TempDir(), "s")
	file := filepath.Join(t.TempDir(), "token")
	auto := config.Custody{Kind: config.CustodyAuto, Provider: config.ProviderTransit, Transit: config.CustodyTransit{
		Address: "unix://" + socket, TokenFile: file, Mount: "transit", Key: "unseal"}}
	var keeperShares []string
	var keeperRoot string
	// serveKeeper runs the other server beside f.
	serveKeeper := func(t *testing.T, f func(t *testing.T, k *Server)) {
		t.Helper()
		cfg := config.Dev(keeper.dir)
		cfg.Listeners = append(cfg.Listeners, config.Listener{Address: "unix:" + socket, Mode: "0600"})
		ok := t.Run("", func(t *testing.T) {
			k := running(t, cfg, Options{})
			if keeperRoot == "" {
				var r api.InitResult
				do(t, k, "PUT", "sys/init", "", api.Init{SecretShares: 1, SecretThreshold: 1}, &r)
				keeperShares, keeperRoot = r.KeysBase64, r.RootToken
			}
			f(t, k)
		})
		if !ok {
			t.FailNow()
		}
	}
	must := func(t *testing.T, k *Server, method, path string, body, into any) {
		t.Helper()
		if status := do(t, k, method, path, keeperRoot, body, into); status >= 300 {
			t.Fatalf("%s: status %d", path, status)
		}
	}
	writeToken := func(t *testing.T, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := newMachine(t)
	var shares []string
	serveKeeper(t, func(t *testing.T, k *Server) {
		giveShares(t, k, false, keeperShares...)
		must(t, k, "POST", "transit/keys/unseal", api.Empty{}, nil)
		must(t, k, "PUT", "sys/policies/acl/unseal", api.WritePolicy{Policy: `path "transit/encrypt/unseal" { capabilities = ["update"] }
			path "transit/decrypt/unseal" { capabilities = ["update"] }`}, nil)
		var made struct {
			Auth struct {
				ClientToken string `json:"client_token"`
			} `json:"auth"`
		}
		must(t, k, "POST", "auth/token/create", map[string]any{"policies": []string{"unseal"}, "period": "24h", "no_parent": true}, &made)
		writeToken(t, made.Auth.ClientToken)
		m.serve(t, auto, func(t *testing.T, s *Server) {
			shares, _ = initAuto(t, s)
			wantSealed(t, s, false, "transit")
		})
		must(t, k, "POST", "transit/keys/unseal/rotate", api.Empty{}, nil)
		m.serve(t, auto, func(t *testing.T, s *Server) { wantSealed(t, s, false, "transit") })
		// A token that is not valid, and one that is put in its place.
		writeToken(t, "s.none")
		m.serve(t, auto, func(t *testing.T, s *Server) {
			wantSealed(t, s, true, "transit")
			if !strings.Contains(m.log.String(), "refuses the client token") {
				t.Error("the log does not say why")
			}
			writeToken(t, made.Auth.ClientToken)
			eventually(t, s)
		})
	})
	// The other server is away, then sealed, then there.
	m.serve(t, auto, func(t *testing.T, s *Server) {
		wantSealed(t, s, true, "transit")
		if !strings.Contains(m.log.String(), "did not answer") {
			t.Error("the log does not say why")
		}
		serveKeeper(t, func(t *testing.T, k *Server) {
			time.Sleep(openAgainAfter)
			wantSealed(t, s, true, "transit")
			giveShares(t, k, false, keeperShares...)
			eventually(t, s)
			// The key is deleted: the recovery shares open without it.
			must(t, k, "POST", "transit/keys/unseal/config", map[string]any{"deletion_allowed": true}, nil)
			must(t, k, "DELETE", "transit/keys/unseal", nil, nil)
		})
	})
	serveKeeper(t, func(t *testing.T, k *Server) {
		giveShares(t, k, false, keeperShares...)
		m.serve(t, auto, func(t *testing.T, s *Server) {
			wantSealed(t, s, true, "transit")
			if !strings.Contains(m.log.String(), "it was deleted") {
				t.Error("the log does not say why")
			}
			giveShares(t, s, false, shares[:2]...)
			wantSealed(t, s, false, "transit")
		})
		// A key in its place, of the same name, gets the secret with the shares.
		must(t, k, "POST", "transit/keys/unseal", api.Empty{}, nil)
		m.serve(t, auto, func(t *testing.T, s *Server) {
			wantSealed(t, s, true, "transit")
			giveShares(t, s, true, shares[:2]...)
		})
		m.serve(t, auto, func(t *testing.T, s *Server) { wantSealed(t, s, false, "transit") })
	})
	m.quiet(t, shares...)
}

// TestAutoUnsealCredential migrates a server from shares to a systemd credential; and
// a copy of its database on another machine, with another credential, stays sealed.
func TestAutoUnsealCredential(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	credential := func(b byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "unseal"), bytes.Repeat([]byte{b}, 32), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	credential('a')
	auto := config.Custody{Kind: config.CustodyAuto, Provider: config.ProviderCredential, Credential: config.CustodyCredential{Name: "unseal"}}
	m := newMachine(t)
	var shares []string
	m.serve(t, config.Custody{Kind: config.CustodyShares}, func(t *testing.T, s *Server) {
		var r api.InitResult
		if status := do(t, s, "PUT", "sys/init", "", api.Init{SecretShares: 2, SecretThreshold: 2}, &r); status != 200 {
			t.Fatal(status)
		}
		shares = r.KeysBase64
	})
	m.serve(t, auto, func(t *testing.T, s *Server) {
		var refused api.ErrorResponse
		if status := do(t, s, "PUT", "sys/unseal", "", api.Unseal{Key: shares[0]}, &refused); status < 400 ||
			!strings.Contains(strings.Join(refused.Errors, " "), "migrate") {
			t.Errorf("without migrate: %d %v", status, refused)
		}
		giveShares(t, s, true, shares...)
		wantSealed(t, s, false, "systemd-credential")
	})
	m.serve(t, auto, func(t *testing.T, s *Server) { wantSealed(t, s, false, "systemd-credential") })
	credential('b')
	m.serve(t, auto, func(t *testing.T, s *Server) {
		wantSealed(t, s, true, "systemd-credential")
		if !strings.Contains(m.log.String(), "is not the one under which it was sealed") {
			t.Error("the log does not say why")
		}
	})
}

func TestUnsealProvider(t *testing.T) {
	t.Parallel()
	for _, name := range []string{config.ProviderTPM, config.ProviderTransit, config.ProviderCredential} {
		p, err := unsealProvider(&config.Custody{Kind: config.CustodyAuto, Provider: name})
		if err != nil || p.Name() != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p, err := unsealProvider(&config.Custody{Kind: config.CustodyShares, Provider: "tpm"}); p != nil || err != nil {
		t.Error("a provider for shares")
	}
}
