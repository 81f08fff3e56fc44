package e2e

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// TestTokenRoles checks what roles of client tokens look like on the wire:
// statuses, types of fields, empty lists, weak types of input.
func TestTokenRoles(t *testing.T) {
	t.Parallel()
	s := harness.Dev(t)
	fails := func(want int, text, method, path string, body any) {
		t.Helper()
		status, answer := s.Do(t, method, path, body)
		if got := fmt.Sprint(answer["errors"]); status != want || got != text {
			t.Errorf("%s %s: status %d, %s; want %d, %s", method, path, status, got, want, text)
		}
	}
	fails(404, "[]", "GET", "auth/token/roles?list=true", nil)
	fails(404, "[]", "LIST", "auth/token/roles", nil)
	fails(404, "[]", "GET", "auth/token/roles/build", nil)
	fails(400, "[unknown role build]", "POST", "auth/token/create/build", nil)
	fails(405, "[unsupported operation]", "GET", "auth/token/roles", nil)

	if status, answer := s.Do(t, "POST", "auth/token/roles/build", map[string]any{
		"allowed_policies": "b,a", "period": "1h", "orphan": "true", "token_num_uses": "7",
	}); status != 204 {
		t.Fatalf("status %d: %v", status, answer)
	}
	got, err := json.Marshal(s.OK(t, "GET", "auth/token/roles/build", nil))
	const want = `{"allowed_entity_aliases":null,"allowed_policies":["a","b"],"allowed_policies_glob":[],"disallowed_policies":[],` +
		`"disallowed_policies_glob":[],"explicit_max_ttl":0,"name":"build","orphan":true,"path_suffix":"","period":3600,"renewable":true,` +
		`"token_explicit_max_ttl":0,"token_no_default_policy":false,"token_num_uses":7,"token_period":3600,"token_type":"default-service"}`
	if err != nil || string(got) != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if keys := fmt.Sprint(s.OK(t, "LIST", "auth/token/roles", nil)["keys"]); keys != "[build]" {
		t.Error(keys)
	}
	status, answer := s.Do(t, "POST", "auth/token/create/build", map[string]any{"meta": map[string]string{"k": "v"}})
	auth, _ := answer["auth"].(map[string]any)
	if status != 200 || answer["data"] != nil || fmt.Sprint(auth["policies"]) != "[a b default]" || auth["lease_duration"] != 3600.0 ||
		auth["orphan"] != true || auth["num_uses"] != 7.0 {
		t.Errorf("status %d: %v", status, answer)
	}
	info := s.OK(t, "POST", "auth/token/lookup", map[string]any{"token": auth["client_token"]})
	if info["role"] != "build" || info["path"] != "auth/token/create/build" || info["period"] != 3600.0 {
		t.Errorf("%v", info)
	}
	if n := len(s.OK(t, "LIST", "auth/token/accessors", nil)["keys"].([]any)); n != 3 { // the root tokens and this one
		t.Errorf("%d accessors", n)
	}
	if status, _ := s.Do(t, "POST", "auth/token/revoke-orphan", map[string]any{"token": auth["client_token"]}); status != 204 {
		t.Errorf("status %d", status)
	}
	fails(400, "[token to revoke not found]", "POST", "auth/token/revoke-orphan", map[string]any{"token": auth["client_token"]})

	status, answer = s.Do(t, "POST", "auth/token/tidy", nil)
	if data, ok := answer["data"]; status != 202 || data != nil || !ok || len(answer["warnings"].([]any)) != 1 {
		t.Errorf("status %d: %v", status, answer)
	}
	for range 2 {
		if status, _ := s.Do(t, "DELETE", "auth/token/roles/build", nil); status != 204 {
			t.Errorf("status %d", status)
		}
	}
}
