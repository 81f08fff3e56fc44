package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/token/tokentest"
)

const frontSecret = "7a7d1826-b514-4d9f-afc7-a7485084e8de"

// newFrontServer starts a server that stands alone with the front hsmdaemon.
func newFrontServer(t *testing.T, log *lockedLog, change func(*config.HSMDaemon)) (*Server, *Standalone) {
	t.Helper()
	a := newStandalone(t, "1234")
	cfg, err := a.Config()
	if err != nil {
		t.Fatal(err)
	}
	h := &cfg.Front.HSMDaemon
	h.Enabled, h.Address, h.JWTSecret = true, "127.0.0.1:0", []byte(frontSecret)
	if change != nil {
		change(h)
	}
	return running(t, cfg, Options{Standalone: a, Logger: slog.New(slog.NewTextHandler(log, nil))}), a
}

// frontToken is a JWT as clients of hsmdaemon make it.
func frontToken() string {
	now := time.Now().Unix()
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"HS256"}`)) + "." +
		base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"aud":"hsmdaemon","exp":%d,"iat":%d}`, now+120, now))
	mac := hmac.New(sha256.New, []byte(frontSecret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func post(t *testing.T, c *http.Client, url string, body []byte) (int, []byte) {
	t.Helper()
	req, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+frontToken())
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// newPair makes a key pair through the front.
func newPair(t *testing.T, s *Server) (*rsa.PublicKey, string) {
	t.Helper()
	status, body := post(t, http.DefaultClient, s.FrontAddress("hsmdaemon")+"/keys/new", nil)
	var pair struct{ PublicKey, PrivateKeyID string }
	if err := json.Unmarshal(body, &pair); err != nil || status != 200 {
		t.Fatalf("new key: status %d %s", status, body)
	}
	block, _ := pem.Decode([]byte(pair.PublicKey))
	if block == nil {
		t.Fatalf("new key: %s", body)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PublicKey), pair.PrivateKeyID
}

func TestFront(t *testing.T) {
	t.Parallel()
	var log lockedLog
	s, a := newFrontServer(t, &log, nil)
	key, id := newPair(t, s)
	ciphertext := tokentest.EncryptPKCS1v15(t, key, []byte("foobar"))
	if status, body := post(t, http.DefaultClient, s.FrontAddress("hsmdaemon")+"/decrypt/"+id, ciphertext); status != 200 || string(body) != "foobar" {
		t.Errorf("decrypt: status %d %q", status, body)
	}
	resp, err := http.Post(s.FrontAddress("hsmdaemon")+"/keys/new", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 401 {
		t.Errorf("without a JWT: %s", resp.Status)
	}
	// It is a named key, and the audit log says who made it.
	var known struct{ Data api.Key }
	if status := do(t, s, "GET", "transit/keys/"+id, rootTokenOf(t, a), nil, &known); status != 200 || known.Data.Type != "rsa-2048" {
		t.Errorf("the key: status %d %+v", status, known)
	}
	trail, err := os.ReadFile(s.cfg.Audit.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{`"front/hsmdaemon"`, `"transit.legacy.keys.create"`, `"transit.legacy.decrypt"`, id} {
		if !strings.Contains(string(trail), word) {
			t.Errorf("the audit log lacks %s", word)
		}
	}
	if strings.Contains(string(trail), "foobar") {
		t.Error("the audit log shows a plaintext")
	}
	if text := log.String(); !strings.Contains(text, "front=hsmdaemon") || strings.Contains(text, "ASKS NOBODY") {
		t.Errorf("the log says %s", text)
	}
	// Sealed, it says so.
	if status := do(t, s, "PUT", "sys/seal", rootTokenOf(t, a), nil, nil); status != 204 {
		t.Fatalf("seal: status %d", status)
	}
	if status, body := post(t, http.DefaultClient, s.FrontAddress("hsmdaemon")+"/decrypt/"+id, ciphertext); status != 503 {
		t.Errorf("sealed: status %d %s", status, body)
	}
}

// TestFrontPolicies: stored policies bind the front in place of its own.
func TestFrontPolicies(t *testing.T) {
	t.Parallel()
	s, a := newFrontServer(t, &lockedLog{}, func(h *config.HSMDaemon) { h.Policies = []string{"owncloud"} })
	url := s.FrontAddress("hsmdaemon") + "/keys/new"
	if status, body := post(t, http.DefaultClient, url, nil); status != 403 {
		t.Errorf("without the policy: status %d %s", status, body)
	}
	policy := api.WritePolicy{Policy: `path "transit/legacy/keys/+" { capabilities = ["update"] }`}
	if status := do(t, s, "PUT", "sys/policies/acl/owncloud", rootTokenOf(t, a), policy, nil); status != 204 {
		t.Fatalf("writing the policy: status %d", status)
	}
	if status, body := post(t, http.DefaultClient, url, nil); status != 200 {
		t.Errorf("with the policy: status %d %s", status, body)
	}
}

// TestFrontSecrets: a front does not start with a secret that everybody knows.
func TestFrontSecrets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		secret, file string
		insecure     bool
		want         string
	}{
		{secret: "secret", want: "everybody knows it"},
		{file: "\n", want: "is empty"},
		{file: "secret\r\n", want: "everybody knows it"},
		{file: "", want: "reading the JWT secret"},
		{secret: "secret", insecure: true},
		{file: frontSecret + "\n"},
	} {
		a := newStandalone(t, "1234")
		cfg, err := a.Config()
		if err != nil {
			t.Fatal(err)
		}
		h := &cfg.Front.HSMDaemon
		h.Enabled, h.Address, h.InsecureSecret = true, "127.0.0.1:0", c.insecure
		h.JWTSecret, h.JWTSecretFile = []byte(c.secret), filepath.Join(t.TempDir(), "secret")
		if c.file != "" {
			if err := os.WriteFile(h.JWTSecretFile, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cfg.Listeners[0].Address = "127.0.0.1:0"
		s, err := New(cfg, Options{Standalone: a, Version: "0.1.0"})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil {
			s.close()
		}
	}
}

// TestFrontSlowClients: half-open connections and slow senders keep nobody else
// from being served.
func TestFrontSlowClients(t *testing.T) {
	t.Parallel()
	s, _ := newFrontServer(t, &lockedLog{}, nil)
	address := strings.TrimPrefix(s.FrontAddress("hsmdaemon"), "http://")
	for _, sent := range []string{"", "POST /keys/n", "POST /keys/new HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + frontToken() + "\r\nContent-Length: 100\r\n\r\nx"} {
		for range 20 {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, sent); err != nil {
				t.Fatal(err)
			}
		}
	}
	newPair(t, s)
	huge := http.Header{"X-Long": {strings.Repeat("x", 64<<10)}}
	req, err := http.NewRequest("POST", s.FrontAddress("hsmdaemon")+"/keys/new", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = huge
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 431 {
		t.Errorf("headers of 64 KiB: %s", resp.Status)
	}
}

// certificate writes a certificate of its own for 127.0.0.1, and returns it.
func certificate(t *testing.T, dir string, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "front"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"crt": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestFrontTLS: a front speaks TLS with certificates that are replaced while it serves.
func TestFrontTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := certificate(t, dir, 1)
	s, _ := newFrontServer(t, &lockedLog{}, func(h *config.HSMDaemon) {
		h.TLSCert, h.TLSKey = filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	})
	try := func(trusted *x509.Certificate) error {
		pool := x509.NewCertPool()
		pool.AddCert(trusted)
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
		resp, err := c.Post(s.FrontAddress("hsmdaemon")+"/keys/new", "", nil)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := try(first); err != nil {
		t.Error(err)
	}
	second := certificate(t, dir, 2)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := try(second); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "crt"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil {
		t.Error("a broken certificate was loaded")
	}
	if err := try(second); err != nil {
		t.Error(err)
	}
}
