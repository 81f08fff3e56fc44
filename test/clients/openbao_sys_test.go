package clients

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/openbao/openbao/api/v2"

	"github.com/claviger/claviger/test/harness"
)

// TestOpenBaoWraps hands a client token over by a wrapping token, with
// OpenBao's Go client.
func TestOpenBaoWraps(t *testing.T) {
	onTokensParallel(t, openbaoWraps)
}

func openbaoWraps(t *testing.T, s *harness.Server) {
	t.Helper()
	c := openbaoClient(t, s)
	c.SetToken(s.RootToken)
	wrapping, err := c.Clone()
	if err != nil {
		t.Fatal(err)
	}
	wrapping.SetToken(s.RootToken)
	wrapping.SetWrappingLookupFunc(func(string, string) string { return "60s" })
	secret, err := wrapping.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"default"}})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	i := secret.WrapInfo
	if i == nil || i.TTL != 60 || i.CreationPath != "auth/token/create" || i.WrappedAccessor == "" || time.Since(i.CreationTime) > time.Minute || secret.Auth != nil || secret.Data != nil {
		t.Fatalf("wrapped: %+v, %+v", secret, i)
	}
	user := openbaoClient(t, s)
	user.SetToken(i.Token)
	opened, err := user.Logical().Unwrap("")
	if err != nil || opened.Auth == nil || opened.Auth.Accessor != i.WrappedAccessor {
		t.Fatalf("unwrap: %+v, %v", opened, err)
	}
	if again, err := user.Logical().Unwrap(""); err == nil {
		t.Fatalf("unwrapped twice: %+v", again)
	}
	user.SetToken(opened.Auth.ClientToken)
	if _, err := user.Auth().Token().LookupSelf(); err != nil {
		t.Errorf("the wrapped token: %v", err)
	}
	openbaoWrapsData(t, c, user)
}

// openbaoWrapsData wraps data, looks it up, and opens it with another token.
func openbaoWrapsData(t *testing.T, c, user *api.Client) {
	t.Helper()
	secret, err := c.Logical().Write("sys/wrapping/wrap", map[string]any{"n": 1.5, "s": "<x>"})
	if err != nil || secret.WrapInfo == nil {
		t.Fatalf("wrap: %+v, %v", secret, err)
	}
	about, err := c.Logical().Write("sys/wrapping/lookup", map[string]any{"token": secret.WrapInfo.Token})
	if err != nil || about.Data["creation_path"] != "sys/wrapping/wrap" || about.Data["creation_ttl"] != json.Number("300") {
		t.Fatalf("lookup: %+v, %v", about, err)
	}
	again, err := c.Logical().Write("sys/wrapping/rewrap", map[string]any{"token": secret.WrapInfo.Token})
	if err != nil || again.WrapInfo == nil {
		t.Fatalf("rewrap: %+v, %v", again, err)
	}
	opened, err := user.Logical().Unwrap(again.WrapInfo.Token)
	if err != nil || opened.Data["n"] != json.Number("1.5") || opened.Data["s"] != "<x>" {
		t.Fatalf("unwrap: %+v, %v", opened, err)
	}
}

// TestOpenBaoMounts tunes and unmounts an engine with OpenBao's Go client.
func TestOpenBaoMounts(t *testing.T) {
	onTokensParallel(t, openbaoMounts)
}

func openbaoMounts(t *testing.T, s *harness.Server) {
	t.Helper()
	c := openbaoClient(t, s)
	c.SetToken(s.RootToken)
	if err := c.Sys().Mount("a/b", &api.MountInput{Type: "transit"}); err != nil {
		t.Fatalf("mount: %v", err)
	}
	words := "words"
	if err := c.Sys().TuneMount("a/b", api.MountConfigInput{Description: &words, DefaultLeaseTTL: "1h", MaxLeaseTTL: "2h"}); err != nil {
		t.Fatalf("tune: %v", err)
	}
	if err := c.Sys().TuneMount("a/b", api.MountConfigInput{MaxLeaseTTL: "3h"}); err != nil {
		t.Fatalf("tune: %v", err)
	}
	tuned, err := c.Sys().MountConfig("a/b")
	if err != nil || tuned.DefaultLeaseTTL != 3600 || tuned.MaxLeaseTTL != 10800 {
		t.Fatalf("tuning: %+v, %v", tuned, err)
	}
	if _, err := c.Logical().Write("a/b/keys/k", nil); err != nil {
		t.Fatalf("key: %v", err)
	}
	if err := c.Sys().Unmount("a/b"); err != nil {
		t.Fatalf("unmount: %v", err)
	}
	if _, err := c.Logical().Write("a/b/keys/k", nil); err == nil {
		t.Error("an unmounted engine answers")
	}
	if err := c.Sys().Mount("a/b", &api.MountInput{Type: "transit"}); err != nil {
		t.Fatalf("mount again: %v", err)
	}
	if k, err := c.Logical().Read("a/b/keys/k"); err != nil || k != nil {
		t.Errorf("a key outlived its mount: %+v, %v", k, err)
	}
}

// TestOpenBaoStatus asks for the state of the server with OpenBao's Go client.
func TestOpenBaoStatus(t *testing.T) {
	onTokensParallel(t, openbaoStatus)
}

func openbaoStatus(t *testing.T, s *harness.Server) {
	t.Helper()
	c := openbaoClient(t, s)
	c.SetToken(s.RootToken)
	key, err := c.Sys().KeyStatus()
	if err != nil || key.Term != 1 || time.Since(key.InstallTime) > time.Hour {
		t.Errorf("key status: %+v, %v", key, err)
	}
	ha, err := c.Sys().HAStatus()
	if err != nil || len(ha.Nodes) != 1 || !ha.Nodes[0].ActiveNode || ha.Nodes[0].Hostname == "" {
		t.Errorf("HA status: %+v, %v", ha, err)
	}
	sum, err := c.Logical().Write("sys/tools/hash/sha2-256", map[string]any{"input": ""})
	if err != nil || sum.Data["sum"] != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("hash: %+v, %v", sum, err)
	}
	for path, letters := range map[string]int{"random": 44, "random/16": 24, "random/all/16": 24} {
		r, err := c.Logical().Write("sys/tools/"+path, nil)
		if err != nil || len(r.Data["random_bytes"].(string)) != letters {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
	}
}
