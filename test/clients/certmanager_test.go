package clients

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/claviger/claviger/test/harness"
)

// TestCertManager makes the requests of cert-manager's Vault issuer, with the
// client that it uses: its own package is internal to it. The health of the server
// is asked first, then the request is signed with its names as fields, and the
// answer is read as a chain that ends in ca_chain.
func TestCertManager(t *testing.T) {
	onNewTokens(t, func(t *testing.T, s *harness.Server) {
		if s.RootToken == "" {
			s.Init(t, 1, 1)
			s.Unseal(t, s.Shares...)
		}
		c := vaultClient(t, s.Addr, s.RootToken)
		health, err := c.Sys().Health()
		if err != nil || !health.Initialized || health.Sealed {
			t.Fatalf("%+v %v", health, err)
		}
		twoTiers(t, c)
		certManagerSigns(t, vaultClient(t, s.Addr, signingToken(t, c)))
	})
}

// twoTiers makes an intermediate in the mount pki_int, and the role cert-manager.
func twoTiers(t *testing.T, c *api.Client) {
	t.Helper()
	for _, mount := range []string{"pki", "pki_int"} {
		if err := c.Sys().Mount(mount, &api.MountInput{Type: "pki"}); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path string, data map[string]any) map[string]any {
		t.Helper()
		out, err := c.Logical().Write(path, data)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return out.Data
	}
	write("pki/root/generate/internal", map[string]any{"common_name": "Root", "key_type": "ec"})
	csr := write("pki_int/intermediate/generate/internal", map[string]any{"common_name": "Issuing", "key_type": "ec"})["csr"]
	signed := write("pki/root/sign-intermediate", map[string]any{"csr": csr, "common_name": "Issuing", "format": "pem_bundle"})
	write("pki_int/intermediate/set-signed", map[string]any{"certificate": signed["certificate"]})
	write("pki_int/roles/cert-manager", map[string]any{"allowed_domains": "example.com", "allow_subdomains": true, "allow_any_name": false,
		"allowed_uri_sans": "spiffe://cluster.local/*", "require_cn": false, "max_ttl": "72h", "key_type": "any"})
}

// signingToken may do nothing but sign.
func signingToken(t *testing.T, c *api.Client) string {
	t.Helper()
	if err := c.Sys().PutPolicy("cert-manager", `path "pki_int/sign/cert-manager" { capabilities = ["create", "update"] }`); err != nil {
		t.Fatal(err)
	}
	made, err := c.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"cert-manager"}, TTL: "1h"})
	if err != nil {
		t.Fatal(err)
	}
	return made.Auth.ClientToken
}

func certManagerSigns(t *testing.T, c *api.Client) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := url.Parse("spiffe://cluster.local/ns/default/sa/web")
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "www.example.com"}, DNSNames: []string{"www.example.com", "api.example.com"}, URIs: []*url.URL{id}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	request := c.NewRequest("POST", "/v1/pki_int/sign/cert-manager")
	err = request.SetJSONBody(map[string]string{
		"common_name": template.Subject.CommonName, "alt_names": strings.Join(template.DNSNames, ","), "ip_sans": "", "uri_sans": id.String(),
		"ttl": (24 * time.Hour).String(), "csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), "exclude_cn_from_sans": "true",
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.RawRequestWithContext(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	secret, err := api.ParseSecret(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	checkChain(t, secret.Data, key, template)
}

func checkChain(t *testing.T, data map[string]any, key *ecdsa.PrivateKey, asked *x509.CertificateRequest) {
	t.Helper()
	parse := func(text any) *x509.Certificate {
		t.Helper()
		block, rest := pem.Decode([]byte(text.(string)))
		if block == nil || len(strings.TrimSpace(string(rest))) > 0 {
			t.Fatalf("not one certificate: %q", text)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	leaf := parse(data["certificate"])
	if !key.PublicKey.Equal(leaf.PublicKey) || !slices.Equal(leaf.DNSNames, asked.DNSNames) || len(leaf.URIs) != 1 || *leaf.URIs[0] != *asked.URIs[0] {
		t.Errorf("%v %v", leaf.DNSNames, leaf.URIs)
	}
	if left := time.Until(leaf.NotAfter); left < 23*time.Hour || left > 24*time.Hour {
		t.Errorf("it ends in %v", left)
	}
	above := leaf
	for _, text := range data["ca_chain"].([]any) {
		next := parse(text)
		if err := above.CheckSignatureFrom(next); err != nil {
			t.Errorf("the chain is not in order: %v", err)
		}
		above = next
	}
	if above.Subject.CommonName != "Root" || data["issuing_ca"] != data["ca_chain"].([]any)[0] {
		t.Errorf("the chain ends with %v", above.Subject)
	}
}
