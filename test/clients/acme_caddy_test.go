package clients

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestACMECaddy: a web server gets its certificate by itself, by TLS and by HTTP,
// serves with it, and renews it after the authority was restarted.
func TestACMECaddy(t *testing.T) {
	t.Parallel()
	needProgram(t, "caddy", "caddy")
	for _, challenge := range []string{"tls-alpn", "http"} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			w := newACMEWorld(t, false)
			onBoth(t, w, map[string]string{"obtain": "served", "renew": "served"}, nil, func(a *authority, o *outcomes) {
				name := challenge + ".caddy.example.org"
				stop := w.caddy(a, challenge, name)
				defer stop()
				first, err := w.served(a, name, nil)
				if !o.step("obtain", "served", "", err) {
					return
				}
				a.restart()
				_, err = w.served(a, name, first)
				o.step("renew", "served", "", err)
			})
		})
	}
}

// caddy starts a web server for a name that may use one kind of challenge. Its
// certificates count as due a few seconds after they were made.
func (w *acmeWorld) caddy(a *authority, challenge, name string) (stop func()) {
	w.t.Helper()
	off := map[string]any{"disabled": true}
	challenges := map[string]any{"http": off, "tls-alpn": off}
	challenges[challenge] = map[string]any{}
	issuer := map[string]any{"module": "acme", "ca": a.directory, "email": "admin@example.com", "trusted_roots_pem_files": []string{w.trust}, "challenges": challenges}
	listen := func(port int) []string { return []string{fmt.Sprintf("127.0.0.1:%d", port)} }
	route := map[string]any{"match": []any{map[string]any{"host": []string{name}}}, "handle": []any{map[string]any{"handler": "static_response", "body": "hello"}}, "terminal": true}
	servers := map[string]any{"secure": map[string]any{"listen": listen(w.tlsPort), "routes": []any{route}},
		"plain": map[string]any{"listen": listen(w.httpPort), "routes": []any{}}}
	text, err := json.Marshal(map[string]any{"admin": map[string]any{"disabled": true}, "apps": map[string]any{
		"http": map[string]any{"http_port": w.httpPort, "https_port": w.tlsPort, "servers": servers},
		"tls": map[string]any{"automation": map[string]any{"renew_interval": "3s", "policies": []any{
			map[string]any{"issuers": []any{issuer}, "renewal_window_ratio": 0.99999995, "disable_ocsp_stapling": true}}}},
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	dir := w.t.TempDir()
	config := filepath.Join(dir, "caddy.json")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return w.background([]string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}, "caddy", "run", "--config", config)
}

// served waits until the web server serves with a certificate for a name that is
// another one than before, and returns that.
func (w *acmeWorld) served(a *authority, name string, before *x509.Certificate) (*x509.Certificate, error) {
	var err error
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		var conn *tls.Conn
		d := &net.Dialer{Timeout: 5 * time.Second}
		conn, err = tls.DialWithDialer(d, "tcp", fmt.Sprintf("127.0.0.1:%d", w.tlsPort), &tls.Config{ServerName: name, RootCAs: a.roots()})
		if err != nil {
			continue
		}
		cert := conn.ConnectionState().PeerCertificates[0]
		conn.Close()
		if before == nil || cert.SerialNumber.Cmp(before.SerialNumber) != 0 {
			return cert, nil
		}
		err = fmt.Errorf("the certificate is still that of %v", before.NotBefore)
	}
	return nil, err
}
