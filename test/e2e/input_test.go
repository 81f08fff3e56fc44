package e2e

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// TestBadInput is promise P4 over HTTP: each wrong input gets a status and a
// text that says what was wrong, and the key still works afterwards.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	s.OK(t, "POST", "transit/keys/k", nil)
	s.OK(t, "POST", "transit/keys/p256", map[string]any{"type": "ecdsa-p256"})
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		text                     string
	}{
		{"not JSON", "POST", "transit/encrypt/k", `plaintext=aGk`, 400, ""},
		{"cut JSON", "POST", "transit/encrypt/k", `{"plaintext":"aGk=`, 400, ""},
		{"an array", "POST", "transit/encrypt/k", `[1]`, 400, ""},
		{"wrong type", "POST", "transit/encrypt/k", `{"plaintext":{"a":1}}`, 400, "plaintext"},
		{"no base64", "POST", "transit/encrypt/k", `{"plaintext":"***"}`, 400, "base64"},
		{"nothing to encrypt", "POST", "transit/encrypt/k", `{}`, 400, "missing plaintext to encrypt"},
		{"deep JSON", "POST", "transit/encrypt/k", strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000), 400, "deep"},
		{"huge body", "POST", "transit/encrypt/k", `{"plaintext":"` + strings.Repeat("A", 33<<20) + `"}`, 413, ""},
		{"unknown key", "POST", "transit/decrypt/absent", `{"ciphertext":"vault:v1:AAAA"}`, 400, "encryption key not found"},
		{"unknown type", "POST", "transit/keys/new", `{"type":"rot13"}`, 400, "unknown key type rot13"},
		{"no prefix", "POST", "transit/decrypt/k", `{"ciphertext":"AAAA"}`, 400, "invalid ciphertext: no prefix"},
		{"version too new", "POST", "transit/decrypt/k", `{"ciphertext":"vault:v9:AAAA"}`, 400, "invalid ciphertext: version is too new"},
		{"truncated", "POST", "transit/decrypt/k", `{"ciphertext":"vault:v1:AAAA"}`, 400, ""},
		{"sign with an AES key", "POST", "transit/sign/k", `{"input":"aGk="}`, 400, "does not support signing"},
		{"a type that SoftHSM2 can't hold", "POST", "transit/keys/new", `{"type":"chacha20-poly1305"}`, 400, "software"},
		{"exportable", "POST", "transit/keys/new", `{"exportable":true}`, 400, ""},
		{"export", "GET", "transit/export/encryption-key/k", ``, 400, "private key material is not exportable"},
		{"delete without leave", "DELETE", "transit/keys/k", ``, 400, "deletion is not allowed"},
		{"wrong verb", "DELETE", "transit/encrypt/k", ``, 405, "unsupported operation"},
		{"no such mount", "GET", "nowhere/at/all", ``, 404, "no handler for route"},
		{"absent key", "GET", "transit/keys/absent", ``, 404, ""},
		{"second init", "PUT", "sys/init", `{"secret_shares":1,"secret_threshold":1}`, 400, "already initialized"},
		{"bad policy", "PUT", "sys/policies/acl/p", `{"policy":"path {"}`, 400, "failed to parse policy"},
	} {
		status, body, err := s.Try(c.method, c.path, s.RootToken, c.body)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if status != c.status || !strings.Contains(fmt.Sprint(body["errors"]), c.text) {
			t.Errorf("%s: status %d: %v, want %d and %q", c.name, status, body, c.status, c.text)
		}
	}
	if status, _, _ := s.Try("GET", "transit/keys/k", "s.wrong", nil); status != 403 {
		t.Errorf("an unknown client token: status %d", status)
	}
	everyBit(t, s)
}

// everyBit changes each bit of a ciphertext: none may decrypt, all answers are
// the same (promise P7).
func everyBit(t *testing.T, s *harness.Server) {
	t.Helper()
	data := s.OK(t, "POST", "transit/encrypt/k", map[string]any{"plaintext": "aGVsbG8="})
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(data["ciphertext"].(string), "vault:v1:"))
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]int{}
	for bit := range len(raw) * 8 {
		raw[bit/8] ^= 1 << (bit % 8)
		status, body := s.Do(t, "POST", "transit/decrypt/k", map[string]any{
			"ciphertext": "vault:v1:" + base64.StdEncoding.EncodeToString(raw),
		})
		raw[bit/8] ^= 1 << (bit % 8)
		answers[fmt.Sprint(status, body["errors"])]++
	}
	if len(answers) != 1 || !strings.HasPrefix(firstKey(answers), "400") {
		t.Errorf("a changed bit gives different answers: %v", answers)
	}
	s.OK(t, "POST", "transit/decrypt/k", map[string]any{"ciphertext": data["ciphertext"]})
}

func firstKey(m map[string]int) string {
	for k := range m {
		return k
	}
	return ""
}

// TestShares: a bad, foreign or repeated share is refused at once and does not count.
func TestShares(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{Sealed: true})
	s.Init(t, 5, 3)
	other := harness.SoftHSM(t, harness.Options{Sealed: true})
	other.Init(t, 5, 3)

	unseal := func(share string) (int, map[string]any) {
		return s.Do(t, "PUT", "sys/unseal", map[string]any{"key": share})
	}
	if status, body := unseal(s.Shares[0]); status != 200 || body["progress"] != 1.0 {
		t.Fatalf("the first share: status %d: %v", status, body)
	}
	altered := []byte(s.Shares[1])
	altered[len(altered)/2] ^= 1
	for name, share := range map[string]string{
		"repeated": s.Shares[0], "foreign": other.Shares[1], "altered": string(altered),
		"empty": "", "no encoding": "this is no share", "truncated": s.Shares[1][:20],
	} {
		if status, body := unseal(share); status != 400 || body["errors"] == nil {
			t.Errorf("a share that is %s: status %d: %v, want 400", name, status, body)
		}
		if _, body := s.Do(t, "GET", "sys/seal-status", nil); body["progress"] != 1.0 || body["sealed"] != true {
			t.Errorf("a share that is %s counted: %v", name, body)
		}
	}
	unseal(s.Shares[3])
	if status, body := unseal(s.Shares[4]); status != 200 || body["sealed"] != false {
		t.Errorf("three good shares: status %d: %v", status, body)
	}
}
