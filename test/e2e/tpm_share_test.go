package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/internal/tpm/tpmtest"
	"github.com/claviger/claviger/test/harness"
)

// background runs a program until the end of the test, and waits until there is path.
func background(t *testing.T, path string, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out logFile
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 200 {
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s does not listen: %s", name, out.String())
}

// logFile is what a program of the background prints.
type logFile struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logFile) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestTPMShared lets two servers and tpm2-tools use one TPM at a time through
// tpm2-abrmd. When the TPM is cleared the servers stay sealed.
func TestTPMShared(t *testing.T) {
	t.Parallel()
	for program, pkg := range map[string]string{
		"dbus-daemon": "dbus-daemon", "tpm2-abrmd": "tpm2-abrmd, libtss2-tcti-tabrmd0", "tpm2_ptool": "libtpm2-pkcs11-tools",
	} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed (Debian packages %s)", program, pkg)
		}
	}
	tok := tokentest.TPMToken{Module: tokentest.TPMModule(t)}
	p := tpmtest.New(t)
	dir, err := os.MkdirTemp("", "bus") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	bus := filepath.Join(dir, "bus")
	busEnv := "DBUS_SESSION_BUS_ADDRESS=unix:path=" + bus
	background(t, bus, nil, "dbus-daemon", "--session", "--nofork", "--address=unix:path="+bus)
	background(t, bus, []string{busEnv}, "tpm2-abrmd", "--session", "--allow-root", "--tcti", p.TCTI)
	const tcti = "tabrmd:bus_type=session"
	env := []string{busEnv, "TPM2TOOLS_TCTI=" + tcti, "TPM2_PKCS11_TCTI=" + tcti}
	tool := func(store, name string, args ...string) ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Env = dir, append(append(os.Environ(), env...), "TPM2_PKCS11_STORE="+store)
		return cmd.CombinedOutput()
	}
	must := func(store, name string, args ...string) {
		t.Helper()
		var out []byte
		var err error
		for range 50 { // tpm2-abrmd takes its name on the bus a moment after its start
			if out, err = tool(store, name, args...); err == nil {
				return
			}
			if name != "tpm2_getrandom" {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	must("", "tpm2_getrandom", "8")
	must("", "tpm2_createprimary", "-C", "o", "-G", "ecc", "-c", "primary.ctx")
	must("", "tpm2_evictcontrol", "-C", "o", "-c", "primary.ctx", "0x81000001")
	servers := make([]*harness.Server, 2)
	for i := range servers {
		store := filepath.Join(dir, fmt.Sprint("store", i))
		if err := os.Mkdir(store, 0o700); err != nil {
			t.Fatal(err)
		}
		must(store, "tpm2_ptool", "init", "--primary-handle", "0x81000001")
		must(store, "tpm2_ptool", "addtoken", "--pid", "1", "--label", "claviger-test", "--sopin", "so-pin-81500", "--userpin", "user-pin-2718")
		tok.Env = env
		servers[i] = serveTPM(t, tok, store, "user-pin-2718", busEnv)
		servers[i].OK(t, "POST", "transit/keys/k", map[string]any{"type": "ecdsa-p256", "protection": "token"})
	}
	var all sync.WaitGroup
	for _, s := range servers {
		all.Go(func() {
			for range 20 {
				if status, body := s.Do(t, "POST", "transit/sign/k", map[string]any{"input": "YSBtZXNzYWdl"}); status != 200 {
					t.Errorf("sign: %d %v", status, body)
				}
			}
		})
	}
	all.Go(func() {
		for range 10 {
			if out, err := tool("", "tpm2_getrandom", "16"); err != nil {
				t.Errorf("tpm2_getrandom: %v\n%s", err, out)
			}
		}
	})
	all.Wait()

	must("", "tpm2_clear", "-c", "p")
	s := servers[0]
	s.Stop()
	s.Start(t)
	staysSealed(t, s)
}

// staysSealed sees that a server whose TPM is gone takes no other token.
func staysSealed(t *testing.T, s *harness.Server) {
	t.Helper()
	status, body := s.Do(t, "PUT", "sys/unseal", map[string]any{"key": s.Shares[0]})
	if status < 400 {
		t.Errorf("unsealed without its TPM: %d %v", status, body)
	}
	if _, body := s.Do(t, "GET", "sys/seal-status", nil); body["sealed"] != true {
		t.Errorf("%v", body)
	}
	if status, body := s.Do(t, "POST", "transit/keys/soft", map[string]any{"type": "aes256-gcm96", "protection": "software"}); status < 400 {
		t.Errorf("a key was made without the TPM: %d %v", status, body)
	}
}

// TestTPMAbsent: a server whose TPM was never there is not initialised, with no token.
func TestTPMAbsent(t *testing.T) {
	t.Parallel()
	module := tokentest.TPMModule(t)
	store := t.TempDir()
	s := harness.SoftHSM(t, harness.Options{
		Module: module, Env: []string{"TPM2_PKCS11_STORE=" + store, "TPM2_PKCS11_TCTI=swtpm:path=" + filepath.Join(store, "none")},
		Sealed: true, Extra: fmt.Sprintf("workers = 1\nwrite_paths = [%q]", store),
	})
	for _, hsm := range []string{"adopt", "create"} {
		status, body := s.Do(t, "PUT", "sys/init", map[string]any{
			"secret_shares": 1, "secret_threshold": 1, "hsm_token": hsm, "hsm_pin": "user-pin-2718",
		})
		if status < 400 {
			t.Errorf("%s: %d %v", hsm, status, body)
		}
	}
	if _, body := s.Do(t, "GET", "sys/seal-status", nil); body["initialized"] != false || body["sealed"] != true {
		t.Errorf("%v", body)
	}
}
