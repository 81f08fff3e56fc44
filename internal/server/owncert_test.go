package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
)

// ownServer serves with a certificate of its own until stop.
type ownServer struct {
	*Server
	stop func()
}

func startOwn(t *testing.T, dir string, log *lockedLog, change func(*config.Config)) *ownServer {
	t.Helper()
	cfg := config.Dev(dir)
	cfg.Listeners[0] = config.Listener{Address: "127.0.0.1:0", TLSOwn: true}
	c := &cfg.Certificate
	c.Role, c.CommonName, c.AltNames, c.IPSANs = "listener", "keys.example.org", []string{"localhost"}, []string{"127.0.0.1"}
	if change != nil {
		change(cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s, err := New(cfg, Options{Logger: slog.New(slog.NewTextHandler(log, nil)), Version: "0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return &ownServer{s, stop}
}

// call sends a request over TLS that trusts roots only.
func (s *ownServer) call(t *testing.T, roots *x509.CertPool, method, path, token string, body, into any) (*http.Response, error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	return s.callBy(t, &http.Client{Transport: transport}, method, path, token, body, into)
}

func (s *ownServer) callBy(t *testing.T, c *http.Client, method, path, token string, body, into any) (*http.Response, error) {
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
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	if text, ok := into.(*string); ok {
		*text = string(answer)
	} else if into != nil {
		decode(t, string(answer), into)
	}
	return resp, nil
}

// shown returns the certificate that clients are shown now.
func (s *ownServer) shown(t *testing.T) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.Addresses()[0], "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// waitShown waits until clients are shown another certificate than before.
func (s *ownServer) waitShown(t *testing.T, before *x509.Certificate) *x509.Certificate {
	t.Helper()
	for range 300 {
		if c := s.shown(t); !c.Equal(before) {
			return c
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the certificate stays")
	return nil
}

func poolOf(certs ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool
}

// makeAuthority mounts an authority and a role for listeners, and returns the
// root's certificate.
func (s *ownServer) makeAuthority(t *testing.T, roots *x509.CertPool, token string) *x509.Certificate {
	t.Helper()
	var root struct{ Data api.PKICertificate }
	for _, c := range []struct {
		path string
		body map[string]any
		into any
	}{
		{"sys/mounts/pki", map[string]any{"type": "pki"}, nil},
		{"pki/root/generate/internal", map[string]any{"common_name": "Root", "key_type": "ec"}, &root},
		{"pki/roles/listener", map[string]any{"allowed_domains": "keys.example.org", "allow_bare_domains": true, "key_type": "ec", "client_flag": false}, nil},
	} {
		if _, err := s.call(t, roots, "PUT", c.path, token, c.body, c.into); err != nil {
			t.Fatal(err)
		}
	}
	block, _ := pem.Decode([]byte(root.Data.Certificate))
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOwnCertificate goes the whole way: a new server shows a self-signed certificate
// whose fingerprint is in its log, is initialised and unsealed over it, issues a
// certificate of its own mount as soon as it can, keeps it through a restart while it
// is sealed, and renews it without ending a connection.
func TestOwnCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var log lockedLog
	s := startOwn(t, dir, &log, nil)
	first := s.shown(t)
	if first.Subject.CommonName != "keys.example.org" || !strings.Contains(log.String(), fingerprint(first)) {
		t.Fatalf("%v is shown, the log says %s", first.Subject, log.String())
	}
	var init api.InitResult
	if _, err := s.call(t, poolOf(first), "PUT", "sys/init", "", api.Init{SecretShares: 1, SecretThreshold: 1}, &init); err != nil {
		t.Fatal(err)
	}
	unsealOwn := func(s *ownServer, roots *x509.CertPool) {
		t.Helper()
		if _, err := s.call(t, roots, "PUT", "sys/unseal", "", api.Unseal{Key: init.Keys[0]}, nil); err != nil {
			t.Fatal(err)
		}
	}
	unsealOwn(s, poolOf(first))
	// A connection that was made before lives on.
	old := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: poolOf(first)}}}
	reused := func() *x509.Certificate {
		t.Helper()
		resp, err := s.callBy(t, old, "GET", "sys/health", "", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return resp.TLS.PeerCertificates[0]
	}
	reused()
	root := s.makeAuthority(t, poolOf(first), init.RootToken)
	issued := s.waitShown(t, first)
	if err := issued.CheckSignatureFrom(root); err != nil || issued.VerifyHostname("localhost") != nil || issued.VerifyHostname("127.0.0.1") != nil {
		t.Fatalf("%v: %v %v", err, issued.Subject, issued.DNSNames)
	}
	if c := reused(); !c.Equal(first) {
		t.Error("the connection of before was replaced")
	}
	old.CloseIdleConnections()
	var text string
	if _, err := s.call(t, poolOf(root), "GET", "sys/metrics", init.RootToken, nil, &text); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`claviger_listener_certificate_remaining_seconds\{front="",listener="127.0.0.1:0"\} [1-9]`).MatchString(text) ||
		!strings.Contains(text, `claviger_listener_certificate_renewals_total{outcome="ok"} 1`) {
		t.Error("the metrics don't tell of the certificate")
	}
	trail, err := os.ReadFile(s.cfg.Audit.Path)
	if err != nil || !regexp.MustCompile(`"system".*"pki.issue"|"pki.issue".*"system"`).Match(trail) {
		t.Errorf("the audit log does not say that the server issued itself a certificate: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, "listener.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if bytes.Contains(trail, []byte("PRIVATE KEY")) || strings.Contains(log.String(), "PRIVATE KEY") {
		t.Error("the key is in a log")
	}
	s.stop()

	// Sealed, after a restart.
	s = startOwn(t, dir, &log, nil)
	if c := s.shown(t); !c.Equal(issued) {
		t.Fatalf("after a restart %v is shown", c.Subject)
	}
	if _, err := s.call(t, poolOf(root), "GET", "sys/seal-status", "", nil, nil); err != nil {
		t.Error(err)
	}
	s.stop()

	// With a short life and another name it is renewed at once, then again and again.
	s = startOwn(t, dir, &log, func(c *config.Config) {
		c.Certificate.TTL.Duration, c.Certificate.IPSANs = 6*time.Second, []string{"127.0.0.1", "127.0.0.2"}
	})
	unsealOwn(s, poolOf(root))
	second := s.waitShown(t, issued)
	if second.VerifyHostname("127.0.0.2") != nil {
		t.Errorf("the new name is not in %v", second.IPAddresses)
	}
	third := s.waitShown(t, second)
	if left := time.Until(third.NotAfter); left <= 0 || third.NotAfter.Sub(second.NotAfter) < time.Second {
		t.Errorf("renewed for %v, from %v to %v", left, second.NotAfter, third.NotAfter)
	}
}

// TestOwnCertificateFails: what keeps the server from issuing is said, and it serves on.
func TestOwnCertificateFails(t *testing.T) {
	t.Parallel()
	var log lockedLog
	dir := t.TempDir()
	s := startOwn(t, dir, &log, nil)
	first := s.shown(t)
	roots := poolOf(first)
	var init api.InitResult
	if _, err := s.call(t, roots, "PUT", "sys/init", "", api.Init{SecretShares: 1, SecretThreshold: 1}, &init); err != nil {
		t.Fatal(err)
	}
	if _, err := s.call(t, roots, "PUT", "sys/unseal", "", api.Unseal{Key: init.Keys[0]}, nil); err != nil {
		t.Fatal(err)
	}
	waitLog := func(text string) {
		t.Helper()
		for range 200 {
			if strings.Contains(log.String(), text) {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Fatalf("the log lacks %q: %s", text, log.String())
	}
	waitLog("there is no mount of type pki at pki/")
	s.makeAuthority(t, roots, init.RootToken)
	if _, err := s.call(t, roots, "PUT", "pki/roles/listener", init.RootToken, map[string]any{"allow_any_name": true, "key_type": "ec", "server_flag": false}, nil); err != nil {
		t.Fatal(err)
	}
	waitLog("the role listener needs server_flag")
	if c := s.shown(t); !c.Equal(first) {
		t.Errorf("%v is shown", c)
	}
	s.stop()

	// A file that somebody broke is not replaced.
	file := filepath.Join(dir, "listener.pem")
	if err := os.WriteFile(file, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.Dev(dir)
	cfg.Listeners[0] = config.Listener{Address: "127.0.0.1:0", TLSOwn: true}
	cfg.Certificate.Role, cfg.Certificate.CommonName = "listener", "keys.example.org"
	if _, err := New(cfg, Options{Version: "0.1.0"}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a broken file: %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "broken" {
		t.Errorf("%q %v", text, err)
	}
}

func TestRenewalTime(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	leaf := &x509.Certificate{NotBefore: begin.Add(-30 * time.Second), NotAfter: begin.Add(90 * time.Hour)}
	seen := map[time.Time]bool{}
	for range 100 {
		at := renewalTime(leaf, begin)
		if at.Before(begin.Add(57*time.Hour)) || at.After(begin.Add(63*time.Hour)) {
			t.Errorf("renewed after %v of 90h", at.Sub(begin))
		}
		seen[at] = true
	}
	if len(seen) < 50 {
		t.Errorf("only %d different times", len(seen))
	}
	// A file of an impossible time counts from the validity's begin.
	for _, made := range []time.Time{begin.Add(-time.Hour), begin.Add(91 * time.Hour)} {
		if at := renewalTime(leaf, made); at.After(begin.Add(63*time.Hour)) || at.Before(begin.Add(56*time.Hour)) {
			t.Errorf("made at %v: %v", made, at)
		}
	}
}
