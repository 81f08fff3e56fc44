package client

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
)

// TestWrapping checks what is sent, with which token and for which time.
func TestWrapping(t *testing.T) {
	t.Parallel()
	const info = `{"data":null,"wrap_info":{"token":"s.w","ttl":60,"creation_time":"2026-01-02T03:04:05Z"}}`
	for _, tt := range []struct {
		name, answer, want string
		call               func(context.Context, *Client) error
	}{
		{"wrap", info, `PUT /v1/sys/wrapping/wrap {"a":1} s.test 60`,
			func(x context.Context, c *Client) error {
				i, err := c.Wrap(x, map[string]int{"a": 1}, time.Minute)
				if err == nil && (i.Token != "s.w" || i.TTL != 60) {
					t.Errorf("%+v", i)
				}
				return err
			}},
		{"client token", info, `PUT /v1/auth/token/create {"ttl":5} s.test 3600`,
			func(x context.Context, c *Client) error {
				_, err := c.CreateTokenWrapped(x, api.CreateToken{TTL: 5}, time.Hour)
				return err
			}},
		{"unwrap", `{"data":{"a":1},"auth":{"client_token":"s.in"}}`, `PUT /v1/sys/wrapping/unwrap {} s.w `,
			func(x context.Context, c *Client) error {
				u, err := c.Unwrap(x, "s.w")
				if err == nil && (string(u.Data) != `{"a":1}` || u.Auth.ClientToken != "s.in") {
					t.Errorf("%+v", u)
				}
				return err
			}},
		{"rewrap", info, `PUT /v1/sys/wrapping/rewrap {} s.w `,
			func(x context.Context, c *Client) error { _, err := c.RenewWrapping(x, "s.w"); return err }},
		{"lookup", `{"data":{"creation_ttl":5}}`, `PUT /v1/sys/wrapping/lookup {} s.w `,
			func(x context.Context, c *Client) error { _, err := c.LookupWrapping(x, "s.w"); return err }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got string
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = r.Method + " " + r.RequestURI + " " + string(body) + " " + r.Header.Get("X-Vault-Token") + " " + r.Header.Get("X-Vault-Wrap-TTL")
				io.WriteString(w, tt.answer)
			})
			if err := tt.call(t.Context(), c); err != nil {
				t.Error(err)
			}
			if got != tt.want {
				t.Errorf("sent %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestWrappingRefused(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { answer(w, `{}`) })
	if _, err := c.Wrap(t.Context(), api.Empty{}, 500*time.Millisecond); err == nil {
		t.Error("half a second was taken")
	}
	if i, err := c.Wrap(t.Context(), api.Empty{}, time.Second); err == nil {
		t.Errorf("an answer that is not wrapped: %+v", i)
	}
}
