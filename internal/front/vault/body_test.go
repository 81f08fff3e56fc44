package vault

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
)

// talk sends bytes on a connection of its own and returns the answer; more is
// called between the bytes and the reading of the answer.
func (s *server) talk(head string, more func(net.Conn)) (*http.Response, string) {
	s.t.Helper()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(c, strings.ReplaceAll(head, "\n", "\r\n")); err != nil {
		s.t.Fatal(err)
	}
	if more != nil {
		more(c)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(body)
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{MaxBody: 1000})
	fit := `{"s":"` + strings.Repeat("x", 1000-8) + `"}`
	if got := s.do("PUT", "/v1/echo", fit); got.status != 200 {
		t.Errorf("a body of just the limit: %d %s", got.status, got.body)
	}
	if got := s.do("PUT", "/v1/echo", fit+" "); got.status != 413 || got.body != `{"errors":["the body is larger than 1000 bytes"]}`+"\n" {
		t.Errorf("one byte more: %d %s", got.status, got.body)
	}
	if got := s.do("PUT", "/v1/echo", fit+" ", "X-Vault-Token: bad"); got.status != 403 {
		t.Errorf("a large body without a right: %d", got.status)
	}
	resp, body := s.talk("PUT /v1/echo HTTP/1.1\nHost: x\nX-Vault-Token: good\nTransfer-Encoding: chunked\n\n3ea\n"+fit+"  \n0\n\n", nil)
	if resp.StatusCode != 413 {
		t.Errorf("one byte more in chunks: %d %s", resp.StatusCode, body)
	}
	resp, body = s.talk("PUT /v1/echo HTTP/1.1\nHost: x\nX-Vault-Token: good\nTransfer-Encoding: chunked\n\n3e8\n"+fit+"\n0\n\n", nil)
	if resp.StatusCode != 200 {
		t.Errorf("just the limit in chunks: %d %s", resp.StatusCode, body)
	}
}

func TestLargeBody(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	want := bytes.Repeat([]byte{1, 2, 3}, 1<<20)
	text := base64.StdEncoding.EncodeToString(want)
	got := s.do("PUT", "/v1/echo", `{"b":"`+text+`"}`)
	if got.status != 200 || !strings.Contains(got.body, `"b":"`+text+`"`) {
		t.Errorf("status %d, %d bytes", got.status, len(got.body))
	}
	resp, body := s.talk("PUT /v1/echo HTTP/1.1\nHost: x\nX-Vault-Token: good\nContent-Length: 40000000\n\n", nil)
	if resp.StatusCode != 413 {
		t.Errorf("40 MB announced: %d %s", resp.StatusCode, body)
	}
}

func TestSlowBody(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{RequestTimeout: 50 * time.Millisecond})
	const head = "PUT /v1/echo HTTP/1.1\nHost: x\nX-Vault-Token: good\nContent-Length: 100\n\n"
	for _, start := range []string{"", `{"s":"`} {
		began := time.Now()
		resp, body := s.talk(head+start, nil)
		if resp.StatusCode != 408 || body != `{"errors":["the body did not arrive within 50ms"]}`+"\n" {
			t.Errorf("after %q: %d %s", start, resp.StatusCode, body)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("after %q: took %v", start, took)
		}
	}
}

// The time limit of reading one request must not end the connection for the
// operation that follows, or for the next request.
func TestReadDeadlineEndsWithBody(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{RequestTimeout: 50 * time.Millisecond})
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for range 3 {
		const request = "PUT /v1/wait HTTP/1.1\r\nHost: x\r\nX-Vault-Token: good\r\nContent-Length: 2\r\n\r\n{}"
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), "the time for the request is over") {
			t.Fatalf("%d %s, %v", resp.StatusCode, body, err)
		}
		time.Sleep(60 * time.Millisecond)
	}
}

func TestShortBody(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	resp, body := s.talk("PUT /v1/echo HTTP/1.1\nHost: x\nX-Vault-Token: good\nContent-Length: 100\n\n{\"s\":",
		func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite() })
	if resp.StatusCode != 400 || !strings.Contains(body, "the body ended early") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	resp, body = s.talk("PUT /v1/echo HTTP/1.1\nHost: x\nX-Vault-Token: good\nTransfer-Encoding: chunked\n\nzz\n", nil)
	if resp.StatusCode != 400 {
		t.Errorf("a bad chunk: %d %s", resp.StatusCode, body)
	}
}

// A header that announces much costs nothing before the bytes come.
func TestAnnouncedBodyIsNotBelieved(t *testing.T) {
	// Not parallel: it measures memory.
	const n = 64
	s := serve(t, Options{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "PUT /v1/echo HTTP/1.1\r\nHost: x\r\nX-Vault-Token: good\r\nContent-Length: %d\r\n\r\n{", 30<<20)
	}
	time.Sleep(200 * time.Millisecond)
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / n; got > 4*believed {
		t.Errorf("%d bytes allocated a connection", got)
	}
}

// Buffers hold plaintexts: none may wait in the pool with anything in it.
func TestBuffersAreWiped(t *testing.T) {
	t.Parallel()
	var p pool
	b := p.get()
	*b = append(*b, "secret"...)
	whole := (*b)[:cap(*b)]
	p.put(b)
	if bytes.ContainsFunc(whole, func(r rune) bool { return r != 0 }) {
		t.Errorf("%q is left in a pooled buffer", bytes.TrimRight(whole, "\x00"))
	}
	old := append(make([]byte, 0, 8), "secret!!"...)
	if larger := grow(old, -1); string(larger) != "secret!!" || cap(larger) <= 8 || old[0] != 0 {
		t.Errorf("grown to %q, left %q", larger, old)
	}
	large := make([]byte, 8, keepBelow+1)
	copy(large, "secret!!")
	p.put(&large)
	if large[0] != 0 {
		t.Error("a large buffer is not wiped")
	}
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	d := &testDoor{}
	defineTable(d)
	s := httptest.NewUnstartedServer(New(d, Options{RequestTimeout: time.Second}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	put := func(body io.Reader) (*http.Response, string) {
		req, err := http.NewRequest("PUT", s.URL+"/v1/echo", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer good")
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}
	text := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 200_000))
	resp, body := put(strings.NewReader(`{"b":"` + text + `"}`))
	if resp.ProtoMajor != 2 || resp.StatusCode != 200 || !strings.Contains(body, text) {
		t.Errorf("%s %d, %d bytes", resp.Proto, resp.StatusCode, len(body))
	}
	slow, end := io.Pipe()
	defer end.Close()
	if resp, body := put(slow); resp.StatusCode != 408 {
		t.Errorf("slow body: %d %s", resp.StatusCode, body)
	}
	if resp, body := put(strings.NewReader(`{}`)); resp.StatusCode != 200 {
		t.Errorf("after a slow body: %d %s", resp.StatusCode, body)
	}
}
