package pki

import (
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

func TestAllowsName(t *testing.T) {
	t.Parallel()
	base := func(edit func(*api.PKIRole)) *api.PKIRole {
		r := newRole()
		r.AllowedDomains = []string{"example.com"}
		edit(r)
		return r
	}
	none := base(func(*api.PKIRole) {})
	bare := base(func(r *api.PKIRole) { r.AllowBareDomains = true })
	sub := base(func(r *api.PKIRole) { r.AllowSubdomains = true })
	noWild := base(func(r *api.PKIRole) { r.AllowSubdomains, r.AllowWildcardCertificates = true, false })
	globs := base(func(r *api.PKIRole) { r.AllowGlobDomains, r.AllowedDomains = true, []string{"web-*.example.com"} })
	anyName := base(func(r *api.PKIRole) { r.AllowAnyName = true })
	free := base(func(r *api.PKIRole) { r.AllowAnyName, r.EnforceHostnames = true, false })
	noLocal := base(func(r *api.PKIRole) { r.AllowLocalhost = false })
	for _, tc := range []struct {
		what string
		role *api.PKIRole
		name string
		want bool
	}{
		{"none", none, "example.com", false}, {"none", none, "www.example.com", false}, {"none", none, "localhost", true},
		{"none", none, "localdomain", true}, {"noLocal", noLocal, "localhost", false},
		{"bare", bare, "example.com", true}, {"bare", bare, "EXAMPLE.com", true}, {"bare", bare, "www.example.com", false},
		{"bare", bare, "joe@example.com", true}, {"bare", bare, "joe@www.example.com", false},
		{"sub", sub, "example.com", false}, {"sub", sub, "a.b.example.com", true}, {"sub", sub, "badexample.com", false},
		{"sub", sub, "*.example.com", true}, {"sub", sub, "*.a.example.com", true}, {"sub", sub, "f*.example.com", true},
		{"sub", sub, "*.*.example.com", false}, {"sub", sub, "a.*.example.com", false}, {"sub", sub, "*", false},
		{"sub", sub, "*@example.com", false}, {"sub", sub, "joe@mail.example.com", true}, {"sub", sub, "a@b@www.example.com", false},
		{"sub", sub, "x.localhost", true}, {"sub", sub, "ä.example.com", true}, {"sub", sub, "-a.example.com", false},
		{"sub", sub, "a..example.com", false}, {"sub", sub, ".example.com", false}, {"sub", sub, "", false},
		{"noWild", noWild, "*.example.com", false}, {"noWild", noWild, "www.example.com", true},
		{"globs", globs, "web-7.example.com", true}, {"globs", globs, "db-7.example.com", false}, {"globs", globs, "web-7.example.org", false},
		{"any", anyName, "what.ever.org", true}, {"any", anyName, "Not a host", false}, {"free", free, "Not a host", true},
	} {
		if got := allowsName(tc.role, tc.name); got != tc.want {
			t.Errorf("role %s: %q is allowed: %t", tc.what, tc.name, got)
		}
	}
}

func TestGlob(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern, text string
		want          bool
	}{
		{"*", "", true}, {"*", "x", true}, {"a*", "a", true}, {"a*c", "abc", true}, {"a*c", "ac", true}, {"a*c", "ab", false},
		{"aba*aba", "aba", false}, {"a*b*c", "axxbyyc", true}, {"a*b*c", "acb", false}, {"abc", "abc", true}, {"", "", true}, {"", "x", false},
	} {
		if got := glob(tc.pattern, tc.text); got != tc.want {
			t.Errorf("glob %q of %q is %t", tc.pattern, tc.text, got)
		}
	}
}

// A role that could issue nothing sound is refused whole.
func TestRefusedRoles(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, tc := range []struct {
		r    api.SetPKIRole
		want string
	}{
		{api.SetPKIRole{Name: "a b"}, "no name for a role"},
		{api.SetPKIRole{TTL: new(api.Seconds(7200)), MaxTTL: new(api.Seconds(3600))}, `"ttl" value must be less than "max_ttl" value`},
		{api.SetPKIRole{KeyType: new("dsa")}, "unknown key type dsa"},
		{api.SetPKIRole{KeyBits: new(1024)}, "unsupported bit length for rsa key: 1024"},
		{api.SetPKIRole{KeyType: new("ec"), KeyBits: new(224)}, "unsupported bit length"},
		{api.SetPKIRole{SignatureBits: new(160)}, "signature_bits is 160"},
		{api.SetPKIRole{KeyUsage: &[]string{"Fly"}}, "unknown key usage"},
		{api.SetPKIRole{ExtKeyUsage: &[]string{"Fly"}}, "unknown extended key usage"},
		{api.SetPKIRole{ExtKeyUsageOIDs: &[]string{"1"}}, "no object identifier"},
		{api.SetPKIRole{PolicyIdentifiers: &[]string{"9.9.9"}}, "no object identifier"},
		{api.SetPKIRole{AllowedIPSANsCIDR: &[]string{"10.0.0.1"}}, "no network"},
		{api.SetPKIRole{CNValidations: &[]string{"no"}}, "cn_validations"},
		{api.SetPKIRole{NotAfter: new("tomorrow")}, "no time"},
		{api.SetPKIRole{GenerateLease: new(true)}, "generate_lease is refused"},
		{api.SetPKIRole{LintExceptions: &[]string{"e_nothing"}}, "which is no lint"},
	} {
		if tc.r.Name == "" {
			tc.r.Name = "r"
		}
		_, err := e.setRole(bg, call(), &tc.r)
		wantFault(t, err, fault.Invalid, tc.want)
	}
	if n := e.count(tableRoles); n != 0 {
		t.Errorf("%d roles", n)
	}
}
