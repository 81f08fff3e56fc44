package server

import (
	"testing"

	"github.com/claviger/claviger/internal/config"
)

// TestPatch: PATCH changes what it names and nothing else, needs the capability
// patch and no other, and obeys the rules of parameters.
func TestPatch(t *testing.T) {
	t.Parallel()
	m := &matrix{open: running(t, config.Dev(t.TempDir()), Options{Dev: &Dev{RootTokenID: "root"}})}
	mountEngines(t, m.open)
	m.document = documentOf(t, m.open)
	m.make(t, "pki/root/generate/internal", `{"common_name":"Root","key_type":"ec","issuer_name":"first"}`)
	m.make(t, "pki/issuer/first", `{"issuer_name":"first","leaf_not_after_behavior":"permit"}`)
	m.make(t, "pki/roles/web", `{"allowed_domains":"example.com","max_ttl":"48h"}`)
	m.make(t, "sys/policies/acl/patcher", `{"policy":"path \"pki/roles/web\" { capabilities = [\"patch\"] denied_parameters = { \"allow_any_name\" = [] } }"}`)
	token := m.make(t, "auth/token/create", `{"policies":["patcher"],"no_default_policy":true}`).Auth.ClientToken

	for _, c := range []struct {
		method, path, token, body string
		status                    int
	}{
		{"PATCH", "pki/roles/web", token, `{"allow_subdomains":true}`, 200},
		{"PATCH", "pki/roles/web", token, `{"allow_any_name":true}`, 403},
		{"POST", "pki/roles/web", token, `{"allow_subdomains":true}`, 403},
		{"PATCH", "pki/roles/other", token, `{}`, 403},
		{"PATCH", "pki/roles/other", "root", `{}`, 404},
		{"PATCH", "pki/roles/web", "root", `{"key_type":"dsa"}`, 400},
		{"PATCH", "pki/config/urls", "root", `{}`, 405},
		{"PATCH", "pki/issuer/first", "root", `{"usage":"read-only,issuing-certificates"}`, 200},
		{"PATCH", "pki/issuer/first", "root", `{"issuer_name":"default"}`, 400},
	} {
		if a := m.call(t, m.open, c.method, c.path, c.token, c.body); a.Status != c.status {
			t.Errorf("%s %s %s: status %d %v, want %d", c.method, c.path, c.body, a.Status, a.Errors, c.status)
		}
	}
	role := m.call(t, m.open, "GET", "pki/roles/web", "root", "").Data
	if role["allow_subdomains"] != true || role["allow_any_name"] != false || role["max_ttl"] != 172800.0 || role["key_type"] != "rsa" {
		t.Errorf("role %v", role)
	}
	issuer := m.call(t, m.open, "GET", "pki/issuer/first", "root", "").Data
	if issuer["usage"] != "issuing-certificates,read-only" || issuer["leaf_not_after_behavior"] != "permit" || issuer["issuer_name"] != "first" {
		t.Errorf("issuer %v", issuer)
	}
}
