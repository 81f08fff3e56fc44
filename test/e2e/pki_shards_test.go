package e2e

import (
	"encoding/pem"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// TestDividedCRLWithOpenSSL: OpenSSL fetches nothing by itself, but takes the
// shard that a certificate names as its CRL, and no other one.
func TestDividedCRLWithOpenSSL(t *testing.T) {
	t.Parallel()
	s := harness.Dev(t)
	s.OK(t, "POST", "sys/mounts/pki", map[string]any{"type": "pki"})
	root := saved(t, "root.pem", s.OK(t, "POST", "pki/root/generate/internal", map[string]any{"common_name": "Root", "key_type": "ec"})["certificate"].(string))
	s.OK(t, "POST", "pki/config/cluster", map[string]any{"path": s.Addr + "/v1/pki"})
	s.OK(t, "POST", "pki/config/crl", map[string]any{"shards": 2})
	s.OK(t, "POST", "pki/roles/web", map[string]any{"allowed_domains": "example.com", "allow_subdomains": true, "key_type": "ec"})
	certs := map[string]map[string]any{} // by the shard
	for range 200 {
		if len(certs) == 2 {
			break
		}
		leaf := s.OK(t, "POST", "pki/issue/web", map[string]any{"common_name": "www.example.com", "ttl": "1h"})
		certs[shardOf(t, s, leaf)] = leaf
	}
	if len(certs) != 2 {
		t.Fatalf("%d shards", len(certs))
	}
	var shards []string
	for path := range certs {
		shards = append(shards, path)
	}
	crl := func(path string) string {
		return saved(t, "crl.pem", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: raw(t, s, path, "application/pkix-crl")}))
	}
	verify := func(leaf map[string]any, crl string) (string, error) {
		out, err := exec.Command("openssl", "verify", "-x509_strict", "-crl_check", "-extended_crl", "-CAfile", root, "-CRLfile", crl, saved(t, "leaf.pem", leaf["certificate"].(string))).CombinedOutput()
		return string(out), err
	}
	good, bad := certs[shards[0]], certs[shards[1]]
	if out, err := verify(good, crl(shards[0])); err != nil {
		t.Errorf("the certificate with its shard: %v %s", err, out)
	}
	if out, err := verify(good, crl(shards[1])); err == nil {
		t.Errorf("the certificate with another shard: %s", out)
	}
	s.OK(t, "POST", "pki/revoke", map[string]any{"serial_number": bad["serial_number"]})
	if out, err := verify(bad, crl(shards[1])); err == nil || !strings.Contains(out, "certificate revoked") {
		t.Errorf("the revoked certificate: %v %s", err, out)
	}
	notModified(t, s.Addr+"/v1/"+shards[0])
}

// shardOf is the path of the shard that a certificate names.
func shardOf(t *testing.T, s *harness.Server, leaf map[string]any) string {
	t.Helper()
	text := tool(t, "openssl", "x509", "-noout", "-ext", "crlDistributionPoints", "-in", saved(t, "leaf.pem", leaf["certificate"].(string)))
	_, path, ok := strings.Cut(text, "URI:"+s.Addr+"/v1/")
	if !ok {
		t.Fatal(text)
	}
	return strings.Fields(path)[0]
}

// notModified asks twice; the second time nothing comes.
func notModified(t *testing.T, url string) {
	t.Helper()
	first, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	first.Body.Close()
	for name, header := range map[string]string{"If-None-Match": first.Header.Get("Etag"), "If-Modified-Since": first.Header.Get("Last-Modified")} {
		req, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(name, header)
		again, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		again.Body.Close()
		if header == "" || again.StatusCode != http.StatusNotModified || again.Header.Get("Etag") == "" {
			t.Errorf("%s %q: status %d %v", name, header, again.StatusCode, again.Header)
		}
	}
}
