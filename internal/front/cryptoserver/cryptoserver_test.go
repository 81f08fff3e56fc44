package cryptoserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
)

// testDoor answers with the first 32 bytes of the message, or fails.
type testDoor struct {
	fail error
	last guard.Request
}

func (d *testDoor) Handle(_ context.Context, r *guard.Request) (*guard.Answer, error) {
	d.last = *r
	if r.As == nil && r.Token != "good" {
		return nil, fault.New(fault.Denied, "permission denied")
	}
	var in api.PoolHMAC
	if _, err := r.Decode(&in); err != nil {
		return nil, err
	}
	if string(in.Input) == "panic" {
		panic("as told")
	}
	if string(in.Input) == "odd" {
		return &guard.Answer{Data: &api.Empty{}}, nil
	}
	code := make([]byte, 32)
	copy(code, in.Input)
	return &guard.Answer{Data: &api.PoolCodes{HMAC: code}}, d.fail
}

func identity(t testing.TB) *guard.Identity {
	t.Helper()
	id, err := guard.NewIdentity("front/test", nil, `path "hmacpool/hmac" { capabilities = ["update"] }`)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newFront(t testing.TB, d *testDoor, change func(*Options)) http.Handler {
	t.Helper()
	o := Options{Mount: "hmacpool/", As: identity(t), MaxBody: 1 << 20, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	return New(d, o)
}

func TestGood(t *testing.T) {
	t.Parallel()
	d := &testDoor{}
	s := httptest.NewServer(newFront(t, d, nil))
	defer s.Close()
	for _, path := range []string{"/hmac", "/hmac?x=%zz&y"} {
		resp, err := http.Post(s.URL+path, "text/plain", strings.NewReader("hello world"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := "hello world" + strings.Repeat("\x00", 21); err != nil || resp.StatusCode != 200 || string(body) != want {
			t.Errorf("%s: %d %q, %v", path, resp.StatusCode, body, err)
		}
		if h := resp.Header; h.Get("Content-Type") != "application/octet-stream" || resp.ContentLength != 32 {
			t.Errorf("%v", h)
		}
		if d.last.Path != "hmacpool/hmac" || d.last.As == nil || d.last.Token != "" || d.last.Remote == "" {
			t.Errorf("%+v", d.last)
		}
	}
}

// TestChunked: a body without a length, in pieces, and one larger than the first buffer.
func TestChunked(t *testing.T) {
	t.Parallel()
	d := &testDoor{}
	s := httptest.NewServer(newFront(t, d, nil))
	defer s.Close()
	for _, size := range []int{1, 33, firstSize, firstSize + 1, 300_000} {
		body := strings.Repeat("x", size)
		resp, err := http.Post(s.URL+"/hmac", "", io.MultiReader(strings.NewReader(body[:size/2]), strings.NewReader(body[size/2:])))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%d bytes: %d", size, resp.StatusCode)
		}
	}
}

// TestWrong: whatever is wrong is 400 with an empty body.
func TestWrong(t *testing.T) {
	t.Parallel()
	d := &testDoor{}
	s := httptest.NewServer(newFront(t, d, nil))
	defer s.Close()
	wrong := func(what, method, path, body string) {
		t.Helper()
		req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 400 || len(answer) != 0 {
			t.Errorf("%s: %d %q, %v", what, resp.StatusCode, answer, err)
		}
	}
	for _, method := range []string{"GET", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "post"} {
		wrong(method, method, "/hmac", "x")
	}
	for _, path := range []string{"/", "/hmac/", "//hmac", "/HMAC", "/hmac/x", "/h%6dac", "/v1/hmacpool/hmac"} {
		wrong(path, "POST", path, "x")
	}
	wrong("no body", "POST", "/hmac", "")
	wrong("a body beyond the limit", "POST", "/hmac", strings.Repeat("x", 1<<20+1))
	wrong("panic", "POST", "/hmac", "panic")
	wrong("another answer", "POST", "/hmac", "odd")
	for _, err := range []error{fault.New(fault.Sealed, "sealed"), fault.New(fault.Unavailable, "no file"), errors.New("ours"), fault.New(fault.NotFound, "no pool")} {
		d.fail = err
		wrong(err.Error(), "POST", "/hmac", "x")
	}
}

// TestEmptyChunked: a body that turns out to be empty, and one beyond the limit.
func TestEmptyChunked(t *testing.T) {
	t.Parallel()
	h := newFront(t, &testDoor{}, func(o *Options) { o.MaxBody = 10 })
	for _, body := range []string{"", "12345678901"} {
		r := httptest.NewRequest("POST", "/hmac", strings.NewReader(body))
		r.ContentLength = -1
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 400 || w.Body.Len() != 0 || w.Header().Get("Connection") != "close" {
			t.Errorf("%q: %d %v", body, w.Code, w.Header())
		}
	}
}

func TestClientTokens(t *testing.T) {
	t.Parallel()
	d := &testDoor{}
	h := newFront(t, d, func(o *Options) { o.As = nil })
	for _, c := range []struct {
		name, value string
		status      int
	}{
		{"X-Vault-Token", "good", 200}, {"Authorization", "Bearer good", 200}, {"Authorization", "bearer  good", 200},
		{"X-Vault-Token", "bad", 403}, {"Authorization", "Basic good", 403}, {"Authorization", "Bearer", 403}, {"X-Other", "good", 403},
	} {
		r := httptest.NewRequest("POST", "/hmac", strings.NewReader("x"))
		r.Header.Set(c.name, c.value)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status || c.status == 403 && w.Body.Len() != 0 {
			t.Errorf("%s: %s: %d", c.name, c.value, w.Code)
		}
	}
	open := newFront(t, d, nil)
	r := httptest.NewRequest("POST", "/hmac", strings.NewReader("x"))
	r.Header.Set("X-Vault-Token", "bad")
	w := httptest.NewRecorder()
	if open.ServeHTTP(w, r); w.Code != 200 || d.last.Token != "" {
		t.Errorf("a token where none is asked for: %d", w.Code)
	}
}

// TestBrokenBody: a client that goes away in the middle of a body, and the next
// one on the same server.
func TestBrokenBody(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(newFront(t, &testDoor{}, nil))
	s.Config.ReadTimeout = 200 * time.Millisecond
	s.Start()
	defer s.Close()
	for _, hangUp := range []bool{true, false} {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "POST /hmac HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"); err != nil {
			t.Fatal(err)
		}
		if hangUp {
			conn.Close()
			continue
		}
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		answer, err := io.ReadAll(conn)
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 400 ")) || err != nil {
			t.Errorf("a slow client: %q, %v", answer, err)
		}
		conn.Close()
	}
	resp, err := http.Post(s.URL+"/hmac", "", strings.NewReader("x"))
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("afterwards: %v", err)
	}
	resp.Body.Close()
}

// FuzzRequest: the answer is 200 with 32 bytes or 400 with none.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "/hmac", "", []byte("hello world"), true)
	f.Add("GET", "/", "x=1", []byte{}, false)
	h := newFront(f, &testDoor{}, nil)
	f.Fuzz(func(t *testing.T, method, path, query string, body []byte, length bool) {
		r := &http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: -1}
		if length {
			r.ContentLength = int64(len(body))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		good := method == "POST" && path == "/hmac" && len(body) > 0 && string(body) != "panic" && string(body) != "odd"
		if good && (w.Code != 200 || w.Body.Len() != 32) || !good && (w.Code != 400 || w.Body.Len() != 0) {
			t.Errorf("%s %q: %d with %d bytes", method, path, w.Code, w.Body.Len())
		}
	})
}
