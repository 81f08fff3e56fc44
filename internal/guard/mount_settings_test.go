package guard

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func TestMountSettings(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	make := fill(func(r *api.CreateMount) {
		r.PluginName, r.Description = kindTransit, "of a"
		r.Options, r.Local, r.SealWrap, r.ExternalEntropyAccess = map[string]string{"x": "y"}, true, true, true
		r.Config.DefaultLeaseTTL, r.Config.MaxLeaseTTL = "1h", "2h"
		r.Config.ListingVisibility, r.Config.ForceNoCache = new("unauth"), new(true)
		r.Config.AuditNonHMACRequestKeys, r.Config.AllowedResponseHeaders = []string{"a", "b"}, []string{"Location"}
	})
	a, err := s.call(s.root, op.Write, "sys/mounts/a", make)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"options", "local", "seal_wrap", "external_entropy_access", "force_no_cache", "audit_non_hmac_request_keys", "allowed_response_headers"} {
		if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], name) {
			t.Errorf("no warning of %s in %q", name, a.Warnings)
		}
	}
	want := api.MountConfig{DefaultLeaseTTL: 3600, MaxLeaseTTL: 7200, ForceNoCache: true, ListingVisibility: "unauth",
		AuditNonHMACRequestKeys: []string{"a", "b"}, AllowedResponseHeaders: []string{"Location"}}
	for range 2 {
		m := s.must(s.root, op.Read, "sys/mounts/a", nil).(*api.Mount)
		if !reflect.DeepEqual(m.Config, want) || !m.Local || !m.SealWrap || !m.ExternalEntropyAccess || m.Options["x"] != "y" || m.Type != kindTransit {
			t.Errorf("%+v", m)
		}
		s.Reset()
	}
	a, err = s.call(s.root, op.Write, "sys/mounts/a/tune", fill(func(r *api.TuneMount) {
		r.AuditNonHMACRequestKeys, r.PassthroughRequestHeaders = []string{}, []string{"X-A"}
		r.ListingVisibility, r.Options = new("hidden"), map[string]string{"x": "", "z": "1"}
	}))
	if err != nil || len(a.Warnings) != 1 || !strings.HasSuffix(a.Warnings[0], ": options, passthrough_request_headers") {
		t.Errorf("%v %+v", err, a)
	}
	want.AuditNonHMACRequestKeys, want.PassthroughRequestHeaders, want.ListingVisibility = []string{}, []string{"X-A"}, "hidden"
	tuning := s.must(s.root, op.Read, "sys/mounts/a/tune", nil).(*api.MountTuning)
	if !reflect.DeepEqual(tuning.MountConfig, want) || !maps.Equal(tuning.Options, map[string]string{"z": "1"}) {
		t.Errorf("%+v", tuning)
	}
	s.must(s.root, op.Write, "sys/mounts/a/tune", fill(func(r *api.TuneMount) { r.Options = map[string]string{"y": "2"} }))
	m := s.must(s.root, op.Read, "sys/mounts/a", nil).(*api.Mount)
	if !maps.Equal(m.Options, map[string]string{"y": "2", "z": "1"}) {
		t.Errorf("options do not add up: %v", m.Options)
	}
	if a, err := s.call(s.root, op.Write, "sys/mounts/b", fill(func(r *api.CreateMount) { r.Type = kindTransit })); err != nil || len(a.Warnings) != 0 {
		t.Errorf("%v %+v", err, a)
	}
}

func TestMountSettingsRefuse(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for want, f := range map[string]func(*api.NewMountConfig){
		`listing_visibility is "all"; it must be unauth, hidden or empty`: func(c *api.NewMountConfig) { c.ListingVisibility = new("all") },
		`token_type is "batch"; it must be default-service`:               func(c *api.NewMountConfig) { c.TokenType = new("batch") },
		`plugin_version is "v1"; it must be empty`:                        func(c *api.NewMountConfig) { c.PluginVersion = new("v1") },
		"allowed_managed_keys has 65 entries":                             func(c *api.NewMountConfig) { c.AllowedManagedKeys = make([]string, 65) },
		"allowed_response_headers: an entry has 257 bytes":                func(c *api.NewMountConfig) { c.AllowedResponseHeaders = []string{strings.Repeat("x", 257)} },
		"config.default_lease_ttl: \"soon\" is neither":                   func(c *api.NewMountConfig) { c.DefaultLeaseTTL = "soon" },
		"config.max_lease_ttl: \"-1\" is neither":                         func(c *api.NewMountConfig) { c.MaxLeaseTTL = "-1" },
		"backend max lease TTL of 60 would be less":                       func(c *api.NewMountConfig) { c.DefaultLeaseTTL, c.MaxLeaseTTL = "2m", "1m" },
	} {
		s.refused(fault.Invalid, want, s.root, op.Write, "sys/mounts/x", fill(func(r *api.CreateMount) { r.Type = kindTransit; f(&r.Config) }))
		if strings.HasPrefix(want, "config") || strings.HasPrefix(want, "backend") {
			continue
		}
		s.refused(fault.Invalid, want, s.root, op.Write, "sys/mounts/transit/tune", fill(func(r *api.TuneMount) {
			var c api.NewMountConfig
			f(&c)
			r.MountSettings, r.Description = c.MountSettings, new("changed")
		}))
	}
	many := map[string]string{}
	for i := range 65 {
		many[strconv.Itoa(i)] = "x"
	}
	for want, options := range map[string]map[string]string{
		"options would have 65 entries":           many,
		"names and values have at most 256 bytes": {"x": strings.Repeat("x", 257)},
	} {
		s.refused(fault.Invalid, want, s.root, op.Write, "sys/mounts/x", fill(func(r *api.CreateMount) { r.Type, r.Options = kindTransit, options }))
		s.refused(fault.Invalid, want, s.root, op.Write, "sys/mounts/transit/tune", fill(func(r *api.TuneMount) { r.Options = options }))
	}
	s.refused(fault.Invalid, "No secret engine mount", s.root, op.Read, "sys/mounts/x", nil)
	if m := s.must(s.root, op.Read, "sys/mounts/transit", nil).(*api.Mount); m.Description == "changed" {
		t.Error("a refused change counts")
	}
}

func TestAuthMounts(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	list := *s.must(s.root, op.Read, "sys/auth", nil).(*api.Mounts)
	m := s.must(s.root, op.Read, "sys/auth/token", nil).(*api.Mount)
	if m.Type != "token" || m.Config.TokenType != "default-service" || len(list) != 1 || list["token/"].UUID != m.UUID {
		t.Errorf("%+v", m)
	}
	s.refused(fault.Invalid, "No auth engine at none/", s.root, op.Read, "sys/auth/none", nil)
	enable := func(kind string) func(any) { return fill(func(r *api.EnableAuth) { r.Type = kind }) }
	s.refused(fault.Invalid, "plugin not found in the catalog: userpass", s.root, op.Write, "sys/auth/userpass", enable("userpass"))
	s.refused(fault.Invalid, "backend type must be specified as a string", s.root, op.Write, "sys/auth/x/y", enable(""))
	s.refused(fault.Invalid, "path is already in use at token/", s.root, op.Write, "sys/auth/token/", enable("userpass"))
	s.refused(fault.Invalid, "token credential backend cannot be instantiated", s.root, op.Write, "sys/auth/other", enable("token"))
	s.refused(fault.Invalid, "token credential backend cannot be disabled", s.root, op.Delete, "sys/auth/token/", nil)
	s.must(s.root, op.Delete, "sys/auth/none", nil)
	tune := fill(func(r *api.TuneAuth) { r.Description, r.TokenType = new("for people"), new("default-service") })
	s.must(s.root, op.Write, "sys/auth/token/tune", tune)
	s.refused(fault.Invalid, `tune of path "auth/none/" failed`, s.root, op.Write, "sys/auth/none/tune", tune)
	s.refused(fault.Invalid, `cannot fetch sysview for path "auth/none/"`, s.root, op.Read, "sys/auth/none/tune", nil)
	for range 2 {
		for _, path := range []string{"sys/auth/token/tune", "sys/mounts/auth/token/tune"} {
			got := s.must(s.root, op.Read, path, nil).(*api.MountTuning)
			if got.Description != "for people" || got.TokenType != "default-service" || got.MaxLeaseTTL != hours(768) {
				t.Errorf("%s: %+v", path, got)
			}
		}
		s.Reset()
	}
	s.must(s.root, op.Write, "sys/mounts/auth/token/tune", fill(func(r *api.TuneMount) { r.Description = new("otherwise") }))
	if m := s.must(s.root, op.Read, "sys/auth/token", nil).(*api.Mount); m.Description != "otherwise" {
		t.Errorf("%+v", m)
	}
	s.refused(fault.Invalid, `cannot unmount "auth/token/"`, s.root, op.Delete, "sys/mounts/auth/token", nil)
	s.lookup(s.root)
	token := s.limited(`path "sys/auth/*" { capabilities = ["read", "update", "delete"] }`)
	for _, verb := range []op.Verb{op.Write, op.Delete} {
		s.refused(fault.Denied, "", token, verb, "sys/auth/x", nil)
	}
}

// The tuning of their mount bounds the times of client tokens, at their creation
// and when they are renewed.
func TestTokenTuning(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.must(s.root, op.Write, "sys/auth/token/tune", fill(func(r *api.TuneAuth) { r.DefaultLeaseTTL, r.MaxLeaseTTL = "1h", "2h" }))
	s.Reset()
	a := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"p"} })
	if a.LeaseDuration != 3600 {
		t.Errorf("%+v", a)
	}
	if long := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.TTL = []string{"p"}, hours(5) }); long.LeaseDuration != 7200 {
		t.Errorf("%+v", long)
	}
	s.pass(30 * time.Minute)
	renewed := s.must(a.ClientToken, op.Write, "auth/token/renew-self", fill(func(r *api.RenewToken) { r.Increment = hours(5) })).(*api.Auth)
	if renewed.LeaseDuration != 5400 {
		t.Errorf("%+v", renewed)
	}
}

// Who shows no client token that counts sees only what is meant for all.
func TestVisibleMounts(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.must(s.root, op.Write, "sys/mounts/open", fill(func(r *api.CreateMount) {
		r.Type, r.Description, r.Config.ListingVisibility = kindTransit, "for all", new("unauth")
	}))
	s.mount("closed")
	limited := s.limited(`path "closed/keys/a" { capabilities = ["read"] }`)
	nothing := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.NoDefaultPolicy = []string{"nothing"}, true }).ClientToken
	for _, c := range []struct{ name, token, secret, auth string }{
		{"nobody", "", "open/", ""},
		{"an unknown token", "s.none", "open/", ""},
		{"a token without policies", nothing, "open/", ""},
		{"a token with one key", limited, "closed/ open/ sys/", "token/"},
		{"root", s.root, "closed/ open/ sys/ transit/", "token/"},
	} {
		got := s.must(c.token, op.Read, "sys/internal/ui/mounts", nil).(*api.UIMounts)
		secret := strings.Join(slices.Sorted(maps.Keys(got.Secret)), " ")
		auth := strings.Join(slices.Sorted(maps.Keys(got.Auth)), " ")
		if secret != c.secret || auth != c.auth || got.Secret["open/"].Description != "for all" {
			t.Errorf("%s: %q and %q", c.name, secret, auth)
		}
	}
	once := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.NumUses = []string{"limited"}, 1 }).ClientToken
	s.must(once, op.Read, "sys/internal/ui/mounts", nil)
	s.refused(fault.Denied, "", once, op.Read, "closed/keys/a", nil)
}

func TestCatalog(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.must(s.root, op.Read, "sys/plugins/catalog", nil).(*api.Catalog)
	if !slices.Equal(c.Secret, []string{kindTransit}) || !slices.Equal(c.Auth, []string{"token"}) || c.Database == nil || len(c.Detailed) != 2 {
		t.Errorf("%+v", c)
	}
	if got := s.must(s.root, op.List, "sys/plugins/catalog/secret", nil).(*api.Keys); !slices.Equal(got.Keys, c.Secret) {
		t.Errorf("%+v", got)
	}
	s.refused(fault.Invalid, `there are no engines of type "x"`, s.root, op.List, "sys/plugins/catalog/x", nil)
	if got := s.must(s.root, op.Read, "sys/plugins/catalog/secret/transit", nil).(*api.CatalogPlugin); got.Name != kindTransit || !got.Builtin {
		t.Errorf("%+v", got)
	}
	s.refused(fault.NotFound, "", s.root, op.Read, "sys/plugins/catalog/secret/kv", nil)
	s.refused(fault.NotFound, "", s.root, op.Read, "sys/plugins/catalog/x/kv", nil)
}
