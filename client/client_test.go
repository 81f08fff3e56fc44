package client

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
)

// serve starts a server with one handler and returns a client of it whose
// pauses take no time.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return dial(t, Config{Address: s.URL, Token: "s.test"})
}

func dial(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.pause = func(context.Context, int, time.Duration) error { return nil }
	return c
}

// answer writes an envelope with data.
func answer(w http.ResponseWriter, data string) { io.WriteString(w, `{"data":`+data+`}`) }

func fail(w http.ResponseWriter, status int, body string) {
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// TestRequests checks the method, path and body of every operation.
func TestRequests(t *testing.T) {
	t.Parallel()
	yes, one := true, 1
	const key, auth, data = `{"data":{"name":"k"}}`, `{"auth":{"client_token":"s.new"}}`, `{"data":{}}`
	for _, tt := range []struct {
		name, answer, want string
		call               func(context.Context, *Client) error
	}{
		{"create", key, `PUT /v1/transit/keys/k {"type":"ed25519"}`,
			func(x context.Context, c *Client) error {
				_, err := c.CreateKey(x, api.CreateKey{Name: "k", Type: "ed25519"})
				return err
			}},
		{"read", key, `GET /v1/transit/keys/k `,
			func(x context.Context, c *Client) error { _, err := c.ReadKey(x, "k"); return err }},
		{"escaped name", key, `GET /v1/transit/keys/a%2Fb%3F%20c `,
			func(x context.Context, c *Client) error { _, err := c.ReadKey(x, "a/b? c"); return err }},
		{"other mount", key, `GET /v1/a/b/keys/k `,
			func(x context.Context, c *Client) error { _, err := c.WithMount("/a/b/").ReadKey(x, "k"); return err }},
		{"list", `{"data":{"keys":["k"]}}`, `GET /v1/transit/keys?list=true `,
			func(x context.Context, c *Client) error { _, err := c.ListKeys(x); return err }},
		{"rotate", key, `PUT /v1/transit/keys/k/rotate {}`,
			func(x context.Context, c *Client) error { _, err := c.RotateKey(x, "k"); return err }},
		{"config", key, `PUT /v1/transit/keys/k/config {"min_decryption_version":1,"deletion_allowed":true}`,
			func(x context.Context, c *Client) error {
				_, err := c.ConfigKey(x, api.ConfigKey{Name: "k", MinDecryptionVersion: &one, DeletionAllowed: &yes})
				return err
			}},
		{"trim", key, `PUT /v1/transit/keys/k/trim {"min_available_version":1}`,
			func(x context.Context, c *Client) error {
				_, err := c.TrimKey(x, api.TrimKey{Name: "k", MinAvailableVersion: &one})
				return err
			}},
		{"settings", data, `GET /v1/transit/config/keys `,
			func(x context.Context, c *Client) error { _, err := c.KeySettings(x); return err }},
		{"read for a context", data, `GET /v1/transit/keys/k?context=%2B%2F8%3D `,
			func(x context.Context, c *Client) error {
				_, err := c.ReadKeyFor(x, "k", []byte{0xfb, 0xff})
				return err
			}},
		{"derive a key", "", `PUT /v1/transit/derive-key/k {"base_key_name":"own","peer_public_key":"pem"}`,
			func(x context.Context, c *Client) error {
				return c.DeriveKey(x, api.DeriveKey{Name: "k", BaseKeyName: "own", PeerPublicKey: "pem"})
			}},
		{"set settings", data, `PUT /v1/transit/config/keys {"disable_upsert":true}`,
			func(x context.Context, c *Client) error {
				_, err := c.SetKeySettings(x, api.SetKeySettings{DisableUpsert: new(true)})
				return err
			}},
		{"hash", data, `PUT /v1/transit/hash/sha3-256 {"input":"eA=="}`,
			func(x context.Context, c *Client) error {
				_, err := c.Hash(x, api.Hash{URLAlgorithm: "sha3-256", Input: []byte("x")})
				return err
			}},
		{"legacy key", data, `PUT /v1/transit/legacy/keys/k {"type":"rsa-2048","label":"l","id":"01"}`,
			func(x context.Context, c *Client) error {
				_, err := c.CreateLegacyKey(x, api.CreateLegacyKey{Name: "k", Type: "rsa-2048", Label: "l", ID: "01"})
				return err
			}},
		{"legacy encrypt", data, `PUT /v1/transit/legacy/encrypt/k {"plaintext":"eA==","scheme":"aes-cbc","iv":"AA=="}`,
			func(x context.Context, c *Client) error {
				_, err := c.LegacyEncrypt(x, api.LegacyEncrypt{Name: "k", Plaintext: []byte("x"), Scheme: "aes-cbc", IV: []byte{0}})
				return err
			}},
		{"legacy decrypt", data, `PUT /v1/transit/legacy/decrypt/k {"ciphertext":"eA==","scheme":"rsa-pkcs1v15"}`,
			func(x context.Context, c *Client) error {
				_, err := c.LegacyDecrypt(x, api.LegacyDecrypt{Name: "k", Ciphertext: []byte("x"), Scheme: "rsa-pkcs1v15"})
				return err
			}},
		{"delete", ``, `DELETE /v1/transit/keys/k `,
			func(x context.Context, c *Client) error { return c.DeleteKey(x, "k") }},
		{"soft delete", ``, `DELETE /v1/transit/keys/k/soft-delete `,
			func(x context.Context, c *Client) error { return c.SoftDeleteKey(x, "k") }},
		{"undelete", ``, `PUT /v1/transit/keys/k/soft-delete-restore {}`,
			func(x context.Context, c *Client) error { return c.RestoreSoftDeletedKey(x, "k") }},
		{"CSR", `{"data":{"csr":"pem"}}`, `PUT /v1/transit/keys/k/csr {"version":2,"csr":"t"}`,
			func(x context.Context, c *Client) error {
				_, err := c.SignCSR(x, api.SignCSR{Name: "k", Version: 2, CSR: "t"})
				return err
			}},
		{"certificates", ``, `PUT /v1/transit/keys/k/set-certificate {"certificate_chain":"pem"}`,
			func(x context.Context, c *Client) error {
				return c.SetCertificate(x, api.SetCertificate{Name: "k", CertificateChain: "pem"})
			}},
		{"backup", `{"data":{"backup":"YQ=="}}`, `GET /v1/transit/backup/k `,
			func(x context.Context, c *Client) error { _, err := c.BackupKey(x, "k"); return err }},
		{"restore", ``, `PUT /v1/transit/restore {"backup":"YQ=="}`,
			func(x context.Context, c *Client) error { return c.RestoreKey(x, api.Restore{Backup: "YQ=="}) }},
		{"restore as", ``, `PUT /v1/transit/restore/n {"backup":"YQ==","force":true}`,
			func(x context.Context, c *Client) error {
				return c.RestoreKey(x, api.Restore{Name: "n", Backup: "YQ==", Force: true})
			}},
		{"wrapping key", `{"data":{"public_key":"pem"}}`, `GET /v1/transit/wrapping_key `,
			func(x context.Context, c *Client) error { _, err := c.WrappingKey(x); return err }},
		{"import", ``, `PUT /v1/transit/keys/k/import {"type":"ed25519","protection":"software","ciphertext":"aGk=","allow_rotation":true}`,
			func(x context.Context, c *Client) error {
				return c.ImportKey(x, api.ImportKey{Name: "k", Type: "ed25519", Protection: "software", Ciphertext: []byte("hi"), AllowRotation: true})
			}},
		{"adopt", `{"data":{"name":"k"}}`, `PUT /v1/transit/keys/k/adopt {"label":"l","id":"0a","delete_object":true}`,
			func(x context.Context, c *Client) error {
				_, err := c.AdoptKey(x, api.AdoptKey{Name: "k", Label: "l", ID: "0a", DeleteObject: true})
				return err
			}},
		{"objects", `{"data":{"objects":[],"more":false}}`, `GET /v1/sys/hsm/objects?class=secret&id=0a&label=a+b&limit=3 `,
			func(x context.Context, c *Client) error {
				_, err := c.HSMObjects(x, api.HSMObjects{Label: "a b", ID: "0a", Class: "secret", Limit: 3})
				return err
			}},
		{"import version", ``, `PUT /v1/transit/keys/k/import_version {"public_key":"pem"}`,
			func(x context.Context, c *Client) error {
				return c.ImportKeyVersion(x, api.ImportKeyVersion{Name: "k", PublicKey: "pem"})
			}},
		{"public", data, `GET /v1/transit/export/public-key/k/latest `,
			func(x context.Context, c *Client) error { _, err := c.PublicKeys(x, "k", "latest"); return err }},
		{"encrypt nothing", data, `PUT /v1/transit/encrypt/k {"plaintext":""}`,
			func(x context.Context, c *Client) error {
				_, err := c.Encrypt(x, api.Encrypt{Name: "k", Plaintext: []byte{}})
				return err
			}},
		{"encrypt", data, `PUT /v1/transit/encrypt/k {"plaintext":"aGk=","associated_data":"YQ==","key_version":2}`,
			func(x context.Context, c *Client) error {
				_, err := c.Encrypt(x, api.Encrypt{Name: "k", Plaintext: []byte("hi"), AssociatedData: []byte("a"), KeyVersion: 2})
				return err
			}},
		{"decrypt", data, `PUT /v1/transit/decrypt/k {"ciphertext":"vault:v1:x"}`,
			func(x context.Context, c *Client) error {
				_, err := c.Decrypt(x, api.Decrypt{Name: "k", Ciphertext: "vault:v1:x"})
				return err
			}},
		{"rewrap", data, `PUT /v1/transit/rewrap/k {"ciphertext":"vault:v1:x"}`,
			func(x context.Context, c *Client) error {
				_, err := c.Rewrap(x, api.Rewrap{Name: "k", Ciphertext: "vault:v1:x"})
				return err
			}},
		{"data key", data, `PUT /v1/transit/datakey/wrapped/k {"bits":128}`,
			func(x context.Context, c *Client) error {
				_, err := c.DataKey(x, api.DataKey{Name: "k", Kind: "wrapped", Bits: 128})
				return err
			}},
		{"sign", data, `PUT /v1/transit/sign/k/sha2-512 {"input":"aGk="}`,
			func(x context.Context, c *Client) error {
				_, err := c.Sign(x, api.Sign{Name: "k", URLHash: "sha2-512", Input: []byte("hi")})
				return err
			}},
		{"verify", data, `PUT /v1/transit/verify/k {"input":"","signature":"vault:v1:x"}`,
			func(x context.Context, c *Client) error {
				_, err := c.Verify(x, api.Verify{Name: "k", Input: []byte{}, Signature: "vault:v1:x"})
				return err
			}},
		{"HMAC", data, `PUT /v1/transit/hmac/k {"input":"aGk="}`,
			func(x context.Context, c *Client) error {
				_, err := c.HMAC(x, api.HMAC{Name: "k", Input: []byte("hi")})
				return err
			}},
		{"random", data, `PUT /v1/transit/random {"bytes":16,"format":"hex"}`,
			func(x context.Context, c *Client) error {
				_, err := c.Random(x, api.Random{Bytes: 16, Format: "hex"})
				return err
			}},
		{"unmount", ``, `DELETE /v1/sys/mounts/a/b `,
			func(x context.Context, c *Client) error { return c.DisableMount(x, "/a/b/") }},
		{"tuning", data, `GET /v1/sys/mounts/a/b/tune `,
			func(x context.Context, c *Client) error { _, err := c.MountTuning(x, "a/b"); return err }},
		{"tune", ``, `PUT /v1/sys/mounts/a/tune {"max_lease_ttl":"1h"}`,
			func(x context.Context, c *Client) error {
				return c.TuneMount(x, api.TuneMount{Path: "a", MaxLeaseTTL: "1h"})
			}},
		{"init", `{"keys":["00"]}`, `PUT /v1/sys/init {"secret_shares":5,"secret_threshold":3}`,
			func(x context.Context, c *Client) error {
				_, err := c.Init(x, api.Init{SecretShares: 5, SecretThreshold: 3})
				return err
			}},
		{"init status", `{"initialized":true}`, `GET /v1/sys/init `,
			func(x context.Context, c *Client) error { _, err := c.InitStatus(x); return err }},
		{"unseal", `{"sealed":true}`, `PUT /v1/sys/unseal {"key":"00"}`,
			func(x context.Context, c *Client) error { _, err := c.Unseal(x, api.Unseal{Key: "00"}); return err }},
		{"seal", ``, `PUT /v1/sys/seal {}`,
			func(x context.Context, c *Client) error { return c.Seal(x) }},
		{"seal status", `{"sealed":true}`, `GET /v1/sys/seal-status `,
			func(x context.Context, c *Client) error { _, err := c.SealStatus(x); return err }},
		{"HSM status", data, `GET /v1/sys/hsm `,
			func(x context.Context, c *Client) error { _, err := c.HSMStatus(x); return err }},
		{"mounts", `{"data":{"transit/":{"type":"transit"}}}`, `GET /v1/sys/mounts `,
			func(x context.Context, c *Client) error { _, err := c.Mounts(x); return err }},
		{"mount", ``, `PUT /v1/sys/mounts/a/b {"type":"transit"}`,
			func(x context.Context, c *Client) error {
				return c.EnableMount(x, api.CreateMount{Path: "a/b/", Type: "transit"})
			}},
		{"policies", `{"data":{"keys":["root"]}}`, `GET /v1/sys/policies/acl?list=true `,
			func(x context.Context, c *Client) error { _, err := c.ListPolicies(x); return err }},
		{"read policy", data, `GET /v1/sys/policies/acl/p `,
			func(x context.Context, c *Client) error { _, err := c.ReadPolicy(x, "p"); return err }},
		{"write policy", ``, `PUT /v1/sys/policies/acl/p {"policy":"x"}`,
			func(x context.Context, c *Client) error {
				return c.WritePolicy(x, api.WritePolicy{Name: "p", Policy: "x"})
			}},
		{"delete policy", ``, `DELETE /v1/sys/policies/acl/p `,
			func(x context.Context, c *Client) error { return c.DeletePolicy(x, "p") }},
		{"create token", auth, `PUT /v1/auth/token/create {"policies":["p"],"ttl":60}`,
			func(x context.Context, c *Client) error {
				_, err := c.CreateToken(x, api.CreateToken{Policies: []string{"p"}, TTL: 60})
				return err
			}},
		{"create token by role", auth, `PUT /v1/auth/token/create/a%2Fb {"ttl":60}`,
			func(x context.Context, c *Client) error {
				_, err := c.CreateToken(x, api.CreateToken{Role: "a/b", TTL: 60})
				return err
			}},
		{"write role", ``, `PUT /v1/auth/token/roles/r {"allowed_policies":[],"orphan":true}`,
			func(x context.Context, c *Client) error {
				return c.WriteTokenRole(x, api.TokenRole{Name: "r", AllowedPolicies: []string{}, Orphan: &yes})
			}},
		{"lookup accessor", data, `PUT /v1/auth/token/lookup-accessor {"accessor":"acc"}`,
			func(x context.Context, c *Client) error { _, err := c.LookupAccessor(x, "acc"); return err }},
		{"renew accessor", auth, `PUT /v1/auth/token/renew-accessor {"accessor":"acc","increment":5}`,
			func(x context.Context, c *Client) error { _, err := c.RenewAccessor(x, "acc", 5); return err }},
		{"revoke accessor", ``, `PUT /v1/auth/token/revoke-accessor {"accessor":"acc"}`,
			func(x context.Context, c *Client) error { return c.RevokeAccessor(x, "acc") }},
		{"lookup lease", data, `PUT /v1/sys/leases/lookup {"lease_id":"a/b"}`,
			func(x context.Context, c *Client) error { _, err := c.LookupLease(x, "a/b"); return err }},
		{"all leases", `{"data":{"keys":["auth/"]}}`, `GET /v1/sys/leases/lookup?list=true `,
			func(x context.Context, c *Client) error { _, err := c.ListLeases(x, "/"); return err }},
		{"leases", `{"data":{"keys":["h0"]}}`, `GET /v1/sys/leases/lookup/auth/a%20b?list=true `,
			func(x context.Context, c *Client) error { _, err := c.ListLeases(x, "auth/a b/"); return err }},
		{"revoke lease", ``, `PUT /v1/sys/leases/revoke {"lease_id":"a/b"}`,
			func(x context.Context, c *Client) error { return c.RevokeLease(x, "a/b") }},
		{"revoke leases", ``, `PUT /v1/sys/leases/revoke-prefix/auth/token {}`,
			func(x context.Context, c *Client) error { return c.RevokeLeases(x, "auth/token/") }},
		{"read role", data, `GET /v1/auth/token/roles/r `,
			func(x context.Context, c *Client) error { _, err := c.ReadTokenRole(x, "r"); return err }},
		{"roles", `{"data":{"keys":["r"]}}`, `GET /v1/auth/token/roles?list=true `,
			func(x context.Context, c *Client) error { _, err := c.ListTokenRoles(x); return err }},
		{"delete role", ``, `DELETE /v1/auth/token/roles/r `,
			func(x context.Context, c *Client) error { return c.DeleteTokenRole(x, "r") }},
		{"accessors", `{"data":{"keys":["r"]}}`, `GET /v1/auth/token/accessors?list=true `,
			func(x context.Context, c *Client) error { _, err := c.ListAccessors(x); return err }},
		{"revoke orphan", ``, `PUT /v1/auth/token/revoke-orphan {"token":"s.x"}`,
			func(x context.Context, c *Client) error { return c.RevokeOrphan(x, "s.x") }},
		{"tidy", `{"data":null,"warnings":["started"]}`, `PUT /v1/auth/token/tidy {}`,
			func(x context.Context, c *Client) error { return c.TidyTokens(x) }},
		{"lookup self", data, `GET /v1/auth/token/lookup-self `,
			func(x context.Context, c *Client) error { _, err := c.LookupSelf(x); return err }},
		{"lookup", data, `PUT /v1/auth/token/lookup {"token":"s.x"}`,
			func(x context.Context, c *Client) error { _, err := c.LookupToken(x, "s.x"); return err }},
		{"renew self", auth, `PUT /v1/auth/token/renew-self {"increment":60}`,
			func(x context.Context, c *Client) error { _, err := c.RenewSelf(x, 60); return err }},
		{"renew", auth, `PUT /v1/auth/token/renew {"token":"s.x"}`,
			func(x context.Context, c *Client) error { _, err := c.RenewToken(x, "s.x", 0); return err }},
		{"revoke self", ``, `PUT /v1/auth/token/revoke-self {}`,
			func(x context.Context, c *Client) error { return c.RevokeSelf(x) }},
		{"revoke", ``, `PUT /v1/auth/token/revoke {"token":"s.x"}`,
			func(x context.Context, c *Client) error { return c.RevokeToken(x, "s.x") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got, token string
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = r.Method + " " + r.RequestURI + " " + string(body)
				token = r.Header.Get("X-Vault-Token")
				if tt.answer == "" {
					w.WriteHeader(http.StatusNoContent)
					return
				}
				io.WriteString(w, tt.answer)
			})
			if err := tt.call(t.Context(), c); err != nil {
				t.Error(err)
			}
			if got != tt.want {
				t.Errorf("sent %s\nwant %s", got, tt.want)
			}
			if token != "s.test" {
				t.Errorf("client token %q", token)
			}
		})
	}
}

func TestNamesThatAreNone(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("%s was sent", r.URL) })
	for _, name := range []string{"", ".", ".."} {
		if _, err := c.ReadKey(t.Context(), name); err == nil {
			t.Errorf("%q is taken as a name", name)
		}
		if err := c.DeletePolicy(t.Context(), name); err == nil {
			t.Errorf("%q is taken as a policy's name", name)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   string // message
	}{
		{"refused", 403, `{"errors":["permission denied"]}`, "permission denied"},
		{"several", 400, `{"errors":["a","b"]}`, "a; b"},
		{"not found", 404, `{"errors":[]}`, "not found"},
		{"no JSON", 502, `<html>bad gateway</html>`, "<html>bad gateway"},
		{"no body", 500, ``, "the server answered with status 500"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, func(w http.ResponseWriter, r *http.Request) { fail(w, tt.status, tt.body) })
			_, err := c.ReadKey(t.Context(), "k")
			e, ok := errors.AsType[*api.Error](err)
			if !ok || e.Status != tt.status || !strings.Contains(e.Error(), tt.want) {
				t.Errorf("%v, want status %d and %q", err, tt.status, tt.want)
			}
		})
	}
}

func TestAnswersThatAreNotOurs(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"text": "hello", "empty object": "{}", "null": `{"data":null}`, "wrong type": `{"data":[1]}`, "nothing": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) })
			if k, err := c.ReadKey(t.Context(), "k"); err == nil {
				t.Errorf("taken for a key: %+v", k)
			}
		})
	}
}

func TestEmptyList(t *testing.T) {
	t.Parallel()
	body := `{"errors":[]}`
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { fail(w, 404, body) })
	if keys, err := c.ListKeys(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("%v, %v", keys, err)
	}
	body = `{"errors":["no handler for route \"transit/keys\""]}`
	if _, err := c.ListKeys(t.Context()); err == nil {
		t.Error("a mount that isn't there has an empty list")
	}
}

func TestBatchWithFailedItems(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fail(w, 400, `{"data":{"batch_results":[{"plaintext":"aGk="},{"error":"no"}]}}`)
	})
	d, err := c.Decrypt(t.Context(), api.Decrypt{Name: "k"})
	if err != nil || len(d.BatchResults) != 2 || string(*d.BatchResults[0].Plaintext) != "hi" || d.BatchResults[1].Error != "no" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"data":{"name":"k"},"warnings":["key k already existed"]}`)
	}))
	t.Cleanup(s.Close)
	var warned string
	c := dial(t, Config{Address: s.URL, OnWarning: func(s string) { warned = s }})
	if _, err := c.CreateKey(t.Context(), api.CreateKey{Name: "k"}); err != nil || warned != "key k already existed" {
		t.Errorf("%q, %v", warned, err)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	status, body := 503, `{"initialized":true,"sealed":true}`
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { fail(w, status, body) })
	h, err := c.Health(t.Context())
	if err != nil || !h.Sealed || h.Status != 503 {
		t.Errorf("%+v, %v", h, err)
	}
	status, body = 500, `{"errors":["internal error"]}`
	if _, err := c.Health(t.Context()); err == nil {
		t.Error("an error is taken for health")
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	busy := func(w http.ResponseWriter) { fail(w, 503, `{"errors":["the HSM token does not answer"]}`) }
	cut := func(w http.ResponseWriter) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
	}
	encrypt := func(x context.Context, c *Client) error {
		_, err := c.Encrypt(x, api.Encrypt{Name: "k", Plaintext: []byte("x")})
		return err
	}
	rotate := func(x context.Context, c *Client) error { _, err := c.RotateKey(x, "k"); return err }
	legacyEncrypt := func(x context.Context, c *Client) error {
		_, err := c.LegacyEncrypt(x, api.LegacyEncrypt{Name: "k", Plaintext: []byte("x"), Scheme: "rsa-oaep-sha1"})
		return err
	}
	legacyDecrypt := func(x context.Context, c *Client) error {
		_, err := c.LegacyDecrypt(x, api.LegacyDecrypt{Name: "k", Ciphertext: []byte("x"), Scheme: "rsa-pkcs1v15"})
		return err
	}
	legacyKey := func(x context.Context, c *Client) error {
		_, err := c.CreateLegacyKey(x, api.CreateLegacyKey{Name: "k", Type: "rsa-2048", Label: "l"})
		return err
	}
	for _, tt := range []struct {
		name  string
		first func(http.ResponseWriter)
		call  func(context.Context, *Client) error
		sent  int32
		ok    bool
	}{
		{"busy, repeatable", busy, encrypt, 2, true},
		{"cut, repeatable", cut, encrypt, 2, true},
		{"cut, legacy encrypt", cut, legacyEncrypt, 2, true},
		{"cut, legacy decrypt", cut, legacyDecrypt, 2, true},
		{"cut, legacy key", cut, legacyKey, 1, false},
		{"busy, not repeatable", busy, rotate, 1, false},
		{"cut, not repeatable", cut, rotate, 1, false},
		{"sealed", func(w http.ResponseWriter) { fail(w, 503, `{"errors":["Vault is sealed"]}`) }, encrypt, 1, false},
		{"refused", func(w http.ResponseWriter) { fail(w, 403, `{"errors":["permission denied"]}`) }, encrypt, 1, false},
		{"internal", func(w http.ResponseWriter) { fail(w, 500, `{"errors":["internal error"]}`) }, encrypt, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int32
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				// A body that was half-sent before would not be JSON.
				var body map[string]any
				if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
					t.Error(err)
				}
				if sent.Add(1) == 1 {
					tt.first(w)
					return
				}
				answer(w, `{"name":"k"}`)
			})
			if err := tt.call(t.Context(), c); (err == nil) != tt.ok {
				t.Errorf("error %v", err)
			}
			if sent.Load() != tt.sent {
				t.Errorf("sent %d times, want %d", sent.Load(), tt.sent)
			}
		})
	}
}

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	var sent atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { sent.Add(1); fail(w, 503, `{"errors":["busy"]}`) })
	if _, err := c.ReadKey(t.Context(), "k"); err == nil || sent.Load() != 3 {
		t.Errorf("%d tries, %v", sent.Load(), err)
	}
}

// TestConnectRefused: what was never sent may be tried again, whatever it is.
func TestConnectRefused(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, Config{Address: "http://" + l.Addr().String()})
	l.Close()
	tries := 0
	c.pause = func(context.Context, int, time.Duration) error { tries++; return nil }
	if _, err := c.RotateKey(t.Context(), "k"); err == nil || tries != 2 {
		t.Errorf("%d pauses, %v", tries, err)
	}
}

func TestBackOffKeepsTheDeadline(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	start := time.Now()
	if err := backOff(ctx, 0, time.Hour); err == nil || time.Since(start) > 500*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	if err := backOff(ctx, 0, 0); err != nil {
		t.Error(err)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(stop) })
	c := dial(t, Config{Address: s.URL, Timeout: 50 * time.Millisecond})
	if _, err := c.ReadKey(t.Context(), "k"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestRedirect: the client token must not reach another server.
func TestRedirect(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the other server was called with token %q", r.Header.Get("X-Vault-Token"))
	}))
	t.Cleanup(other.Close)
	redirect := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}
	s := httptest.NewServer(http.HandlerFunc(redirect))
	t.Cleanup(s.Close)
	for name, own := range map[string]*http.Client{"own": nil, "given": {}} {
		c := dial(t, Config{Address: s.URL, Token: "s.secret", HTTPClient: own})
		if _, err := c.ReadKey(t.Context(), "k"); err == nil || !strings.Contains(err.Error(), other.URL) {
			t.Errorf("%s transport: %v", name, err)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, `{"name":"`+r.URL.Path+`"}`)
	})}}
	s.Start()
	t.Cleanup(s.Close)
	for _, address := range []string{"unix://" + path, "unix:" + path} {
		k, err := dial(t, Config{Address: address}).ReadKey(t.Context(), "k")
		if err != nil || k.Name != "/v1/transit/keys/k" {
			t.Errorf("%s: %+v, %v", address, k, err)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, `{"name":"k"}`) }))
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(ca, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, Config{Address: s.URL, CACert: ca}).ReadKey(t.Context(), "k"); err != nil {
		t.Error(err)
	}
	if _, err := dial(t, Config{Address: s.URL}).ReadKey(t.Context(), "k"); err == nil {
		t.Error("an unknown authority is trusted")
	}
	for name, cfg := range map[string]Config{
		"no such CA":      {Address: s.URL, CACert: ca + "x"},
		"no PEM":          {Address: s.URL, CACert: os.Args[0]},
		"key alone":       {Address: s.URL, ClientKey: ca},
		"no certificates": {Address: s.URL, ClientCert: ca, ClientKey: ca},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:8200", "ftp://x", "ftp://u:p@x", "http://", "unix:", "unix:///", "http://u:p@host", "http://host?x=1", "://"} {
		if _, err := New(Config{Address: address}); err == nil {
			t.Errorf("%q is taken", address)
		} else if strings.Contains(err.Error(), "u:p") {
			t.Errorf("%v shows the password", err)
		}
	}
	for address, want := range map[string]string{"": DefaultAddress, "http://h:1/": "http://h:1", "https://h/base/": "https://h/base"} {
		if c, err := New(Config{Address: address}); err != nil || c.Address() != want {
			t.Errorf("%q: %v, %v", address, c, err)
		}
	}
	if _, err := New(Config{Token: "a\r\nb"}); err == nil {
		t.Error("a token with a line break is taken")
	}
}

func TestFromEnvironment(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	for _, x := range []string{"ADDR", "TOKEN", "CACERT", "CLIENT_CERT", "CLIENT_KEY"} {
		for _, p := range []string{"CLAVIGER_", "VAULT_", "BAO_"} {
			t.Setenv(p+x, "")
		}
	}
	check := func(address, token string) {
		t.Helper()
		cfg, err := FromEnvironment()
		if err != nil || cfg.Address != address || cfg.Token != token {
			t.Errorf("%q, %q, %v; want %q, %q", cfg.Address, cfg.Token, err, address, token)
		}
	}
	check("", "")
	if err := os.WriteFile(filepath.Join(home, ".vault-token"), []byte("s.file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check("", "s.file")
	t.Setenv("BAO_ADDR", "http://bao")
	t.Setenv("BAO_TOKEN", "s.bao")
	check("http://bao", "s.bao")
	t.Setenv("VAULT_ADDR", "http://vault")
	t.Setenv("VAULT_TOKEN", "s.vault")
	check("http://vault", "s.vault")
	t.Setenv("CLAVIGER_ADDR", "http://claviger")
	t.Setenv("CLAVIGER_TOKEN", "s.claviger")
	check("http://claviger", "s.claviger")
}
