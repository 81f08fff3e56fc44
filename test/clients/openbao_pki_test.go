package clients

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"testing"
	"time"

	"github.com/openbao/openbao/api/v2"

	"github.com/claviger/claviger/test/harness"
)

// TestOpenBaoPKI makes a two-tier authority with OpenBao's Go client only, and uses it.
func TestOpenBaoPKI(t *testing.T) {
	onNewTokens(t, func(t *testing.T, s *harness.Server) {
		c := openbaoClient(t, s)
		if c.SetToken(s.RootToken); s.RootToken == "" {
			openbaoUnseals(t, c)
		}
		b := &baoPKI{t, c}
		root := b.authority()
		b.issues(root)
	})
}

type baoPKI struct {
	t *testing.T
	c *api.Client
}

func (b *baoPKI) write(path string, data map[string]any) map[string]any {
	b.t.Helper()
	s, err := b.c.Logical().Write(path, data)
	if err != nil {
		b.t.Fatalf("%s: %v", path, err)
	}
	if s == nil {
		return nil
	}
	return s.Data
}

func (b *baoPKI) cert(data map[string]any) *x509.Certificate {
	b.t.Helper()
	block, _ := pem.Decode([]byte(data["certificate"].(string)))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		b.t.Fatal(err)
	}
	return cert
}

// authority makes root/ and below it pki/, and returns the root.
func (b *baoPKI) authority() *x509.Certificate {
	t := b.t
	t.Helper()
	for _, mount := range []string{"root", "pki"} {
		if err := b.c.Sys().Mount(mount, &api.MountInput{Type: "pki", Config: api.MountConfigInput{MaxLeaseTTL: "87600h"}}); err != nil {
			t.Fatal(err)
		}
	}
	root := b.write("root/root/generate/internal", map[string]any{"common_name": "Root", "key_type": "ec", "key_bits": 384, "ttl": "87600h", "issuer_name": "root-1"})
	csr := b.write("pki/intermediate/generate/internal", map[string]any{"common_name": "Issuing", "key_type": "rsa", "key_bits": "3072", "key_name": "issuing"})
	signed := b.write("root/root/sign-intermediate", map[string]any{"csr": csr["csr"], "format": "pem_bundle", "ttl": "43800h", "use_csr_values": true})
	in := b.write("pki/intermediate/set-signed", map[string]any{"certificate": signed["certificate"]})
	issuers := in["imported_issuers"].([]any)
	if len(issuers) != 2 || in["mapping"].(map[string]any)[issuers[0].(string)] != csr["key_id"] {
		t.Fatalf("%v", in)
	}
	list, err := b.c.Logical().List("pki/issuers")
	if err != nil || len(list.Data["keys"].([]any)) != 2 {
		t.Fatalf("%v %v", list, err)
	}
	patched, err := b.c.Logical().JSONMergePatch(t.Context(), "pki/issuer/"+issuers[0].(string), map[string]any{"issuer_name": "issuing", "leaf_not_after_behavior": "truncate"})
	if err != nil || patched.Data["issuer_name"] != "issuing" || patched.Data["leaf_not_after_behavior"] != "truncate" {
		t.Fatalf("%v %v", patched, err)
	}
	return b.cert(root)
}

func (b *baoPKI) issues(root *x509.Certificate) {
	t := b.t
	t.Helper()
	role := b.write("pki/roles/web", map[string]any{"allowed_domains": "example.com,example.org", "allow_subdomains": "true", "max_ttl": "72h", "key_type": "ec", "key_bits": 256})
	if ttl, _ := role["max_ttl"].(json.Number).Int64(); ttl != 72*3600 {
		t.Errorf("role %v", role)
	}
	out := b.write("pki/issue/web", map[string]any{"common_name": "www.example.com", "alt_names": "a.example.org", "ttl": "24h"})
	leaf, chain := b.cert(out), out["ca_chain"].([]any)
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, c := range chain {
		between.AppendCertsFromPEM([]byte(c.(string)))
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: "a.example.org"}); err != nil {
		t.Error(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "csr.example.com"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	request := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	signed := b.write("pki/sign/web", map[string]any{"csr": request, "common_name": "csr.example.com", "exclude_cn_from_sans": true})
	if c := b.cert(signed); !key.PublicKey.Equal(c.PublicKey) || signed["private_key"] != nil || signed["serial_number"] == nil {
		t.Errorf("%v", signed)
	}
	if _, err := b.c.Logical().Write("pki/issue/web", map[string]any{"common_name": "www.example.net"}); err == nil {
		t.Error("a name that the role does not allow was certified")
	}
	revoked := b.write("pki/revoke", map[string]any{"serial_number": out["serial_number"]})
	if at, _ := revoked["revocation_time"].(json.Number).Int64(); time.Since(time.Unix(at, 0)) > time.Hour {
		t.Errorf("%v", revoked)
	}
	kept, err := b.c.Logical().Read("pki/cert/" + out["serial_number"].(string))
	if err != nil || kept.Data["revocation_time"].(json.Number) == "0" {
		t.Errorf("%v %v", kept, err)
	}
	crl, err := b.c.Logical().Read("pki/cert/crl")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(crl.Data["certificate"].(string)))
	parsed, err := x509.ParseRevocationList(block.Bytes)
	if err != nil || len(parsed.RevokedCertificateEntries) != 1 || parsed.RevokedCertificateEntries[0].SerialNumber.Cmp(leaf.SerialNumber) != 0 {
		t.Errorf("%v %+v", err, parsed)
	}
	if tidy, err := b.c.Logical().Write("pki/tidy", map[string]any{"tidy_cert_store": true}); err != nil || len(tidy.Warnings) != 1 {
		t.Errorf("%v %v", tidy, err)
	}
	if err := b.c.Sys().Unmount("root"); err != nil {
		t.Error(err)
	}
}
