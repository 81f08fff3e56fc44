package cryptoserver

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/fault"
)

// serving runs a server until the test ends.
func serving(t *testing.T, d *testDoor, change func(*Options)) (s *Server, address string) {
	t.Helper()
	s, err := NewServer(newFront(t, d, change), &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != http.ErrServerClosed {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

func dial(t *testing.T, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn, bufio.NewReader(conn)
}

// expect reads an answer and compares its status, and its body with the message.
func expect(t *testing.T, r *bufio.Reader, status int, message string) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || status == 200 && (len(body) != 32 || !strings.HasPrefix(string(body), message)) || status != 200 && len(body) != 0 {
		t.Fatalf("%d %q, %v", resp.StatusCode, body, err)
	}
	if resp.Header.Get("Date") == "" {
		t.Error("no date")
	}
	return resp
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

// TestServer: several requests on a connection, in pieces and many at once, and
// then some that package http takes over.
func TestServer(t *testing.T) {
	t.Parallel()
	d := &testDoor{}
	_, address := serving(t, d, nil)
	conn, r := dial(t, address)
	send(t, conn, plainHead+"hello world")
	if resp := expect(t, r, 200, "hello world"); resp.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%v", resp.Header)
	}
	if d.last.Path != "hmacpool/hmac" || d.last.As == nil || d.last.Remote != conn.LocalAddr().String() {
		t.Errorf("%+v", d.last)
	}
	send(t, conn, plainHead+"hello moon!"+plainHead+"hello earth"+plainHead[:30])
	expect(t, r, 200, "hello moon!")
	expect(t, r, 200, "hello earth")
	send(t, conn, plainHead[30:]+"hello")
	time.Sleep(10 * time.Millisecond)
	send(t, conn, " venusPOST")
	expect(t, r, 200, "hello venus")
	send(t, conn, " /hmac HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
	expect(t, r, 200, "abcde")
	send(t, conn, "GET /hmac HTTP/1.1\r\nHost: x\r\n\r\n")
	expect(t, r, 400, "")
	send(t, conn, plainHead+"hello world")
	expect(t, r, 200, "hello world")
}

func TestServerErrors(t *testing.T) {
	t.Parallel()
	d := &testDoor{}
	_, address := serving(t, d, nil)
	conn, r := dial(t, address)
	for err, status := range map[error]int{fault.New(fault.Unavailable, "no file"): 400, fault.New(fault.NotFound, "no pool"): 400, fault.New(fault.Denied, "no"): 403} {
		d.fail = err
		send(t, conn, plainHead+"hello world")
		expect(t, r, status, "")
	}
	d.fail = nil
	send(t, conn, strings.Replace(plainHead, "11", "5", 1)+"panic")
	if _, err := r.ReadByte(); err == nil {
		t.Error("an answer after a panic")
	}
	next, r := dial(t, address)
	send(t, next, plainHead+"hello world")
	expect(t, r, 200, "hello world")
	large := strings.Repeat("x", 100_000)
	send(t, next, strings.Replace(plainHead, "11", "100000", 1)+large)
	expect(t, r, 200, "xxxx")
}

// TestServerTokens: with client tokens package http has all connections.
func TestServerTokens(t *testing.T) {
	t.Parallel()
	_, address := serving(t, &testDoor{}, func(o *Options) { o.As = nil })
	conn, r := dial(t, address)
	send(t, conn, plainHead+"hello world")
	expect(t, r, 403, "")
	send(t, conn, strings.Replace(plainHead, "Accept:", "X-Vault-Token: good\r\nAccept:", 1)+"hello world")
	expect(t, r, 200, "hello world")
}

// TestServerSlow: who says nothing, or not all of a request, loses the connection;
// who is busy keeps it.
func TestServerSlow(t *testing.T) {
	t.Parallel()
	s, err := NewServer(newFront(t, &testDoor{}, nil), &http.Server{})
	if err != nil {
		t.Fatal(err)
	}
	s.times = times{first: 300 * time.Millisecond, part: 300 * time.Millisecond, idle: 3 * time.Second}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	defer s.Shutdown(t.Context())
	silent, _ := dial(t, l.Addr().String())
	part, _ := dial(t, l.Addr().String())
	send(t, part, plainHead)
	late, r := dial(t, l.Addr().String())
	send(t, late, plainHead+"hello world")
	expect(t, r, 200, "hello world")
	again, r := dial(t, l.Addr().String())
	send(t, again, plainHead+"hello world")
	expect(t, r, 200, "hello world")
	send(t, again, plainHead)
	begun := time.Now()
	if _, err := r.ReadByte(); err != io.EOF || time.Since(begun) > 2*time.Second {
		t.Errorf("a second request in part: %v after %v", err, time.Since(begun))
	}
	busy, busyReader := dial(t, l.Addr().String())
	for range 10 {
		send(t, busy, plainHead+"hello world")
		expect(t, busyReader, 200, "hello world")
		time.Sleep(100 * time.Millisecond)
	}
	for what, conn := range map[string]net.Conn{"silent": silent, "in part": part, "idle": late} {
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err != io.EOF {
			t.Errorf("%s: %d bytes, %v", what, n, err)
		}
	}
}

// TestServerShutdown: connections that wait end at once, whichever way they took.
func TestServerShutdown(t *testing.T) {
	t.Parallel()
	s, address := serving(t, &testDoor{}, nil)
	idle, r := dial(t, address)
	send(t, idle, plainHead+"hello world")
	expect(t, r, 200, "hello world")
	part, _ := dial(t, address)
	send(t, part, plainHead[:40])
	other, otherReader := dial(t, address)
	send(t, other, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	expect(t, otherReader, 400, "")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{idle, part, other} {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a connection is still served")
		}
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("connections are still accepted")
	}
}
