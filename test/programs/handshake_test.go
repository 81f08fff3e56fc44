package programs

import (
	"bufio"
	"cmp"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// dialer makes TLS connections without resumption, one full handshake each.
type dialer struct {
	address string
	pool    *x509.CertPool
	client  *tls.Certificate // shown if the server asks
	version uint16           // 0: the best that both know
	suites  []uint16         // with TLS 1.2
	timeout time.Duration    // default 20 s
	path    string           // default /
	name    string           // of the server, default localhost
}

// get makes a connection, asks for its path and returns the connection's state and the
// answer's body.
func (d *dialer) get(ctx context.Context) (tls.ConnectionState, string, error) {
	var state tls.ConnectionState
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(d.timeout, 20*time.Second))
	defer cancel()
	c := &tls.Config{RootCAs: d.pool, ServerName: cmp.Or(d.name, "localhost"), MinVersion: d.version, MaxVersion: d.version, CipherSuites: d.suites}
	if d.client != nil {
		c.Certificates = []tls.Certificate{*d.client}
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.address)
	if err != nil {
		return state, "", err
	}
	defer raw.Close()
	end, _ := ctx.Deadline()
	raw.SetDeadline(end)
	conn := tls.Client(raw, c)
	if err := conn.HandshakeContext(ctx); err != nil {
		return state, "", fmt.Errorf("handshake: %w", err)
	}
	state = conn.ConnectionState()
	if _, err := io.WriteString(conn, "GET "+cmp.Or(d.path, "/")+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return state, "", fmt.Errorf("request: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return state, "", fmt.Errorf("answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return state, string(body), err
}

// serve runs a TLS server that demands client certificates of an authority, and
// answers with the name in the one that it is shown.
func serve(t testing.TB, pair tls.Certificate, clients *x509.CertPool) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello", r.TLS.PeerCertificates[0].DNSNames[0])
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// serves checks that a server shows the key's certificate with TLS 1.2 and 1.3,
// over several connections, and answers.
func (d dialer) serves(t testing.TB, k *key, answer string) {
	t.Helper()
	for _, d.version = range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		for range 6 {
			state, body, err := d.get(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", tls.VersionName(d.version), err)
			}
			if !strings.Contains(body, answer) {
				t.Errorf("%s: %q is not in %q", tls.VersionName(d.version), answer, body)
			}
			if got := state.PeerCertificates[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !got.Equal(k.public) {
				t.Error("the certificate is of another key")
			}
		}
	}
}

// withoutSecrecy tells whether a server with an RSA key offers TLS 1.2 without
// forward secrecy, which takes a decryption in the token.
func (d dialer) withoutSecrecy(t testing.TB) bool {
	t.Helper()
	d.version, d.suites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
	_, _, err := d.get(t.Context())
	return err == nil
}
