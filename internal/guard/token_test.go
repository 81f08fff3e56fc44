package guard

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func hours(n int64) api.Seconds { return api.Seconds(n * 3600) }

func (s *server) lookup(token string) *api.TokenInfo {
	s.t.Helper()
	return s.must(token, op.Read, "auth/token/lookup-self", nil).(*api.TokenInfo)
}

func TestRootToken(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	info := s.lookup(s.root)
	if info.ID != s.root || info.TTL != 0 || info.ExpireTime != nil || !info.Orphan || info.Path != "auth/token/root" ||
		!slices.Equal(info.Policies, []string{"root"}) || info.DisplayName != "root" || info.Type != "service" {
		t.Errorf("%+v", info)
	}
	s.pass(200 * 365 * 24 * time.Hour)
	s.lookup(s.root)
}

func TestTokenText(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	var letters [256]int
	for range 2000 {
		text := newText(textPrefix)
		if len(text) != 26 || !strings.HasPrefix(text, "s.") || seen[text] {
			t.Fatalf("text %q", text)
		}
		seen[text] = true
		for _, c := range []byte(text[2:]) {
			letters[c]++
		}
	}
	// 48,000 letters, 774 each on average with a deviation of 28
	for _, c := range []byte(base62) {
		if n := letters[c]; n < 774-200 || n > 774+200 {
			t.Errorf("%c comes %d times", c, n)
		}
	}
}

func TestTextIsNotStored(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	child := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"a"} })
	s.lookup(child.ClientToken)
	records := s.mem.all(tableGuard, tableTokens, tableAccessors, tableChildren, tablePolicies, tableMounts)
	if len(records) < 8 {
		t.Errorf("only %d records were looked at", len(records))
	}
	for _, r := range records {
		for _, secret := range []string{s.root, child.ClientToken, child.Accessor} {
			if strings.Contains(r.Key, secret) || strings.Contains(string(r.Data), secret) {
				t.Errorf("%s/%s shows %s", r.Table, r.Key, secret)
			}
		}
	}
	if log := s.logs.String(); strings.Contains(log, child.ClientToken) || strings.Contains(log, s.root) {
		t.Error("the log shows a token")
	}
}

func TestCreateToken(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	no := false
	a := s.token(s.root, func(r *api.CreateToken) {
		r.Policies, r.TTL, r.DisplayName = []string{"B", "a", "a"}, hours(2), "my app_1!"
		r.Meta, r.Renewable, r.ExplicitMaxTTL, r.NumUses = map[string]string{"k": "v"}, &no, hours(9), 3
	})
	want := []string{"a", "b", "default"}
	if !slices.Equal(a.Policies, want) || !slices.Equal(a.TokenPolicies, want) || a.LeaseDuration != hours(2) ||
		a.Renewable || a.NumUses != 3 || a.Orphan || a.TokenType != "service" || a.Metadata["k"] != "v" || a.Accessor == "" {
		t.Errorf("%+v", a)
	}
	info := s.lookup(a.ClientToken)
	expires := s.time().Add(2 * time.Hour).Truncate(time.Second)
	if info.DisplayName != "token-my-app-1" || info.NumUses != 2 || info.ExplicitMaxTTL != hours(9) || info.CreationTTL != hours(2) ||
		info.Accessor != a.Accessor || info.Path != "auth/token/create" || !info.ExpireTime.Equal(expires) ||
		info.CreationTime != s.time().Unix() || info.TTL != hours(2) {
		t.Errorf("%+v", info)
	}
	s.pass(30 * time.Minute)
	byText := s.must(s.root, op.Write, "auth/token/lookup", fill(func(r *api.TokenID) { r.Token = a.ClientToken })).(*api.TokenInfo)
	byAccessor := s.must(s.root, op.Write, "auth/token/lookup-accessor", fill(func(r *api.Accessor) { r.Accessor = a.Accessor })).(*api.TokenInfo)
	if byText.TTL != 5400 || byText.ID != a.ClientToken || byAccessor.ID != "" || byAccessor.TTL != 5400 {
		t.Errorf("%+v %+v", byText, byAccessor)
	}
	if own := s.must(s.root, op.Write, "auth/token/lookup", nil).(*api.TokenInfo); own.ID != s.root {
		t.Errorf("%+v", own)
	}
	s.refused(fault.Denied, "bad token", s.root, op.Write, "auth/token/lookup", fill(func(r *api.TokenID) { r.Token = "s.x" }))
	s.refused(fault.Invalid, "invalid accessor", s.root, op.Write, "auth/token/lookup-accessor", fill(func(r *api.Accessor) { r.Accessor = "x" }))
}

func TestCreateTokenDefaults(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"a"} })
	if a.LeaseDuration != hours(768) || !a.Renewable {
		t.Errorf("%+v", a)
	}
	if root := s.token(s.root, func(*api.CreateToken) {}); !slices.Equal(root.Policies, []string{"root"}) || root.LeaseDuration != 0 || root.Renewable {
		t.Errorf("%+v", root)
	}
	short := s.token(s.root, func(r *api.CreateToken) { r.TTL = 60 })
	if !slices.Equal(short.Policies, []string{"root"}) || short.LeaseDuration != 60 {
		t.Errorf("%+v", short)
	}
	s.refused(fault.Invalid, "expiring root tokens", short.ClientToken, op.Write, "auth/token/create", nil)
	long, err := s.call(s.root, op.Write, "auth/token/create", fill(func(r *api.CreateToken) { r.Policies, r.TTL = []string{"a"}, hours(1000) }))
	if err != nil || long.Data.(*api.Auth).LeaseDuration != hours(768) || len(long.Warnings) != 2 || long.Warnings[1] != `Policy "a" does not exist` ||
		!strings.Contains(long.Warnings[0], `TTL of "1000h0m0s" exceeded the effective max_ttl of "768h0m0s"`) {
		t.Errorf("%+v, %v", long, err)
	}
	capped := s.token(s.root, func(r *api.CreateToken) { r.TTL, r.ExplicitMaxTTL = 1000, 900 })
	if capped.LeaseDuration != 900 {
		t.Errorf("%+v", capped)
	}
	chosen := s.token(s.root, func(r *api.CreateToken) { r.ID = "chosen-text" })
	if chosen.ClientToken != "chosen-text" {
		t.Errorf("%+v", chosen)
	}
	s.lookup("chosen-text")
}

func TestCreateTokenRefuses(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("plain", `path "auth/token/create*" { capabilities = ["update"] }`)
	s.policy("strong", `path "auth/token/create*" { capabilities = ["update", "sudo"] }`)
	plain := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"plain", "x"} }).ClientToken
	strong := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"strong"} }).ClientToken
	bare := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.NoDefaultPolicy = []string{"plain"}, true }).ClientToken
	uses := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.NumUses = []string{"plain"}, 9 }).ClientToken
	s.token(s.root, func(r *api.CreateToken) { r.ID = "taken" })
	before := s.mem.count(tableTokens)
	for _, c := range []struct {
		token, want string
		fill        func(*api.CreateToken)
	}{
		{plain, "child policies must be subset of parent", func(r *api.CreateToken) { r.Policies = []string{"strong"} }},
		{plain, "child policies must be subset of parent", func(r *api.CreateToken) { r.Policies = []string{"x", "y"} }},
		{bare, "child policies must be subset of parent", func(r *api.CreateToken) { r.Policies = []string{"default"} }},
		{plain, "root tokens may not be created", func(r *api.CreateToken) { r.Policies = []string{"root"} }},
		{strong, "root tokens may not be created", func(r *api.CreateToken) { r.Policies = []string{"Root"} }},
		{plain, "sudo privileges required to create orphan", func(r *api.CreateToken) { r.NoParent = true }},
		{plain, "sudo privileges required to create periodic", func(r *api.CreateToken) { r.Period = 60 }},
		{plain, "sudo privileges required to specify token id", func(r *api.CreateToken) { r.ID = "abcdef" }},
		{uses, "restricted use token", func(*api.CreateToken) {}},
		{s.root, "negative", func(r *api.CreateToken) { r.NumUses = -1 }},
		{s.root, "ttl: 0 to", func(r *api.CreateToken) { r.TTL = -1 }},
		{s.root, "explicit_max_ttl: 0 to", func(r *api.CreateToken) { r.ExplicitMaxTTL = 1 << 62 }},
		{s.root, "batch tokens cannot be root tokens", func(r *api.CreateToken) { r.Type = "batch" }},
		{s.root, "'s.' prefix", func(r *api.CreateToken) { r.ID = "s.abcdef" }},
		{s.root, "visible ASCII", func(r *api.CreateToken) { r.ID = "a\nbcdef" }},
		{s.root, "duplicate ID", func(r *api.CreateToken) { r.ID = "taken" }},
		{s.root, "policy name", func(r *api.CreateToken) { r.Policies = []string{"a,b"} }},
		{s.root, "at most 256 policies", func(r *api.CreateToken) { r.Policies = make([]string, 257) }},
		{s.root, "display_name", func(r *api.CreateToken) { r.DisplayName = strings.Repeat("x", 129) }},
		{s.root, "meta", func(r *api.CreateToken) { r.Meta = map[string]string{"k": strings.Repeat("x", 513)} }},
	} {
		s.refused(fault.Invalid, c.want, c.token, op.Write, "auth/token/create", fill(c.fill))
	}
	s.refused(fault.Invalid, "sudo privileges required to create orphan", plain, op.Write, "auth/token/create-orphan",
		fill(func(r *api.CreateToken) { r.NoParent = true }))
	if n := s.mem.count(tableTokens); n != before {
		t.Errorf("%d tokens more", n-before)
	}
	// what they may
	if a := s.token(plain, func(*api.CreateToken) {}); !slices.Equal(a.Policies, []string{"default", "plain", "x"}) {
		t.Errorf("inherited %q", a.Policies)
	}
	if a := s.token(plain, func(r *api.CreateToken) { r.Policies, r.NoDefaultPolicy = []string{"x"}, true }); !slices.Equal(a.Policies, []string{"x"}) {
		t.Errorf("narrower %q", a.Policies)
	}
	if a := s.token(bare, func(*api.CreateToken) {}); !slices.Equal(a.Policies, []string{"plain"}) {
		t.Errorf("without default %q", a.Policies)
	}
	if a := s.token(strong, func(r *api.CreateToken) { r.Policies = []string{"any"} }); !slices.Equal(a.Policies, []string{"any", "default"}) {
		t.Errorf("with sudo %q", a.Policies)
	}
	for _, maker := range []string{plain, strong} { // a policy on the path is enough
		if a := s.must(maker, op.Write, "auth/token/create-orphan", nil).(*api.Auth); !a.Orphan {
			t.Errorf("%+v", a)
		}
	}
}

func TestGenerationsAreBounded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	token := s.root
	for range maxTokenDepth {
		token = s.token(token, func(*api.CreateToken) {}).ClientToken
	}
	s.refused(fault.Invalid, "generations", token, op.Write, "auth/token/create", nil)
	s.must(token, op.Write, "auth/token/create-orphan", nil)
}

// TestParentsInACircle: no caller can make such records, but a lookup ends.
func TestParentsInACircle(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	token := s.token(s.root, func(*api.CreateToken) {}).ClientToken
	id := hashed(s.loaded.Load().tokens.salt, token)
	var r tokenRecord
	version, err := s.sealed.Get(t.Context(), tableTokens, id, &r)
	if err != nil {
		t.Fatal(err)
	}
	r.Parent = id
	put, err := s.sealed.Put(tableTokens, id, version, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.sealed.Apply(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	s.Reset()
	s.refused(fault.Internal, "", token, op.Read, "auth/token/lookup-self", nil)
	s.lookup(s.root)
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("p", `path "auth/token/create" { capabilities = ["update"] }`)
	parent := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.TTL = []string{"p"}, 60 })
	child := s.token(parent.ClientToken, func(r *api.CreateToken) { r.TTL = 3600 })
	grandchild := s.token(child.ClientToken, func(r *api.CreateToken) { r.TTL = 3600 })
	s.lookup(grandchild.ClientToken)
	records := s.mem.count(tableTokens)
	s.pass(59 * time.Second)
	s.lookup(grandchild.ClientToken)
	s.pass(time.Second)
	// the parent's end is that of its descendants, and whoever comes first finds it
	s.refused(fault.Denied, "permission denied", grandchild.ClientToken, op.Read, "auth/token/lookup-self", nil)
	if n := s.mem.count(tableTokens); n != records-3 {
		t.Errorf("%d of %d tokens are left", n, records)
	}
	for _, text := range []string{parent.ClientToken, child.ClientToken} {
		s.refused(fault.Denied, "permission denied", text, op.Read, "auth/token/lookup-self", nil)
	}
	if a, c := s.mem.count(tableAccessors), s.mem.count(tableChildren); a != 1 || c != 0 {
		t.Errorf("%d accessors and %d links are left", a, c)
	}
	s.lookup(s.root)
}

func TestTidy(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for i := range 20 {
		s.token(s.root, func(r *api.CreateToken) { r.Policies, r.TTL = []string{"p"}, api.Seconds(10+i%2*100) })
	}
	if n, err := s.Tidy(t.Context()); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	s.pass(11 * time.Second)
	if n, err := s.Tidy(t.Context()); n != 10 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n := s.mem.count(tableTokens); n != 11 {
		t.Errorf("%d left", n)
	}
}

func TestRenew(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	renew := func(token string, increment api.Seconds) (*api.Auth, []string) {
		t.Helper()
		a, err := s.call(token, op.Write, "auth/token/renew-self", fill(func(r *api.RenewToken) { r.Increment = increment }))
		if err != nil {
			t.Fatal(err)
		}
		return a.Data.(*api.Auth), a.Warnings
	}
	a := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.TTL = []string{"p"}, 600 })
	s.pass(500 * time.Second)
	if got, _ := renew(a.ClientToken, 0); got.LeaseDuration != 600 || got.ClientToken != a.ClientToken || got.Accessor != a.Accessor {
		t.Errorf("%+v", got)
	}
	if got, _ := renew(a.ClientToken, 60); got.LeaseDuration != 60 {
		t.Errorf("%+v", got)
	}
	if got, warn := renew(a.ClientToken, hours(800)); got.LeaseDuration != hours(768)-500 || len(warn) != 1 {
		t.Errorf("%+v %q", got, warn)
	}
	s.pass(599 * time.Second)
	s.lookup(a.ClientToken)

	limited := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.TTL, r.ExplicitMaxTTL = []string{"p"}, 600, 900 })
	s.pass(400 * time.Second)
	if got, warn := renew(limited.ClientToken, 0); got.LeaseDuration != 500 || len(warn) != 1 {
		t.Errorf("%+v %q", got, warn)
	}
	s.pass(500 * time.Second)
	s.refused(fault.Denied, "", limited.ClientToken, op.Write, "auth/token/renew-self", nil)

	periodic := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.Period = []string{"p"}, 100 })
	for range 20 {
		s.pass(99 * time.Second)
		if got, _ := renew(periodic.ClientToken, 5); got.LeaseDuration != 100 {
			t.Errorf("%+v", got)
		}
	}
	no := false
	fixed := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.Renewable = []string{"p"}, &no })
	s.refused(fault.Invalid, "lease is not renewable", fixed.ClientToken, op.Write, "auth/token/renew-self", nil)
	s.refused(fault.Invalid, "lease is not renewable", s.root, op.Write, "auth/token/renew-self", nil)
	s.refused(fault.Invalid, "increment", periodic.ClientToken, op.Write, "auth/token/renew-self", fill(func(r *api.RenewToken) { r.Increment = -1 }))
	byOther := s.must(s.root, op.Write, "auth/token/renew", fill(func(r *api.RenewToken) { r.Token = periodic.ClientToken })).(*api.Auth)
	if byOther.LeaseDuration != 100 || byOther.ClientToken != periodic.ClientToken {
		t.Errorf("%+v", byOther)
	}
	s.refused(fault.Invalid, "token not found", s.root, op.Write, "auth/token/renew", fill(func(r *api.RenewToken) { r.Token = "none" }))
	s.refused(fault.Invalid, "missing token ID", s.root, op.Write, "auth/token/renew", nil)
}

// A renewed parent must be seen by children that were in memory before.
func TestRenewedParentKeepsChildren(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("p", `path "auth/token/create" { capabilities = ["update"] }`)
	parent := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.TTL = []string{"p"}, 60 })
	child := s.token(parent.ClientToken, func(*api.CreateToken) {})
	s.lookup(child.ClientToken)
	s.must(parent.ClientToken, op.Write, "auth/token/renew-self", fill(func(r *api.RenewToken) { r.Increment = 600 }))
	s.pass(100 * time.Second)
	s.lookup(child.ClientToken)
	s.lookup(parent.ClientToken)
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	revokers := map[string]func(s *server, a *api.Auth){
		"revoke": func(s *server, a *api.Auth) {
			s.must(s.root, op.Write, "auth/token/revoke", fill(func(r *api.TokenID) { r.Token = a.ClientToken }))
		},
		"self": func(s *server, a *api.Auth) { s.must(a.ClientToken, op.Write, "auth/token/revoke-self", nil) },
		"accessor": func(s *server, a *api.Auth) {
			s.must(s.root, op.Write, "auth/token/revoke-accessor", fill(func(r *api.Accessor) { r.Accessor = a.Accessor }))
		},
	}
	for name, revoke := range revokers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.policy("p", `path "auth/token/create*" { capabilities = ["update", "sudo"] }`)
			policies := func(r *api.CreateToken) { r.Policies = []string{"p"} }
			top := s.token(s.root, policies)
			var texts []string
			for range 3 {
				child := s.token(top.ClientToken, policies).ClientToken
				texts = append(texts, child, s.token(child, policies).ClientToken)
			}
			orphan := s.must(texts[0], op.Write, "auth/token/create-orphan", fill(policies)).(*api.Auth).ClientToken
			sibling := s.token(s.root, policies).ClientToken
			for _, text := range texts[:3] {
				s.lookup(text)
			}
			applied := s.mem.applied
			revoke(s, top)
			if n := s.mem.applied - applied; n != 1 {
				t.Errorf("%d transactions", n)
			}
			for _, text := range append(texts, top.ClientToken) {
				s.refused(fault.Denied, "permission denied", text, op.Read, "auth/token/lookup-self", nil)
			}
			s.lookup(orphan)
			s.lookup(sibling)
			if tokens, accessors, children := s.mem.count(tableTokens), s.mem.count(tableAccessors), s.mem.count(tableChildren); tokens != 3 || accessors != 3 || children != 1 {
				t.Errorf("%d tokens, %d accessors, %d links", tokens, accessors, children)
			}
		})
	}
}

func TestRevokeUnknown(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.must(s.root, op.Write, "auth/token/revoke", fill(func(r *api.TokenID) { r.Token = "s.never-was" }))
	s.refused(fault.Invalid, "missing token ID", s.root, op.Write, "auth/token/revoke", nil)
	a, err := s.call(s.root, op.Write, "auth/token/revoke-accessor", fill(func(r *api.Accessor) { r.Accessor = "x" }))
	if err != nil || !slices.Equal(a.Warnings, []string{"No token found with this accessor"}) {
		t.Errorf("an accessor of no token: %+v %v", a, err)
	}
}

func TestRevokeManyAndRepeat(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	top := s.token(s.root, func(*api.CreateToken) {}).ClientToken
	for range revokeBatch + 10 {
		s.token(top, func(*api.CreateToken) {})
	}
	applied := s.mem.applied
	s.must(top, op.Write, "auth/token/revoke-self", nil)
	if n := s.mem.applied - applied; n != 2 {
		t.Errorf("%d transactions", n)
	}
	if n := s.mem.count(tableTokens); n != 1 {
		t.Errorf("%d tokens are left", n)
	}
}

func TestLimitedUse(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.NumUses = []string{"p"}, 3 })
	if info := s.lookup(a.ClientToken); info.NumUses != 2 {
		t.Errorf("%d left", info.NumUses)
	}
	// a refused call counts too
	s.refused(fault.Denied, "", a.ClientToken, op.Read, "sys/mounts", nil)
	if info := s.lookup(a.ClientToken); info.NumUses != 0 || info.ID != a.ClientToken {
		t.Errorf("%+v", info)
	}
	s.refused(fault.Denied, "", a.ClientToken, op.Read, "auth/token/lookup-self", nil)
	if n := s.mem.count(tableTokens); n != 1 {
		t.Errorf("%d tokens are left", n)
	}
}

// Uses are counted before they happen, and survive a restart.
func TestLimitedUseIsDurable(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.NumUses = []string{"p"}, 5 })
	const calls = 20
	var passed atomic.Int32
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			if _, err := s.call(a.ClientToken, op.Read, "auth/token/lookup-self", nil); err == nil {
				passed.Add(1)
			}
		})
	}
	wg.Wait()
	if passed.Load() != 5 {
		t.Errorf("%d calls passed", passed.Load())
	}
	b := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.NumUses = []string{"p"}, 2 })
	s.lookup(b.ClientToken)
	s.Reset()
	if info := s.lookup(b.ClientToken); info.NumUses != 0 {
		t.Errorf("%d left", info.NumUses)
	}
	s.Reset()
	s.refused(fault.Denied, "", b.ClientToken, op.Read, "auth/token/lookup-self", nil)
}

// After a restart everything is as it was.
func TestTokensSurviveReset(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("p", `path "transit/keys/a" { capabilities = ["read"] }`)
	parent := s.token(s.root, func(r *api.CreateToken) { r.TTL = 600 })
	child := s.token(parent.ClientToken, func(r *api.CreateToken) { r.Policies, r.TTL = []string{"p"}, 300 })
	s.Reset()
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.must(child.ClientToken, op.Read, "transit/keys/a", nil)
	s.must(s.root, op.Write, "auth/token/revoke-accessor", fill(func(r *api.Accessor) { r.Accessor = parent.Accessor }))
	s.Reset()
	s.refused(fault.Denied, "", child.ClientToken, op.Read, "transit/keys/a", nil)
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.lookup(s.root)
	l := s.loaded.Load()
	for i := range maxCachedTokens {
		l.tokens.byID[fmt.Sprint(i)] = &entry{id: fmt.Sprint(i)}
	}
	child := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"p"} })
	s.lookup(child.ClientToken)
	if n := len(l.tokens.byID); n != 2 {
		t.Errorf("%d tokens in memory", n)
	}
	s.lookup(s.root)
	s.must(s.root, op.Write, "auth/token/revoke", fill(func(r *api.TokenID) { r.Token = child.ClientToken }))
	s.refused(fault.Denied, "", child.ClientToken, op.Read, "auth/token/lookup-self", nil)
}

// A token that is read from the store while it is revoked must not stay in memory.
func TestRevokeWhileRead(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"p"} })
	s.Reset()
	s.lookup(s.root)
	reading, proceed := make(chan struct{}), make(chan struct{})
	var stopped atomic.Bool
	s.mem.setRead(func(table string) {
		if table == tableTokens && stopped.CompareAndSwap(false, true) {
			close(reading)
			<-proceed
		}
	})
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = s.call(a.ClientToken, op.Read, "auth/token/lookup-self", nil) })
	<-reading
	wg.Go(func() {
		s.must(s.root, op.Write, "auth/token/revoke-accessor", fill(func(r *api.Accessor) { r.Accessor = a.Accessor }))
	})
	time.Sleep(50 * time.Millisecond) // a revocation that does not wait is over by now
	close(proceed)
	wg.Wait()
	s.refused(fault.Denied, "", a.ClientToken, op.Read, "auth/token/lookup-self", nil)
}

func TestRevokeWhileUsed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for range 50 {
		a := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"p"} })
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { _, _ = s.call(a.ClientToken, op.Read, "auth/token/lookup-self", nil) })
		}
		s.must(s.root, op.Write, "auth/token/revoke", fill(func(r *api.TokenID) { r.Token = a.ClientToken }))
		s.refused(fault.Denied, "", a.ClientToken, op.Read, "auth/token/lookup-self", nil)
		wg.Wait()
		s.refused(fault.Denied, "", a.ClientToken, op.Read, "auth/token/lookup-self", nil)
	}
}
