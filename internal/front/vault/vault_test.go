package vault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
)

type rawAnswer struct{ X int }

func (*rawAnswer) Raw() (string, []byte) { return "application/pkix-cert", []byte{0x30, 0} }

type echoRequest struct {
	S string      `json:"s"`
	B []byte      `json:"b"`
	I int         `json:"i"`
	D api.Seconds `json:"d"`
	L []string    `json:"l"`
}

// defineTable declares one operation for each way of answering.
func defineTable(d *testDoor) {
	type none = api.Empty
	meta := func(v op.Verb, path string) op.Meta { return op.Meta{Name: path, Path: path, Verb: v} }
	echo := func(_ context.Context, _ *op.Call, r *echoRequest) (*echoRequest, error) { return r, nil }
	define(d, meta(op.Write, "echo"), echo)
	define(d, meta(op.Read, "echo"), echo)
	define(d, meta(op.Delete, "echo"), echo)
	define(d, meta(op.Patch, "patch"), echo)
	define(d, meta(op.List, "keys"), func(_ context.Context, _ *op.Call, r *echoRequest) (*api.Keys, error) {
		return &api.Keys{Keys: r.L}, nil
	})
	define(d, meta(op.Write, "nothing"), func(context.Context, *op.Call, *none) (*none, error) { return nil, nil })
	define(d, op.Meta{Name: "health", Path: "sys/health", Verb: op.Read, Public: true, Bare: true},
		func(_ context.Context, _ *op.Call, q *api.HealthQuery) (*api.Health, error) {
			return &api.Health{Version: "1.0.0", Status: max(q.ActiveCode, 200)}, nil
		})
	top := meta(op.Read, "top")
	top.TopLevel = true
	define(d, top, func(context.Context, *op.Call, *none) (*map[string][]int, error) {
		return &map[string][]int{"a/": {1, 2}, "data": {3}, "b\"/": nil}, nil
	})
	define(d, meta(op.Write, "login"), func(context.Context, *op.Call, *none) (*api.Auth, error) {
		return &api.Auth{ClientToken: "s.x", Policies: []string{"default"}, LeaseDuration: 60}, nil
	})
	define(d, meta(op.Write, "batch"), func(_ context.Context, _ *op.Call, r *echoRequest) (*api.Encrypted, error) {
		return &api.Encrypted{Status: r.I, BatchResults: []api.EncryptedResult{{Error: "no", Reference: "r"}}}, nil
	})
	define(d, meta(op.Read, "raw"), func(context.Context, *op.Call, *none) (*rawAnswer, error) { return &rawAnswer{}, nil })
	define(d, meta(op.Write, "panic"), func(context.Context, *op.Call, *none) (*none, error) { panic("secret detail") })
	define(d, meta(op.Write, "fail"), func(_ context.Context, _ *op.Call, r *echoRequest) (*none, error) {
		return nil, &fault.Error{Kind: fault.Kind(r.I), Msg: r.S, Hint: strings.Join(r.L, ""), Err: errors.New("secret detail")}
	})
	define(d, meta(op.Write, "foreign"), func(context.Context, *op.Call, *none) (*none, error) {
		return nil, errors.New("secret detail")
	})
	define(d, meta(op.Write, "unencodable"), func(context.Context, *op.Call, *none) (*[]chan int, error) {
		return &[]chan int{nil}, nil
	})
	define(d, meta(op.Write, "wait"), func(ctx context.Context, _ *op.Call, _ *none) (*none, error) {
		<-ctx.Done()
		time.Sleep(20 * time.Millisecond) // an operation may be slow to notice
		return nil, ctx.Err()
	})
}

const envelope = `{"request_id":"id-1","lease_id":"","renewable":false,"lease_duration":0,"data":`

func TestAnswers(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Version: "0.1.0"})
	ok := func(data string) string {
		return envelope + data + `,"wrap_info":null,"warnings":null,"auth":null}` + "\n"
	}
	const empty = `{"s":"","b":null,"i":0,"d":0,"l":null}`
	for _, c := range []struct {
		method, path, body string
		headers            string
		status             int
		want               string
	}{
		{"PUT", "/v1/echo", `{"s":"x"}`, "", 200, ok(`{"s":"x","b":null,"i":0,"d":0,"l":null}`)},
		{"POST", "/v1/echo", `{"i":"7","d":"1m","b":"AA==","l":"a,b"}`, "", 200, ok(`{"s":"","b":"AA==","i":7,"d":60,"l":["a","b"]}`)},
		{"PUT", "/v1/echo", ``, "", 200, ok(empty)},
		{"PUT", "/v1/echo?s=ignored", `{}`, "", 200, ok(empty)},
		{"PUT", "/v1/echo", `{"i":1}`, "Content-Type: text/plain", 200, ok(`{"s":"","b":null,"i":1,"d":0,"l":null}`)},
		{"POST", "/v1/echo", ` {"i":1}`, "Content-Type: application/x-www-form-urlencoded", 200, ok(`{"s":"","b":null,"i":1,"d":0,"l":null}`)},
		{"POST", "/v1/echo", `i=1&s=a%20b&l=x&l=y`, "Content-Type: application/x-www-form-urlencoded; charset=utf-8", 200, ok(`{"s":"a b","b":null,"i":1,"d":0,"l":["x","y"]}`)},
		{"POST", "/v1/echo", `i=1`, "", 400, `{"errors":["failed to parse JSON input: expected a JSON object, such as {} at byte 1"]}` + "\n"},
		{"POST", "/v1/echo", `[]`, "Content-Type: application/x-www-form-urlencoded", 400, `{"errors":["failed to parse JSON input: expected a JSON object, such as {} at byte 1"]}` + "\n"},
		{"GET", "/v1/echo?i=2&l=a,b", `{"s":"ignored"}`, "", 200, ok(`{"s":"","b":null,"i":2,"d":0,"l":["a","b"]}`)},
		{"DELETE", "/v1/echo?i=2", ``, "", 200, ok(`{"s":"","b":null,"i":2,"d":0,"l":null}`)},
		{"PUT", "/v1/echo", `{"zz":{"a":1}}`, "", 200, envelope + empty + `,"wrap_info":null,"warnings":["Endpoint ignored these unrecognized parameters: [zz]"],"auth":null}` + "\n"},
		{"PUT", "/v1/nothing", ``, "", 204, ""},
		{"PUT", "/v1/nothing", `{"zz":1}`, "", 200, envelope + `null,"wrap_info":null,"warnings":["Endpoint ignored these unrecognized parameters: [zz]"],"auth":null}` + "\n"},
		{"LIST", "/v1/keys?l=a,b", ``, "", 200, ok(`{"keys":["a","b"]}`)},
		{"LIST", "/v1/keys/?l=a", ``, "", 200, ok(`{"keys":["a"]}`)},
		{"GET", "/v1/keys?list=true&l=a", ``, "", 200, ok(`{"keys":["a"]}`)},
		{"GET", "/v1/keys/?list=1&l=a", ``, "", 200, ok(`{"keys":["a"]}`)},
		{"LIST", "/v1/keys", ``, "", 404, `{"errors":[]}` + "\n"},
		{"GET", "/v1/keys?list=maybe", ``, "", 400, `{"errors":["list in the query must be true or false"]}` + "\n"},
		{"GET", "/v1/keys?list=false", ``, "", 404, `{"errors":["no handler for route \"keys\". route entry not found."]}` + "\n"},
		{"GET", "/v1/top", ``, "", 200, strings.TrimSuffix(ok(`{"a/":[1,2],"b\"/":null,"data":[3]}`), "}\n") + `,"a/":[1,2],"b\"/":null}` + "\n"},
		{"PUT", "/v1/login", ``, "", 200, envelope + `null,"wrap_info":null,"warnings":null,"auth":{"client_token":"s.x","accessor":"","policies":["default"],"token_policies":null,"metadata":null,"lease_duration":60,"renewable":false,"entity_id":"","token_type":"","orphan":false,"mfa_requirement":null,"num_uses":0}}` + "\n"},
		{"PUT", "/v1/batch", `{"i":400}`, "", 400, ok(`{"batch_results":[{"error":"no","reference":"r"}]}`)},
		{"PUT", "/v1/batch", `{"i":207}`, "", 207, ok(`{"batch_results":[{"error":"no","reference":"r"}]}`)},
		{"PUT", "/v1/batch", `{"i":99999}`, "", 200, ok(`{"batch_results":[{"error":"no","reference":"r"}]}`)},
		{"PUT", "/v1/batch", `{"i":-1}`, "", 200, ok(`{"batch_results":[{"error":"no","reference":"r"}]}`)},
		{"PUT", "/v1/batch", `{"i":100}`, "", 200, ok(`{"batch_results":[{"error":"no","reference":"r"}]}`)},
		{"PUT", "/v1/batch", `{"i":304}`, "", 304, ""},
		{"GET", "/v1/raw", ``, "", 200, "\x30\x00"},
		{"GET", "/v1/sys/health", ``, "", 200, `{"initialized":false,"sealed":false,"standby":false,"performance_standby":false,"replication_performance_mode":"","replication_dr_mode":"","server_time_utc":0,"version":"1.0.0"}` + "\n"},
		{"GET", "/v1/sys/health?activecode=473", ``, "", 473, `{"initialized":false,"sealed":false,"standby":false,"performance_standby":false,"replication_performance_mode":"","replication_dr_mode":"","server_time_utc":0,"version":"1.0.0"}` + "\n"},
		{"HEAD", "/v1/sys/health?activecode=473", ``, "", 473, ""},
		{"HEAD", "/v1/echo", ``, "", 405, ""},
		{"GET", "/", ``, "", 200, "Claviger 0.1.0: Vault's HTTP API is under /v1/\n"},
		{"PUT", "/", ``, "", 405, `{"errors":["unsupported operation"]}` + "\n"},
		{"GET", "/ui/", ``, "", 404, `{"errors":[]}` + "\n"},
		{"GET", "/v1", ``, "", 404, `{"errors":[]}` + "\n"},
		{"GET", "/v2/echo", ``, "", 404, `{"errors":[]}` + "\n"},
		{"GET", "//v1/echo", ``, "", 404, `{"errors":[]}` + "\n"},
		{"GET", "/v1//echo", ``, "", 404, `{"errors":["no handler for route \"/echo\". route entry not found."]}` + "\n"},
		{"GET", "/v1/a/../echo", ``, "", 404, `{"errors":["no handler for route \"a/../echo\". route entry not found."]}` + "\n"},
		{"GET", "/v1/%65cho", ``, "", 200, ok(empty)},
		{"GET", "/v1/a%2Fb%20c", ``, "", 404, `{"errors":["no handler for route \"a/b c\". route entry not found."]}` + "\n"},
		{"GET", "/v1/a%00", ``, "", 400, `{"errors":["the path must be UTF-8 without control characters"]}` + "\n"},
		{"GET", "/v1/a%ff", ``, "", 400, `{"errors":["the path must be UTF-8 without control characters"]}` + "\n"},
		{"GET", "/v1/a%C2%80", ``, "", 400, `{"errors":["the path must be UTF-8 without control characters"]}` + "\n"},
		{"PATCH", "/v1/echo", `{}`, "", 415, `{"errors":["PATCH requires Content-Type application/merge-patch+json"]}` + "\n"},
		{"PATCH", "/v1/echo", `{}`, "Content-Type: application/merge-patch+json", 404, `{"errors":["no handler for route \"echo\". route entry not found."]}` + "\n"},
		{"PATCH", "/v1/patch", `{"i":1,"zz":2}`, "Content-Type: application/merge-patch+json; charset=utf-8", 200, envelope + `{"s":"","b":null,"i":1,"d":0,"l":null},"wrap_info":null,"warnings":["Endpoint ignored these unrecognized parameters: [zz]"],"auth":null}` + "\n"},
		{"PATCH", "/v1/patch", `i=1`, "Content-Type: application/merge-patch+json", 400, `{"errors":["failed to parse JSON input: expected a JSON object, such as {} at byte 1"]}` + "\n"},
		{"SCAN", "/v1/keys", ``, "", 405, `{"errors":["unsupported operation"]}` + "\n"},
		{"OPTIONS", "/v1/keys", ``, "", 405, `{"errors":["unsupported operation"]}` + "\n"},
		{"GET", "/v1/echo", ``, "X-Vault-Namespace: root", 200, ok(empty)},
		{"GET", "/v1/echo", ``, "X-Vault-Namespace: /", 200, ok(empty)},
		{"GET", "/v1/echo", ``, "X-Vault-Namespace: team/a/", 404, `{"errors":["no namespace \"team/a/\"","hint: this server has the root namespace only: leave the header X-Vault-Namespace out"]}` + "\n"},
		{"GET", "/v1/echo", ``, "X-Vault-Wrap-TTL: soon", 400, `{"errors":["the header X-Vault-Wrap-TTL must be a duration: a number of seconds, or a text such as \"90s\", \"1h30m\" or \"30d\""]}` + "\n"},
		{"GET", "/v1/echo", ``, "X-Vault-Wrap-TTL: 0", 200, ok(empty)},
		{"GET", "/v1/echo", ``, "X-Vault-Token: bad", 403, `{"errors":["permission denied"]}` + "\n"},
		{"PUT", "/v1/echo", `{"i":"x"}`, "", 400, `{"errors":["i: \"x\" is not a whole number that fits here"]}` + "\n"},
		{"PUT", "/v1/echo", `{"b":"***"}`, "", 400, `{"errors":["b: is not base64; it must have the standard alphabet (A-Z a-z 0-9 + /) and padding with ="]}` + "\n"},
		{"PUT", "/v1/echo", strings.Repeat(`{"x":`, 10_000), "", 400, `{"errors":["failed to parse JSON input: the input is nested too deep at byte 321"]}` + "\n"},
		{"POST", "/v1/echo", `a=%zz`, "Content-Type: application/x-www-form-urlencoded", 400, `{"errors":["the body is not a form (name=value\u0026name=value in URL encoding)","hint: send JSON, which any Content-Type may carry"]}` + "\n"},
		{"GET", "/v1/echo?i=x", ``, "", 400, `{"errors":["i: \"x\" is not a whole number that fits here"]}` + "\n"},
	} {
		var headers []string
		if c.headers != "" {
			headers = []string{c.headers}
		}
		got := s.do(c.method, c.path, c.body, headers...)
		want := strings.ReplaceAll(c.want, `\u0026`, "&")
		if got.status != c.status || got.body != want {
			t.Errorf("%s %s %.50s %s:\n got %d %s\nwant %d %s", c.method, c.path, c.body, c.headers, got.status, got.body, c.status, want)
		}
		if got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: Cache-Control %q", c.method, c.path, got.header.Get("Cache-Control"))
		}
		if n := got.header.Get("Content-Length"); n == "" && c.status != 204 && c.status != 304 {
			t.Errorf("%s %s: no Content-Length", c.method, c.path)
		}
	}
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	for path, want := range map[string]string{
		"/v1/echo": "application/json", "/v1/raw": "application/pkix-cert", "/": "text/plain; charset=utf-8", "/v1/none": "application/json",
	} {
		if got := s.do("GET", path, "").header.Get("Content-Type"); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	got := s.do("GET", "/v1/echo", "", "X-Vault-Namespace: root/").header.Get("X-Vault-Namespace")
	if got != "root/" {
		t.Errorf("the namespace came back as %q", got)
	}
}

func TestRequestAsGuardSeesIt(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	for _, c := range []struct {
		method, path string
		headers      []string
		want         guard.Request
	}{
		{"GET", "/v1/sys/policies/acl/a%20b", nil, guard.Request{Verb: op.Read, Path: "sys/policies/acl/a b", Token: "good"}},
		{"LIST", "/v1/transit/keys", nil, guard.Request{Verb: op.List, Path: "transit/keys/", Token: "good"}},
		{"GET", "/v1/transit/keys/?list=true", nil, guard.Request{Verb: op.List, Path: "transit/keys/", Token: "good"}},
		{"PUT", "/v1/x/", []string{"X-Vault-Token: "}, guard.Request{Verb: op.Write, Path: "x/"}},
		{"DELETE", "/v1/x", []string{"X-Vault-Token: ", "Authorization: bearer  b "}, guard.Request{Verb: op.Delete, Path: "x", Token: "b"}},
		{"POST", "/v1/x", []string{"X-Vault-Token: a", "Authorization: Bearer b"}, guard.Request{Verb: op.Write, Path: "x", Token: "a"}},
		{"POST", "/v1/x", []string{"X-Vault-Token: ", "Authorization: Basic YTpi"}, guard.Request{Verb: op.Write, Path: "x"}},
	} {
		s.do(c.method, c.path, "", c.headers...)
		got := s.door.last.Load()
		if got.Verb != c.want.Verb || got.Path != c.want.Path || got.Token != c.want.Token {
			t.Errorf("%s %s %q: got %v %q %q", c.method, c.path, c.headers, got.Verb, got.Path, got.Token)
		}
		if host, _, err := net.SplitHostPort(got.Remote); err != nil || host != "127.0.0.1" {
			t.Errorf("remote address %q", got.Remote)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	var logged lockedBuffer
	s := serve(t, Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	for _, c := range []struct {
		kind      fault.Kind
		msg, hint string
		status    int
		want      string
	}{
		{fault.Internal, "shown to nobody", "restore it", 500, `["internal error","hint: restore it"]`},
		{fault.Invalid, "bad", "do this", 400, `["bad","hint: do this"]`},
		{fault.Denied, "", "", 403, `["permission denied"]`},
		{fault.NotFound, "", "", 404, `[]`},
		{fault.NotFound, "no such route", "", 404, `["no such route"]`},
		{fault.Unsupported, "", "", 405, `["unsupported operation"]`},
		{fault.TooLarge, "big", "", 413, `["big"]`},
		{fault.MediaType, "type", "", 415, `["type"]`},
		{fault.Conflict, "exists", "", 400, `["exists"]`},
		{fault.Exhausted, "spent", "rotate the key", 400, `["spent","hint: rotate the key"]`},
		{fault.Sealed, "", "", 503, `["Vault is sealed"]`},
		{fault.Uninitialized, "Vault is sealed", "", 503, `["Vault is sealed"]`},
		{fault.Unavailable, "try again", "", 503, `["try again"]`},
		{fault.Uncertain, "unknown", "", 500, `["unknown"]`},
		{fault.Kind(200), "odd", "", 500, `["internal error"]`},
	} {
		body, err := appendJSON(nil, echoRequest{I: int(c.kind), S: c.msg, L: []string{c.hint}})
		if err != nil {
			t.Fatal(err)
		}
		got := s.do("PUT", "/v1/fail", string(body))
		if got.status != c.status || got.body != `{"errors":`+c.want+"}\n" {
			t.Errorf("%v %q: got %d %s", c.kind, c.msg, got.status, got.body)
		}
	}
	for _, path := range []string{"/v1/foreign", "/v1/panic", "/v1/unencodable"} {
		if got := s.do("PUT", path, ""); got.status != 500 || got.body != `{"errors":["internal error"]}`+"\n" {
			t.Errorf("%s: got %d %s", path, got.status, got.body)
		}
	}
	if log := logged.String(); strings.Count(log, "secret detail") != 1 || !strings.Contains(log, "panic") {
		t.Errorf("the log is to have the panic, and nothing that the guard logs:\n%s", log)
	}
	if int(fault.Uncertain)+1 != len(kinds) {
		t.Errorf("%d kinds have a status", len(kinds))
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestPanicKeepsConnection(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	var dials atomic.Int32
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}}
	defer client.CloseIdleConnections()
	for range 3 {
		req, err := http.NewRequest("PUT", s.URL+"/v1/panic", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Vault-Token", "good")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 500 {
			t.Errorf("status %d", resp.StatusCode)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		resp.Body.Close()
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{RequestTimeout: 20 * time.Millisecond})
	got := s.do("PUT", "/v1/wait", "")
	if got.status != 500 || !strings.Contains(got.body, "whether it took effect is unknown") {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestDeadlineContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	parent, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, 5))
	c := newDeadline(parent, time.Hour)
	if c.Err() != nil || c.Value(key{}) != 5 {
		t.Error("a new context is not open")
	}
	child, stop := context.WithCancel(c)
	defer stop()
	if c.Value(key{}) != 5 {
		t.Error("the value is gone")
	}
	cancel()
	<-child.Done()
	if c.Err() != context.Canceled {
		t.Error(c.Err())
	}

	short := newDeadline(context.Background(), time.Millisecond)
	defer short.stop()
	if at, ok := short.Deadline(); !ok || time.Until(at) > time.Millisecond {
		t.Error(at)
	}
	for short.Err() == nil {
		time.Sleep(100 * time.Microsecond)
	}
	if <-short.Done(); short.Err() != context.DeadlineExceeded {
		t.Error(short.Err())
	}
	inner := newDeadline(short, time.Hour)
	if inner.deadline != short.deadline {
		t.Error("a later deadline replaced an earlier one")
	}

	stopped := newDeadline(context.Background(), time.Hour)
	stopped.stop()
	if stopped.Err() != context.Canceled {
		t.Error(stopped.Err())
	}
	<-stopped.Done()
}

func TestRecorderWithoutConnection(t *testing.T) {
	t.Parallel()
	d := &testDoor{}
	defineTable(d)
	w := httptest.NewRecorder()
	r := httptest.NewRequest("PUT", "/v1/echo", strings.NewReader(`{"s":"x"}`))
	r.Header.Set("X-Vault-Token", "good")
	New(d, Options{}).ServeHTTP(w, r)
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"s":"x"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
