package guard

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func (s *server) role(name string, f func(*api.TokenRole)) {
	s.t.Helper()
	s.must(s.root, op.Write, "auth/token/roles/"+name, fill(f))
}

func (s *server) readRole(name string) *api.TokenRoleInfo {
	s.t.Helper()
	return s.must(s.root, op.Read, "auth/token/roles/"+name, nil).(*api.TokenRoleInfo)
}

func (s *server) byRole(token, role string, f func(*api.CreateToken)) *api.Auth {
	s.t.Helper()
	return s.must(token, op.Write, "auth/token/create/"+role, fill(f)).(*api.Auth)
}

func asIs(*api.CreateToken) {}

func TestRoles(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if names := s.must(s.root, op.List, "auth/token/roles", nil).(*api.Keys); !names.IsEmpty() {
		t.Errorf("%v", names)
	}
	s.refused(fault.NotFound, "", s.root, op.Read, "auth/token/roles/r", nil)
	s.role("r", func(*api.TokenRole) {})
	none := []string{}
	want := api.TokenRoleInfo{Name: "r", AllowedPolicies: none, AllowedPoliciesGlob: none, DisallowedPolicies: none,
		DisallowedPoliciesGlob: none, Renewable: true, TokenType: "default-service"}
	if got := s.readRole("r"); !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v\nwant %+v", *got, want)
	}
	yes, no, uses, suffix, typ := true, false, 5, "a-b.c", "service"
	period, limit := api.Seconds(60), api.Seconds(3600)
	s.role("r", func(r *api.TokenRole) {
		r.AllowedPolicies, r.AllowedPoliciesGlob = []string{"B", "a", "a"}, []string{"x-*"}
		r.DisallowedPolicies, r.DisallowedPoliciesGlob = []string{"d"}, []string{"*-y"}
		r.Orphan, r.Renewable, r.TokenNoDefaultPolicy = &yes, &no, &yes
		r.PathSuffix, r.TokenType, r.TokenNumUses = &suffix, &typ, &uses
		r.Period, r.TokenExplicitMaxTTL = &period, &limit
	})
	want = api.TokenRoleInfo{Name: "r", AllowedPolicies: []string{"a", "b"}, AllowedPoliciesGlob: []string{"x-*"},
		DisallowedPolicies: []string{"d"}, DisallowedPoliciesGlob: []string{"*-y"}, Orphan: true, PathSuffix: suffix,
		TokenType: typ, TokenNumUses: 5, TokenNoDefaultPolicy: true,
		Period: 60, TokenPeriod: 60, TokenExplicitMaxTTL: 3600}
	if got := s.readRole("r"); !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v\nwant %+v", *got, want)
	}
	// Absent fields stay, empty ones are taken; the new name of period hides the old.
	s.Reset()
	period = 30
	s.role("r", func(r *api.TokenRole) { r.AllowedPolicies, r.TokenPeriod = []string{}, &period })
	want.AllowedPolicies, want.Period, want.TokenPeriod = none, 0, 30
	if got := s.readRole("r"); !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v\nwant %+v", *got, want)
	}
	s.role("other@x", func(*api.TokenRole) {})
	if names := s.must(s.root, op.List, "auth/token/roles", nil).(*api.Keys); !slices.Equal(names.Keys, []string{"other@x", "r"}) {
		t.Errorf("%v", names)
	}
	for range 2 {
		s.must(s.root, op.Delete, "auth/token/roles/r", nil)
	}
	s.refused(fault.NotFound, "", s.root, op.Read, "auth/token/roles/r", nil)
}

func TestRolesRefuse(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	text := func(v string) *string { return &v }
	seconds := func(v api.Seconds) *api.Seconds { return &v }
	minus := -1
	for _, c := range []struct {
		want string
		fill func(*api.TokenRole)
	}{
		{"token_bound_cidrs is not supported", func(r *api.TokenRole) { r.TokenBoundCIDRs = []string{"127.0.0.1/32"} }},
		{"token_bound_cidrs is not supported", func(r *api.TokenRole) { r.BoundCIDRs = []string{"127.0.0.1/32"} }},
		{"allowed_entity_aliases", func(r *api.TokenRole) { r.AllowedEntityAliases = []string{"x"} }},
		{"policy name", func(r *api.TokenRole) { r.AllowedPolicies = []string{"a*"} }},
		{"policy name", func(r *api.TokenRole) { r.DisallowedPoliciesGlob = []string{"a b*"} }},
		{"at most 256 policies", func(r *api.TokenRole) { r.AllowedPolicies = make([]string, 257) }},
		{"period: 0 to", func(r *api.TokenRole) { r.TokenPeriod = seconds(-1) }},
		{"explicit_max_ttl: 0 to", func(r *api.TokenRole) { r.ExplicitMaxTTL = seconds(1 << 60) }},
		{"'token_num_uses' cannot be negative", func(r *api.TokenRole) { r.TokenNumUses = &minus }},
		{"path suffix contains invalid characters", func(r *api.TokenRole) { r.PathSuffix = text("a/b") }},
		{"path suffix contains invalid characters", func(r *api.TokenRole) { r.PathSuffix = text("-ab") }},
		{"parent references", func(r *api.TokenRole) { r.PathSuffix = text("a..b") }},
		{`when role is set to generate non-orphan tokens`, func(r *api.TokenRole) { r.TokenType = text("batch") }},
		{"invalid 'token_type' value", func(r *api.TokenRole) { r.TokenType = text("x") }},
	} {
		s.refused(fault.Invalid, c.want, s.root, op.Write, "auth/token/roles/r", fill(c.fill))
	}
	for _, name := range []string{"-a", "a b", "ä", strings.Repeat("a", 129)} {
		s.refused(fault.Invalid, "role name", s.root, op.Write, "auth/token/roles/"+name, nil)
	}
	if n := s.mem.count(tableRoles); n != 0 {
		t.Errorf("%d roles", n)
	}
	s.refused(fault.Invalid, "unknown role none", s.root, op.Write, "auth/token/create/none", nil)
}

// Making a role needs create, changing one update.
func TestRoleCapabilities(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("c", `path "auth/token/roles/*" { capabilities = ["create"] }`)
	s.policy("u", `path "auth/token/roles/*" { capabilities = ["update"] }`)
	creator := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"c"} }).ClientToken
	updater := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"u"} }).ClientToken
	s.refused(fault.Denied, "", updater, op.Write, "auth/token/roles/r", nil)
	s.must(creator, op.Write, "auth/token/roles/r", nil)
	s.refused(fault.Denied, "", creator, op.Write, "auth/token/roles/r", nil)
	s.must(updater, op.Write, "auth/token/roles/r", nil)
}

// TestRolePolicies: which policies a token of a role gets, by what the role
// allows and what is asked for.
func TestRolePolicies(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("maker", `path "auth/token/create/*" { capabilities = ["update"] }`)
	maker := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"maker", "x"} }).ClientToken
	type role = api.TokenRole
	yes := true
	for i, c := range []struct {
		role  role
		asked string
		bare  bool // no_default_policy in the call
		want  string
	}{
		// A role that rules no policies leaves the maker's as the limit.
		{role{}, "", false, "default maker x"},
		{role{}, "x", false, "default x"},
		{role{}, "strong", false, "! child policies must be subset of parent"},
		{role{}, "root", false, "! root tokens may not be created"},
		{role{TokenNoDefaultPolicy: &yes}, "", false, "maker x"},
		{role{TokenNoDefaultPolicy: &yes}, "x", false, "x"},
		// What it allows, disjoint from the maker's.
		{role{AllowedPolicies: []string{"a", "b"}}, "", false, "a b default"},
		{role{AllowedPolicies: []string{"a", "b"}}, "", true, "a b"},
		{role{AllowedPolicies: []string{"a", "b"}, TokenNoDefaultPolicy: &yes}, "", false, "a b"},
		{role{AllowedPolicies: []string{"a", "b"}}, "a", false, "a default"},
		{role{AllowedPolicies: []string{"a", "b"}}, "A", true, "a"},
		{role{AllowedPolicies: []string{"a", "b"}}, "a,x", false, `! token policies (["a" "default" "x"]) must be subset of the role's allowed policies (["a" "b" "default"])`},
		{role{AllowedPolicies: []string{"a"}}, "default", true, "! must be subset"},
		{role{AllowedPolicies: []string{"root"}}, "", false, "! root tokens may not be created"},
		{role{AllowedPolicies: []string{"root"}}, "root", false, "! root tokens may not be created"},
		{role{AllowedPoliciesGlob: []string{"*"}}, "root", false, "! root tokens may not be created"},
		{role{AllowedPoliciesGlob: []string{"team-*"}}, "team-1,team-2", false, "default team-1 team-2"},
		{role{AllowedPoliciesGlob: []string{"team-*"}}, "", false, "default"},
		{role{AllowedPoliciesGlob: []string{"team-*"}}, "other", false, "! must be subset"},
		{role{AllowedPolicies: []string{"a"}, AllowedPoliciesGlob: []string{"team-*"}}, "a,team-1", false, "a default team-1"},
		// What it forbids.
		{role{DisallowedPolicies: []string{"x"}}, "", false, `! token policy "x" is disallowed by this role`},
		{role{DisallowedPolicies: []string{"d"}}, "", false, "default maker x"},
		{role{DisallowedPolicies: []string{"d"}}, "y", false, "default y"},
		{role{DisallowedPolicies: []string{"d"}}, "d", false, `! token policy "d" is disallowed by this role`},
		{role{DisallowedPoliciesGlob: []string{"ro*"}}, "root", false, "! is disallowed by this role"},
		{role{DisallowedPoliciesGlob: []string{"d*t"}}, "y", false, "y"},
		{role{DisallowedPolicies: []string{"default"}}, "", false, `! token policy "default" is disallowed by this role`},
		{role{DisallowedPolicies: []string{"default"}}, "y", false, "y"},
		{role{AllowedPolicies: []string{"a", "b"}, DisallowedPolicies: []string{"b"}}, "", false, `! token policy "b" is disallowed`},
		{role{AllowedPolicies: []string{"a", "b"}, DisallowedPolicies: []string{"b"}}, "a", false, "a default"},
	} {
		name := fmt.Sprintf("r%d", i)
		s.role(name, func(r *api.TokenRole) { *r = c.role })
		create := fill(func(r *api.CreateToken) {
			r.NoDefaultPolicy = c.bare
			if c.asked != "" {
				r.Policies = strings.Split(c.asked, ",")
			}
		})
		if text, refused := strings.CutPrefix(c.want, "! "); refused {
			s.refused(fault.Invalid, text, maker, op.Write, "auth/token/create/"+name, create)
			continue
		}
		a := s.must(maker, op.Write, "auth/token/create/"+name, create).(*api.Auth)
		if got := strings.Join(a.Policies, " "); got != c.want {
			t.Errorf("%d: %q, want %q", i, got, c.want)
		}
	}
	s.role("root", func(r *api.TokenRole) { r.AllowedPolicies = []string{"root", "a"} })
	if a := s.byRole(s.root, "root", asIs); !slices.Equal(a.Policies, []string{"root"}) {
		t.Errorf("%q", a.Policies)
	}
	limited := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.NumUses = []string{"maker"}, 9 }).ClientToken
	s.refused(fault.Invalid, "restricted use token", limited, op.Write, "auth/token/create/r0", nil)
}

func TestRoleTokens(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("maker", `path "auth/token/create/*" { capabilities = ["update"] }`)
	maker := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"maker"} })
	yes, no, uses, suffix := true, false, 3, "deploy"
	limit := hours(2)
	s.role("r", func(r *api.TokenRole) {
		r.AllowedPolicies, r.Orphan, r.Renewable, r.TokenNumUses = []string{"a"}, &yes, &no, &uses
		r.PathSuffix, r.TokenExplicitMaxTTL = &suffix, &limit
	})
	a := s.byRole(maker.ClientToken, "r", asIs)
	if !a.Orphan || a.Renewable || a.NumUses != 3 || a.LeaseDuration != hours(2) || a.TokenType != "service" {
		t.Errorf("%+v", a)
	}
	info := s.lookup(a.ClientToken)
	if info.Role != "r" || info.Path != "auth/token/create/r/deploy" || info.ExplicitMaxTTL != hours(2) || info.NumUses != 2 {
		t.Errorf("%+v", info)
	}
	if info := s.lookup(maker.ClientToken); info.Role != "" {
		t.Errorf("%+v", info)
	}
	// The lesser of two limits counts, and a warning says so.
	answer, err := s.call(maker.ClientToken, op.Write, "auth/token/create/r", fill(func(r *api.CreateToken) { r.ExplicitMaxTTL, r.NumUses = hours(1), 9 }))
	if err != nil {
		t.Fatal(err)
	}
	lesser := answer.Data.(*api.Auth)
	if lesser.LeaseDuration != hours(1) || lesser.NumUses != 3 || len(answer.Warnings) == 0 ||
		answer.Warnings[0] != "Explicit max TTL specified both during creation call and in role; using the lesser value of 3600 seconds" {
		t.Errorf("%+v %q", lesser, answer.Warnings)
	}
	if few := s.byRole(maker.ClientToken, "r", func(r *api.CreateToken) { r.NumUses = 1 }); few.NumUses != 1 {
		t.Errorf("%+v", few)
	}
	// A role gives no rights that a call needs sudo for, but those it names itself.
	s.refused(fault.Invalid, "specify token id", maker.ClientToken, op.Write, "auth/token/create/r", fill(func(r *api.CreateToken) { r.ID = "chosen" }))
	s.refused(fault.Invalid, "periodic token", maker.ClientToken, op.Write, "auth/token/create/r", fill(func(r *api.CreateToken) { r.Period = 60 }))
	s.refused(fault.Invalid, `batch tokens cannot have "explicit_max_ttl" set`, maker.ClientToken, op.Write, "auth/token/create/r", fill(func(r *api.CreateToken) { r.Type = "batch" }))
	// Orphans of a role outlive their maker, others do not.
	s.role("child", func(r *api.TokenRole) { r.AllowedPolicies = []string{"a"} })
	child := s.byRole(maker.ClientToken, "child", func(r *api.CreateToken) { r.NoParent = true })
	if child.Orphan {
		t.Error("a role that makes no orphans made one")
	}
	s.must(maker.ClientToken, op.Write, "auth/token/revoke-self", nil)
	s.lookup(a.ClientToken)
	s.refused(fault.Denied, "", child.ClientToken, op.Read, "auth/token/lookup-self", nil)
}

func TestRoleRenewal(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	period := api.Seconds(100)
	s.role("r", func(r *api.TokenRole) { r.AllowedPolicies, r.TokenPeriod = []string{"a"}, &period })
	a := s.byRole(s.root, "r", asIs)
	if a.LeaseDuration != 100 {
		t.Errorf("%+v", a)
	}
	renew := func() *api.Auth {
		t.Helper()
		return s.must(a.ClientToken, op.Write, "auth/token/renew-self", nil).(*api.Auth)
	}
	s.pass(90 * time.Second)
	if got := renew(); got.LeaseDuration != 100 {
		t.Errorf("%+v", got)
	}
	period = 50 // the role's period of the day of the renewal counts
	s.role("r", func(r *api.TokenRole) { r.TokenPeriod = &period })
	if got := renew(); got.LeaseDuration != 50 {
		t.Errorf("%+v", got)
	}
	s.must(s.root, op.Delete, "auth/token/roles/r", nil)
	s.refused(fault.Invalid, `original token role "r" could not be found, not renewing`, a.ClientToken, op.Write, "auth/token/renew-self", nil)
	s.lookup(a.ClientToken) // it lives to its end
}

func TestRevokeOrphan(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("p", `path "auth/token/create" { capabilities = ["update"] }`)
	policies := func(r *api.CreateToken) { r.Policies = []string{"p"} }
	revoke := func(text string) func(any) { return fill(func(r *api.TokenID) { r.Token = text }) }
	for _, cached := range []bool{true, false} {
		top := s.token(s.root, policies).ClientToken
		child := s.token(top, policies).ClientToken
		grandchild := s.token(child, policies).ClientToken
		s.lookup(grandchild)
		if !cached {
			s.Reset()
		}
		applied := s.mem.applied
		s.must(s.root, op.Write, "auth/token/revoke-orphan", revoke(top))
		if n := s.mem.applied - applied; n != 1 {
			t.Errorf("%d transactions", n)
		}
		for range 2 {
			s.refused(fault.Denied, "", top, op.Read, "auth/token/lookup-self", nil)
			if info := s.lookup(child); !info.Orphan {
				t.Errorf("%+v", info)
			}
			if info := s.lookup(grandchild); info.Orphan {
				t.Errorf("%+v", info)
			}
			s.Reset() // and again from the store
		}
		s.must(s.root, op.Write, "auth/token/revoke", revoke(child))
		s.refused(fault.Denied, "", grandchild, op.Read, "auth/token/lookup-self", nil)
		if tokens, links := s.mem.count(tableTokens), s.mem.count(tableChildren); tokens != 1 || links != 0 {
			t.Errorf("%d tokens and %d links are left", tokens, links)
		}
	}
	s.refused(fault.Invalid, "missing token ID", s.root, op.Write, "auth/token/revoke-orphan", nil)
	s.refused(fault.Invalid, "token to revoke not found", s.root, op.Write, "auth/token/revoke-orphan", revoke("s.none"))
	plain := s.limited(`path "auth/token/*" { capabilities = ["update", "list"] }`)
	s.refused(fault.Denied, "", plain, op.Write, "auth/token/revoke-orphan", revoke(plain)) // needs sudo
}

func TestRevokeOrphanOfMany(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	top := s.token(s.root, func(*api.CreateToken) {}).ClientToken
	var some string
	for range revokeBatch + 10 {
		some = s.token(top, func(*api.CreateToken) {}).ClientToken
	}
	s.must(s.root, op.Write, "auth/token/revoke-orphan", fill(func(r *api.TokenID) { r.Token = top }))
	if tokens, links := s.mem.count(tableTokens), s.mem.count(tableChildren); tokens != revokeBatch+11 || links != 0 {
		t.Errorf("%d tokens and %d links are left", tokens, links)
	}
	s.lookup(some)
}

func TestAccessors(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	want := map[string]bool{s.lookup(s.root).Accessor: true}
	for i := range tidyPage + 2 {
		a := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.TTL = []string{"p"}, api.Seconds(10+i%2*100) })
		want[a.Accessor] = i%2 == 1
	}
	list := func() []string { return s.must(s.root, op.List, "auth/token/accessors", nil).(*api.Keys).Keys }
	if got := list(); len(got) != tidyPage+3 {
		t.Errorf("%d accessors", len(got))
	}
	s.pass(11 * time.Second)
	maps.DeleteFunc(want, func(_ string, alive bool) bool { return !alive })
	if got := list(); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("%d accessors of %d", len(got), len(want))
	}
	plain := s.limited(`path "auth/token/accessors/" { capabilities = ["list"] }`)
	s.refused(fault.Denied, "", plain, op.List, "auth/token/accessors", nil) // needs sudo
	strong := s.limited(`path "auth/token/accessors/" { capabilities = ["list", "sudo"] }`)
	s.must(strong, op.List, "auth/token/accessors", nil)
}

func TestTidyOperation(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.token(s.root, func(r *api.CreateToken) { r.Policies, r.TTL = []string{"p"}, 10 })
	s.pass(11 * time.Second)
	a, err := s.call(s.root, op.Write, "auth/token/tidy", nil)
	if err != nil || a.Data.(*api.Started).HTTPStatus() != 202 || len(a.Warnings) != 1 ||
		!strings.HasPrefix(a.Warnings[0], "Tidy operation successfully started.") {
		t.Fatalf("%+v, %v", a, err)
	}
	for deadline := time.Now().Add(10 * time.Second); s.tidying.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("tidying does not end")
		}
	}
	if n := s.mem.count(tableTokens); n != 1 {
		t.Errorf("%d tokens are left", n)
	}
	s.tidying.Store(true)
	if a, err := s.call(s.root, op.Write, "auth/token/tidy", nil); err != nil || a.Warnings[0] != "Tidy operation already in progress." {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestGlob(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"*", "", true}, {"*", "x", true}, {"a*", "a", true}, {"a*", "ba", false},
		{"*a", "ba", true}, {"*a", "ab", false}, {"a*c", "abc", true}, {"a*c", "ac", true}, {"a*a", "a", false},
		{"a*b*c", "a-b-c", true}, {"a*b*c", "a-c", false}, {"*b*", "abc", true}, {"*b*", "ac", false}, {"a**c", "ac", true},
		{"*bc", "bcbc", true}, {"a*bc*d", "abcbd", true}, {"", "", true}, {"", "a", false},
	} {
		if got := globMatches(c.pattern, c.name); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.name, got)
		}
	}
}

// The check of capabilities may have seen a role that is gone since, or none
// where there is one now.
func TestRoleChangedAfterTheCheck(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	q := &api.TokenRole{Name: "r"}
	if _, err := s.writeRole(t.Context(), &op.Call{MayUpdate: true}, q); fault.KindOf(err) != fault.Denied {
		t.Errorf("made without the capability: %v", err)
	}
	if _, err := s.writeRole(t.Context(), &op.Call{MayCreate: true}, q); err != nil {
		t.Error(err)
	}
	if _, err := s.writeRole(t.Context(), &op.Call{MayCreate: true}, q); fault.KindOf(err) != fault.Denied {
		t.Errorf("changed without the capability: %v", err)
	}
}

// A token that becomes an orphan is served all the time.
func TestRevokeOrphanWhileUsed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("p", `path "auth/token/create" { capabilities = ["update"] }`)
	for range 50 {
		top := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"p"} }).ClientToken
		child := s.token(top, func(*api.CreateToken) {}).ClientToken
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if _, err := s.call(child, op.Read, "auth/token/lookup-self", nil); err != nil {
					t.Error(err)
				}
			})
		}
		s.must(s.root, op.Write, "auth/token/revoke-orphan", fill(func(r *api.TokenID) { r.Token = top }))
		wg.Wait()
	}
}
