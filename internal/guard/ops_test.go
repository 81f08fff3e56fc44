package guard

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func TestPolicies(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const text = `path "transit/keys/a" { capabilities = ["read"] }`
	list := func() []string { return s.must(s.root, op.List, "sys/policies/acl", nil).(*api.Keys).Keys }
	if got := list(); !slices.Equal(got, []string{"default", "root"}) {
		t.Errorf("%q", got)
	}
	s.policy("Team", text)
	s.must(s.root, op.Write, "sys/policy/b64", fill(func(r *api.WritePolicy) { r.Rules = base64.StdEncoding.EncodeToString([]byte(text)) }))
	for _, name := range []string{"team", "TEAM", "b64"} {
		got := s.must(s.root, op.Read, "sys/policies/acl/"+name, nil).(*api.Policy)
		if got.Policy != text || got.Name != strings.ToLower(name) || got.Rules != "" {
			t.Errorf("%+v", got)
		}
		old := s.must(s.root, op.Read, "sys/policy/"+name, nil).(*api.Policy)
		if old.Rules != text || old.Policy != "" {
			t.Errorf("%+v", old)
		}
	}
	if got := s.must(s.root, op.Read, "sys/policies/acl/default", nil).(*api.Policy); got.Policy != defaultPolicyText {
		t.Errorf("%+v", got)
	}
	if got := s.must(s.root, op.Read, "sys/policies/acl/root", nil).(*api.Policy); got.Policy != "" {
		t.Errorf("%+v", got)
	}
	old := s.must(s.root, op.Read, "sys/policy", nil).(*api.Policies)
	if want := []string{"b64", "default", "root", "team"}; !slices.Equal(old.Keys, want) || !slices.Equal(old.Policies, want) || !slices.Equal(list(), want) {
		t.Errorf("%+v", old)
	}
	s.Reset()
	s.must(s.root, op.Delete, "sys/policies/acl/team", nil)
	s.must(s.root, op.Delete, "sys/policies/acl/team", nil)
	s.refused(fault.NotFound, "", s.root, op.Read, "sys/policies/acl/team", nil)
	s.must(s.root, op.Delete, "sys/policy/b64", nil)
}

func TestPoliciesRefuse(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	before := s.mem.count(tablePolicies)
	for _, c := range []struct{ name, text, want string }{
		{"a", `path "x" { capabilities = ["reed"] }`, `failed to parse policy: line 1: path "x": unknown capability "reed"`},
		{"a", `path "x" {`, "failed to parse policy: "},
		{"a", "", "'policy' parameter not supplied or empty"},
		{"root", `# all`, `cannot update "root" policy`},
		{"ROOT", `# all`, `cannot update "root" policy`},
		{"a b", `# all`, "policy name"},
	} {
		s.refused(fault.Invalid, c.want, s.root, op.Write, "sys/policies/acl/"+c.name, fill(func(r *api.WritePolicy) { r.Policy = c.text }))
	}
	s.refused(fault.Invalid, `cannot delete "root" policy`, s.root, op.Delete, "sys/policies/acl/root", nil)
	s.refused(fault.Invalid, `cannot delete "default" policy`, s.root, op.Delete, "sys/policies/acl/default", nil)
	if n := s.mem.count(tablePolicies); n != before {
		t.Errorf("%d policies more", n-before)
	}
}

// A change of a policy counts for tokens at once.
func TestPolicyChangesCount(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	token := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"later"} }).ClientToken
	s.refused(fault.Denied, "", token, op.Read, "transit/keys/a", nil)
	s.policy("later", `path "transit/keys/a" { capabilities = ["read"] }`)
	s.must(token, op.Read, "transit/keys/a", nil)
	s.policy("later", `path "transit/keys/b" { capabilities = ["read"] }`)
	s.refused(fault.Denied, "", token, op.Read, "transit/keys/a", nil)
	s.must(token, op.Read, "transit/keys/b", nil)
	s.must(s.root, op.Delete, "sys/policies/acl/later", nil)
	s.refused(fault.Denied, "", token, op.Read, "transit/keys/b", nil)
}

func TestDefaultPolicyAllows(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"nothing"} })
	s.lookup(a.ClientToken)
	s.must(a.ClientToken, op.Write, "auth/token/renew-self", nil)
	s.must(a.ClientToken, op.Write, "sys/capabilities-self", fill(func(r *api.Capabilities) { r.Paths = []string{"x"} }))
	for _, path := range []string{"auth/token/lookup", "auth/token/create", "auth/token/revoke", "sys/policies/acl/x", "sys/capabilities"} {
		s.refused(fault.Denied, "", a.ClientToken, op.Write, path, nil)
	}
	s.must(a.ClientToken, op.Write, "auth/token/revoke-self", nil)
	bare := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.NoDefaultPolicy = []string{"nothing"}, true })
	s.refused(fault.Denied, "", bare.ClientToken, op.Read, "auth/token/lookup-self", nil)
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("p", `path "a/*" { capabilities = ["update", "create", "sudo"] } path "a/x" { capabilities = ["deny"] }`)
	a := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"p"} })
	paths := fill(func(r *api.Capabilities) {
		r.Paths, r.Token, r.Accessor = []string{"a/b", "/a/x", "none"}, a.ClientToken, a.Accessor
	})
	for path, token := range map[string]string{"capabilities-self": a.ClientToken, "capabilities": s.root, "capabilities-accessor": s.root} {
		got := *s.must(token, op.Write, "sys/"+path, paths).(*api.CapabilityLists)
		want := api.CapabilityLists{"a/b": {"create", "sudo", "update"}, "/a/x": {"deny"}, "none": {"deny"}}
		if !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%s: %v", path, got)
		}
	}
	one := *s.must(s.root, op.Write, "sys/capabilities-self", fill(func(r *api.Capabilities) { r.Path = []string{"any"} })).(*api.CapabilityLists)
	if !slices.Equal(one["any"], []string{"root"}) || !slices.Equal(one["capabilities"], []string{"root"}) {
		t.Errorf("%v", one)
	}
	s.refused(fault.Invalid, "paths: give 1", s.root, op.Write, "sys/capabilities-self", nil)
	s.refused(fault.Invalid, "invalid token", s.root, op.Write, "sys/capabilities", fill(func(r *api.Capabilities) { r.Path = []string{"a"} }))
	once := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.NumUses = []string{"p"}, 1 })
	s.must(once.ClientToken, op.Write, "sys/capabilities-self", fill(func(r *api.Capabilities) { r.Path = []string{"any"} }))
}

func TestMounts(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	list := func(path string) api.Mounts { return *s.must(s.root, op.Read, path, nil).(*api.Mounts) }
	if got := slices.Sorted(maps.Keys(list("sys/mounts"))); !slices.Equal(got, []string{"sys/", "transit/"}) {
		t.Errorf("%q", got)
	}
	if got := list("sys/auth"); len(got) != 1 || got["token/"].Type != "token" {
		t.Errorf("%v", got)
	}
	s.must(s.root, op.Write, "sys/mounts/team/a/", fill(func(r *api.CreateMount) { r.Type, r.Description = kindTransit, "of team a" }))
	m := list("sys/mounts")["team/a/"]
	if m.Type != kindTransit || m.Description != "of team a" || m.UUID == "" || !strings.HasPrefix(m.Accessor, "transit_") ||
		m.Config.MaxLeaseTTL != 0 || m.Config.DefaultLeaseTTL != 0 {
		t.Errorf("%+v", m)
	}
	if got := s.must(s.root, op.Read, "sys/mounts/team/a", nil).(*api.Mount); got.UUID != m.UUID {
		t.Errorf("%+v", got)
	}
	s.Reset()
	s.must(s.root, op.Read, "team/a/keys/k", nil)
	if did := s.done(); !slices.Equal(did, []string{"team/a/k"}) {
		t.Errorf("done %q", did)
	}
	for _, c := range []struct{ path, kind, want string }{
		{"transit", kindTransit, "path is already in use at transit/"},
		{"transit/", kindTransit, "path is already in use at transit/"},
		{"transit/inside", kindTransit, "path is already in use at transit/"},
		{"team", kindTransit, "path is already in use at team/a/"},
		{"team/a", kindTransit, "path is already in use at team/a/"},
		{"other", "kv", "plugin not found in the catalog: kv"},
		{"other", "", "backend type must be specified as a string"},
		{"other", "sys", "plugin not found in the catalog: "},
		{"sys/x", kindTransit, "mounts below sys/ are reserved"},
		{"auth/x", kindTransit, "mounts below auth/ are reserved"},
		{"a/../b", kindTransit, "segments of"},
		{"a/+", kindTransit, "segments of"},
		{"ä", kindTransit, "segments of"},
		{strings.Repeat("a", maxMountPath), kindTransit, "at most 127 bytes"},
	} {
		s.refused(fault.Invalid, c.want, s.root, op.Write, "sys/mounts/"+c.path, fill(func(r *api.CreateMount) { r.Type = c.kind }))
	}
	s.refused(fault.Invalid, "No secret engine mount at none/", s.root, op.Read, "sys/mounts/none", nil)
	if n := s.mem.count(tableMounts); n != 2 {
		t.Errorf("%d mounts", n)
	}
}

func TestHoldingMount(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	token := s.limited(`path "transit/keys/a" { capabilities = ["read"] }`)
	for _, path := range []string{"transit", "transit/keys/x", "transit/"} {
		if got := s.must(token, op.Read, "sys/internal/ui/mounts/"+path, nil).(*api.UIMount); got.Path != "transit/" || got.Type != kindTransit {
			t.Errorf("%+v", got)
		}
	}
	other := s.limited(`path "elsewhere/*" { capabilities = ["read"] }`)
	for _, path := range []string{"transit", "none/x", "elsewhere"} {
		s.refused(fault.Denied, `preflight capability check returned 403, please ensure client's policies grant access to path "`+path+`/"`,
			other, op.Read, "sys/internal/ui/mounts/"+path, nil)
	}
}

// The table is complete: each operation says what it is, and none is open by mistake.
func TestOwnOperations(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	ops := s.Operations()
	for _, o := range ops {
		if o.Help == "" || o.Public != (opensWrapped(o) || o.Name == "sys.mount.holders") || o.Sealed || o.Audit != op.AuditFull {
			t.Errorf("%+v", o.Meta)
		}
	}
	if len(ops) != 72 || len(s.Table()) < len(ops) {
		t.Errorf("%d operations", len(ops))
	}
}

// Nobody gets anywhere without a capability, whatever the operation.
func TestEveryOperationNeedsAPolicy(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	bare := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.NoDefaultPolicy = []string{"nothing"}, true }).ClientToken
	for _, o := range s.Table() {
		if o.Public {
			continue
		}
		path := o.Mount + "/" + strings.NewReplacer("{name}", "n", "{path...}", "p/q").Replace(o.Path)
		s.refused(fault.Denied, "permission denied", bare, o.Verb, path, func(any) { t.Errorf("%s: the body was read", o.Name) })
		s.refused(fault.Denied, "permission denied", "", o.Verb, path, nil)
	}
	if did := s.done(); len(did) != 0 {
		t.Errorf("done %q", did)
	}
}
