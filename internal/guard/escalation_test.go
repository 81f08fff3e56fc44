package guard

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// A child never gets what its parent lacks: whatever a caller without sudo asks
// for, on whatever path, the token has no policy beyond the caller's and no choice
// that needs sudo, and ends with the caller unless a policy lets it make orphans.
func TestNoEscalation(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("maker", `path "auth/token/create" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }
		path "auth/token/create-orphan" { capabilities = ["update"] }
		path "auth/token/create/own" { capabilities = ["update"] }`)
	s.policy("high", `path "*" { capabilities = ["update", "sudo"] }`)
	yes := true
	s.role("own", func(*api.TokenRole) {})
	s.role("theirs", func(r *api.TokenRole) { r.AllowedPolicies, r.Orphan = []string{"high"}, &yes })
	parent := s.token(s.root, func(r *api.CreateToken) {
		r.Policies, r.TTL, r.NoDefaultPolicy = []string{"maker", "x"}, hours(1), true
	})
	type create = func(*api.CreateToken)
	policies := func(names ...string) create { return func(r *api.CreateToken) { r.Policies = names } }
	wishes := map[string]create{
		"nothing": func(*api.CreateToken) {}, "own": policies("maker", "x"), "less": policies("x"), "more": policies("high"), "some more": policies("maker", "high"),
		"default": policies("default"), "default in capitals": policies("DEFAULT", "x"), "root": policies("root"), "root in capitals": policies(" ROOT "),
		"unknown": policies("nowhere"), "spaces": policies("x,high"), "glob": policies("*"),
		"orphan": func(r *api.CreateToken) { r.NoParent = true }, "period": func(r *api.CreateToken) { r.Period = 5 },
		"id": func(r *api.CreateToken) { r.ID = "chosen" }, "long": func(r *api.CreateToken) { r.TTL = hours(700) },
		"old long": func(r *api.CreateToken) { r.Lease = hours(700) }, "forever": func(r *api.CreateToken) { r.TTL, r.ExplicitMaxTTL = 1<<40, 1<<40 },
		"entity": func(r *api.CreateToken) { r.EntityAlias = "admin" },
	}
	var children []madeToken
	for _, typ := range []string{"", typeService, typeBatch, typeDefaultBatch} {
		for _, path := range []string{"create", "create-orphan", "create/own", "create/theirs", "create/"} {
			for name, wish := range wishes {
				name = fmt.Sprint(path, " ", typ, " ", name)
				a, err := s.call(parent.ClientToken, op.Write, "auth/token/"+path, fill(func(r *api.CreateToken) {
					r.Type = typ
					wish(r)
				}))
				if err != nil {
					if k := fault.KindOf(err); k != fault.Denied && k != fault.Invalid {
						t.Errorf("%s: %v", name, err)
					}
					continue
				}
				children = append(children, madeToken{name, a.Data.(*api.Auth)})
			}
		}
	}
	kinds := map[string]int{}
	for _, c := range children {
		kinds[c.auth.TokenType]++
		for _, p := range c.auth.Policies {
			if !slices.Contains(parent.Policies, p) {
				t.Errorf("%s: has the policy %q", c.name, p)
			}
		}
		info := s.lookupBy(c.auth.ClientToken)
		if info.Orphan != c.orphan() || info.Period != 0 || info.ID == "chosen" || strings.Contains(c.name, "theirs") {
			t.Errorf("%s: %+v", c.name, info)
		}
		for _, path := range []string{"transit/keys/a/rotate", "transit/wipe/a", "auth/token/create/theirs", "sys/policies/acl/maker"} {
			s.refused(fault.Denied, "permission denied", c.auth.ClientToken, op.Write, path, nil)
		}
	}
	if kinds[typeService] < 10 || kinds[typeBatch] < 5 {
		t.Errorf("only %v were made: the test tests little", kinds)
	}
	s.pass(time.Hour)
	for _, c := range children {
		if !c.orphan() {
			s.refused(fault.Denied, "permission denied", c.auth.ClientToken, op.Write, "auth/token/create", nil)
		}
	}
}

// madeToken is a token and how it was made.
type madeToken struct {
	name string // begins with the path
	auth *api.Auth
}

// orphan: it was made on the path for tokens that do not end with their maker.
func (m madeToken) orphan() bool { return strings.HasPrefix(m.name, "create-orphan") }

// lookupBy describes a token with the root token.
func (s *server) lookupBy(text string) *api.TokenInfo {
	s.t.Helper()
	return s.must(s.root, op.Write, "auth/token/lookup", fill(func(r *api.TokenID) { r.Token = text })).(*api.TokenInfo)
}

// Sudo on the path lifts the limits of a caller, but never to root.
func TestSudoEscalatesToAllButRoot(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("strong", `path "auth/token/create" { capabilities = ["update", "sudo"] } path "auth/token/create/r" { capabilities = ["update", "sudo"] }`)
	strong := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"strong"} }).ClientToken
	a := s.token(strong, func(r *api.CreateToken) {
		r.Policies, r.NoParent, r.Period, r.ID = []string{"high"}, true, 60, "chosen"
	})
	if info := s.lookupBy("chosen"); !a.Orphan || info.Period != 60 || !slices.Contains(info.Policies, "high") {
		t.Errorf("%+v", info)
	}
	s.role("r", func(r *api.TokenRole) { r.AllowedPolicies, r.AllowedPoliciesGlob = []string{"root"}, []string{"*"} })
	for _, path := range []string{"create", "create/r"} {
		for _, typ := range []string{"", "batch"} {
			s.refused(fault.Invalid, "root tokens may not be created", strong, op.Write, "auth/token/"+path,
				fill(func(r *api.CreateToken) { r.Policies, r.Type = []string{"root"}, typ }))
		}
	}
}

func TestTokenFields(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("there", `path "x" { capabilities = ["read"] }`)
	s.role("r", func(*api.TokenRole) {})
	alias := fill(func(r *api.CreateToken) { r.EntityAlias = "a" })
	s.refused(fault.Invalid, "'entity_alias' is only allowed in combination with token role", s.root, op.Write, "auth/token/create", alias)
	s.refused(fault.Invalid, "invalid 'entity_alias' value", s.root, op.Write, "auth/token/create/r", alias)
	s.refused(fault.Invalid, "lease: 0 to", s.root, op.Write, "auth/token/create", fill(func(r *api.CreateToken) { r.Lease = -1 }))
	a, err := s.call(s.root, op.Write, "auth/token/create", fill(func(r *api.CreateToken) {
		r.Policies, r.Lease = []string{"there", "gone"}, 90
	}))
	if err != nil {
		t.Fatal(err)
	}
	made := a.Data.(*api.Auth)
	if made.LeaseDuration != 90 || !slices.Equal(a.Warnings, []string{`Policy "gone" does not exist`}) {
		t.Errorf("%+v %q", made, a.Warnings)
	}
	if both := s.token(s.root, func(r *api.CreateToken) { r.TTL, r.Lease = 60, 90 }); both.LeaseDuration != 60 {
		t.Errorf("%+v", both)
	}
	if info := s.lookup(made.ClientToken); info.LastRenewal != nil || info.LastRenewedAt != 0 {
		t.Errorf("%+v", info)
	}
	s.pass(10 * time.Second)
	renewed := s.must(s.root, op.Write, "auth/token/renew-accessor", fill(func(r *api.RenewAccessor) { r.Accessor, r.Increment = made.Accessor, 200 })).(*api.Auth)
	if renewed.LeaseDuration != 200 || renewed.ClientToken != "" || renewed.Accessor != made.Accessor {
		t.Errorf("%+v", renewed)
	}
	if info := s.lookup(made.ClientToken); info.LastRenewedAt != s.time().Unix() || !info.LastRenewal.Equal(s.time()) || info.TTL != 200 {
		t.Errorf("%+v", info)
	}
	s.refused(fault.Invalid, "invalid accessor", s.root, op.Write, "auth/token/renew-accessor", fill(func(r *api.RenewAccessor) { r.Accessor = "x" }))
	s.refused(fault.Invalid, "missing accessor", s.root, op.Write, "auth/token/renew-accessor", nil)
}
