package server

import (
	"bytes"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/config"
)

// postHMAC sends a body to a front and returns status and body of its answer.
func postHMAC(t *testing.T, address, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest("POST", address+"/hmac", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, hex.EncodeToString(answer)
}

// helloWorld is the code of "hello world" with the secret of makePool.
const helloWorld = "411b9a51e8565e1fc79643b2a6c4672f4a3c3e573c33d0995a08748cb6128e8e"

func cryptoserverConfig(t *testing.T) *config.Config {
	t.Helper()
	cfg := config.Dev(t.TempDir())
	f := &cfg.Front.Cryptoserver
	f.Enabled, f.Address, f.SecretDir = true, "127.0.0.1:0", makePool(t, t.TempDir())
	return cfg
}

// TestCryptoserverOpen: every answer has its record with the identity of the front,
// files that vanish are errors of their requests only.
func TestCryptoserverOpen(t *testing.T) {
	t.Parallel()
	var log lockedLog
	cfg := cryptoserverConfig(t)
	cfg.Front.Cryptoserver.Open = true
	s := running(t, cfg, Options{Dev: &Dev{RootTokenID: "root"}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	address := s.FrontAddress("cryptoserver")
	if status, answer := postHMAC(t, address, "", "hello world"); status != 400 || answer != "" || !strings.Contains(log.String(), "there is no pool to serve") {
		t.Errorf("without the mount: %d %s", status, answer)
	}
	if status := do(t, s, "POST", "sys/mounts/hmacpool", "root", map[string]any{"type": "hmacpool"}, nil); status != 204 {
		t.Fatalf("mounting: status %d", status)
	}
	if status, answer := postHMAC(t, address, "", "hello world"); status != 200 || answer != helloWorld {
		t.Errorf("%d %s", status, answer)
	}
	var st struct{ Data struct{ Fixed, Usable bool } }
	if status := do(t, s, "GET", "hmacpool/status", "root", nil, &st); status != 200 || !st.Data.Fixed || !st.Data.Usable {
		t.Errorf("status %d %+v", status, st)
	}
	secret := filepath.Join(cfg.Front.Cryptoserver.SecretDir, "secret")
	if err := os.Rename(secret, secret+".gone"); err != nil {
		t.Fatal(err)
	}
	s.pools.Reset() // or a second passes
	if status, answer := postHMAC(t, address, "", "hello world"); status != 400 || answer != "" {
		t.Errorf("without the file: %d %s", status, answer)
	}
	if err := os.Rename(secret+".gone", secret); err != nil {
		t.Fatal(err)
	}
	if status, answer := postHMAC(t, address, "", "hello world"); status != 200 || answer != helloWorld {
		t.Errorf("with it again: %d %s", status, answer)
	}
	text := log.String()
	if !strings.Contains(text, "ASKS NOBODY") || !strings.Contains(text, "a file of the pool is missing") && !strings.Contains(text, "needs the file") {
		t.Errorf("the log says %s", text)
	}
	records, err := os.ReadFile(cfg.Audit.Path)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(records, []byte(`"type":"request"`)); !bytes.Contains(records, []byte(`"display_name":"front/cryptoserver"`)) ||
		bytes.Count(records, []byte(`"operation":"hmacpool.hmac"`)) != 4 || bytes.Contains(records, []byte("hello world")) {
		t.Errorf("%d requests in %s", n, records)
	}
}

func TestCryptoserverTokens(t *testing.T) {
	t.Parallel()
	s := running(t, cryptoserverConfig(t), Options{Dev: &Dev{RootTokenID: "root"}})
	if status := do(t, s, "POST", "sys/mounts/hmacpool", "root", map[string]any{"type": "hmacpool"}, nil); status != 204 {
		t.Fatalf("mounting: status %d", status)
	}
	for token, want := range map[string]int{"": 403, "wrong": 403, "root": 200} {
		if status, answer := postHMAC(t, s.FrontAddress("cryptoserver"), token, "hello world"); status != want || (want == 200) != (answer == helloWorld) {
			t.Errorf("%q: %d %s", token, status, answer)
		}
	}
}

func TestCryptoserverRefuses(t *testing.T) {
	t.Parallel()
	cfg := cryptoserverConfig(t)
	cfg.Front.Cryptoserver.PoolMode = "MODE16"
	cfg.Listeners[0].Address = "127.0.0.1:0"
	if _, err := New(cfg, Options{Dev: &Dev{}, Version: "0.1.0"}); err == nil || !strings.Contains(err.Error(), "MODE16 needs the file") {
		t.Errorf("a pool of another mode: %v", err)
	}
	cfg.Front.Cryptoserver.PoolMode = "Mode16"
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "front.cryptoserver.pool_mode") {
		t.Errorf("a mode that is none: %v", err)
	}
}
