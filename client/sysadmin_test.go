package client

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/claviger/claviger/api"
)

// What the calls for operators send.
func TestOperatorCalls(t *testing.T) {
	t.Parallel()
	const wrapped, plain = `{"data":{"nonce":"n"}}`, `{"nonce":"n"}`
	root := func(f func(*Client, context.Context) (*api.GenerateRootStatus, error)) func(context.Context, *Client) error {
		return func(x context.Context, c *Client) error {
			s, err := f(c, x)
			if err == nil && s.Nonce != "n" {
				t.Errorf("%+v", s)
			}
			return err
		}
	}
	for _, tt := range []struct {
		name, answer, want string
		call               func(context.Context, *Client) error
	}{
		{"key status", `{"data":{"term":2}}`, "GET /v1/sys/key-status ", func(x context.Context, c *Client) error { _, err := c.KeyStatus(x); return err }},
		{"rotate", "", "PUT /v1/sys/rotate {}", func(x context.Context, c *Client) error { return c.RotateStorageKey(x) }},
		{"rotation", `{"data":{}}`, "GET /v1/sys/rotate/config ", func(x context.Context, c *Client) error { _, err := c.RotationConfig(x); return err }},
		{"set rotation", "", `PUT /v1/sys/rotate/config {"interval":0,"enabled":false}`, func(x context.Context, c *Client) error {
			return c.WriteRotationConfig(x, api.WriteRotationConfig{Interval: new(api.Seconds(0)), Enabled: new(false)})
		}},
		{"root status", wrapped, "GET /v1/sys/generate-root-token/attempt ",
			root(func(c *Client, x context.Context) (*api.GenerateRootStatus, error) {
				return c.GenerateRootStatus(x, false)
			})},
		{"open root status", plain, "GET /v1/sys/generate-root/attempt ",
			root(func(c *Client, x context.Context) (*api.GenerateRootStatus, error) {
				return c.GenerateRootStatus(x, true)
			})},
		{"start root", wrapped, `PUT /v1/sys/generate-root-token/attempt {"pgp_key":"k"}`,
			root(func(c *Client, x context.Context) (*api.GenerateRootStatus, error) {
				return c.StartGenerateRoot(x, false, api.StartGenerateRoot{PGPKey: "k"})
			})},
		{"give root", plain, `PUT /v1/sys/generate-root/update {"key":"k","nonce":"n"}`,
			root(func(c *Client, x context.Context) (*api.GenerateRootStatus, error) {
				return c.GiveRootShare(x, true, api.GiveRootShare{Key: "k", Nonce: "n"})
			})},
		{"cancel root", "", "DELETE /v1/sys/generate-root-token/attempt ", func(x context.Context, c *Client) error { return c.CancelGenerateRoot(x, false) }},
		{"move", `{"data":{"migration_id":"m"}}`, `PUT /v1/sys/remount {"from":"a","to":"b/c"}`,
			func(x context.Context, c *Client) error { return c.MoveMount(x, "a", "b/c") }},
		{"audit hash", `{"data":{"hash":"hmac-sha256:00"}}`, `PUT /v1/sys/audit-hash/file {"input":"v"}`,
			func(x context.Context, c *Client) error {
				h, err := c.AuditHash(x, "v")
				if err == nil && h != "hmac-sha256:00" {
					t.Errorf("%q", h)
				}
				return err
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got string
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = r.Method + " " + r.RequestURI + " " + string(body)
				if tt.answer == "" {
					w.WriteHeader(http.StatusNoContent)
					return
				}
				io.WriteString(w, tt.answer)
			})
			if err := tt.call(t.Context(), c); err != nil || got != tt.want {
				t.Errorf("sent %q, want %q: %v", got, tt.want, err)
			}
		})
	}
}
