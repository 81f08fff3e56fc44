package server

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
)

// distributing starts a server with an authority whose certificates, CRLs and OCSP
// answers are served on a listener of their own. It returns the address of that
// listener, and a leaf certificate, with the files of root and leaf in dir.
func distributing(t *testing.T, log *lockedLog, dir string) (s *Server, url string, leaf *api.PKICertificate) {
	t.Helper()
	cfg := config.Dev(t.TempDir())
	cfg.Front.Distribution.Enabled, cfg.Front.Distribution.Address = true, "127.0.0.1:0"
	s = running(t, cfg, Options{Dev: &Dev{RootTokenID: "root"}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	url = s.FrontAddress("distribution") + "/v1/pki"
	var root, issued struct{ Data api.PKICertificate }
	for _, c := range []struct {
		path string
		body map[string]any
		into any
	}{
		{"sys/mounts/pki", map[string]any{"type": "pki"}, nil},
		{"pki/config/urls", map[string]any{"crl_distribution_points": url + "/crl", "ocsp_servers": url + "/ocsp", "issuing_certificates": url + "/ca"}, nil},
		{"pki/root/generate/internal", map[string]any{"common_name": "Root", "key_type": "ec"}, &root},
		{"pki/roles/web", map[string]any{"allowed_domains": "example.com", "allow_subdomains": true, "key_type": "ec"}, nil},
		{"pki/issue/web", map[string]any{"common_name": "www.example.com"}, &issued},
	} {
		if status := do(t, s, "PUT", c.path, "root", c.body, c.into); status >= 300 {
			t.Fatalf("%s: status %d", c.path, status)
		}
	}
	for name, text := range map[string]string{"root.pem": root.Data.Certificate, "leaf.pem": issued.Data.Certificate} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s, url, &issued.Data
}

func fetchFile(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestDistribution(t *testing.T) {
	t.Parallel()
	var log lockedLog
	s, url, leaf := distributing(t, &log, t.TempDir())
	resp, body := fetchFile(t, url+"/crl")
	crl, err := x509.ParseRevocationList([]byte(body))
	if err != nil || len(crl.RevokedCertificateEntries) != 0 || resp.Header.Get("Content-Type") != "application/pkix-crl" {
		t.Fatalf("%v %v", err, resp)
	}
	if status := do(t, s, "PUT", "pki/revoke", "root", api.PKIRevoke{SerialNumber: leaf.SerialNumber}, nil); status != 200 {
		t.Fatalf("revoke: status %d", status)
	}
	_, body = fetchFile(t, url+"/crl/pem")
	block, _ := pem.Decode([]byte(body))
	if crl, err = x509.ParseRevocationList(block.Bytes); err != nil || len(crl.RevokedCertificateEntries) != 1 {
		t.Errorf("%v: %d entries", err, len(crl.RevokedCertificateEntries))
	}
	if _, body = fetchFile(t, url+"/ca_chain"); !strings.HasPrefix(body, "-----BEGIN CERTIFICATE") {
		t.Errorf("chain: %s", body)
	}
	// With a root token in the request, too.
	for _, path := range []string{"/v1/sys/mounts", "/v1/pki/roles/web", "/v1/pki/cert/" + leaf.SerialNumber, "/v1/sys/seal-status", "/v1/transit/keys/ca"} {
		req, err := http.NewRequest("GET", s.FrontAddress("distribution")+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Vault-Token", "root")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 404 {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
	}
	if text := log.String(); !strings.Contains(text, "ASKS NOBODY") || !strings.Contains(text, "front=distribution") {
		t.Errorf("the log says %s", text)
	}
	if text := readMetrics(t, s); !strings.Contains(text, `claviger_requests_total{operation="pki.crl",outcome="ok"} 1`) {
		t.Error("the reading of the CRL is not counted")
	}
	if status := do(t, s, "PUT", "sys/seal", "root", nil, nil); status != 204 {
		t.Fatalf("seal: status %d", status)
	}
	if resp, body := fetchFile(t, url+"/crl"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("sealed: status %d %s", resp.StatusCode, body)
	}
}

// TestDistributionForeign: OpenSSL and curl find state and certificates at the URLs
// that stand in the certificate.
func TestDistributionForeign(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"openssl", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	dir := t.TempDir()
	s, url, leaf := distributing(t, &lockedLog{}, dir)
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
		return string(out)
	}
	named := run("openssl", "x509", "-in", "leaf.pem", "-noout", "-ocsp_uri", "-text")
	if !strings.Contains(named, url+"/ocsp") || !strings.Contains(named, url+"/crl") {
		t.Fatalf("the certificate names other URLs: %s", named)
	}
	ask := []string{"ocsp", "-issuer", "root.pem", "-cert", "leaf.pem", "-CAfile", "root.pem", "-url", url + "/ocsp"}
	if out := run("openssl", ask...); !strings.Contains(out, "leaf.pem: good") || !strings.Contains(out, "Response verify OK") {
		t.Errorf("OCSP: %s", out)
	}
	if status := do(t, s, "PUT", "pki/revoke", "root", api.PKIRevoke{SerialNumber: leaf.SerialNumber, Reason: 4}, nil); status != 200 {
		t.Fatalf("revoke: status %d", status)
	}
	if out := run("openssl", ask...); !strings.Contains(out, "leaf.pem: revoked") {
		t.Errorf("OCSP: %s", out)
	}
	// GET, as RFC 6960 appendix A.1 has it.
	run("openssl", "ocsp", "-issuer", "root.pem", "-cert", "leaf.pem", "-no_nonce", "-reqout", "request.der")
	request := strings.NewReplacer("\n", "", "/", "%2F", "+", "%2B", "=", "%3D").Replace(run("openssl", "base64", "-in", "request.der"))
	run("curl", "-sSf", "-o", "answer.der", url+"/ocsp/"+request)
	out := run("openssl", "ocsp", "-respin", "answer.der", "-issuer", "root.pem", "-cert", "leaf.pem", "-CAfile", "root.pem", "-no_nonce")
	if !strings.Contains(out, "leaf.pem: revoked") {
		t.Errorf("OCSP by GET: %s", out)
	}
	run("curl", "-sSf", "-o", "crl.pem", url+"/crl/pem")
	if out := run("openssl", "crl", "-in", "crl.pem", "-CAfile", "root.pem", "-noout"); !strings.Contains(out, "verify OK") {
		t.Errorf("CRL: %s", out)
	}
	run("curl", "-sSf", "-o", "ca.der", url+"/ca")
	if out := run("openssl", "x509", "-inform", "DER", "-in", "ca.der", "-noout", "-subject"); !strings.Contains(out, "Root") {
		t.Errorf("CA: %s", out)
	}
}
