package unsealer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/config"
)

// An authority for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert: cert, key: key, dir: t.TempDir()}
	a.write(t, "ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue writes name.crt and name.key and returns the pair and the pin of its key.
func (a *authority) issue(t *testing.T, name string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a.write(t, name+".crt", "CERTIFICATE", der)
	a.write(t, name+".key", "PRIVATE KEY", pkcs8)
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(spki)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, "sha256//" + base64.StdEncoding.EncodeToString(sum[:])
}

// once looks at one address with a share and returns the outcome and the log.
func once(t *testing.T, address string, options config.UnsealerTLS) (string, string) {
	t.Helper()
	c := config.DefaultUnsealer()
	c.Timeout.Duration = 2 * time.Second
	c.Share = config.UnsealerShare{Source: config.ShareFile, File: writeShare(t, texts[0])}
	c.Servers = []config.Unsealed{{Address: address, UnsealerTLS: options}}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	u, err := New(Options{Config: c, Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	outcome, fatal := u.watchers[0].look(t.Context())
	if fatal != nil {
		t.Fatal(fatal)
	}
	if strings.Contains(log.String(), texts[0]) {
		t.Errorf("the share is in the log:\n%s", log.String())
	}
	return outcome, log.String()
}

const sealedAnswer = `{"type":"shamir","initialized":true,"sealed":true,"t":3,"n":5,"progress":0,"nonce":"","version":"1"}`

// counter is a server that counts what it is given.
func counter(shares *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			body, _ := io.ReadAll(r.Body)
			if bytes.Contains(body, []byte(texts[0])) {
				shares.Add(1)
			}
		}
		io.WriteString(w, sealedAnswer)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	pair, pin := a.issue(t, "server")
	a.issue(t, "unsealer")
	other.issue(t, "unsealer")
	_, otherPin := a.issue(t, "another")
	var shares atomic.Int32
	server := httptest.NewUnstartedServer(counter(&shares))
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.StartTLS()
	defer server.Close()
	good := config.UnsealerTLS{CACert: a.path("ca.pem"), ClientCert: a.path("unsealer.crt"), ClientKey: a.path("unsealer.key")}
	for name, c := range map[string]struct {
		change func(*config.UnsealerTLS)
		given  bool
		words  string
	}{
		"right":                 {func(*config.UnsealerTLS) {}, true, ""},
		"right pin":             {func(o *config.UnsealerTLS) { o.Pins = []string{otherPin, pin} }, true, ""},
		"right name":            {func(o *config.UnsealerTLS) { o.ServerName = "server" }, true, ""},
		"wrong pin":             {func(o *config.UnsealerTLS) { o.Pins = []string{otherPin} }, false, "none of the pinned"},
		"wrong name":            {func(o *config.UnsealerTLS) { o.ServerName = "elsewhere" }, false, "elsewhere"},
		"another authority":     {func(o *config.UnsealerTLS) { o.CACert = other.path("ca.pem") }, false, "unknown authority"},
		"the system's":          {func(o *config.UnsealerTLS) { o.CACert = "" }, false, "unknown authority"},
		"no client certificate": {func(o *config.UnsealerTLS) { o.ClientCert, o.ClientKey = "", "" }, false, "certificate required"},
		"a foreign certificate": {func(o *config.UnsealerTLS) {
			o.ClientCert, o.ClientKey = other.path("unsealer.crt"), other.path("unsealer.key")
		}, false, "tls"},
	} {
		options := good
		c.change(&options)
		before := shares.Load()
		outcome, log := once(t, server.URL, options)
		if given := shares.Load() > before; given != c.given || (outcome == outGiven) != c.given {
			t.Errorf("%s: given %t, outcome %q\n%s", name, given, outcome, log)
		}
		if !strings.Contains(log, c.words) {
			t.Errorf("%s: the log does not say %q:\n%s", name, c.words, log)
		}
	}
}

func TestWireRefuses(t *testing.T) {
	t.Parallel()
	var leaked atomic.Int32
	target := httptest.NewServer(counter(&leaked))
	defer target.Close()
	for name, c := range map[string]struct {
		handle func(w http.ResponseWriter, r *http.Request)
		want   string
		words  string
	}{
		"redirect of the status": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target.URL+r.URL.Path, http.StatusTemporaryRedirect)
		}, outUnreachable, "redirects are not followed"},
		"redirect of the share": {func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				io.WriteString(w, sealedAnswer)
				return
			}
			http.Redirect(w, r, target.URL+r.URL.Path, http.StatusTemporaryRedirect)
		}, outUnreachable, "redirects are not followed"},
		"an endless answer": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil {
					return
				}
			}
		}, outUnreachable, "too large"},
		"no JSON":         {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, outUnreachable, "error"},
		"silence":         {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, outUnreachable, "deadline exceeded"},
		"not found":       {http.NotFound, outUnreachable, "not found"},
		"not initialised": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"initialized":false,"sealed":true}`) }, outUninitialized, "not initialised"},
		"the share in an error": {func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				io.WriteString(w, sealedAnswer)
				return
			}
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"errors":["invalid key `+texts[0]+`"]}`)
		}, outRefused, "invalid key (the share)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(c.handle))
			defer server.Close()
			outcome, log := once(t, server.URL, config.UnsealerTLS{})
			if outcome != c.want || !strings.Contains(log, c.words) {
				t.Errorf("outcome %q, want %q with %q in the log:\n%s", outcome, c.want, c.words, log)
			}
		})
	}
	t.Cleanup(func() {
		if leaked.Load() > 0 {
			t.Error("the share went to the target of a redirect")
		}
	})
}

// TestOneDoesNotDelayOthers: while one server is silent, the other is looked at
// in every interval.
func TestOneDoesNotDelayOthers(t *testing.T) {
	t.Parallel()
	var looks atomic.Int32
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	quick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		looks.Add(1)
		io.WriteString(w, `{"initialized":true,"sealed":false}`)
	}))
	defer quick.Close()
	c := config.DefaultUnsealer()
	c.Interval.Duration, c.Timeout.Duration = time.Second, 5*time.Second
	c.Share = config.UnsealerShare{Source: config.ShareFile, File: writeShare(t, texts[0])}
	c.Servers = []config.Unsealed{{Address: silent.URL}, {Address: quick.URL}}
	c.Metrics.Address = "127.0.0.1:0"
	u, err := New(Options{Config: c, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	for deadline := time.Now().Add(4 * time.Second); looks.Load() < 3 && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	resp, err := http.Get(u.MetricsAddress())
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if looks.Load() < 3 {
		t.Errorf("the quick server was looked at %d times in 4 s", looks.Load())
	}
	for _, want := range []string{
		`claviger_unsealer_server_reachable{server="` + quick.URL + `"} 1`,
		`claviger_unsealer_server_sealed{server="` + quick.URL + `"} 0`,
		`claviger_unsealer_server_reachable{server="` + silent.URL + `"} 0`,
		`claviger_unsealer_shares_total{outcome="accepted",server="` + quick.URL + `"} 0`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the metrics lack %s:\n%s", want, text)
		}
	}
}
