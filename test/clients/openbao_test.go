package clients

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/openbao/openbao/api/v2"

	"github.com/claviger/claviger/test/harness"
)

// TestOpenBao uses a server with OpenBao's Go client only; a new one it
// initialises and unseals.
func TestOpenBao(t *testing.T) {
	onNewTokens(t, func(t *testing.T, s *harness.Server) {
		c := openbaoClient(t, s)
		if c.SetToken(s.RootToken); s.RootToken == "" {
			openbaoUnseals(t, c)
		}
		openbaoEncrypts(t, c)
		openbaoSigns(t, c)
		openbaoLists(t, c)
	})
}

func openbaoClient(t *testing.T, s *harness.Server) *api.Client {
	t.Helper()
	cfg := api.DefaultConfig()
	cfg.Address = s.Addr
	c, err := api.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func openbaoUnseals(t *testing.T, c *api.Client) {
	t.Helper()
	health, err := c.Sys().Health()
	if err != nil || health.Initialized || !health.Sealed {
		t.Fatalf("health of a new server: %+v, %v", health, err)
	}
	init, err := c.Sys().Init(&api.InitRequest{SecretShares: 3, SecretThreshold: 2})
	if err != nil {
		t.Fatalf("init: %v", err)
	}
	if _, err := c.Sys().Unseal("00" + init.KeysB64[0][2:]); err == nil {
		t.Error("an altered share was taken")
	}
	for _, share := range init.KeysB64[1:] {
		if _, err := c.Sys().Unseal(share); err != nil {
			t.Fatalf("unseal: %v", err)
		}
	}
	status, err := c.Sys().SealStatus()
	if err != nil || status.Sealed || status.N != 3 || status.T != 2 {
		t.Fatalf("seal status: %+v, %v", status, err)
	}
	c.SetToken(init.RootToken)
	self, err := c.Auth().Token().LookupSelf()
	if err != nil || self.Data["display_name"] != "root" {
		t.Fatalf("lookup-self: %+v, %v", self, err)
	}
}

func openbaoEncrypts(t *testing.T, c *api.Client) {
	t.Helper()
	ctx := context.Background()
	if _, err := c.Logical().Write("transit/keys/aes", nil); err != nil {
		t.Fatalf("creating a key: %v", err)
	}
	plaintext := base64.StdEncoding.EncodeToString([]byte("hello, token"))
	enc, err := c.Logical().WriteWithContext(ctx, "transit/encrypt/aes", map[string]any{"plaintext": plaintext})
	if err != nil {
		t.Fatalf("encrypt: %v", err)
	}
	if _, err := c.Logical().Write("transit/keys/aes/rotate", nil); err != nil {
		t.Fatalf("rotate: %v", err)
	}
	re, err := c.Logical().Write("transit/rewrap/aes", map[string]any{"ciphertext": enc.Data["ciphertext"]})
	if err != nil || re.Data["key_version"] != json.Number("2") {
		t.Fatalf("rewrap: %+v, %v", re, err)
	}
	dec, err := c.Logical().Write("transit/decrypt/aes", map[string]any{"ciphertext": re.Data["ciphertext"]})
	if err != nil || dec.Data["plaintext"] != plaintext {
		t.Fatalf("decrypt: %+v, %v", dec, err)
	}
}

func openbaoSigns(t *testing.T, c *api.Client) {
	t.Helper()
	if _, err := c.Logical().Write("transit/keys/p256", map[string]any{"type": "ecdsa-p256"}); err != nil {
		t.Fatalf("creating a key: %v", err)
	}
	input := base64.StdEncoding.EncodeToString([]byte("sign this"))
	sig, err := c.Logical().Write("transit/sign/p256", map[string]any{"input": input})
	if err != nil {
		t.Fatalf("sign: %v", err)
	}
	ok, err := c.Logical().Write("transit/verify/p256", map[string]any{"input": input, "signature": sig.Data["signature"]})
	if err != nil || ok.Data["valid"] != true {
		t.Fatalf("verify: %+v, %v", ok, err)
	}
}

func openbaoLists(t *testing.T, c *api.Client) {
	t.Helper()
	list, err := c.Logical().List("transit/keys")
	if err != nil || len(list.Data["keys"].([]any)) != 2 {
		t.Fatalf("list: %+v, %v", list, err)
	}
	absent, err := c.Logical().Read("transit/keys/absent")
	if err != nil || absent != nil {
		t.Fatalf("an absent key: %+v, %v, want nil and no error", absent, err)
	}
	if err := c.Sys().PutPolicy("app", `path "transit/encrypt/aes" { capabilities = ["update"] }`); err != nil {
		t.Fatalf("policy: %v", err)
	}
	secret, err := c.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"app"}, TTL: "1h"})
	if err != nil {
		t.Fatalf("token create: %v", err)
	}
	app, err := c.Clone()
	if err != nil {
		t.Fatal(err)
	}
	app.SetToken(secret.Auth.ClientToken)
	if _, err := app.Logical().Write("transit/encrypt/aes", map[string]any{"plaintext": "aGk="}); err != nil {
		t.Errorf("what the policy allows: %v", err)
	}
	if _, err := app.Logical().Write("transit/decrypt/aes", map[string]any{"ciphertext": "vault:v1:AAAA"}); err == nil {
		t.Error("what the policy does not allow was done")
	}
	mounts, err := c.Sys().ListMounts()
	if err != nil || mounts["transit/"] == nil {
		t.Fatalf("mounts: %+v, %v", mounts, err)
	}
}
