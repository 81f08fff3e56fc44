package clients

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

// acmeWorld is what an ACME client meets, the same for both authorities: names
// in DNS, the ports where validation looks, the root that it trusts.
type acmeWorld struct {
	t                 *testing.T
	httpPort, tlsPort int
	dns, manage       string // of pebble-challtestsrv: host:port, URL
	trust             string // PEM file
	trusted           *x509.CertPool
	listener          tls.Certificate
	certFile, keyFile string
}

// authority is an ACME server under test, or the one that it is compared with.
type authority struct {
	name      string
	directory string
	roots     func() *x509.CertPool
	restart   func()
	set       func(map[string]any) // changes config/acme, where there is one
	server    *harness.Server      // nil if it is pebble
}

// newACMEWorld starts the name server; with answering it serves http-01 too.
func newACMEWorld(t *testing.T, answering bool) *acmeWorld {
	t.Helper()
	needProgram(t, "pebble", "pebble")
	needProgram(t, "pebble-challtestsrv", "pebble")
	w := &acmeWorld{t: t, httpPort: freePort(t), tlsPort: freePort(t)}
	w.makeListenerCertificate()
	w.dns = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	manage := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	w.manage = "http://" + manage
	http01 := ""
	if answering {
		http01 = fmt.Sprintf("127.0.0.1:%d", w.httpPort)
	}
	w.background(nil, "pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", w.dns, "-management", manage,
		"-http01", http01, "-https01", "", "-tlsalpn01", "")
	w.awaitListener(manage)
	return w
}

func needProgram(t *testing.T, program, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed (Debian package %s)", program, pkg)
	}
}

// needFull skips what costs minutes unless it is asked for.
func needFull(t *testing.T) {
	t.Helper()
	if os.Getenv("CLAVIGER_ACME_FULL") == "" {
		t.Skip("without CLAVIGER_ACME_FULL=1 this client is only run against our server, in internal/server")
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// background runs a program until it is stopped, at the end of the test at the latest.
func (w *acmeWorld) background(env []string, program string, args ...string) (stop func()) {
	w.t.Helper()
	cmd := exec.Command(program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.Env = &out, &out, w.t.TempDir(), append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	w.t.Cleanup(func() {
		if stop(); w.t.Failed() {
			w.t.Logf("%s:\n%s", program, tail(out.String()))
		}
	})
	return stop
}

// tail is the end of a long text.
func tail(s string) string { return s[max(0, len(s)-6000):] }

func (w *acmeWorld) awaitListener(address string) {
	w.t.Helper()
	for range 200 {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Fatalf("nobody listens at %s", address)
}

// makeListenerCertificate makes a root and below it a certificate for 127.0.0.1.
func (w *acmeWorld) makeListenerCertificate() {
	t, dir := w.t, w.t.TempDir()
	t.Helper()
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
	}
	root, leaf := template(1, "Root of listeners"), template(2, "localhost")
	root.IsCA, root.KeyUsage = true, x509.KeyUsageCertSign
	leaf.IPAddresses, leaf.DNSNames, leaf.ExtKeyUsage = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	rootKey, leafKey := newACMEKey(t), newACMEKey(t)
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	w.trust, w.certFile, w.keyFile = filepath.Join(dir, "root.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{w.trust: {Type: "CERTIFICATE", Bytes: rootDER}, w.certFile: {Type: "CERTIFICATE", Bytes: leafDER}, w.keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if w.listener, err = tls.LoadX509KeyPair(w.certFile, w.keyFile); err != nil {
		t.Fatal(err)
	}
	w.trusted = poolOf(t, w.trust)
}

func newACMEKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func poolOf(t *testing.T, path string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(path)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatalf("%s: %v", path, err)
	}
	return pool
}

// httpClient trusts the listeners of both authorities.
func (w *acmeWorld) httpClient() *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.trusted}}}
}

// tell asks pebble-challtestsrv to change its answers.
func (w *acmeWorld) tell(what string, body map[string]any) {
	w.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.Post(w.manage+"/"+what, "application/json", bytes.NewReader(text))
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != 200 {
		w.t.Fatalf("%s: status %d", what, resp.StatusCode)
	}
}

// claviger starts our server with keys in SoftHSM2, behind an address with TLS
// that stays when it is restarted.
func (w *acmeWorld) claviger() *authority {
	t := w.t
	t.Helper()
	s := harness.SoftHSM(t, harness.Options{})
	var target atomic.Pointer[url.URL]
	aim := func() {
		u, err := url.Parse(s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		target.Store(u)
	}
	aim()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{w.listener}})
	if err != nil {
		t.Fatal(err)
	}
	proxy := &http.Server{Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target.Load()) }}}
	go proxy.Serve(l)
	t.Cleanup(func() { proxy.Close() })
	base := "https://" + l.Addr().String() + "/v1/pki"
	s.OK(t, "POST", "sys/mounts/pki", map[string]any{"type": "pki"})
	s.OK(t, "POST", "pki/root/generate/internal", map[string]any{"common_name": "Test root", "key_type": "ec"})
	s.OK(t, "POST", "pki/config/cluster", map[string]any{"path": base})
	set := func(body map[string]any) { s.OK(t, "POST", "pki/config/acme", body) }
	set(map[string]any{"enabled": true, "dns_resolver": w.dns, "allowed_networks": "127.0.0.0/8", "http_port": w.httpPort, "tls_port": w.tlsPort})
	return &authority{name: "claviger", directory: base + "/acme/directory", server: s, set: set,
		roots:   func() *x509.CertPool { return w.fetchPool(base + "/ca/pem") },
		restart: func() { s.Stop(); s.Start(t); s.Unseal(t, s.Shares...); aim() },
	}
}

// pebble starts the server of Let's Encrypt for tests. It keeps nothing, so it
// is not restarted.
func (w *acmeWorld) pebble(extra map[string]any) *authority {
	t := w.t
	t.Helper()
	listen, manage := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	settings := map[string]any{"listenAddress": listen, "managementListenAddress": manage, "certificate": w.certFile, "privateKey": w.keyFile,
		"httpPort": w.httpPort, "tlsPort": w.tlsPort}
	for k, v := range extra {
		settings[k] = v
	}
	text, err := json.Marshal(map[string]any{"pebble": settings})
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "pebble.json")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	// No pauses, no nonces that are refused by chance, no authorizations used again by chance.
	w.background([]string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0"}, "pebble", "-config", config, "-dnsserver", w.dns)
	w.awaitListener(listen)
	return &authority{name: "pebble", directory: "https://" + listen + "/dir", restart: func() {}, set: func(map[string]any) {},
		roots: func() *x509.CertPool { return w.fetchPool("https://" + manage + "/roots/0") }}
}

func (w *acmeWorld) fetchPool(url string) *x509.CertPool {
	w.t.Helper()
	resp, err := w.httpClient().Get(url)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		w.t.Fatalf("%s: %v %q", url, err, text)
	}
	return pool
}

// verify checks a chain in PEM against the roots of an authority.
func (w *acmeWorld) verify(a *authority, text []byte, names ...string) *x509.Certificate {
	w.t.Helper()
	var leaf *x509.Certificate
	between := x509.NewCertPool()
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			w.t.Fatal(err)
		}
		if leaf == nil {
			leaf = cert
		}
		between.AddCert(cert)
	}
	if leaf == nil {
		w.t.Fatalf("no certificate in %q", text)
	}
	for _, name := range names {
		name = strings.Replace(name, "*", "any", 1)
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: a.roots(), Intermediates: between, DNSName: name}); err != nil {
			w.t.Errorf("%s: %s: %v", a.name, name, err)
		}
	}
	return leaf
}

// verifyFile checks the chain in a file, and leaves nothing of it.
func (w *acmeWorld) verifyFile(a *authority, path string, names ...string) {
	w.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		w.t.Error(err)
		return
	}
	w.verify(a, text, names...)
}

// program runs a client to its end and returns what it wrote.
func (w *acmeWorld) program(env []string, program string, args ...string) (string, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.WaitDelay = w.t.TempDir(), time.Second
	cmd.Env = append(os.Environ(), append(env, "HOME="+cmd.Dir, "REQUESTS_CA_BUNDLE="+w.trust, "LEGO_CA_CERTIFICATES="+w.trust, "CURL_CA_BUNDLE="+w.trust)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// script makes a program of a text of the shell.
func (w *acmeWorld) script(text string) string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "hook.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		w.t.Fatal(err)
	}
	return path
}
