package guard

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func (s *server) lease(text string) string {
	s.t.Helper()
	l, err := s.current(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	e, err := l.tokens.find(s.t.Context(), text)
	if err != nil {
		s.t.Fatal(err)
	}
	return leaseOf(e.id, &e.state.Load().tokenRecord)
}

func (s *server) listed(path string) []string {
	s.t.Helper()
	return s.must(s.root, op.List, path, nil).(*api.Keys).Keys
}

func named(id string) func(any) { return fill(func(r *api.LookupLease) { r.LeaseID = id }) }

func TestLeases(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if got := s.listed("sys/leases/lookup"); len(got) != 0 {
		t.Errorf("%q", got)
	}
	s.role("r", func(r *api.TokenRole) { suffix := "abc"; r.PathSuffix = &suffix })
	a := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.TTL = []string{"p"}, hours(1) })
	b := s.byRole(s.root, "r", func(r *api.CreateToken) { r.Policies, r.TTL = []string{"p"}, hours(2) })
	s.batch(s.root, func(*api.CreateToken) {}) // has no lease
	s.token(s.root, func(*api.CreateToken) {}) // has no end, and no lease
	leaseA, leaseB := s.lease(a.ClientToken), s.lease(b.ClientToken)
	if !strings.HasPrefix(leaseA, "auth/token/create/h") || !strings.HasPrefix(leaseB, "auth/token/create/r/abc/h") {
		t.Fatalf("%s %s", leaseA, leaseB)
	}
	for path, want := range map[string][]string{
		"": {"auth/"}, "/": {"auth/"}, "/auth": {"token/"}, "/auth/token": {"create/"}, "/none": {}, "/auth/tok": {}, "/auth/token/create/r/": {"abc/"},
		"/auth/token/create": {strings.TrimPrefix(leaseA, "auth/token/create/"), "r/"},
	} {
		if got := s.listed("sys/leases/lookup" + path); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	s.pass(time.Minute)
	got := s.must(s.root, op.Write, "sys/leases/lookup", named(leaseA)).(*api.LeaseInfo)
	issued := s.time().Add(-time.Minute)
	if got.ID != leaseA || !got.IssueTime.Equal(issued) || !got.ExpireTime.Equal(issued.Add(time.Hour)) || got.LastRenewal != nil || !got.Renewable ||
		got.TTL != 3540 {
		t.Errorf("%+v", got)
	}
	s.must(a.ClientToken, op.Write, "auth/token/renew-self", nil)
	if got := s.must(s.root, op.Write, "sys/leases/lookup", named(leaseA)).(*api.LeaseInfo); got.LastRenewal == nil || !got.LastRenewal.Equal(s.time()) || got.TTL != 3600 {
		t.Errorf("%+v", got)
	}
	count := func(typ string) *api.LeaseCount {
		return s.must(s.root, op.Read, "sys/leases/count", fill(func(r *api.CountLeases) { r.Type = typ })).(*api.LeaseCount)
	}
	if got := count(""); got.LeaseCount != 2 || got.Counts["auth_token_builtin"] != 2 || len(got.Counts) != 1 {
		t.Errorf("%+v", got)
	}
	if got := count("irrevocable"); got.LeaseCount != 0 || len(got.Counts) != 0 {
		t.Errorf("%+v", got)
	}
	s.refused(fault.Invalid, `leave it out, or use "irrevocable"`, s.root, op.Read, "sys/leases/count", fill(func(r *api.CountLeases) { r.Type = "x" }))
	// expired leases are no more, even before they are tidied away
	s.pass(time.Hour)
	s.refused(fault.Invalid, "invalid lease", s.root, op.Write, "sys/leases/lookup", named(leaseA))
	if got := count(""); got.LeaseCount != 1 {
		t.Errorf("%+v", got)
	}
	tokens := s.mem.count(tableTokens)
	answer, err := s.call(s.root, op.Write, "sys/leases/tidy", nil)
	if err != nil || len(answer.Warnings) != 1 {
		t.Fatal(answer, err)
	}
	for range 500 {
		if s.mem.count(tableTokens) == tokens-1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := s.mem.count(tableTokens); n != tokens-1 {
		t.Errorf("%d of %d tokens are left", n, tokens)
	}
}

func TestLeaseIDs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"p"} })
	lease := s.lease(a.ClientToken)
	root := s.lease(s.root) // which has no end
	for _, id := range []string{"none", "h", "/h", lease + "0", lease[1:], "x" + lease, strings.ToUpper(lease), lease[:len(lease)-1] + "g",
		"auth/token/other" + lease[len("auth/token/create"):], lease[len("auth/token/create/h"):], root,
		"auth/token/create/h" + strings.Repeat("0", tokenIDSize)} {
		s.refused(fault.Invalid, "invalid lease", s.root, op.Write, "sys/leases/lookup", named(id))
		s.refused(fault.Invalid, "lease not found", s.root, op.Write, "sys/leases/renew", fill(func(r *api.RenewLease) { r.LeaseID = id }))
		s.must(s.root, op.Write, "sys/leases/revoke", fill(func(r *api.RevokeLease) { r.LeaseID = id }))
	}
	s.lookup(a.ClientToken)
	s.lookup(s.root)
	for path, f := range map[string]func(any){"lookup": nil, "renew": nil, "revoke": nil} {
		s.refused(fault.Invalid, "lease_id must be specified", s.root, op.Write, "sys/leases/"+path, f)
	}
	for _, path := range []string{"sys/leases/renew/", "sys/renew/"} {
		s.refused(fault.Invalid, "tokens cannot be renewed through this endpoint", s.root, op.Write, path+lease, nil)
	}
	no := false
	fixed := s.lease(s.token(s.root, func(r *api.CreateToken) { r.Policies, r.Renewable = []string{"p"}, &no }).ClientToken)
	s.refused(fault.Invalid, "lease is not renewable", s.root, op.Write, "sys/renew", fill(func(r *api.RenewLease) { r.LeaseID = fixed }))
}

func TestRevokeLeases(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("p", `path "auth/token/create" { capabilities = ["update"] }`)
	s.role("r", func(*api.TokenRole) {})
	s.role("ra", func(*api.TokenRole) {})
	ends := func(f func(text string) (path string, fill func(any))) {
		t.Helper()
		a := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"p"} })
		child := s.token(a.ClientToken, func(*api.CreateToken) {})
		path, fill := f(a.ClientToken)
		s.must(s.root, op.Write, path, fill)
		s.refused(fault.Denied, "permission denied", child.ClientToken, op.Read, "auth/token/lookup-self", nil)
		s.refused(fault.Denied, "permission denied", a.ClientToken, op.Read, "auth/token/lookup-self", nil)
	}
	body := func(id string) func(any) { return fill(func(r *api.RevokeLease) { r.LeaseID = id }) }
	ends(func(text string) (string, func(any)) { return "sys/leases/revoke", body(s.lease(text)) })
	ends(func(text string) (string, func(any)) { return "sys/leases/revoke/" + s.lease(text), body("other") })
	ends(func(text string) (string, func(any)) { return "sys/revoke", body(s.lease(text)) })
	ends(func(text string) (string, func(any)) { return "sys/revoke/" + s.lease(text), nil })
	for _, path := range []string{"sys/leases/revoke-prefix/", "sys/leases/revoke-force/", "sys/revoke-prefix/", "sys/revoke-force/"} {
		ends(func(text string) (string, func(any)) { return path + s.lease(text), nil })
		ends(func(string) (string, func(any)) { return path + "auth/token/create", nil })
		ends(func(string) (string, func(any)) { return path + "auth/token/", nil })
		ends(func(string) (string, func(any)) { return path + "auth", nil })
		// a prefix ends at a slash
		of := func(role string) string {
			return s.byRole(s.root, role, func(r *api.CreateToken) { r.Policies = []string{"p"} }).ClientToken
		}
		r, ra := of("r"), of("ra")
		s.must(s.root, op.Write, path+"auth/token/create/r", nil)
		s.refused(fault.Denied, "", r, op.Read, "auth/token/lookup-self", nil)
		s.lookup(ra)
		s.must(s.root, op.Write, path+"auth/token/creat", nil)
		s.lookup(ra)
		without := s.limited(`path "sys/*" { capabilities = ["create", "update", "read", "delete", "list"] }`)
		s.refused(fault.Denied, "permission denied", without, op.Write, path+"auth/token/create", nil)
		s.lookup(ra)
	}
	s.lookup(s.root) // has no lease
	s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"p"} })
	s.mem.setFail(errors.New("disk full"))
	s.refused(fault.Unavailable, "it can be repeated", s.root, op.Write, "sys/leases/revoke-prefix/auth", nil)
}

func TestStepDown(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if data := s.must(s.root, op.Write, "sys/step-down", nil); data != nil {
		t.Errorf("%v", data)
	}
	s.refused(fault.Denied, "", s.limited(`path "sys/step-down" { capabilities = ["update"] }`), op.Write, "sys/step-down", nil)
	s.must(s.root, op.Write, "transit/encrypt/a", nil)
}

func FuzzLeaseID(f *testing.F) {
	f.Add("auth/token/create/h" + strings.Repeat("0a", 32))
	f.Add("/h")
	f.Add(strings.Repeat("0", 66))
	f.Fuzz(func(t *testing.T, lease string) {
		id, ok := tokenOf(lease)
		if ok && (len(id) != tokenIDSize || lease[:len(lease)-tokenIDSize-2]+"/h"+id != lease) {
			t.Errorf("%q: %q", lease, id)
		}
	})
}
