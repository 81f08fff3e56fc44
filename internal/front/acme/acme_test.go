package acme

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
)

// door plays the guard: it decodes into request and answers.
type door struct {
	request any
	answer  *api.ACMEAnswer
	err     error
	calls   int
}

func (d *door) Handle(_ context.Context, req *guard.Request) (*guard.Answer, error) {
	d.calls++
	if d.request == nil {
		return nil, fault.New(fault.Sealed, "Vault is sealed")
	}
	if _, err := req.Decode(d.request); err != nil {
		return nil, err
	}
	return &guard.Answer{Data: d.answer}, d.err
}

var next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })

func ask(t *testing.T, d *door, method, path, body string, o Options) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	New(d, next, o).ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	resp := w.Result()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// TestOthersGoToTheNextFront: what is not ACME's is not touched.
func TestOthersGoToTheNextFront(t *testing.T) {
	t.Parallel()
	for path, calls := range map[string]int{
		"/v1/transit/keys/acme": 0, "/v1/pki/acme/new-eab": 0, "/v1/pki/acme": 0, "/acme/directory": 0, "/v1/sys/mounts/pki/acme/directory": 0,
		"/v1/auth/x/acme/directory": 0, "/v1/pki/acme/directory?help=1": 0, "/v1/pki/acme/order/x/y": 0,
		"/v1/kv/acme/directory": 1, // the guard knows better
	} {
		d := &door{request: new(struct{})}
		if resp, _ := ask(t, d, "GET", path, "", Options{}); resp.StatusCode != http.StatusTeapot || d.calls != calls {
			t.Errorf("%s: status %d, %d calls", path, resp.StatusCode, d.calls)
		}
	}
	if resp, _ := ask(t, &door{}, "GET", "/v1/pki/acme/directory", "", Options{}); resp.StatusCode != http.StatusTeapot {
		t.Errorf("sealed: status %d", resp.StatusCode)
	}
	if resp, _ := ask(t, &door{}, "DELETE", "/v1/pki/acme/directory", "", Options{}); resp.StatusCode != http.StatusTeapot {
		t.Errorf("another verb: status %d", resp.StatusCode)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	d := &door{request: new(api.ACMEGet), answer: &api.ACMEAnswer{Status: 204, Nonce: "n", Location: "l", Links: []string{"a", "b"}, RetryAfter: 5}}
	for method, status := range map[string]int{"GET": 204, "HEAD": 200} {
		resp, text := ask(t, d, method, "/v1/pki/acme/new-nonce", "", Options{})
		h := resp.Header
		if resp.StatusCode != status || text != "" || h.Get("Replay-Nonce") != "n" || h.Get("Location") != "l" || len(h.Values("Link")) != 2 ||
			h.Get("Retry-After") != "5" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %q %v", method, resp.StatusCode, text, h)
		}
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		err    error
		status int
		text   string
	}{
		{fault.New(fault.Invalid, "no"), 400, `"type":"urn:ietf:params:acme:error:malformed","detail":"no","status":400`},
		{fault.New(fault.Internal, "secret"), 500, `serverInternal","detail":"internal error"`},
		{io.ErrUnexpectedEOF, 500, `serverInternal","detail":"internal error"`},
		{fault.New(fault.Unavailable, "later"), 503, `serverInternal","detail":"later"`},
		{fault.New(fault.Conflict, ""), 409, "malformed"},
		{fault.New(fault.NotFound, ""), 404, ""},
		{&fault.Error{Kind: fault.Exhausted, Err: &api.ACMEProblem{Type: "x", Status: 429, Nonce: "n", RetryAfter: 9}}, 429, `"type":"x"`},
	} {
		resp, text := ask(t, &door{request: new(api.ACMEGet), err: row.err}, "GET", "/v1/pki/acme/directory", "", Options{})
		if resp.StatusCode != row.status || !strings.Contains(text, row.text) || strings.Contains(text, "secret") ||
			text != "" && resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%v: status %d %s %v", row.err, resp.StatusCode, text, resp.Header)
		}
	}
	const jws = `{"protected":"a","payload":"","signature":"c"}`
	if resp, text := ask(t, &door{request: new(api.ACMEPost)}, "POST", "/v1/pki/acme/new-order", jws, Options{MaxBody: 10}); resp.StatusCode != 413 {
		t.Errorf("too large: status %d %s", resp.StatusCode, text)
	}
}

// FuzzParseJWS: what is taken has all three parts and nothing else.
func FuzzParseJWS(f *testing.F) {
	f.Add([]byte(`{"protected":"a","payload":"","signature":"c"}`))
	f.Add([]byte(`{"protected":"a","payload":"b","signature":"c","header":{}}`))
	f.Add([]byte(`{"payload":"b","signatures":[{}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var post api.ACMEPost
		err := parseJWS(body, &post)
		if err != nil && (post.Protected != "" || post.Signature != "" || fault.KindOf(err) != fault.Invalid) {
			t.Errorf("%q: %v, and %+v", body, err, post)
		}
		if err == nil && strings.Count(string(body), `:`) < 3 {
			t.Errorf("%q is taken", body)
		}
	})
}
