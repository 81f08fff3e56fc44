package conns

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// lines answers each line with itself; "wait" waits for release, "panic" panics.
func lines(t *testing.T, release chan struct{}, log io.Writer) (s *Server, dial func() net.Conn, served chan error) {
	t.Helper()
	s = New("lines", func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			line, err := r.ReadString('\n')
			if err != nil || !s.Busy(conn, true) {
				return
			}
			switch line {
			case "wait\n":
				<-release
			case "panic\n":
				panic("as asked")
			}
			if _, err := io.WriteString(conn, line); err != nil || !s.Busy(conn, false) {
				return
			}
		}
	}, slog.New(slog.NewTextHandler(log, nil)))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served = make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	dial = func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	return s, dial, served
}

func say(t *testing.T, conn net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(conn, line); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v; want %q", got, err, want)
	}
}

// over wants the end of a connection.
func over(t *testing.T, conn net.Conn) {
	t.Helper()
	var ne net.Error
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || errors.As(err, &ne) && ne.Timeout() {
		t.Fatalf("%d bytes, %v, and not the end", n, err)
	}
}

func TestShutdownLetsRequestsEnd(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s, dial, served := lines(t, release, io.Discard)
	idle, busy := dial(), dial()
	for _, conn := range []net.Conn{idle, busy} {
		say(t, conn, "first\n")
		hear(t, conn, "first\n")
	}
	say(t, busy, "wait\n")
	for !s.underWay() {
		time.Sleep(time.Millisecond)
	}
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	over(t, idle)
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	select {
	case err := <-down:
		t.Fatalf("ended before the request: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	hear(t, busy, "wait\n")
	over(t, busy)
	if err := <-down; err != nil {
		t.Error(err)
	}
	if n := s.Connections(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	if err := s.Serve(nil); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func (s *Server) underWay() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, under := range s.conns {
		if under {
			return true
		}
	}
	return false
}

func TestShutdownCutsOff(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	s, dial, _ := lines(t, release, io.Discard)
	conn := dial()
	say(t, conn, "wait\n")
	for !s.underWay() {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	over(t, conn)
}

func TestPanicEndsOneConnection(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s, dial, _ := lines(t, nil, &log)
	bad, good := dial(), dial()
	say(t, bad, "panic\n")
	over(t, bad)
	say(t, good, "still here\n")
	hear(t, good, "still here\n")
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "as asked") || !strings.Contains(log.String(), "lines") {
		t.Errorf("log: %s", log.String())
	}
}
