package p11

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// echoServer sends frames back, with a magnitude of patience that a test can wait for.
func echoServer(t *testing.T, times patience) *net.UnixConn {
	t.Helper()
	s := NewServerOf(func(c *Conn) {
		if !hello(c) {
			return
		}
		var in []byte
		var err error
		for {
			if in, err = frame(c, in); err != nil {
				return
			}
			if c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(in))), in...)) != nil {
				return
			}
		}
	}, Peers{}, slog.New(slog.DiscardHandler))
	s.times = times
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Shutdown(context.Background()) })
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.UnixConn)
}

func greeting() []byte { return append([]byte(magic), 0, Version, 0, 0) }

func greet(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Write(greeting()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, helloSize)); err != nil {
		t.Fatal(err)
	}
}

const soon, late = 100 * time.Millisecond, time.Hour

// ended waits for the server to close the connection.
func ended(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Error(err)
	}
}

func TestPatience(t *testing.T) {
	t.Parallel()
	whole := append([]byte{0, 0, 0, 3}, "abc"...)
	large := append([]byte{0, 0, 8, 0}, make([]byte, 2048)...)
	echo := func(t *testing.T, conn net.Conn, b []byte) {
		t.Helper()
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(b))
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%x, %v", got, err)
		}
	}
	for name, part := range map[string][]byte{
		"of a head":          whole[:2],
		"a head":             whole[:4],
		"of a frame":         whole[:6],
		"of a large frame":   large[:2000],
		"behind a whole one": append(bytes.Clone(whole), whole[:6]...),
	} {
		t.Run("a part "+name, func(t *testing.T) {
			t.Parallel()
			conn := echoServer(t, patience{late, soon, late})
			greet(t, conn)
			echo(t, conn, whole)
			began := time.Now()
			if _, err := conn.Write(part); err != nil {
				t.Fatal(err)
			}
			ended(t, conn)
			if d := time.Since(began); d < soon {
				t.Errorf("closed after %v, which is too soon", d)
			}
		})
	}
	t.Run("no greeting", func(t *testing.T) {
		t.Parallel()
		ended(t, echoServer(t, patience{soon, late, late}))
	})
	t.Run("an idle one stays", func(t *testing.T) {
		t.Parallel()
		const some = time.Second // long enough for a busy machine to answer in it
		conn := echoServer(t, patience{some, some, some})
		greet(t, conn)
		for _, b := range [][]byte{large, whole} {
			time.Sleep(some + some/2)
			echo(t, conn, b)
		}
	})
	t.Run("it never reads", func(t *testing.T) {
		t.Parallel()
		conn := echoServer(t, patience{late, late, soon})
		greet(t, conn)
		if err := conn.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for n := 0; ; n++ {
			if _, err := conn.Write(large); err != nil {
				if e, ok := err.(net.Error); ok && e.Timeout() {
					t.Errorf("after %d frames the server neither takes more nor closes", n)
				}
				return
			}
		}
	})
}
