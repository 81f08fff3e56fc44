package server

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/config"
)

// TestPolicyParameters: the parameters that a policy rules are those that the
// operation gets, however a caller writes them.
func TestPolicyParameters(t *testing.T) {
	t.Parallel()
	s := running(t, config.Dev(t.TempDir()), Options{Dev: &Dev{RootTokenID: "root"}})
	policy := func(name, text string) {
		t.Helper()
		if status := do(t, s, "PUT", "sys/policies/acl/"+name, "root", map[string]string{"policy": text}, nil); status != 204 {
			t.Fatalf("policy: status %d", status)
		}
	}
	policy("maker", `path "transit/keys/+" {
  capabilities = ["create", "update"]
  denied_parameters = { "exportable" = [true], "type" = ["rsa*"] }
}
path "transit/sign/+" {
  capabilities = ["update"]
  required_parameters = ["key_version"]
  allowed_parameters = { "input" = [], "key_version" = [], "hash_algorithm" = ["sha2-256", "sha2-512"] }
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
  min_wrapping_ttl = "10s"
}`)
	var made struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		}
	}
	if status := do(t, s, "PUT", "auth/token/create", "root", map[string]any{"policies": "maker", "no_default_policy": true, "type": "batch"}, &made); status != 200 {
		t.Fatalf("token: status %d", status)
	}
	token := made.Auth.ClientToken
	if status := do(t, s, "PUT", "transit/keys/p", "root", map[string]string{"type": "ecdsa-p256"}, nil); status != 200 {
		t.Fatalf("key: status %d", status)
	}
	const form = "Content-Type: application/x-www-form-urlencoded"
	for i, c := range []struct {
		method, path, body string
		header             string
		want               int
	}{
		{"PUT", "transit/keys/new", `{"type":"aes256-gcm96","exportable":false}`, "", 200},
		{"PUT", "transit/keys/no", `{"exportable":true}`, "", 403},
		{"PUT", "transit/keys/no", `{"exportable":"true"}`, "", 403},
		{"PUT", "transit/keys/no", `{"exportable":"1"}`, "", 403},
		{"PUT", "transit/keys/no", `{"Exportable":true}`, "", 403},
		{"PUT", "transit/keys/no", `{"exportable":false,"exportable":true}`, "", 403},
		{"PUT", "transit/keys/no", "{\"exportab\\u006ce\":true}", "", 403},
		{"PUT", "transit/keys/no", `exportable=t`, form, 403},
		{"PUT", "transit/keys/no", `EXPORTABLE=true`, form, 403},
		{"PUT", "transit/keys/no", `{"type":"rsa-2048"}`, "", 403},
		{"PUT", "transit/sign/p", `{"input":"aGk=","key_version":0}`, "", 200},
		{"PUT", "transit/sign/p", `{"input":"aGk=","key_version":"1","hash_algorithm":"sha2-512"}`, "", 200},
		{"PUT", "transit/sign/p", `input=aGk%3D&key_version=0`, form, 200},
		{"PUT", "transit/sign/p", `{"input":"aGk="}`, "", 403},
		{"PUT", "transit/sign/p", `{"input":"aGk=","key_version":1,"hash_algorithm":"sha1"}`, "", 403},
		{"PUT", "transit/sign/p", `{"input":"aGk=","key_version":1,"algorithm":"sha2-256"}`, "", 403},
		{"PUT", "transit/sign/p", `{"input":"aGk=","key_version":1,"foreign":1}`, "", 403},
		{"PUT", "transit/sign/p", `{"key_version":1,"batch_input":[{"input":"aGk="}]}`, "", 403},
		{"GET", "auth/token/lookup-self", "", "", 403},
		{"GET", "auth/token/lookup-self", "", "X-Vault-Wrap-TTL: 9", 403},
		{"GET", "auth/token/lookup-self", "", "X-Vault-Wrap-TTL: 10s", 200},
	} {
		r, err := http.NewRequest(c.method, s.Addresses()[0]+"/v1/"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Vault-Token", token)
		if name, value, ok := strings.Cut(c.header, ": "); ok {
			r.Header.Set(name, value)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != c.want {
			t.Errorf("%s %s %s: status %d %s %v, want %d", c.method, c.path, c.body, answer.StatusCode, body, err, c.want)
		}
		if c.want == 403 && !strings.Contains(string(body), "permission denied") {
			t.Errorf("call %d: %s", i, body)
		}
	}
	if status := do(t, s, "GET", "transit/keys/no", "root", nil, nil); status != 404 {
		t.Errorf("a refused key was made: status %d", status)
	}
}
