package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
)

// locked is a log that several goroutines write.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOwnToken: the file is read again, the token is looked at and renewed, and its
// text is in no log.
func TestOwnToken(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("X-Vault-Token")
		mu.Lock()
		seen[r.URL.Path+" "+token]++
		mu.Unlock()
		switch {
		case token == "secret-bad":
			w.WriteHeader(403)
			json.NewEncoder(w).Encode(map[string]any{"errors": []string{"permission denied for secret-bad"}})
		case strings.HasSuffix(r.URL.Path, "lookup-self"):
			json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"ttl": 3600, "renewable": true}})
		default:
			json.NewEncoder(w).Encode(map[string]any{"auth": map[string]any{"client_token": token, "lease_duration": 3600, "renewable": true}})
		}
	}))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, "secret-one\n")
	var log locked
	own, err := newOwnToken(config.AgentToken{Source: config.TokenFile, File: path, Renew: true}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	own.look = 5 * time.Millisecond
	c, err := client.New(client.Config{Address: server.URL, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { own.run(ctx, c); close(ended) }()
	wait := func(what string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			mu.Lock()
			n := seen[what]
			mu.Unlock()
			if n > 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("no call %s; the log says %s", what, log.String())
			}
		}
	}
	wait("/v1/auth/token/renew-self secret-one")
	write(t, path, "") // as somebody who writes it has it for a moment
	time.Sleep(20 * time.Millisecond)
	if own.get() != "secret-one" {
		t.Error("an empty file takes the token away")
	}
	write(t, path, "secret-bad\n")
	wait("/v1/auth/token/lookup-self secret-bad")
	write(t, path, "secret-two")
	wait("/v1/auth/token/renew-self secret-two")
	cancel()
	<-ended
	if strings.Contains(log.String(), "secret") || !strings.Contains(log.String(), "(the token)") {
		t.Errorf("the log says %s", log.String())
	}
}

func TestOwnTokenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	write(t, path, "two\nlines")
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	for _, c := range []config.AgentToken{
		{Source: config.TokenFile, File: path}, {Source: config.TokenFile, File: path + ".not"}, {Source: config.TokenCredential, Credential: "token"},
	} {
		if own, err := newOwnToken(c, nil); fault.KindOf(err) != fault.Invalid || own != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	write(t, path, "a-token")
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	own, err := newOwnToken(config.AgentToken{Source: config.TokenCredential, Credential: "token"}, nil)
	if err != nil || own.get() != "a-token" {
		t.Errorf("a credential: %v", err)
	}
	if own, err := newOwnToken(config.AgentToken{Source: config.TokenNone}, nil); own != nil || err != nil {
		t.Errorf("none: %v", err)
	}
}

// TestExplain gives every status its kind.
func TestExplain(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]fault.Kind{400: fault.Invalid, 403: fault.Denied, 404: fault.NotFound, 405: fault.Unsupported,
		413: fault.TooLarge, 429: fault.Unavailable, 500: fault.Internal, 502: fault.Unavailable, 503: fault.Unavailable} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			w.Write([]byte(`{"errors":["x"]}`))
		}))
		c, err := client.New(client.Config{Address: server.URL, Retries: -1})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Send(t.Context(), "POST", "transit/sign/a", nil)
		if kind := fault.KindOf(explain(err)); kind != want {
			t.Errorf("%d: %v, want %v", status, kind, want)
		}
		server.Close()
	}
}
