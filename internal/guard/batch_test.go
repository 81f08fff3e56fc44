package guard

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// batch makes a batch token with the policy "b".
func (s *server) batch(maker string, f func(*api.CreateToken)) *api.Auth {
	s.t.Helper()
	return s.token(maker, func(r *api.CreateToken) {
		r.Type, r.Policies = typeBatch, []string{"b"}
		f(r)
	})
}

func TestBatchTokens(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("b", `path "transit/keys/a" { capabilities = ["read"] } path "auth/token/create" { capabilities = ["update"] }
		path "sys/wrapping/wrap" { capabilities = ["update"] }`)
	before, yes := s.mem.count(tableTokens)+s.mem.count(tableAccessors)+s.mem.count(tableChildren), true
	a := s.batch(s.root, func(r *api.CreateToken) {
		r.TTL, r.DisplayName, r.Meta, r.Renewable = hours(1), "job", map[string]string{"k": "v"}, &yes
	})
	if after := s.mem.count(tableTokens) + s.mem.count(tableAccessors) + s.mem.count(tableChildren); after != before {
		t.Errorf("%d records were written", after-before)
	}
	if !strings.HasPrefix(a.ClientToken, "b.") || a.Accessor != "" || a.TokenType != "batch" || a.Renewable || a.Orphan ||
		a.LeaseDuration != hours(1) || !slices.Equal(a.Policies, []string{"b", "default"}) || a.NumUses != 0 {
		t.Errorf("%+v", a)
	}
	if other := s.batch(s.root, func(r *api.CreateToken) { r.TTL = hours(1) }); other.ClientToken == a.ClientToken {
		t.Error("two batch tokens have the same text")
	}
	check := func() {
		t.Helper()
		info := s.lookup(a.ClientToken)
		if info.ID != a.ClientToken || info.Accessor != "" || info.Type != "batch" || info.DisplayName != "token-job" || info.Meta["k"] != "v" ||
			info.Path != "auth/token/create" || info.CreationTTL != hours(1) || info.Orphan || info.Renewable || info.NumUses != 0 {
			t.Errorf("%+v", info)
		}
		s.must(a.ClientToken, op.Read, "transit/keys/a", nil)
		s.refused(fault.Denied, "", a.ClientToken, op.Read, "transit/keys/b", nil)
		got := *s.must(a.ClientToken, op.Write, "sys/capabilities-self", fill(func(r *api.Capabilities) { r.Paths = []string{"transit/keys/a"} })).(*api.CapabilityLists)
		if !slices.Equal(got["capabilities"], []string{"read"}) {
			t.Errorf("%v", got)
		}
	}
	check()
	s.Reset() // as at a restart
	check()
	if byText := s.must(s.root, op.Write, "auth/token/lookup", fill(func(r *api.TokenID) { r.Token = a.ClientToken })).(*api.TokenInfo); byText.Type != "batch" {
		t.Errorf("%+v", byText)
	}
	s.pass(time.Hour - time.Second)
	check()
	s.pass(time.Second)
	for range 2 {
		s.refused(fault.Denied, "permission denied", a.ClientToken, op.Read, "auth/token/lookup-self", nil)
		s.Reset()
	}
}

func TestBatchTokensRefuse(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.policy("b", `path "*" { capabilities = ["update", "sudo"] }`)
	a := s.batch(s.root, func(*api.CreateToken) {}).ClientToken
	s.refused(fault.Invalid, "batch tokens cannot create more tokens", a, op.Write, "auth/token/create", nil)
	s.refused(fault.Invalid, "batch tokens cannot create more tokens", a, op.Write, "auth/token/create-orphan", nil)
	s.role("r", func(*api.TokenRole) {})
	s.refused(fault.Invalid, "batch tokens cannot create more tokens", a, op.Write, "auth/token/create/r", nil)
	s.refused(fault.Invalid, "batch tokens cannot be renewed", a, op.Write, "auth/token/renew-self", nil)
	s.refused(fault.Invalid, "batch tokens cannot be revoked", a, op.Write, "auth/token/revoke-self", nil)
	byText := fill(func(r *api.TokenID) { r.Token = a })
	s.refused(fault.Invalid, "batch tokens cannot be revoked", s.root, op.Write, "auth/token/revoke", byText)
	s.refused(fault.Invalid, "batch tokens cannot be revoked", s.root, op.Write, "auth/token/revoke-orphan", byText)
	s.refused(fault.Invalid, "batch tokens cannot be renewed", s.root, op.Write, "auth/token/renew", fill(func(r *api.RenewToken) { r.Token = a }))
	for _, c := range []struct {
		want string
		fill func(*api.CreateToken)
	}{
		{`batch tokens cannot have "explicit_max_ttl" set`, func(r *api.CreateToken) { r.ExplicitMaxTTL = 5 }},
		{`batch tokens cannot have "num_uses" set`, func(r *api.CreateToken) { r.NumUses = 5 }},
		{`batch tokens cannot have "period" set`, func(r *api.CreateToken) { r.Period = 5 }},
		{`batch tokens cannot have "id" set`, func(r *api.CreateToken) { r.ID = "chosen" }},
		{"batch tokens cannot be root tokens", func(r *api.CreateToken) { r.Policies = nil }},
		{"batch tokens cannot be root tokens", func(r *api.CreateToken) { r.Policies = []string{"root", "b"} }},
		{"invalid 'token_type' value", func(r *api.CreateToken) { r.Type = "Batch" }},
		{"fewer policies", func(r *api.CreateToken) {
			for i := range 100 {
				r.Policies = append(r.Policies, strings.Repeat("p", 100)+strconv.Itoa(i))
			}
		}},
	} {
		s.refused(fault.Invalid, c.want, s.root, op.Write, "auth/token/create", fill(func(r *api.CreateToken) {
			r.Type, r.Policies = "batch", []string{"b"}
			c.fill(r)
		}))
	}
	s.refused(fault.Invalid, "'b.' prefix", s.root, op.Write, "auth/token/create", fill(func(r *api.CreateToken) { r.ID = "b.chosen" }))
	limited := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.NumUses = []string{"b"}, 5 }).ClientToken
	s.refused(fault.Invalid, "restricted use token", limited, op.Write, "auth/token/create", fill(func(r *api.CreateToken) { r.Type = "batch" }))
}

// A batch token ends with its parent, however that ends; an orphan does not.
func TestBatchTokensEndWithTheirParent(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *server, parent *api.Auth){
		"revoked": func(s *server, parent *api.Auth) { s.must(parent.ClientToken, op.Write, "auth/token/revoke-self", nil) },
		"revoked alone": func(s *server, parent *api.Auth) {
			s.must(s.root, op.Write, "auth/token/revoke-orphan", fill(func(r *api.TokenID) { r.Token = parent.ClientToken }))
		},
		"revoked by accessor": func(s *server, parent *api.Auth) {
			s.must(s.root, op.Write, "auth/token/revoke-accessor", fill(func(r *api.Accessor) { r.Accessor = parent.Accessor }))
		},
		"expired": func(s *server, _ *api.Auth) { s.pass(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.policy("b", `path "auth/token/create*" { capabilities = ["update", "sudo"] }`)
			parent := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.TTL = []string{"b"}, hours(1) })
			child := s.batch(parent.ClientToken, func(r *api.CreateToken) { r.TTL = hours(9) }).ClientToken
			fresh := s.batch(parent.ClientToken, func(r *api.CreateToken) { r.TTL = hours(9) }).ClientToken // not seen before the end
			orphan := s.batch(parent.ClientToken, func(r *api.CreateToken) { r.TTL, r.NoParent = hours(9), true })
			if !orphan.Orphan {
				t.Errorf("%+v", orphan)
			}
			s.lookup(child)
			end(s, parent)
			for range 2 {
				s.refused(fault.Denied, "permission denied", child, op.Read, "auth/token/lookup-self", nil)
				s.refused(fault.Denied, "permission denied", fresh, op.Read, "auth/token/lookup-self", nil)
				s.lookup(orphan.ClientToken)
				s.Reset()
			}
		})
	}
}

// An altered or foreign text opens nothing.
func TestBatchTokensAreAuthentic(t *testing.T) {
	t.Parallel()
	s, other := newServer(t), newServer(t)
	a := s.batch(s.root, func(*api.CreateToken) {}).ClientToken
	s.lookup(a)
	raw, err := base64.RawURLEncoding.DecodeString(a[2:])
	if err != nil {
		t.Fatal(err)
	}
	bad := []string{"b.", "b.A", "b.!", a + "A", a + "=", a[:len(a)-1], "B." + a[2:], "s." + a[2:], a[2:], "b." + strings.Repeat("A", maxBatchText),
		other.batch(other.root, func(*api.CreateToken) {}).ClientToken}
	for i := range raw {
		altered := slices.Clone(raw)
		altered[i] ^= 1
		bad = append(bad, "b."+base64.RawURLEncoding.EncodeToString(altered))
	}
	for _, text := range bad {
		s.refused(fault.Denied, "permission denied", text, op.Read, "auth/token/lookup-self", nil)
	}
}

// The format of a batch token, built here from its description: later releases
// must open what this one wrote.
func TestBatchFormat(t *testing.T) {
	t.Parallel()
	salt := []byte(strings.Repeat("s", saltSize))
	// HKDF-SHA256 without a salt (RFC 5869, sections 2.2 and 2.3), one block.
	extract := hmac.New(sha256.New, make([]byte, sha256.Size))
	extract.Write(salt)
	expand := hmac.New(sha256.New, extract.Sum(nil))
	expand.Write([]byte("claviger batch token 1\x01"))
	aead, err := chacha20poly1305.NewX(expand.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	nonce := []byte("twenty-four bytes nonce!")
	sealed := append([]byte{1}, nonce...)
	sealed = aead.Seal(sealed, nonce, []byte(`{"parent":"p0","depth":2,"policies":["b"],"display_name":"d","path":"p","meta":{"k":"v"},`+
		`"created":1,"ttl":2,"expires":3,"role":"r"}`), []byte("claviger batch token 1"))
	own, err := newBatchAEAD(salt)
	if err != nil {
		t.Fatal(err)
	}
	want := batchPayload{Parent: "p0", Depth: 2, Policies: []string{"b"}, DisplayName: "d", Path: "p", Meta: map[string]string{"k": "v"},
		Created: 1, TTL: 2, Expires: 3, Role: "r"}
	if got, ok := openBatch(own, "b."+base64.RawURLEncoding.EncodeToString(sealed)); !ok || !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v %v", got, ok)
	}
}

// A stored token whose text begins like a batch token's, which older releases let
// callers choose, still opens.
func TestChosenTextLikeBatch(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	l, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.tokens.create(t.Context(), "b.chosen", s.rootRecord(), nil); err != nil {
		t.Fatal(err)
	}
	if info := s.lookup("b.chosen"); info.Type != "service" {
		t.Errorf("%+v", info)
	}
}

// Roles say of which type their tokens are.
func TestRoleTokenTypes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	text := func(v string) *string { return &v }
	yes, no := true, false
	for _, c := range []struct {
		role, asked, want string
		alone             bool // what a strict batch role must be
	}{
		{"service", "", "service", false}, {"service", "batch", "service", false},
		{"default-service", "", "service", false}, {"default-service", "batch", "batch", false},
		{"default-batch", "", "batch", false}, {"default-batch", "service", "service", false},
		{"batch", "", "batch", true}, {"batch", "service", "batch", true},
	} {
		s.role("r", func(r *api.TokenRole) {
			r.TokenType, r.AllowedPolicies = text(c.role), []string{"b"}
			r.Orphan, r.Renewable = &c.alone, &yes
			if c.alone {
				r.Renewable = &no
			}
		})
		if got := s.readRole("r").TokenType; got != c.role {
			t.Errorf("%+v: role %q", c, got)
		}
		a := s.byRole(s.root, "r", func(r *api.CreateToken) { r.Type = c.asked })
		if a.TokenType != c.want || s.lookup(a.ClientToken).Type != c.want || strings.HasPrefix(a.ClientToken, "b.") != (c.want == "batch") {
			t.Errorf("%+v: %+v", c, a)
		}
		s.must(s.root, op.Delete, "auth/token/roles/r", nil)
	}
	five, uses := api.Seconds(5), 5
	for want, f := range map[string]func(*api.TokenRole){
		"to generate non-orphan tokens":                func(r *api.TokenRole) { r.Orphan = &no },
		"to generate renewable tokens":                 func(r *api.TokenRole) { r.Renewable = &yes },
		"to generate tokens with an explicit max TTL":  func(r *api.TokenRole) { r.TokenExplicitMaxTTL = &five },
		"to generate periodic tokens":                  func(r *api.TokenRole) { r.TokenPeriod, r.TokenType = &five, text("default-batch") },
		"to generate tokens with limited use count":    func(r *api.TokenRole) { r.TokenNumUses, r.TokenType = &uses, text("default-batch") },
		"'token_type' cannot be 'batch' when role is ": func(r *api.TokenRole) { r.Orphan = nil },
	} {
		s.refused(fault.Invalid, want, s.root, op.Write, "auth/token/roles/r", fill(func(r *api.TokenRole) {
			r.TokenType, r.Orphan, r.Renewable = text("batch"), &yes, &no
			f(r)
		}))
	}
	// A role that bounds its tokens makes no batch tokens that would evade it.
	s.role("r", func(r *api.TokenRole) { r.TokenPeriod, r.AllowedPolicies = &five, []string{"b"} })
	s.refused(fault.Invalid, `batch tokens cannot have "period" set`, s.root, op.Write, "auth/token/create/r", fill(func(r *api.CreateToken) { r.Type = "batch" }))
}

func FuzzBatchToken(f *testing.F) {
	aead, err := newBatchAEAD(make([]byte, saltSize))
	if err != nil {
		f.Fatal(err)
	}
	good, err := sealBatch(aead, &batchPayload{Policies: []string{"b"}, Path: "genuine"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("b.")
	f.Add("b.AQ")
	f.Add("s.x")
	f.Fuzz(func(t *testing.T, text string) {
		// Each process of the fuzzer seals a seed of its own, all of which are genuine.
		if p, ok := openBatch(aead, text); ok && p.Path != "genuine" {
			t.Errorf("forged %+v", p)
		}
	})
}

// After sealing nothing opens or makes batch tokens.
func TestBatchTokensWhileClosed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	l, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := s.batch(s.root, func(*api.CreateToken) {}).ClientToken
	s.Reset()
	if _, err := l.tokens.find(t.Context(), a); err != store.ErrSealed {
		t.Error(err)
	}
	if _, err := l.tokens.createBatch(&tokenRecord{}, nil); err != store.ErrSealed {
		t.Error(err)
	}
}

// Batch tokens hang on the salt record alone, so they outlive a change of the
// storage key, which seals that record anew.
func TestBatchTokensOutliveTheStorageKey(t *testing.T) {
	t.Parallel()
	s, moved := newServer(t), blankServer(t)
	a := s.batch(s.root, func(r *api.CreateToken) { r.NoParent = true }).ClientToken
	var salt saltRecord
	if _, err := s.sealed.Get(t.Context(), tableGuard, keySalt, &salt); err != nil {
		t.Fatal(err)
	}
	if err := moved.sealed.Unseal([]byte(strings.Repeat("n", store.StorageKeySize))); err != nil {
		t.Fatal(err)
	}
	change, err := moved.sealed.Put(tableGuard, keySalt, 0, &salt)
	if err == nil {
		err = moved.sealed.Apply(t.Context(), change)
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := moved.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if e, err := l.tokens.find(t.Context(), a); err != nil || e.ended(moved.time()) != nil {
		t.Error(err)
	}
}

// A parent that ends while its child is made has none.
func TestNoBatchTokenOfAnEndedParent(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	l, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	parent := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"p"} })
	e, err := l.tokens.find(t.Context(), parent.ClientToken)
	if err != nil {
		t.Fatal(err)
	}
	s.must(parent.ClientToken, op.Write, "auth/token/revoke-self", nil)
	if text, err := l.tokens.createBatch(&tokenRecord{Batch: true}, e); err != errEnded || text != "" {
		t.Errorf("%q %v", text, err)
	}
}
