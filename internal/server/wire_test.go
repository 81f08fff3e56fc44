package server

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
)

// wireCall is a request as it stands on the wire.
type wireCall struct {
	method, path string // path with everything after the address
	header       map[string]string
	body         string
}

func (c wireCall) send(t *testing.T, s *Server) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(c.method, s.Addresses()[0]+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range c.header {
		req.Header.Set(name, value)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func wireServer(t *testing.T) *Server {
	t.Helper()
	cfg := config.Dev(t.TempDir())
	cfg.Limits.MaxBody = 4096
	s := running(t, cfg, Options{Dev: &Dev{RootTokenID: "root"}})
	ok(t, s, "POST", "transit/keys/k", "root", nil, nil)
	return s
}

// TestWireRules: what Vault's clients take for granted of every path.
func TestWireRules(t *testing.T) {
	t.Parallel()
	s := wireServer(t)
	root := map[string]string{"X-Vault-Token": "root"}
	with := func(name, value string) map[string]string {
		return map[string]string{"X-Vault-Token": "root", name: value}
	}
	form := with("Content-Type", "application/x-www-form-urlencoded")
	const empty = `^\{"errors":\[\]\}\n$`
	for _, c := range []struct {
		name string
		call wireCall
		want int
		body string // pattern
	}{
		{"outside", wireCall{"GET", "/v2/sys/health", nil, ""}, 404, empty},
		{"outside with slash", wireCall{"GET", "/sys/health", nil, ""}, 404, empty},
		{"only the prefix", wireCall{"GET", "/v1/", root, ""}, 404, `"errors"`},
		{"PUT", wireCall{"PUT", "/v1/transit/encrypt/k", root, `{"plaintext":"aGk="}`}, 200, `"ciphertext":"vault:v1:`},
		{"POST", wireCall{"POST", "/v1/transit/encrypt/k", root, `{"plaintext":"aGk="}`}, 200, `"ciphertext":"vault:v1:`},
		{"LIST", wireCall{"LIST", "/v1/transit/keys", root, ""}, 200, `"keys":\["k"\]`},
		{"LIST with slash", wireCall{"LIST", "/v1/transit/keys/", root, ""}, 200, `"keys":\["k"\]`},
		{"list in the query", wireCall{"GET", "/v1/transit/keys?list=true", root, ""}, 200, `"keys":\["k"\]`},
		{"list=1", wireCall{"GET", "/v1/transit/keys?list=1", root, ""}, 200, `"keys":\["k"\]`},
		{"PATCH of no type", wireCall{"PATCH", "/v1/transit/keys/k", root, `{}`}, 415, `PATCH requires Content-Type application/merge-patch`},
		{"PATCH", wireCall{"PATCH", "/v1/transit/keys/k", with("Content-Type", "application/merge-patch+json"), `{}`}, 405, `\["unsupported operation"\]`},
		{"JSON called a form", wireCall{"POST", "/v1/transit/encrypt/k", form, ` {"plaintext":"aGk="}`}, 200, `"ciphertext"`},
		{"a form", wireCall{"POST", "/v1/transit/encrypt/k", form, `plaintext=aGk%3D`}, 200, `"ciphertext"`},
		{"JSON called a text", wireCall{"POST", "/v1/transit/encrypt/k", with("Content-Type", "text/plain"), `{"plaintext":"aGk="}`}, 200, `"ciphertext"`},
		{"no body", wireCall{"POST", "/v1/auth/token/renew-self", root, ""}, 400, `"errors":\["`},
		{"a large body", wireCall{"POST", "/v1/transit/encrypt/k", root, `{"plaintext":"` + strings.Repeat("A", 5000) + `"}`}, 413, `larger than 4096 bytes`},
		{"deep JSON", wireCall{"POST", "/v1/transit/encrypt/k", root, `{"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`}, 400, `errors`},
		{"a number as text", wireCall{"POST", "/v1/transit/encrypt/k", root, `{"plaintext":"aGk=","key_version":"1"}`}, 200, `"key_version":1`},
		{"a boolean as text", wireCall{"POST", "/v1/transit/keys/k/config", root, `{"deletion_allowed":"false"}`}, 200, `"deletion_allowed":false`},
		{"a time as text", wireCall{"POST", "/v1/auth/token/create", root, `{"ttl":"1h","policies":"default,x"}`}, 200, `"policies":\["default","x"\]`},
		{"unknown fields", wireCall{"POST", "/v1/transit/encrypt/k", root, `{"plaintext":"aGk=","zz":1,"min_encryption_versoin":2}`}, 200,
			`"warnings":\["Endpoint ignored these unrecognized parameters: \[min_encryption_versoin zz\]"\]`},
		{"unknown fields in depth", wireCall{"POST", "/v1/sys/mounts/warned", root, `{"type":"transit","config":{"zz":1}}`}, 200, `unrecognized parameters: \[zz\]`},
		{"Bearer", wireCall{"GET", "/v1/auth/token/lookup-self", map[string]string{"Authorization": "Bearer root"}, ""}, 200, `"display_name"`},
		{"no token", wireCall{"GET", "/v1/transit/keys/k", nil, ""}, 403, `^\{"errors":\["permission denied"\]\}\n$`},
		{"a bad token", wireCall{"GET", "/v1/transit/keys/k", map[string]string{"X-Vault-Token": "no"}, ""}, 403, `^\{"errors":\["permission denied"\]\}\n$`},
		{"empty namespace", wireCall{"GET", "/v1/transit/keys/k", with("X-Vault-Namespace", ""), ""}, 200, `"name":"k"`},
		{"namespace /", wireCall{"GET", "/v1/transit/keys/k", with("X-Vault-Namespace", "/"), ""}, 200, `"name":"k"`},
		{"namespace root", wireCall{"GET", "/v1/transit/keys/k", with("X-Vault-Namespace", "root/"), ""}, 200, `"name":"k"`},
		{"another namespace", wireCall{"GET", "/v1/transit/keys/k", with("X-Vault-Namespace", "team/"), ""}, 404, `no namespace`},
		{"another namespace for sys", wireCall{"GET", "/v1/sys/health", with("X-Vault-Namespace", "team/"), ""}, 404, `no namespace`},
		{"headers of clients", wireCall{"GET", "/v1/transit/keys/k", map[string]string{"X-Vault-Token": "root", "X-Vault-Request": "true",
			"X-Vault-Index": "v1:x", "X-Vault-MFA": "x:y", "X-Vault-No-Request-Forwarding": "true"}, ""}, 200, `"name":"k"`},
		{"nothing to say", wireCall{"DELETE", "/v1/sys/policies/acl/none", root, ""}, 204, `^$`},
		{"nothing but warnings", wireCall{"PUT", "/v1/sys/policies/acl/p", root, `{"policy":"path \"x\" {}","zz":1}`}, 200, `"data":null.*"warnings":\["`},
		{"a missing object", wireCall{"GET", "/v1/sys/policies/acl/none", root, ""}, 404, empty},
		{"an empty list", wireCall{"LIST", "/v1/warned/keys", root, ""}, 404, empty},
		{"an unknown mount", wireCall{"GET", "/v1/none/x", root, ""}, 404, `\["no handler for route \\"none/x\\". route entry not found."\]`},
		{"an unknown path", wireCall{"GET", "/v1/transit/none/x/y", root, ""}, 404, `unsupported path`},
		{"a wrong verb", wireCall{"DELETE", "/v1/transit/encrypt/k", root, ""}, 405, `\["unsupported operation"\]`},
		{"a list as read", wireCall{"GET", "/v1/transit/keys", root, ""}, 405, `\["unsupported operation"\]`},
		{"HEAD of a key", wireCall{"HEAD", "/v1/transit/keys/k", root, ""}, 405, ``},
		{"an item of a batch", wireCall{"POST", "/v1/transit/decrypt/k", root, `{"batch_input":[{"ciphertext":"vault:v1:AAAA"}]}`}, 400,
			`"request_id":.*"batch_results":\[\{.*"error":"`},
		{"a wrapping token", wireCall{"POST", "/v1/sys/wrapping/unwrap", root, `{"token":"s.none"}`}, 400, `wrapping token is not valid or does not exist`},
		{"two slashes", wireCall{"GET", "/v1/transit//keys/k", root, ""}, 404, `unsupported path`},
		{"a slash at the end", wireCall{"GET", "/v1/transit/keys/k/", root, ""}, 200, `"name":"k"`},
		{"help", wireCall{"GET", "/v1/transit/keys/k?help=1", root, ""}, 200, `"help":`},
		{"root generation", wireCall{"GET", "/v1/sys/generate-root/attempt", root, ""}, 403, `"permission denied","hint: `},
		{"an unknown auth type", wireCall{"POST", "/v1/sys/auth/github", root, `{"type":"github"}`}, 400, `plugin not found in the catalog: github`},
		{"an unknown engine", wireCall{"POST", "/v1/sys/mounts/kv", root, `{"type":"kv","options":{"version":"2"}}`}, 400, `plugin not found in the catalog: kv`},
		{"a taken path", wireCall{"POST", "/v1/sys/mounts/transit", root, `{"type":"transit"}`}, 400, `path is already in use at transit/`},
	} {
		resp, body := c.call.send(t, s)
		if resp.StatusCode != c.want || !regexp.MustCompile(`(?s)`+c.body).MatchString(body) {
			t.Errorf("%s: %s %s: status %d, want %d: %s", c.name, c.call.method, c.call.path, resp.StatusCode, c.want, body)
		}
		if h := resp.Header.Get("Cache-Control"); h != "no-store" {
			t.Errorf("%s: Cache-Control is %q", c.name, h)
		}
	}
	resp, _ := wireCall{"GET", "/v1/transit/keys/k", with("X-Vault-Namespace", "root/"), ""}.send(t, s)
	if ns := resp.Header.Get("X-Vault-Namespace"); ns != "root/" {
		t.Errorf("the namespace is echoed as %q", ns)
	}
}

// Every answer has the same keys, and those of some paths stand outside of data too.
func TestWireEnvelope(t *testing.T) {
	t.Parallel()
	s := wireServer(t)
	names := []string{"auth", "data", "lease_duration", "lease_id", "renewable", "request_id", "warnings", "wrap_info"}
	ok(t, s, "POST", "sys/mounts/moving", "root", map[string]any{"type": "transit"}, nil)
	for _, c := range []struct{ method, path, body, copied string }{
		{"GET", "transit/keys/k", "", ""},
		{"GET", "sys/mounts", "", "sys/ transit/"},
		{"GET", "sys/mounts/transit", "", "accessor config type uuid"},
		{"GET", "sys/mounts/transit/tune", "", "default_lease_ttl description max_lease_ttl"},
		{"GET", "sys/auth", "", "token/"},
		{"GET", "sys/auth/token", "", "accessor config type"},
		{"GET", "sys/auth/token/tune", "", "default_lease_ttl token_type"},
		{"GET", "sys/audit", "", "file/"},
		{"POST", "sys/audit-hash/file", `{"input":"x"}`, "hash"},
		{"GET", "sys/policy", "", "keys policies"},
		{"GET", "sys/policy/default", "", "name rules"},
		{"POST", "sys/capabilities", `{"token":"root","paths":["x","y"]}`, "x y"},
		{"POST", "sys/capabilities-self", `{"paths":["x","y"]}`, "x y"},
		{"GET", "sys/key-status", "", "encryptions install_time term"},
		{"GET", "sys/ha-status", "", "nodes"},
		{"GET", "sys/config/cors", "", "enabled"},
		{"GET", "sys/config/auditing/request-headers", "", "headers"},
		{"POST", "sys/remount", `{"from":"moving","to":"moved"}`, "migration_id"},
		{"GET", "sys/rotate/config", "", "enabled interval max_operations"},
		{"GET", "sys/generate-root-token/attempt", "", "nonce otp_length required started"},
	} {
		_, body := wireCall{c.method, "/v1/" + c.path, map[string]string{"X-Vault-Token": "root"}, c.body}.send(t, s)
		var all, data map[string]json.RawMessage
		decode(t, body, &all)
		decode(t, string(all["data"]), &data)
		for _, name := range names {
			if _, there := all[name]; !there {
				t.Errorf("%s: no %s in %s", c.path, name, body)
			}
			delete(all, name)
		}
		if c.copied == "" && len(all) != 0 || c.copied != "" && !slices.Equal(slices.Sorted(maps.Keys(all)), slices.Sorted(maps.Keys(data))) {
			t.Errorf("%s: beside data stands %v", c.path, slices.Sorted(maps.Keys(all)))
		}
		for _, name := range strings.Fields(c.copied) {
			if string(all[name]) != string(data[name]) || len(all[name]) == 0 {
				t.Errorf("%s: %s is %s, in data %s", c.path, name, all[name], data[name])
			}
		}
	}
}

// The statuses of health, and how callers change them.
func TestWireHealth(t *testing.T) {
	t.Parallel()
	open := wireServer(t)
	fresh := running(t, config.Dev(t.TempDir()), Options{})
	sealed := running(t, config.Dev(t.TempDir()), Options{})
	ok(t, sealed, "PUT", "sys/init", "", api.Init{SecretShares: 1, SecretThreshold: 1}, nil)
	for _, c := range []struct {
		query               string
		open, sealed, fresh int
	}{
		{"", 200, 503, 501},
		{"?standbyok=true&perfstandbyok=true", 200, 503, 501},
		{"?activecode=204", 204, 503, 501},
		{"?sealedcode=200", 200, 200, 501},
		{"?uninitcode=299", 200, 503, 299},
		{"?sealedcode=200&uninitcode=200&standbycode=200&drsecondarycode=200&performancestandbycode=200", 200, 200, 200},
		{"?activecode=999", 400, 400, 400},
		{"?sealedcode=x", 400, 400, 400},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			for s, want := range map[*Server]int{open: c.open, sealed: c.sealed, fresh: c.fresh} {
				resp, body := wireCall{method, "/v1/sys/health" + c.query, nil, ""}.send(t, s)
				if resp.StatusCode != want || method == "HEAD" && body != "" {
					t.Errorf("%s %q: status %d, want %d: %s", method, c.query, resp.StatusCode, want, body)
				}
			}
		}
	}
	for path, want := range map[string]int{"/v1/transit/keys/k": 503, "/v1/sys/mounts": 503, "/v1/none": 503, "/v1/sys/seal-status": 200, "/v1/sys/leader": 200} {
		resp, body := wireCall{"GET", path, nil, ""}.send(t, sealed)
		if resp.StatusCode != want || want == 503 && body != `{"errors":["Vault is sealed"]}`+"\n" {
			t.Errorf("sealed: %s: status %d: %s", path, resp.StatusCode, body)
		}
	}
}

// What of Vault's sys paths is not there answers so, to those who may know.
func TestWireAbsentPaths(t *testing.T) {
	t.Parallel()
	s := wireServer(t)
	for _, call := range []string{
		"GET internal/ui/resultant-acl", "GET internal/ui/namespaces", "GET internal/counters/requests", "PUT plugins/reload/backend",
		"GET config/ui/headers/x", "GET loggers", "GET host-info", "GET monitor", "GET in-flight-req", "GET pprof", "LIST version-history",
		"GET locked-users", "LIST policies/password", "LIST namespaces", "GET raw/core", "GET storage/raft/configuration",
		"GET replication/status", "PUT mfa/validate", "PUT decode-token",
		"LIST managed-keys/pkcs11",
	} {
		method, path, _ := strings.Cut(call, " ")
		resp, body := wireCall{method, "/v1/sys/" + path, map[string]string{"X-Vault-Token": "root"}, ""}.send(t, s)
		if resp.StatusCode != 404 || body != `{"errors":["unsupported path"]}`+"\n" {
			t.Errorf("%s: status %d: %s", call, resp.StatusCode, body)
		}
		resp, body = wireCall{method, "/v1/sys/" + path, nil, ""}.send(t, s)
		if resp.StatusCode != 403 {
			t.Errorf("%s without a client token: status %d: %s", call, resp.StatusCode, body)
		}
	}
}
