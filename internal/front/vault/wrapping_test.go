package vault

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

func TestWrapTTL(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	for text, want := range map[string]api.Seconds{"": 0, "0": 0, "0s": 0, "60": 60, "90s": 90, "1h30m": 5400, "1d": 86400} {
		if got := s.do("GET", "/v1/echo", "", "X-Vault-Wrap-TTL: "+text); got.status != 200 || s.door.last.Load().WrapTTL != want {
			t.Errorf("%q: status %d, %d s", text, got.status, s.door.last.Load().WrapTTL)
		}
	}
	for _, text := range []string{"soon", "-1", "-1m", "500ms", "1e99", "0x10"} {
		if got := s.do("GET", "/v1/echo", "", "X-Vault-Wrap-TTL: "+text); got.status != 400 {
			t.Errorf("%q: status %d %s", text, got.status, got.body)
		}
	}
	if got := s.do("GET", "/v1/echo", "", "X-Vault-Wrap-TTL: 5", "X-Vault-Wrap-Format: jwt"); got.status != 400 {
		t.Errorf("as a JWT: status %d %s", got.status, got.body)
	}
}

func TestWrapEnvelope(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{MaxDepth: 4})
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	path := func(name string) op.Meta { return op.Meta{Path: name, Verb: op.Write, TopLevel: true} }
	define(s.door, path("wrapped"), func(context.Context, *op.Call, *api.Empty) (*api.WrapInfo, error) {
		return &api.WrapInfo{Token: "s.x", Accessor: "a", TTL: 60, CreationTime: at, CreationPath: "p", WrappedAccessor: "w"}, nil
	})
	define(s.door, path("opened"), func(_ context.Context, _ *op.Call, r *api.WrapData) (*api.Unwrapped, error) {
		return &api.Unwrapped{Data: r.Data}, nil
	})
	define(s.door, path("opened-auth"), func(context.Context, *op.Call, *api.Empty) (*api.Unwrapped, error) {
		return &api.Unwrapped{Auth: &api.Auth{ClientToken: "s.y"}}, nil
	})
	const none = `"lease_id":"","renewable":false,"lease_duration":0,"data":`
	const form = "Content-Type: application/x-www-form-urlencoded"
	for _, c := range []struct {
		path, body, header string
		status             int
		want               string
	}{
		{"wrapped", "", "", 200, `{"request_id":"",` + none + `null,"wrap_info":{"token":"s.x","accessor":"a","ttl":60,"creation_time":"2026-01-02T03:04:05.000000006Z","creation_path":"p","wrapped_accessor":"w"},"warnings":null,"auth":null}` + "\n"},
		{"opened", ` {"a":1.50, "b":["<",{}]} `, "", 200, `{"request_id":"id-1",` + none + `{"a":1.50, "b":["<",{}]},"wrap_info":null,"warnings":null,"auth":null,"a":1.50,"b":["<",{}]}` + "\n"},
		{"opened", `a=1&b=x%22`, form, 200, `{"request_id":"id-1",` + none + `{"a":"1","b":"x\""},"wrap_info":null,"warnings":null,"auth":null,"a":"1","b":"x\""}` + "\n"},
		{"opened", ``, "", 200, `{"request_id":"id-1",` + none + `null,"wrap_info":null,"warnings":null,"auth":null}` + "\n"},
		{"opened", `[1]`, "", 400, `{"errors":["failed to parse JSON input: expected a JSON object, such as {} at byte 1"]}` + "\n"},
		{"opened", `{"a":1}{}`, "", 400, ""},
		{"opened", `{"a":`, "", 400, ""},
		{"opened", `{"a":{"b":{"c":{"d":{}}}}}`, "", 400, ""},
		{"opened", `a=%zz`, form, 400, ""},
	} {
		got := s.do("PUT", "/v1/"+c.path, c.body, nonEmpty(c.header)...)
		if got.status != c.status || c.want != "" && got.body != c.want {
			t.Errorf("%s %s:\n got %d %s\nwant %d %s", c.path, c.body, got.status, got.body, c.status, c.want)
		}
	}
	var e api.Envelope
	got := s.do("PUT", "/v1/opened-auth", "")
	if err := json.Unmarshal([]byte(got.body), &e); err != nil || e.Auth == nil || e.Auth.ClientToken != "s.y" || e.WrapInfo != nil {
		t.Errorf("%s, %v", got.body, err)
	}
}

func nonEmpty(header string) []string {
	if header == "" {
		return nil
	}
	return []string{header}
}

// FuzzTakeBody: what is taken whole is one JSON object, byte for byte.
func FuzzTakeBody(f *testing.F) {
	for _, s := range []string{`{}`, ` {"a":[1,"\u00e9"]}`, `{"a":1}{}`, `[`, `null`, `{"a":nul}`, "{\"a\":\"\x00\"}", `{"a":1e999}`, ""} {
		f.Add(s)
	}
	h := &handler{Options: Options{MaxDepth: 64}}
	f.Fuzz(func(t *testing.T, body string) {
		c := call{h: h, r: &http.Request{Header: http.Header{}}}
		var w api.WrapData
		if err := c.takeBody(&w, []byte(body)); err != nil {
			return
		}
		var object map[string]json.RawMessage
		if w.Data != nil && (json.Unmarshal(w.Data, &object) != nil || object == nil || !strings.Contains(body, string(w.Data))) {
			t.Errorf("%q was taken as %q", body, w.Data)
		}
	})
}
