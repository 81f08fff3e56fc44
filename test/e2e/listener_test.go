package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

// TestTLS: TLS 1.3 only, and a new certificate after SIGHUP; a broken one is
// refused and the one before stays.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	writeCertificate(t, cert, key, "first")
	sock := filepath.Join(dir, "api.sock")
	s := harness.SoftHSM(t, harness.Options{Sections: fmt.Sprintf(
		"[[listener]]\naddress = \"127.0.0.1:0\"\ntls_cert = %q\ntls_key = %q\n[[listener]]\naddress = \"unix:%s\"\nmode = \"0600\"\n", cert, key, sock)})
	addr := secondAddress(t, s)

	if cn := commonName(t, addr); cn != "first" {
		t.Errorf("the certificate is %q", cn)
	}
	if _, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
	writeCertificate(t, cert, key, "second")
	hangUp(t, s)
	waitFor(t, "the new certificate", func() bool { return commonName(t, addr) == "second" })
	if err := os.WriteFile(cert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	hangUp(t, s)
	waitFor(t, "the refusal of the broken certificate", func() bool { return strings.Contains(s.Log(), "keeps its certificate") })
	if cn := commonName(t, addr); cn != "second" {
		t.Errorf("after a broken certificate: %q", cn)
	}
	unixSocket(t, sock)
}

func unixSocket(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the socket: %v, %v", info, err)
	}
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	resp, err := c.Get("http://unix/v1/sys/health")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("health over the socket: status %d", resp.StatusCode)
	}
}

// TestPlainHTTPElsewhere: without TLS only loopback is served.
func TestPlainHTTPElsewhere(t *testing.T) {
	t.Parallel()
	out := harness.Refused(t, "[[listener]]\naddress = \"0.0.0.0:0\"\n")
	if !strings.Contains(out, "insecure") {
		t.Errorf("the refusal does not say what would be right:\n%s", out)
	}
}

func secondAddress(t *testing.T, s *harness.Server) string {
	t.Helper()
	for line := range strings.Lines(s.Log()) {
		if _, rest, ok := strings.Cut(line, "https://"); ok {
			addr, _, _ := strings.Cut(rest, `"`)
			return strings.TrimSpace(addr)
		}
	}
	t.Fatalf("no TLS listener:\n%s", s.Log())
	return ""
}

func commonName(t *testing.T, addr string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func writeCertificate(t *testing.T, certFile, keyFile, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func hangUp(t *testing.T, s *harness.Server) {
	t.Helper()
	if err := syscall.Kill(s.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}
