package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// The bytes of a policy with both qualifiers, made by hand after RFC 5280 section
// 4.2.1.4 and read by openssl asn1parse; and the ways to write policies.
func TestPolicyQualifiers(t *testing.T) {
	t.Parallel()
	const want = "3034" + "300406022a03" + "302c06022a04" + // 1.2.3 alone; 1.2.4
		"3026" + "301006082b06010505070201" + "1604663a2f2f" + // cps: IA5String f://
		"301206082b06010505070202" + "30060c04c3a46869" // notice: UTF8String ähi
	for _, texts := range [][]string{
		{"1.2.3", `{"oid":"1.2.4","cps":"f://","notice":"ähi"}`},
		{`["1.2.3", {"oid":"1.2.4"`, `"cps":"f://"`, `"notice":"ähi"}]`}, // cut at its commas
	} {
		policies, err := parsePolicies(texts)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(policiesExtension(policies).value); got != want {
			t.Errorf("%q:\n%s\n%s", texts, got, want)
		}
	}
}

func TestRoleWithPolicyQualifiers(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("r", func(r *api.SetPKIRole) {
		r.KeyType, r.PolicyIdentifiers = new("ec"), &[]string{`[{"oid":"1.3.6.1.4.1.99999.1"`, `"notice":"For machines"}`, `{"oid":"1.3.6.1.4.1.99999.2"`, `"cps":"https://example.com/cps"}]`}
	})
	role, err := e.readRole(bg, call(), &api.PKIRoleName{Name: "r"})
	if err != nil || len(role.PolicyIdentifiers) != 2 {
		t.Fatalf("%v %v", role, err)
	}
	issued, err := e.issue(bg, call(), &api.PKIIssue{Role: "r", PKINames: api.PKINames{CommonName: "a.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	c := parsePEM(t, issued.Certificate)
	if len(c.Policies) != 2 || !hasExtension(c, "https://example.com/cps") || !hasExtension(c, "For machines") {
		t.Errorf("policies %v", c.Policies)
	}
	for text, want := range map[string]string{
		`{"oid":"1.2.3","url":"x"}`:                    "is written",
		`[{"oid":"1.2.3"}`:                             "is written",
		`{"cps":"https://example.com"}`:                "no object identifier",
		`{"oid":"1.2.3","cps":"here"}`:                 "no URL",
		`{"oid":"1.2.3","cps":"https://ä.example"}`:    "no URL",
		`{"oid":"1.2.3","notice":"` + long(201) + `"}`: "more than 200",
	} {
		_, err := e.setRole(bg, call(), &api.SetPKIRole{Name: "r", PolicyIdentifiers: &[]string{text}})
		wantFault(t, err, fault.Invalid, want)
	}
}

func long(n int) string { return string(bytes.Repeat([]byte("x"), n)) }

func hasExtension(c *x509.Certificate, part string) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidPolicies) && bytes.Contains(e.Value, []byte(part)) {
			return true
		}
	}
	return false
}
