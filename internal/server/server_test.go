package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
)

// running serves a configuration until the test ends.
func running(t *testing.T, cfg *config.Config, o Options) *Server {
	t.Helper()
	o.Version = "0.1.0"
	cfg.Listeners[0].Address = "127.0.0.1:0"
	s, err := New(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		if o.Dev != nil {
			lintAuthorities(t, s, o.Dev.RootTokenID)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

func do(t *testing.T, s *Server, method, path, token string, body, into any) int {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, s.Addresses()[0]+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if text, ok := into.(*string); ok {
		*text = string(answer)
	} else if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, answer)
		}
	}
	return resp.StatusCode
}

func TestDevelopmentServer(t *testing.T) {
	t.Parallel()
	s := running(t, config.Dev(t.TempDir()), Options{Dev: &Dev{RootTokenID: "the-root"}})
	if token, share := s.DevInfo(); token != "the-root" || share == "" {
		t.Errorf("DevInfo: %q, share of %d characters", token, len(share))
	}
	if status := do(t, s, "POST", "transit/keys/k", "the-root", nil, nil); status != 200 {
		t.Fatalf("creating a key: status %d", status)
	}
	do(t, s, "POST", "transit/encrypt/k", "wrong", map[string]any{"plaintext": "aGk="}, nil)
	var text string
	if status := do(t, s, "GET", "sys/metrics", "the-root", nil, &text); status != 200 {
		t.Fatalf("metrics: status %d", status)
	}
	for _, line := range []string{
		`claviger_requests_total{operation="transit.keys.create",outcome="ok"} 1`,
		`claviger_requests_total{operation="transit.encrypt",outcome="denied"} 1`,
		`claviger_unsealed 1`, `claviger_hsm_worker_restarts_total 0`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	if status := do(t, s, "GET", "sys/metrics", "", nil, nil); status != 403 {
		t.Errorf("metrics without a client token: status %d", status)
	}
}

// TestSoftTokenOnDisk: what one process of the server wrote, the next one reads.
func TestSoftTokenOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var init api.InitResult
	var ciphertext string
	t.Run("first", func(t *testing.T) {
		s := running(t, config.Dev(dir), Options{})
		if status := do(t, s, "PUT", "sys/init", "", api.Init{SecretShares: 2, SecretThreshold: 2}, &init); status != 200 {
			t.Fatalf("init: status %d", status)
		}
		unseal(t, s, init.Keys)
		do(t, s, "POST", "transit/keys/k", init.RootToken, nil, nil)
		var answer struct{ Data api.Encrypted }
		do(t, s, "POST", "transit/encrypt/k", init.RootToken, map[string]any{"plaintext": "aGk="}, &answer)
		ciphertext = answer.Data.Ciphertext
		if status := do(t, s, "PUT", "sys/seal", init.RootToken, nil, nil); status != 204 {
			t.Errorf("seal: status %d", status)
		}
		if status := do(t, s, "GET", "transit/keys/k", init.RootToken, nil, nil); status != 503 {
			t.Errorf("a sealed server answers %d", status)
		}
		unseal(t, s, init.Keys)
	})
	t.Run("second", func(t *testing.T) {
		s := running(t, config.Dev(dir), Options{})
		unseal(t, s, init.Keys)
		var answer struct{ Data struct{ Plaintext string } }
		do(t, s, "POST", "transit/decrypt/k", init.RootToken, map[string]any{"ciphertext": ciphertext}, &answer)
		if answer.Data.Plaintext != "aGk=" {
			t.Errorf("decrypted %q", answer.Data.Plaintext)
		}
	})
}

func unseal(t *testing.T, s *Server, shares []string) {
	t.Helper()
	var status api.SealStatus
	for _, share := range shares {
		do(t, s, "PUT", "sys/unseal", "", api.Unseal{Key: share}, &status)
	}
	if status.Sealed || !status.Initialized {
		t.Fatalf("unsealing: %+v", status)
	}
}

func TestNotifyReady(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	running(t, config.Dev(t.TempDir()), Options{})
	b := make([]byte, 64)
	n, err := conn.Read(b)
	if err != nil || string(b[:n]) != "READY=1" {
		t.Errorf("notified %q, %v", b[:n], err)
	}
}

func TestVerifyAuditBadInput(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"", file, filepath.Join(t.TempDir(), "absent")} {
		if err := VerifyAudit([]string{file}, key, io.Discard); err == nil {
			t.Errorf("key file %q was taken", key)
		}
	}
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}
