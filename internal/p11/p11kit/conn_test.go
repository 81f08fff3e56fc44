package p11kit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/p11"
)

// serve starts a server and returns its socket.
func serve(t *testing.T, peers p11.Peers) (string, *p11.Server) {
	t.Helper()
	path, s, _ := serveFake(t, peers)
	return path, s
}

func serveFake(t *testing.T, peers p11.Peers) (string, *p11.Server, *fake) {
	t.Helper()
	f, service := newFake(t)
	path := filepath.Join(t.TempDir(), "p11kit.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(Options{Service: service}, peers)
	done := make(chan error)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return path, s, f
}

// wire is a connection after the first bytes.
type wire struct {
	net.Conn
	code uint32
}

func connect(path string, version byte) (*wire, byte, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, 0, err
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write([]byte{version}); err != nil {
		return nil, 0, err
	}
	got := make([]byte, 1)
	if _, err := io.ReadFull(conn, got); err != nil {
		conn.Close()
		return nil, 0, err
	}
	return &wire{conn, 16}, got[0], nil
}

func dial(t *testing.T, path string) *wire {
	t.Helper()
	w, _, err := connect(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// frameOf is a message with what stands before it.
func frameOf(code uint32, m []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, code)
	b = binary.BigEndian.AppendUint32(b, 6)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m)))
	return append(append(b, "client"...), m...)
}

// call sends a message and returns the answer to it.
func (w *wire) call(m []byte) ([]byte, error) {
	w.code++
	if _, err := w.Write(frameOf(w.code, m)); err != nil {
		return nil, err
	}
	return w.answer()
}

func (w *wire) answer() ([]byte, error) {
	head := make([]byte, headSize)
	if _, err := io.ReadFull(w, head); err != nil {
		return nil, err
	}
	if code := binary.BigEndian.Uint32(head); code != w.code || binary.BigEndian.Uint32(head[4:]) != 0 {
		return nil, fmt.Errorf("an answer to %d begins with %x", w.code, head)
	}
	b := make([]byte, binary.BigEndian.Uint32(head[8:]))
	_, err := io.ReadFull(w, b)
	return b, err
}

func TestVersions(t *testing.T) {
	t.Parallel()
	path, _ := serve(t, p11.Peers{})
	for offered, want := range map[byte]byte{0: 0, 1: 1, 2: 2, 3: 2, 255: 2} {
		w, got, err := connect(path, offered)
		if err != nil || got != want {
			t.Errorf("offered %d: %d, %v", offered, got, err)
			continue
		}
		if b, err := w.call(message("C_Initialize", opening()...)); err != nil || binary.BigEndian.Uint32(b) != 1 {
			t.Errorf("C_Initialize: %x, %v", b, err)
		}
		w.Close()
	}
}

// Who may not connect gets no byte.
func TestPeers(t *testing.T) {
	t.Parallel()
	path, _ := serve(t, p11.Peers{UIDs: []int{4711}, GIDs: []int{4712}})
	if _, _, err := connect(path, 0); err == nil {
		t.Error("everybody may connect")
	}
}

// Whatever somebody sends, others are served, and the connection ends.
func TestGarbage(t *testing.T) {
	t.Parallel()
	path, s := serve(t, p11.Peers{})
	good := dial(t, path)
	if _, err := good.call(message("C_Initialize", opening()...)); err != nil {
		t.Fatal(err)
	}
	hello := message("C_Initialize", opening()...)
	for name, b := range map[string][]byte{
		"nothing":         {},
		"code 0":          frameOf(0, hello),
		"long options":    {0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0},
		"long message":    {0, 0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
		"half a head":     frameOf(9, hello)[:7],
		"half a message":  frameOf(9, hello)[:30],
		"text":            []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"then half again": append(frameOf(9, hello), frameOf(10, hello)[:20]...),
	} {
		w, _, err := connect(path, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		refused := name == "code 0" || strings.HasPrefix(name, "long")
		if !refused {
			if err := w.Conn.(*net.UnixConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		n, err := io.Copy(io.Discard, w)
		if refused && n > 0 {
			t.Errorf("%s: an answer of %d bytes", name, n)
		}
		if err != nil && !errors.Is(err, io.EOF) && !isReset(err) {
			t.Errorf("%s: the connection stays: %v", name, err)
		}
		w.Close()
		if _, err := good.call(message("C_GetInfo")); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
	gone(t, s, 1)
}

func isReset(err error) bool {
	var e *net.OpError
	return errors.As(err, &e) && !e.Timeout()
}

// gone waits until only so many connections are open.
func gone(t *testing.T, s *p11.Server, left int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); s.Connections() != left; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are open, not %d", s.Connections(), left)
		}
	}
}

// Who goes away leaves no key of a session behind.
func TestGoodbye(t *testing.T) {
	t.Parallel()
	path, s, f := serveFake(t, p11.Peers{})
	w := dial(t, path)
	curve := attrs(p11.CKA_EC_PARAMS, []byte("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"))
	for _, m := range [][]byte{
		message("C_Initialize", opening()...), message("C_OpenSession", 0, ckfSerialSession), message("C_Login", 1, ckuUser, []byte("good")),
		message("C_GenerateKeyPair", 1, mech(p11.CKM_EC_KEY_PAIR_GEN), curve, attrs(p11.CKA_TOKEN, false)),
	} {
		if b, err := w.call(m); err != nil || binary.BigEndian.Uint32(b) == callError {
			t.Fatalf("%x, %v", b, err)
		}
	}
	w.Close()
	gone(t, s, 0)
	if n := f.count("transit/keys/session-"); n != 1 {
		t.Errorf("%d keys of sessions were destroyed, not 1", n)
	}
}

// Messages may come in any pieces, and several at once; a client that does not read
// delays nobody else.
func TestPieces(t *testing.T) {
	t.Parallel()
	path, s := serve(t, p11.Peers{})
	w := dial(t, path)
	b := frameOf(17, message("C_Initialize", opening()...))
	for i := range b {
		if _, err := w.Write(b[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	w.code = 17
	if _, err := w.answer(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat(frameOf(18, message("C_GetInfo")), 3)); err != nil {
		t.Fatal(err)
	}
	w.code = 18
	for range 3 {
		if _, err := w.answer(); err != nil {
			t.Fatal(err)
		}
	}
	slow := dial(t, path)
	slow.SetDeadline(time.Now().Add(time.Second))
	for { // until the socket is full
		if _, err := slow.Write(bytes.Repeat(frameOf(1, message("C_GetInfo")), 100)); err != nil {
			break
		}
	}
	if _, err := w.call(message("C_GetSlotInfo", 0)); err != nil {
		t.Error(err)
	}
	slow.Close()
	gone(t, s, 1)
}

// A hundred programs at a time.
func TestManyPrograms(t *testing.T) {
	t.Parallel()
	path, s := serve(t, p11.Peers{})
	var work sync.WaitGroup
	for range 100 {
		work.Go(func() {
			if err := signOnce(path); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	gone(t, s, 0)
}

// signOnce is a program that makes a signature.
func signOnce(path string) error {
	w, _, err := connect(path, 0)
	if err != nil {
		return err
	}
	defer w.Close()
	number := func(b []byte) uint64 { return binary.BigEndian.Uint64(b[len(b)-8:]) }
	var key, session uint64
	for _, step := range []func() ([]byte, error){
		func() ([]byte, error) { return w.call(message("C_Initialize", opening()...)) },
		func() ([]byte, error) {
			b, err := w.call(message("C_OpenSession", 0, ckfSerialSession))
			session = number(b)
			return b, err
		},
		func() ([]byte, error) { return w.call(message("C_Login", session, ckuUser, []byte("good"))) },
		func() ([]byte, error) {
			return w.call(message("C_FindObjectsInit", session, attrs(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY, p11.CKA_LABEL, "web")))
		},
		func() ([]byte, error) {
			b, err := w.call(message("C_FindObjects", session, uint32(1)))
			key = number(b)
			return b, err
		},
		func() ([]byte, error) { return w.call(message("C_SignInit", session, mech(p11.CKM_ECDSA), key)) },
		func() ([]byte, error) { return w.call(message("C_Sign", session, make([]byte, 32), uint32(64))) },
	} {
		b, err := step()
		if err != nil {
			return err
		}
		if binary.BigEndian.Uint32(b) == callError {
			return fmt.Errorf("an error: %x", b)
		}
	}
	return nil
}
