package e2e

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// Derived keys whose secret never leaves SoftHSM2, of types too that it does not
// know itself, serve everything, and again after a restart of the server.
func TestDerivedInSoftHSM(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	const plain, a, b = "cGxhaW4=", "YQ==", "Yg=="
	type made struct{ path, ciphertext string }
	var all []made
	for _, typ := range []string{"aes128-gcm96", "aes256-gcm96", "chacha20-poly1305"} {
		for _, protection := range []string{"wrapped", "token", ""} {
			name := typ + "-" + protection + "-k"
			k := s.OK(t, "POST", "transit/keys/"+name, map[string]any{
				"type": typ, "protection": protection, "derived": true, "convergent_encryption": true})
			if protection == "" {
				protection = "wrapped"
			}
			if k["protection"] != protection || k["kdf"] != "hkdf_sha256" {
				t.Errorf("%s: %v", name, k)
			}
			sealed := s.OK(t, "POST", "transit/encrypt/"+name, map[string]any{"plaintext": plain, "context": a})["ciphertext"].(string)
			all = append(all, made{name, sealed})
		}
	}
	s.OK(t, "POST", "transit/keys/ed", map[string]any{"type": "ed25519", "derived": true})
	signed := s.OK(t, "POST", "transit/sign/ed", map[string]any{"input": plain, "context": a})
	s.Stop()
	s.Start(t)
	s.Unseal(t, s.Shares...)
	for _, m := range all {
		if p := s.OK(t, "POST", "transit/decrypt/"+m.path, map[string]any{"ciphertext": m.ciphertext, "context": a})["plaintext"]; p != plain {
			t.Errorf("%s: %v", m.path, p)
		}
		if status, body := s.Do(t, "POST", "transit/decrypt/"+m.path, map[string]any{"ciphertext": m.ciphertext, "context": b}); status != 400 {
			t.Errorf("%s: status %d: %v", m.path, status, body)
		}
		again := s.OK(t, "POST", "transit/encrypt/"+m.path, map[string]any{"plaintext": plain, "context": a})["ciphertext"]
		if again != m.ciphertext {
			t.Errorf("%s: %v, want %s", m.path, again, m.ciphertext)
		}
	}
	shown := s.OK(t, "GET", "transit/keys/ed?context=YQ%3D%3D", nil)["keys"].(map[string]any)["1"].(map[string]any)["public_key"]
	if shown != signed["public_key"] {
		t.Errorf("public keys %v and %v", shown, signed["public_key"])
	}
	public, err := base64.StdEncoding.DecodeString(shown.(string))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signed["signature"].(string), "vault:v1:"))
	if err != nil || !ed25519.Verify(public, []byte("plain"), sig) {
		t.Errorf("the signature is wrong: %v", err)
	}
}
