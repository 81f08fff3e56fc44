package e2e

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"github.com/claviger/claviger/internal/token/tokentest"
)

// A key that pkcs11-tool made in the token of the server becomes a named key; both
// use it, and it outlives the named key.
func TestAdoptedKey(t *testing.T) {
	t.Parallel()
	s, pin := adopted(t)
	tool := func(args ...string) []byte {
		t.Helper()
		return tokentest.Tool(t, s.Module, "claviger-test", pin, s.Env, args...)
	}
	tool("--keypairgen", "--key-type", "rsa:2048", "--label", "ca-signer", "--id", "0a1b")
	list := s.OK(t, "GET", "sys/hsm/objects?label=ca-signer", nil)["objects"].([]any)
	if len(list) != 1 || list[0].(map[string]any)["type"] != "rsa-2048" || list[0].(map[string]any)["id"] != "0a1b" {
		t.Fatalf("%v", list)
	}
	if status, body := s.Do(t, "POST", "transit/keys/kek/adopt", map[string]any{"label": "claviger-kek"}); status != 400 {
		t.Errorf("adopting the KEK: status %d: %v", status, body)
	}
	k := s.OK(t, "POST", "transit/keys/ca/adopt", map[string]any{"id": "0a1b"})
	if k["adopted"] != true || k["protection"] != "token" {
		t.Errorf("%v", k)
	}
	data := filepath.Join(t.TempDir(), "data")
	sig, text := data+".sig", base64.StdEncoding.EncodeToString([]byte("text"))
	if err := os.WriteFile(data, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool("--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", "0a1b", "--input-file", data, "--output-file", sig)
	theirs, err := os.ReadFile(sig)
	if err != nil {
		t.Fatal(err)
	}
	ours := s.OK(t, "POST", "transit/sign/ca", map[string]any{"input": text, "signature_algorithm": "pkcs1v15"})["signature"]
	if want := "vault:v1:" + base64.StdEncoding.EncodeToString(theirs); ours != want {
		t.Errorf("the server signs %v, pkcs11-tool %s", ours, want)
	}
	s.OK(t, "POST", "transit/keys/ca/rotate", nil)
	s.OK(t, "POST", "transit/keys/ca/config", map[string]any{"deletion_allowed": true})
	if status, body := s.Do(t, "DELETE", "transit/keys/ca", nil); status != 204 {
		t.Fatalf("status %d: %v", status, body)
	}
	tool("--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", "0a1b", "--input-file", data, "--output-file", sig)
	if left := s.OK(t, "GET", "sys/hsm/objects?label=transit/ca", nil)["objects"].([]any); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
