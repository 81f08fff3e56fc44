package e2e

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pkcs11 "github.com/claviger/claviger/internal/p11"
	"github.com/claviger/claviger/internal/p11/p11test"
	"github.com/claviger/claviger/test/harness"
)

// fixedPort lets a server come back at its address.
func fixedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func pkcs11Dial(t testing.TB, socket, token string) *p11test.Client {
	t.Helper()
	c, err := p11test.Dial(socket, token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func pkcs11Key(t testing.TB, c *p11test.Client, class uint64, label string) uint64 {
	t.Helper()
	found, err := c.Find(p11test.Bytes(p11test.Number(nil, pkcs11.CKA_CLASS, class), pkcs11.CKA_LABEL, []byte(label)), 10)
	if err != nil || len(found) != 1 {
		t.Fatalf("%d objects of class %d with label %s, %v", len(found), class, label, err)
	}
	return found[0].Handle
}

// signsOver signs and reconnects once, as the module does after a broken connection.
func signsOver(socket, token string, c **p11test.Client, handle uint64, wait time.Duration) error {
	end := time.Now().Add(wait)
	for {
		if *c == nil {
			var err error
			if *c, err = p11test.Dial(socket, token); err != nil {
				if time.Now().After(end) {
					return err
				}
				time.Sleep(20 * time.Millisecond)
				continue
			}
		}
		(*c).Wait = max(time.Until(end), time.Millisecond)
		sig, err := (*c).Sign(handle, pkcs11.CKM_ECDSA, nil, false, make([]byte, 32))
		if err == nil && len(sig) != 64 {
			return fmt.Errorf("a signature of %d bytes", len(sig))
		}
		if err == nil || p11test.Code(err) != pkcs11.CKR_GENERAL_ERROR || time.Now().After(end) {
			return err
		}
		(*c).Close()
		*c = nil
	}
}

// TestAgent: the agent and the server's own socket show the same objects, and a
// client goes on through restarts of both.
func TestAgent(t *testing.T) {
	t.Parallel()
	direct := filepath.Join(t.TempDir(), "server.sock")
	s := harness.SoftHSM(t, harness.Options{Sections: fmt.Sprintf("[front.pkcs11]\nenabled = true\naddress = \"unix:%s\"\n", direct)})
	s.OK(t, "POST", "transit/keys/web", map[string]any{"type": "ecdsa-p256"})
	a := harness.StartAgent(t, s, s.RootToken, "")
	c, d := pkcs11Dial(t, a.Socket, ""), pkcs11Dial(t, direct, s.RootToken)
	handle := pkcs11Key(t, c, pkcs11.CKO_PRIVATE_KEY, "web")
	public := pkcs11Key(t, d, pkcs11.CKO_PUBLIC_KEY, "web")
	if pkcs11Key(t, d, pkcs11.CKO_PRIVATE_KEY, "web") != handle {
		t.Error("server and agent give one key two handles")
	}
	for _, pair := range [][2]*p11test.Client{{c, d}, {d, c}} {
		sig, err := pair[0].Sign(handle, pkcs11.CKM_ECDSA, nil, false, make([]byte, 32))
		if err == nil {
			err = pair[1].Verify(public, pkcs11.CKM_ECDSA, nil, false, make([]byte, 32), sig)
		}
		if err != nil {
			t.Error(err)
		}
	}
	if err := c.Login(); err != nil {
		t.Error(err)
	}
	wrong := pkcs11Dial(t, a.Socket, "wrong")
	if err := wrong.Login(); p11test.Code(err) != pkcs11.CKR_PIN_INCORRECT {
		t.Errorf("a wrong PIN: %v", err)
	}
	restarts(t, s, a, handle)
	if strings.Contains(a.Log(), s.RootToken) {
		t.Error("the client token stands in the agent's log")
	}
}

// restarts kills and restarts both while four clients sign.
func restarts(t *testing.T, s *harness.Server, a *harness.Agent, handle uint64) {
	t.Helper()
	var clients sync.WaitGroup
	var stop atomic.Bool
	var signed atomic.Int64
	for range 4 {
		clients.Go(func() {
			var c *p11test.Client
			for !stop.Load() {
				if err := signsOver(a.Socket, "", &c, handle, 30*time.Second); err != nil {
					t.Errorf("signing: %v", err)
					return
				}
				signed.Add(1)
			}
			if c != nil {
				c.Close()
			}
		})
	}
	more := func(what string) {
		t.Helper()
		before := signed.Load()
		for deadline := time.Now().Add(30 * time.Second); signed.Load() < before+20; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("nobody signs after %s\n%s", what, a.Log())
				return
			}
		}
	}
	more("the start")
	a.Kill()
	a.Start(t)
	more("a kill of the agent")
	a.Stop()
	a.Start(t)
	more("a restart of the agent")
	if err := syscall.Kill(s.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if err := syscall.Kill(s.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	more("a pause of the server")
	s.OK(t, "POST", "sys/seal", nil)
	s.Unseal(t, s.Shares...)
	more("sealing and unsealing")
	stop.Store(true)
	clients.Wait()
}

// TestAgentServerRestart: the server comes back at its address.
func TestAgentServerRestart(t *testing.T) {
	t.Parallel()
	address := fixedPort(t)
	s := harness.SoftHSM(t, harness.Options{Address: address})
	s.OK(t, "POST", "transit/keys/web", map[string]any{"type": "ecdsa-p256"})
	a := harness.StartAgent(t, s, "", "")
	c := pkcs11Dial(t, a.Socket, s.RootToken)
	handle := pkcs11Key(t, c, pkcs11.CKO_PRIVATE_KEY, "web")
	s.Kill()
	c.Wait = time.Second
	began := time.Now()
	if _, err := c.Sign(handle, pkcs11.CKM_ECDSA, nil, false, make([]byte, 32)); p11test.Code(err) != pkcs11.CKR_DEVICE_ERROR || time.Since(began) > 3*time.Second {
		t.Errorf("without a server: %v after %s", err, time.Since(began))
	}
	if r, err := c.Do(pkcs11.OpInfo, nil); err != nil || string(r.Bytes()) != "claviger" {
		t.Errorf("INFO without a server: %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		c.Wait = time.Minute
		_, err := c.Sign(handle, pkcs11.CKM_ECDSA, nil, false, make([]byte, 32))
		ended <- err
	}()
	s.Start(t)
	s.Unseal(t, s.Shares...)
	if err := <-ended; err != nil {
		t.Errorf("a signature that waited for the server: %v", err)
	}
	// What was known of the key is asked anew after its deletion.
	s.OK(t, "POST", "transit/keys/web/config", map[string]any{"deletion_allowed": true})
	if status, _ := s.Do(t, "DELETE", "transit/keys/web", nil); status != 204 {
		t.Fatal(status)
	}
	if _, err := c.Sign(handle, pkcs11.CKM_ECDSA, nil, false, make([]byte, 32)); p11test.Code(err) != pkcs11.CKR_KEY_HANDLE_INVALID {
		t.Errorf("a deleted key: %v", err)
	}
}

// TestAgentConnections: a thousand connections, clients that never read, that close
// half-way, that send nonsense: others are served.
func TestAgentConnections(t *testing.T) {
	t.Parallel()
	s := harness.Dev(t)
	s.OK(t, "POST", "transit/keys/web", map[string]any{"type": "ecdsa-p256"})
	a := harness.StartAgent(t, s, s.RootToken, "")
	c := pkcs11Dial(t, a.Socket, "")
	handle := pkcs11Key(t, c, pkcs11.CKO_PRIVATE_KEY, "web")
	const many = 1000
	clients := make([]*p11test.Client, many)
	var work sync.WaitGroup
	gate := make(chan struct{}, 32)
	for i := range clients {
		clients[i] = pkcs11Dial(t, a.Socket, "")
	}
	for _, c := range clients {
		work.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			if _, err := c.Sign(handle, pkcs11.CKM_ECDSA, nil, false, make([]byte, 32)); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	silent := pkcs11Dial(t, a.Socket, "")
	frame := silent.Request(pkcs11.OpRandom, []byte{0, 16, 0, 0}) // a megabyte that nobody takes
	if _, err := silent.Conn.Write(frame); err != nil {
		t.Error(err)
	}
	half := pkcs11Dial(t, a.Socket, "")
	if _, err := half.Conn.Write(half.Request(pkcs11.OpSlots, nil)); err != nil {
		t.Error(err)
	}
	if err := half.Conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Error(err)
	}
	answer := make([]byte, 64)
	if n, err := half.Conn.Read(answer); err != nil || !bytes.Contains(answer[:n], []byte("claviger")) {
		t.Errorf("the half-closed client got %q, %v", answer[:n], err)
	}
	for _, nonsense := range []string{"GET / HTTP/1.1\r\n\r\n", "CLVP\x00\x02\x00\x00", "CLVP\x00\x01\x00\x00\xff\xff\xff\xff"} {
		conn, err := net.Dial("unix", a.Socket)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte(nonsense))
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		for n := 0; err == nil; {
			if n, err = conn.Read(answer); n > 8 {
				t.Errorf("%q was answered by %q", nonsense, answer[:n])
			}
		}
		if e, ok := err.(net.Error); ok && e.Timeout() {
			t.Errorf("%q does not end its connection", nonsense)
		}
		conn.Close()
	}
	if _, err := c.Sign(handle, pkcs11.CKM_ECDSA, nil, false, make([]byte, 32)); err != nil {
		t.Error(err)
	}
}
