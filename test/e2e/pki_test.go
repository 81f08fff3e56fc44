package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

// tool runs a program that must succeed, and returns what it printed.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed: scripts/install-test-packages.sh does it", name)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// saved writes a text into a file of its own.
func saved(t *testing.T, name string, content any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	var b []byte
	switch c := content.(type) {
	case string:
		b = []byte(c + "\n")
	case []byte:
		b = c
	}
	write(t, path, b)
	return path
}

// raw is the body of a GET that needs no client token.
func raw(t *testing.T, s *harness.Server, path, contentType string) []byte {
	t.Helper()
	resp, err := http.Get(s.Addr + "/v1/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != contentType {
		t.Fatalf("GET %s: status %d, type %s, %v: %.200q", path, resp.StatusCode, resp.Header.Get("Content-Type"), err, body)
	}
	return body
}

// outsideCA is an authority of elsewhere: certificate and key in PEM.
func outsideCA(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"ACME"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}))
}

// TestAuthorityOfElsewhere: a certificate and a key in PEM become an authority
// whose key is in the HSM; so do a certificate and a key that pkcs11-tool put
// into the token. OpenSSL verifies what they certify.
func TestAuthorityOfElsewhere(t *testing.T) {
	t.Parallel()
	s, pin := adopted(t)
	csr := filepath.Join(t.TempDir(), "csr.pem")
	tool(t, "openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", os.DevNull, "-out", csr, "-subj", "/C=US/ST=CA/O=ACME/CN=XYZ.com")
	request, err := os.ReadFile(csr)
	if err != nil {
		t.Fatal(err)
	}
	signs := func(mount, root string) {
		t.Helper()
		s.OK(t, "POST", mount+"/roles/xyz", map[string]any{"allow_any_name": true, "allow_subdomains": true})
		out := s.OK(t, "POST", mount+"/sign/xyz", map[string]any{"csr": string(request), "common_name": "xyz.com", "format": "pem", "ttl": "24h"})
		leaf := saved(t, "leaf.pem", out["certificate"].(string))
		if got := tool(t, "openssl", "verify", "-x509_strict", "-CAfile", saved(t, "root.pem", root), leaf); !strings.Contains(got, "OK") {
			t.Error(got)
		}
		if got := tool(t, "openssl", "x509", "-noout", "-subject", "-in", leaf); !strings.Contains(got, "XYZ.com") {
			t.Errorf("the request's common name counts: %s", got)
		}
		if out["private_key"] != nil {
			t.Error("sign shows a private key")
		}
	}

	s.OK(t, "POST", "sys/mounts/ca1", map[string]any{"type": "pki"})
	cert, key := outsideCA(t, "ACME Root")
	in := s.OK(t, "POST", "ca1/config/ca", map[string]any{"pem_bundle": cert + key})
	keys := in["imported_keys"].([]any)
	if len(keys) != 1 || len(in["imported_issuers"].([]any)) != 1 {
		t.Fatalf("%v", in)
	}
	if k := s.OK(t, "GET", "ca1/key/"+keys[0].(string), nil); k["protection"] != "wrapped" || k["key_type"] != "rsa" {
		t.Errorf("the imported key is not in the HSM: %v", k)
	}
	signs("ca1", cert)

	s.OK(t, "POST", "sys/mounts/ca2", map[string]any{"type": "pki"})
	cert, key = outsideCA(t, "ACME Token Root")
	wrong, _ := outsideCA(t, "Another")
	block, _ := pem.Decode([]byte(key))
	tokentest.Tool(t, s.Module, "claviger-test", pin, s.Env,
		"--write-object", saved(t, "key.der", block.Bytes), "--type", "privkey", "--id", "2222", "--label", "localca", "--usage-sign")
	for want, body := range map[string]map[string]any{
		"not the one that was expected": {"certificate": wrong, "pkcs11_key_label": "localca"},
		"no private or secret key":      {"certificate": cert, "pkcs11_key_label": "nothing"},
		"must say which key":            {"certificate": cert},
		"is no CKA_ID":                  {"certificate": cert, "pkcs11_key_id": "xyz"},
		"a private key is among":        {"certificate": cert + key, "pkcs11_key_id": "2222"},
	} {
		if status, answer := s.Do(t, "POST", "ca2/config/pkcs11ca", body); status != 400 || !strings.Contains(answer["errors"].([]any)[0].(string), want) {
			t.Errorf("status %d %v, want %q", status, answer, want)
		}
	}
	if status, _ := s.Do(t, "GET", "ca2/keys?list=true", nil); status != 404 {
		t.Error("a refused adoption left a key")
	}
	for n, by := range []map[string]any{{"pkcs11_key_label": "localca"}, {"pkcs11_key_id": "0x2222"}} {
		by["certificate"] = cert
		in := s.OK(t, "POST", "ca2/config/pkcs11ca", by)
		if got := len(in["imported_issuers"].([]any)); got != 1-n { // the second time it is there
			t.Errorf("%v", in)
		}
	}
	signs("ca2", cert)
}

// TestAuthorityWithOtherTools: OpenSSL and GnuTLS read and verify certificates,
// CRLs and OCSP answers of authorities of every kind, on both tokens.
func TestAuthorityWithOtherTools(t *testing.T) {
	t.Parallel()
	servers := map[string]*harness.Server{"soft": harness.Dev(t), "softhsm": harness.SoftHSM(t, harness.Options{})}
	for name, s := range servers {
		for _, kind := range []string{"rsa", "ec", "ed25519"} {
			t.Run(name+" "+kind, func(t *testing.T) { otherTools(t, s, "pki-"+kind, kind) })
		}
	}
}

func otherTools(t *testing.T, s *harness.Server, mount, kind string) {
	s.OK(t, "POST", "sys/mounts/"+mount, map[string]any{"type": "pki"})
	s.OK(t, "POST", mount+"/config/urls", map[string]any{
		"issuing_certificates": s.Addr + "/v1/" + mount + "/ca", "crl_distribution_points": s.Addr + "/v1/" + mount + "/crl",
		"ocsp_servers": s.Addr + "/v1/" + mount + "/ocsp"})
	root := s.OK(t, "POST", mount+"/root/generate/internal", map[string]any{"common_name": "Root", "key_type": kind, "max_path_length": 1})["certificate"].(string)
	lower := s.OK(t, "POST", mount+"/intermediate/generate/internal", map[string]any{"common_name": "Lower", "key_type": kind})["csr"]
	signed := s.OK(t, "POST", mount+"/root/sign-intermediate", map[string]any{"csr": lower, "common_name": "Lower", "max_path_length": 0})["certificate"].(string)
	s.OK(t, "POST", mount+"/intermediate/set-signed", map[string]any{"certificate": signed, "issuer_name": "lower"})
	s.OK(t, "POST", mount+"/roles/web", map[string]any{"allowed_domains": "example.com", "allow_subdomains": true, "key_type": "ec", "issuer_ref": "lower"})
	leaf := s.OK(t, "POST", mount+"/issue/web", map[string]any{"common_name": "www.example.com", "ip_sans": "10.0.0.1", "ttl": "1h"})

	rootFile, lowerFile, leafFile := saved(t, "root.pem", root), saved(t, "lower.pem", signed), saved(t, "leaf.pem", leaf["certificate"].(string))
	tool(t, "openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "www.example.com", "-CAfile", rootFile, "-untrusted", lowerFile, leafFile)
	tool(t, "certtool", "--verify", "--load-ca-certificate", rootFile, "--infile", saved(t, "chain.pem", leaf["certificate"].(string)+"\n"+signed))
	chain := saved(t, "ca.pem", root+"\n"+signed)

	ocsp := func(want string) {
		t.Helper()
		url := s.Addr + "/v1/" + mount + "/ocsp"
		if got := tool(t, "openssl", "ocsp", "-issuer", lowerFile, "-cert", leafFile, "-url", url, "-CAfile", chain); !strings.Contains(got, want) || !strings.Contains(got, "Response verify OK") {
			t.Errorf("POST: %s", got)
		}
		request := filepath.Join(t.TempDir(), "request")
		tool(t, "openssl", "ocsp", "-issuer", lowerFile, "-cert", leafFile, "-no_nonce", "-reqout", request)
		der, err := os.ReadFile(request)
		if err != nil {
			t.Fatal(err)
		}
		text := base64.StdEncoding.EncodeToString(der)
		answer := raw(t, s, mount+"/ocsp/"+text, "application/ocsp-response")
		if got := tool(t, "openssl", "ocsp", "-issuer", lowerFile, "-cert", leafFile, "-respin", saved(t, "answer", answer), "-CAfile", chain); !strings.Contains(got, want) {
			t.Errorf("GET: %s", got)
		}
		if got := tool(t, "ocsptool", "--ask="+url, "--load-cert", leafFile, "--load-issuer", lowerFile); !strings.Contains(got, "Verifying OCSP Response: Success") {
			t.Errorf("ocsptool: %s", got)
		}
	}
	ocsp(": good")
	s.OK(t, "POST", mount+"/revoke", map[string]any{"serial_number": leaf["serial_number"], "reason": 4})
	ocsp(": revoked")

	crl := raw(t, s, mount+"/issuer/lower/crl/der", "application/pkix-crl")
	crlFile := saved(t, "crl", crl)
	if got := tool(t, "openssl", "crl", "-inform", "DER", "-in", crlFile, "-CAfile", chain, "-noout", "-text"); !strings.Contains(got, "verify OK") ||
		!strings.Contains(got, strings.ToUpper(strings.ReplaceAll(leaf["serial_number"].(string), ":", ""))) || !strings.Contains(got, "Superseded") {
		t.Error(got)
	}
	crlPEM := saved(t, "crl.pem", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl}))
	tool(t, "certtool", "--verify-crl", "--load-ca-certificate", lowerFile, "--infile", crlPEM)
	out, err := exec.Command("openssl", "verify", "-crl_check", "-CAfile", rootFile, "-untrusted", lowerFile,
		"-CRLfile", crlPEM, leafFile).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("certificate revoked")) {
		t.Errorf("%v: %s", err, out)
	}
	if got := raw(t, s, mount+"/ca/pem", "application/pem-certificate-chain"); strings.TrimSpace(string(got)) != root {
		t.Errorf("ca/pem: %s", got)
	}
}
