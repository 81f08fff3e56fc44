package pki

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"testing"

	"github.com/claviger/claviger/api"
)

// FuzzParseRequest: a certificate request is refused, or everything that will be
// certified of it was understood.
func FuzzParseRequest(f *testing.F) {
	text, _ := newCSR(f, func(c *x509.CertificateRequest) { c.DNSNames = []string{"www.example.com"} })
	block, _ := pem.Decode([]byte(text))
	f.Add(block.Bytes)
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := parseRequestDER(der)
		if err != nil {
			return
		}
		if _, err := keyID(r.RawSubjectPublicKeyInfo); err != nil {
			t.Errorf("its key has no identifier: %v", err)
		}
		p := &profile{}
		_ = p.takeExtensions(newRole(), r)
	})
}

// FuzzRole: a role that is taken decides about every name without failing, and is
// read back as it was.
func FuzzRole(f *testing.F) {
	f.Add(`{"allowed_domains":["example.com"],"allow_subdomains":true,"key_usage":["DigitalSignature"]}`, "www.example.com")
	f.Add(`{"allowed_domains":["*.{{identity.entity.name}}"],"allowed_domains_template":true,"allow_glob_domains":true}`, "*.example.com")
	f.Add(`{"not_after_bound":"2030-01-31T12:00:00Z","policy_identifiers":["1.2.3"],"allowed_ip_sans_cidr":["10.0.0.0/8"]}`, "user@example.com")
	f.Fuzz(func(t *testing.T, text, name string) {
		var r api.SetPKIRole
		if json.Unmarshal([]byte(text), &r) != nil {
			return
		}
		role := newRole()
		editRole(role, &r)
		if checkRole(role) != nil {
			return
		}
		rules := rulesFor(role, "token-x")
		var s sans
		if s.addName(name) == nil {
			_ = checkSANs(rules, &s)
		}
		_ = checkCommonName(rules, name)
		if shown := shownRole(role); checkRole(shown) != nil {
			t.Errorf("the role is refused when it is written as it is read: %+v", shown)
		}
	})
}
