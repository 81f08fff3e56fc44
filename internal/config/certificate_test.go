package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestValidateCertificate(t *testing.T) {
	t.Parallel()
	const own = "[[listener]]\naddress=\"0.0.0.0:8200\"\ntls_own=true\n"
	for _, tt := range []struct{ name, text, want string }{
		{"right", own + "[certificate]\nrole=\"r\"\ncommon_name=\"keys.example.org\"\nalt_names=[\"*.example.org\",\"localhost\"]\nip_sans=[\"::1\"]", ""},
		{"without a role", own + "[certificate]\ncommon_name=\"h\"", "certificate.role"},
		{"without a name", own + "[certificate]\nrole=\"r\"", "certificate.common_name"},
		{"name", "[certificate]\ncommon_name=\"My Server\"", "host names and addresses"},
		{"alternative name", "[certificate]\nalt_names=[\"a b\"]", "host names and addresses"},
		{"address", "[certificate]\nip_sans=[\"1.2.3\"]", "certificate.ip_sans[0]"},
		{"mount", "[certificate]\nmount=\"/\"", "certificate.mount"},
		{"role with a slash", "[certificate]\nrole=\"a/b\"", "certificate.role"},
		{"ttl", "[certificate]\nttl=\"-1s\"", "certificate.ttl"},
		{"two certificates", "[[listener]]\naddress=\"127.0.0.1:1\"\ntls_own=true\ntls_cert=\"/c\"\ntls_key=\"/k\"", "listener[0].tls_own"},
		{"a socket", "[[listener]]\naddress=\"unix:/s\"\ntls_own=true", "listener[0].tls_cert"},
		{"insecure", "[[listener]]\naddress=\"127.0.0.1:1\"\ntls_own=true\ninsecure=true", "listener[0].insecure"},
		{"a front", "[front.distribution]\nenabled=true\ntls_own=true", "certificate.role"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := Parse([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			switch err = c.Validate(); {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q in it", err, tt.want)
			}
		})
	}
}

// TestCertificateWarnings: a certificate that has ended, or ends soon, is told.
func TestCertificateWarnings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	file := filepath.Join(dir, "listener.pem")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(30 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	files := Dev(dir)
	files.Listeners[0].TLSCert, files.Listeners[0].TLSKey = file, file
	own := Dev(dir)
	own.Listeners[0].TLSOwn = true
	for _, tt := range []struct {
		name string
		cfg  *Config
		at   time.Duration
		want string
	}{
		{"valid", files, time.Hour, ""},
		{"ends soon", files, 20 * 24 * time.Hour, "ends at"},
		{"renews itself", own, 20 * 24 * time.Hour, ""},
		{"has ended", own, 31 * 24 * time.Hour, "ended at"},
		{"has ended in a file", files, 31 * 24 * time.Hour, "ended at"},
		{"not yet", files, -time.Hour, "not valid before"},
	} {
		w := strings.Join(tt.cfg.CertificateWarnings(now.Add(tt.at)), "\n")
		if tt.want == "" && w != "" || !strings.Contains(w, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, w, tt.want)
		}
	}
	if err := own.CheckFiles(); err != nil && strings.Contains(err.Error(), "certificate.file") {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte("broken"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := own.CheckFiles(); err == nil || strings.Count(err.Error(), "certificate.file") != 2 {
		t.Errorf("a broken file that others can read: %v", err)
	}
}
