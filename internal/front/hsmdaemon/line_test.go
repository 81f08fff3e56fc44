package hsmdaemon

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const lineToken = "a token of the line protocol"

// lines serves the line protocol on a unix and a TCP socket until the test ends.
func lines(t testing.TB, f *Front, key string) (s *LineServer, addresses []net.Addr) {
	t.Helper()
	s = f.Lines([]byte(lineToken), key)
	ended := make(chan error, 2)
	for _, a := range [][2]string{{"unix", filepath.Join(t.TempDir(), "s")}, {"tcp", "127.0.0.1:0"}} {
		l, err := net.Listen(a[0], a[1])
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, l.Addr())
		go func() { ended <- s.Serve(l) }()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		for range 2 {
			if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("served until %v", err)
			}
		}
	})
	return s, addresses
}

type lineClient struct {
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, a net.Addr) *lineClient {
	t.Helper()
	c, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &lineClient{c, bufio.NewReader(c)}
}

// say sends a line and returns the answer without its end; "EOF" if there is none.
func (c *lineClient) say(t testing.TB, line string) string {
	t.Helper()
	if _, err := io.WriteString(c, line+"\r\n"); err != nil {
		return "EOF"
	}
	return c.hear(t)
}

func (c *lineClient) hear(t testing.TB) string {
	t.Helper()
	answer, err := c.r.ReadString('\n')
	if err != nil {
		return "EOF"
	}
	text, ok := strings.CutSuffix(answer, "\r\n")
	if !ok {
		t.Errorf("the line %q does not end in CRLF", answer)
	}
	return text
}

func newLines(t testing.TB) (*LineServer, []net.Addr, *rsa.PrivateKey, *door) {
	t.Helper()
	f, d, _ := newFront(t, func(o *Options) { o.Timeout = 2 * time.Second })
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	d.add("master", key)
	s, addresses := lines(t, f, "master")
	return s, addresses, key, d
}

func TestLines(t *testing.T) {
	t.Parallel()
	_, addresses, key, _ := newLines(t)
	ciphertext := base64.StdEncoding.EncodeToString(encrypt(t, &key.PublicKey, []byte("foobar")))
	for _, a := range addresses {
		c := dial(t, a)
		if got := c.say(t, lineToken); got != "OK" {
			t.Fatalf("%s: token answered by %q", a, got)
		}
		for range 3 { // as often as the client likes
			if got := c.say(t, ciphertext); got != "Zm9vYmFy" {
				t.Errorf("%s: %q", a, got)
			}
		}
		for _, wrong := range []string{"Zm9vYmFy", base64.StdEncoding.EncodeToString(make([]byte, 256))} {
			if got := c.say(t, wrong); got != "ERROR decryption failed" {
				t.Errorf("%s: %q", a, got)
			}
		}
		for _, wrong := range []string{"", "not base64", "Zm9v YmFy", "Zm9"} {
			if got := c.say(t, wrong); !strings.HasPrefix(got, "ERROR the line must be") {
				t.Errorf("%s: %q answered by %q", a, wrong, got)
			}
		}
		if got := c.say(t, ciphertext); got != "Zm9vYmFy" {
			t.Errorf("%s: after errors %q", a, got)
		}
	}
	c := dial(t, addresses[1])
	if _, err := io.WriteString(c, lineToken+"\n"+ciphertext+"\n"); err != nil { // LF alone, both at once
		t.Fatal(err)
	}
	if got := c.hear(t) + c.hear(t); got != "OKZm9vYmFy" {
		t.Errorf("%q", got)
	}
}

func TestLineTokenRefused(t *testing.T) {
	t.Parallel()
	_, addresses, _, d := newLines(t)
	for _, wrong := range []string{"", "x", lineToken + " ", lineToken[1:]} {
		c := dial(t, addresses[0])
		if got := c.say(t, wrong); got != "ERROR wrong token" {
			t.Errorf("%q answered by %q", wrong, got)
		}
		if got := c.say(t, lineToken); got != "EOF" {
			t.Errorf("a second try is answered by %q", got)
		}
	}
	if calls := d.took(); len(calls) != 0 {
		t.Errorf("calls %q", calls)
	}
	f, _, _ := newFront(t)
	s := f.Lines(nil, "master")
	here, there := net.Pipe()
	go s.talk(there)
	c := &lineClient{here, bufio.NewReader(here)}
	if got := c.say(t, ""); got != "ERROR wrong token" {
		t.Errorf("an empty token is answered by %q", got)
	}
}

// TestLineWithoutEnd: a line that does not end costs its sender the connection,
// and nobody else anything.
func TestLineWithoutEnd(t *testing.T) {
	t.Parallel()
	_, addresses, key, _ := newLines(t)
	silent := dial(t, addresses[1]) // half open
	c := dial(t, addresses[1])
	if _, err := c.Write(bytes.Repeat([]byte("x"), maxLine)); err != nil {
		t.Fatal(err)
	}
	if got := c.hear(t); !strings.HasPrefix(got, "ERROR the line is longer") {
		t.Errorf("%q", got)
	}
	other := dial(t, addresses[1])
	other.say(t, lineToken)
	if got := other.say(t, base64.StdEncoding.EncodeToString(encrypt(t, &key.PublicKey, []byte("x")))); got != "eA==" {
		t.Errorf("%q", got)
	}
	if got := silent.say(t, lineToken); got != "OK" {
		t.Errorf("the silent one got %q", got)
	}
}

// TestLineShutdown: waiting clients are let go at once, answers are finished.
func TestLineShutdown(t *testing.T) {
	t.Parallel()
	s, addresses, key, d := newLines(t)
	idle, busy := dial(t, addresses[0]), dial(t, addresses[0])
	for _, c := range []*lineClient{idle, busy} {
		if got := c.say(t, lineToken); got != "OK" {
			t.Fatal(got)
		}
	}
	d.mu.Lock()
	d.block = make(chan struct{})
	d.mu.Unlock()
	answer := make(chan string, 1)
	go func() {
		answer <- busy.say(t, base64.StdEncoding.EncodeToString(encrypt(t, &key.PublicKey, []byte("x"))))
	}()
	for len(d.took()) == 0 {
		time.Sleep(time.Millisecond)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(t.Context()) }()
	if got := idle.hear(t); got != "EOF" {
		t.Errorf("the idle client got %q", got)
	}
	close(d.block)
	if got := <-answer; got != "eA==" {
		t.Errorf("the busy client got %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := s.Serve(nil); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("serves again: %v", err)
	}
}

// TestLineCutOff: what does not end in time is cut off.
func TestLineCutOff(t *testing.T) {
	t.Parallel()
	s, addresses, key, d := newLines(t)
	c := dial(t, addresses[0])
	c.say(t, lineToken)
	d.mu.Lock()
	d.block = make(chan struct{})
	d.mu.Unlock()
	answer := make(chan string, 1)
	go func() {
		answer <- c.say(t, base64.StdEncoding.EncodeToString(encrypt(t, &key.PublicKey, []byte("x"))))
	}()
	for len(d.took()) == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if got := <-answer; got != "EOF" {
		t.Errorf("%q", got)
	}
	close(d.block)
}

func TestLineTokenFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	first, err := LineToken(file)
	if err != nil || len(first) != 43 {
		t.Fatalf("%q %v", first, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if second, err := LineToken(file); err != nil || !bytes.Equal(first, second) {
		t.Errorf("%q, then %q %v", first, second, err)
	}
	for _, text := range []string{"", "short", "two lines of text\nin the file", strings.Repeat("x", 5000)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LineToken(file); err == nil {
			t.Errorf("%.20q is a token", text)
		}
	}
	if _, err := LineToken(filepath.Join(file, "x")); err == nil {
		t.Error("a path through a file is taken")
	}
}

func TestTellToken(t *testing.T) {
	t.Parallel()
	var got string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(b)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer s.Close()
	if err := TellToken(t.Context(), s.URL+"/hsm", []byte("tok")); err != nil || got != `POST /hsm application/json {"token":"tok"}` {
		t.Errorf("%q %v", got, err)
	}
	moved := httptest.NewServer(http.RedirectHandler(s.URL, http.StatusFound))
	defer moved.Close()
	got = ""
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := TellToken(ctx, moved.URL, []byte("tok")); err == nil || got != "" {
		t.Errorf("a redirect was followed: %q %v", got, err)
	}
}

func FuzzLine(f *testing.F) {
	front, d, _ := newFront(f)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	d.add("master", key)
	s := front.Lines([]byte(lineToken), "master")
	f.Add([]byte("Zm9v\r\n"))
	f.Add([]byte(base64.StdEncoding.EncodeToString(encrypt(f, &key.PublicKey, []byte("x"))) + "\n\n\r\r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			s.talk(there)
		}()
		go func() {
			_, _ = here.Write(append([]byte(lineToken+"\r\n"), sent...))
			_ = here.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		}()
		r := bufio.NewReader(here)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				break
			}
			if !strings.HasSuffix(line, "\r\n") || strings.Contains(line, "of these details") {
				t.Errorf("answered %q", line)
			}
		}
		here.Close()
	})
}
