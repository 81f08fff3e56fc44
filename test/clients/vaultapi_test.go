package clients

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/claviger/claviger/test/harness"
)

// TestVaultAPI uses a server as programs on HashiCorp's Go client do.
func TestVaultAPI(t *testing.T) {
	onTokensParallel(t, func(t *testing.T, s *harness.Server) {
		c := vaultClient(t, s.Addr, s.RootToken)
		vaultState(t, c)
		vaultKeys(t, c)
		vaultTokens(t, s, c)
		vaultWraps(t, s, c)
		vaultWatches(t, s, c)
		vaultRetries(t, s)
	})
}

func vaultClient(t *testing.T, addr, token string) *api.Client {
	t.Helper()
	cfg := api.DefaultConfig()
	if cfg.Error != nil {
		t.Fatal(cfg.Error)
	}
	cfg.Address = addr
	cfg.MinRetryWait, cfg.MaxRetryWait = time.Millisecond, 10*time.Millisecond
	c, err := api.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(token)
	return c
}

func vaultState(t *testing.T, c *api.Client) {
	t.Helper()
	if h, err := c.Sys().Health(); err != nil || !h.Initialized || h.Sealed || h.Standby || h.Version == "" {
		t.Errorf("health: %+v, %v", h, err)
	}
	if s, err := c.Sys().SealStatus(); err != nil || s.Sealed || !s.Initialized || s.Version == "" {
		t.Errorf("seal status: %+v, %v", s, err)
	}
	if l, err := c.Sys().Leader(); err != nil || l.HAEnabled && !l.IsSelf {
		t.Errorf("leader: %+v, %v", l, err)
	}
	if m, err := c.Sys().ListMounts(); err != nil || m["transit/"] == nil || m["transit/"].Type != "transit" {
		t.Errorf("mounts: %+v, %v", m, err)
	}
	if err := c.Sys().PutPolicy("app", `path "transit/encrypt/app" { capabilities = ["update"] }`); err != nil {
		t.Errorf("policy: %v", err)
	}
	if p, err := c.Sys().GetPolicy("app"); err != nil || p == "" {
		t.Errorf("policy: %q, %v", p, err)
	}
	if all, err := c.Sys().ListPolicies(); err != nil || !slices.Contains(all, "app") {
		t.Errorf("policies: %v, %v", all, err)
	}
	if p, err := c.Sys().GetPolicy("absent"); err != nil || p != "" {
		t.Errorf("an absent policy: %q, %v", p, err)
	}
	if _, err := c.WithNamespace("team").Logical().Write("transit/keys/app", nil); statusOf(err) != http.StatusNotFound {
		t.Errorf("in a namespace: %v", err)
	}
	if caps, err := c.Sys().CapabilitiesSelf("transit/encrypt/app"); err != nil || !slices.Equal(caps, []string{"root"}) {
		t.Errorf("capabilities: %v, %v", caps, err)
	}
}

func vaultWrite(t *testing.T, c *api.Client, path string, data map[string]any) map[string]any {
	t.Helper()
	secret, err := c.Logical().Write(path, data)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if secret == nil {
		return nil
	}
	return secret.Data
}

func vaultKeys(t *testing.T, c *api.Client) {
	t.Helper()
	if list, err := c.Logical().List("transit/keys"); list != nil || err != nil {
		t.Errorf("a list of nothing: %+v, %v", list, err)
	}
	if k, err := c.Logical().Read("transit/keys/absent"); k != nil || err != nil {
		t.Errorf("an absent key: %+v, %v", k, err)
	}
	plaintext := base64.StdEncoding.EncodeToString([]byte("hello"))
	vaultWrite(t, c, "transit/keys/app", nil)
	sealed := vaultWrite(t, c, "transit/encrypt/app", map[string]any{"plaintext": plaintext, "associated_data": "YWFk"})
	vaultWrite(t, c, "transit/keys/app/rotate", nil)
	again := vaultWrite(t, c, "transit/rewrap/app", map[string]any{"ciphertext": sealed["ciphertext"], "associated_data": "YWFk"})
	if again["key_version"] != json.Number("2") {
		t.Errorf("rewrapped: %v", again)
	}
	opened := vaultWrite(t, c, "transit/decrypt/app", map[string]any{"ciphertext": again["ciphertext"], "associated_data": "YWFk"})
	if opened["plaintext"] != plaintext {
		t.Errorf("decrypted: %v", opened)
	}
	for _, typ := range []string{"ecdsa-p256", "rsa-2048", "ed25519"} {
		vaultWrite(t, c, "transit/keys/"+typ, map[string]any{"type": typ})
		sig := vaultWrite(t, c, "transit/sign/"+typ, map[string]any{"input": plaintext})
		ok := vaultWrite(t, c, "transit/verify/"+typ, map[string]any{"input": plaintext, "signature": sig["signature"]})
		if ok["valid"] != true {
			t.Errorf("%s: %v", typ, ok)
		}
	}
	list, err := c.Logical().List("transit/keys")
	if err != nil || len(list.Data["keys"].([]any)) != 4 {
		t.Errorf("list: %+v, %v", list, err)
	}
	if _, err := c.Logical().Delete("transit/keys/app"); statusOf(err) != http.StatusBadRequest {
		t.Errorf("deleting a key that may not be deleted: %v", err)
	}
}

// statusOf is the HTTP status behind an error, 0 if there is none.
func statusOf(err error) int {
	if e, ok := errors.AsType[*api.ResponseError](err); ok {
		return e.StatusCode
	}
	return 0
}

func vaultTokens(t *testing.T, s *harness.Server, c *api.Client) {
	t.Helper()
	secret, err := c.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"app"}, TTL: "1h", DisplayName: "app", Metadata: map[string]string{"team": "a"}})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	app := vaultClient(t, s.Addr, secret.Auth.ClientToken)
	self, err := app.Auth().Token().LookupSelf()
	if err != nil {
		t.Fatalf("lookup-self: %v", err)
	}
	policies, err := self.TokenPolicies()
	if err != nil || !slices.Equal(policies, []string{"app", "default"}) {
		t.Errorf("policies: %v, %v", policies, err)
	}
	if ttl, err := self.TokenTTL(); err != nil || ttl < 59*time.Minute || ttl > time.Hour {
		t.Errorf("ttl: %v, %v", ttl, err)
	}
	if renewable, err := self.TokenIsRenewable(); err != nil || !renewable {
		t.Errorf("renewable: %v, %v", renewable, err)
	}
	if meta, err := self.TokenMetadata(); err != nil || meta["team"] != "a" {
		t.Errorf("metadata: %v, %v", meta, err)
	}
	if accessor, err := self.TokenAccessor(); err != nil || accessor != secret.Auth.Accessor {
		t.Errorf("accessor: %v, %v", accessor, err)
	}
	renewed, err := app.Auth().Token().RenewSelf(1800)
	if err != nil || renewed.Auth.LeaseDuration != 1800 || !renewed.Auth.Renewable {
		t.Errorf("renew-self: %+v, %v", renewed, err)
	}
	vaultWrite(t, app, "transit/encrypt/app", map[string]any{"plaintext": "aGk="})
	if _, err := app.Logical().Write("transit/decrypt/app", map[string]any{"ciphertext": "vault:v1:AAAA"}); statusOf(err) != http.StatusForbidden {
		t.Errorf("what the policy does not allow: %v", err)
	}
	if err := app.Auth().Token().RevokeSelf(""); err != nil {
		t.Errorf("revoke-self: %v", err)
	}
	if _, err := app.Auth().Token().LookupSelf(); statusOf(err) != http.StatusForbidden {
		t.Errorf("a revoked token: %v", err)
	}
}

func vaultWraps(t *testing.T, s *harness.Server, c *api.Client) {
	t.Helper()
	wrapping, err := c.Clone()
	if err != nil {
		t.Fatal(err)
	}
	wrapping.SetToken(s.RootToken)
	wrapping.SetWrappingLookupFunc(func(string, string) string { return "2m" })
	secret, err := wrapping.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"app"}})
	if err != nil || secret.WrapInfo == nil || secret.WrapInfo.TTL != 120 {
		t.Fatalf("wrapped: %+v, %v", secret, err)
	}
	user := vaultClient(t, s.Addr, secret.WrapInfo.Token)
	opened, err := user.Logical().Unwrap("")
	if err != nil || opened.Auth == nil || opened.Auth.Accessor != secret.WrapInfo.WrappedAccessor {
		t.Fatalf("unwrap: %+v, %v", opened, err)
	}
	if again, err := user.Logical().Unwrap(""); err == nil {
		t.Errorf("unwrapped twice: %+v", again)
	}
}

// vaultWatches keeps a token of ten seconds alive for longer, with the client's
// LifetimeWatcher, as agents do.
func vaultWatches(t *testing.T, s *harness.Server, c *api.Client) {
	t.Helper()
	secret, err := c.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"app"}, Period: "10s"})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	app := vaultClient(t, s.Addr, secret.Auth.ClientToken)
	w, err := app.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	go w.Start()
	defer w.Stop()
	end := time.After(11 * time.Second)
	for renewals := 0; ; {
		select {
		case err := <-w.DoneCh():
			t.Fatalf("the watcher ended after %d renewals: %v", renewals, err)
		case r := <-w.RenewCh():
			if renewals++; r.Secret.Auth.LeaseDuration != 10 {
				t.Errorf("renewed: %+v", r.Secret.Auth)
			}
		case <-end:
			if _, err := app.Auth().Token().LookupSelf(); err != nil || renewals < 2 {
				t.Errorf("after %d renewals: %v", renewals, err)
			}
			return
		}
	}
}

// vaultRetries comes through a proxy that answers 503 at first.
func vaultRetries(t *testing.T, s *harness.Server) {
	t.Helper()
	to, err := url.Parse(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	proxy := httputil.NewSingleHostReverseProxy(to)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	c := vaultClient(t, front.URL, s.RootToken)
	secret, err := c.Logical().WriteWithContext(context.Background(), "transit/encrypt/app", map[string]any{"plaintext": "aGk="})
	if err != nil || secret.Data["ciphertext"] == nil || calls.Load() != 3 {
		t.Errorf("after %d calls: %+v, %v", calls.Load(), secret, err)
	}
}
