package pki

import (
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func TestBounds(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	now := e.time().UTC()
	at := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }
	for _, tc := range []struct {
		what string
		role api.SetPKIRole
		ask  api.PKIValidity
		want string // "" if it is issued
	}{
		{"nothing said", api.SetPKIRole{}, api.PKIValidity{NotBefore: at(-72 * time.Hour), NotAfter: at(72 * time.Hour)}, ""},
		{"forbid begin", api.SetPKIRole{NotBeforeBound: new("forbid")}, api.PKIValidity{NotBefore: at(-time.Second)}, "not_before cannot be provided"},
		{"forbid begin, unsaid", api.SetPKIRole{NotBeforeBound: new("forbid")}, api.PKIValidity{}, ""},
		{"begin within", api.SetPKIRole{NotBeforeBound: new("duration"), NotBeforeDuration: new(api.Seconds(3600))}, api.PKIValidity{NotBefore: at(-time.Minute)}, ""},
		{"begin beyond", api.SetPKIRole{NotBeforeBound: new("duration")}, api.PKIValidity{NotBefore: at(-time.Hour)}, "older than the allowed not_before_duration of 30s"},
		{"forbid end", api.SetPKIRole{NotAfterBound: new("forbid")}, api.PKIValidity{NotAfter: at(time.Hour)}, "not_after cannot be provided"},
		{"forbid end, ttl", api.SetPKIRole{NotAfterBound: new("forbid")}, api.PKIValidity{TTL: 60}, ""},
		{"end within", api.SetPKIRole{NotAfterBound: new("ttl-limited"), TTL: new(api.Seconds(3600))}, api.PKIValidity{NotAfter: at(time.Minute)}, ""},
		{"end beyond", api.SetPKIRole{NotAfterBound: new("ttl-limited"), TTL: new(api.Seconds(3600))}, api.PKIValidity{NotAfter: at(2 * time.Hour)}, "beyond the TTL of 1h0m0s"},
		{"ttl is no end", api.SetPKIRole{NotAfterBound: new("ttl-limited"), TTL: new(api.Seconds(3600))}, api.PKIValidity{TTL: 7200}, ""},
		{"latest end", api.SetPKIRole{NotAfterBound: new(at(24 * time.Hour))}, api.PKIValidity{NotAfter: at(25 * time.Hour)}, "not_after_bound is set to 20"},
		{"latest end, ttl", api.SetPKIRole{NotAfterBound: new(at(24 * time.Hour))}, api.PKIValidity{TTL: 100000}, "not_after_bound is set to 20"},
		{"latest end, before", api.SetPKIRole{NotAfterBound: new(at(24 * time.Hour))}, api.PKIValidity{TTL: 3600}, ""},
	} {
		e.makeRole("bound", func(r *api.SetPKIRole) {
			r.NotBeforeBound, r.NotAfterBound, r.NotBeforeDuration, r.TTL = tc.role.NotBeforeBound, tc.role.NotAfterBound, tc.role.NotBeforeDuration, tc.role.TTL
		})
		csr, _ := newCSR(t, nil)
		_, err := e.signRole(bg, call(), &api.PKISign{Role: "bound", CSR: csr, PKIValidity: tc.ask})
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.what, err)
			}
			continue
		}
		t.Run(tc.what, func(t *testing.T) { wantFault(t, err, fault.Invalid, tc.want) })
	}
	begin := "2026-01-01T00:00:00Z"
	e.makeRole("fixed", func(r *api.SetPKIRole) { r.NotBefore = &begin })
	if got := e.signed("fixed"); got.NotBefore.Format(time.RFC3339) != begin {
		t.Errorf("it begins at %v", got.NotBefore)
	}
	for want, r := range map[string]api.SetPKIRole{
		"permit, forbid or duration": {NotBeforeBound: new("never")}, "permit, forbid, ttl-limited, or a time": {NotAfterBound: new("never")},
		"not_before \"soon\" is no time": {NotBefore: new("soon")},
	} {
		r.Name = "bad"
		_, err := e.setRole(bg, call(), &r)
		wantFault(t, err, fault.Invalid, want)
	}
	if _, err := e.readRole(bg, call(), &api.PKIRoleName{Name: "bad"}); fault.KindOf(err) != fault.NotFound {
		t.Error("a refused role was made")
	}
}

func TestCallerRules(t *testing.T) {
	t.Parallel()
	role := newRole()
	role.AllowedDomains, role.AllowedURISANs = []string{"example.com", "{{identity.entity.name}}.example.org", "{{identity.entity.name}}"}, []string{"spiffe://{{identity.entity.id}}/*", "spiffe://example.com/*"}
	role.AllowedDomainsTemplate, role.AllowedURISANsTemplate, role.AllowSubdomains, role.AllowBareDomains, role.AllowGlobDomains = true, true, true, true, true
	must(t, checkRole(role))
	own := *role
	own.AllowTokenDisplayName = true
	bare := own
	bare.AllowSubdomains = false
	for _, tc := range []struct {
		role         *api.PKIRole
		caller, name string
		want         bool
	}{
		{role, "token-web", "www.example.com", true}, {role, "token-web", "token-web", false},
		{role, "token-web", "x.example.org", false}, {role, "token-web", "{{identity.entity.name}}.example.org", false},
		{&own, "token-web", "token-web", true}, {&own, "token-web", "a.token-web", true}, {&own, "token-web", "*.token-web", true},
		{&own, "token-web", "token-webx", false}, {&own, "token-web", "joe@token-web", false}, {&own, "", "", false},
		{&bare, "token-web", "token-web", true}, {&bare, "token-web", "a.token-web", false},
		{&own, "joe@mail.example.org", "joe@mail.example.org", true}, {&own, "joe@mail.example.org", "mail.example.org", false},
		{&own, "joe@mail.example.org", "eve@mail.example.org", false},
	} {
		if got := rulesFor(tc.role, tc.caller).allows(tc.name); got != tc.want {
			t.Errorf("%q for %q: %t", tc.name, tc.caller, got)
		}
	}
	for uri, ok := range map[string]bool{"spiffe://example.com/x": true, "spiffe:///x": false, "spiffe://{{identity.entity.id}}/x": false} {
		if err := checkSANs(rulesFor(role, ""), &sans{uris: []string{uri}}); (err == nil) != ok {
			t.Errorf("%s: %v", uri, err)
		}
	}
	for _, tc := range []struct{ domain, want string }{
		{"{{nobody}}.example.com", "no template"}, {"{{identity.entity.name", "no template"}, {"{{identity.entity}}", "no template"},
		{"{{identity.groups.names.x}}", "no template"},
	} {
		bad := *role
		bad.AllowedDomains = []string{tc.domain}
		wantFault(t, checkRole(&bad), fault.Invalid, tc.want)
		bad.AllowedDomainsTemplate = false
		wantFault(t, checkRole(&bad), fault.Invalid, "set allowed_domains_template")
	}
}

// The display name is that of the token that calls.
func TestDisplayName(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("own", func(r *api.SetPKIRole) { r.AllowTokenDisplayName, r.KeyType = new(true), new("ec") })
	as := func(name string) *op.Call {
		c := call()
		c.Caller.DisplayName = name
		return c
	}
	ask := &api.PKIIssue{Role: "own"}
	ask.CommonName = "token-web"
	_, err := e.issue(bg, as("token-db"), ask)
	wantFault(t, err, fault.Invalid, "token-web not allowed")
	_, err = e.issue(bg, as("token-web"), ask)
	must(t, err)
}
