package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

// shim is a PKCS#11 module in front of SoftHSM2 that misbehaves on demand; its
// source says how it is told.
type shim struct {
	dir string   // of the module, its orders and its notes
	so  string   // the module
	env []string // of the workers
}

func newShim(t *testing.T) *shim {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc, which builds the module, is not installed")
	}
	module, env := tokentest.SoftHSM(t)
	s := &shim{dir: t.TempDir()}
	s.so = filepath.Join(s.dir, "module.so")
	source := filepath.Join("..", "..", "internal", "token", "worker", "testdata", "shim.c")
	if out, err := exec.Command("gcc", "-O1", "-shared", "-fPIC", "-o", s.so, source, "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("building the module: %v\n%s", err, out)
	}
	s.env = append(env, "SHIM_REAL="+module, "SHIM_DIR="+s.dir)
	return s
}

// options start a server with the module; extra is added to its section.
func (s *shim) options(extra string) harness.Options {
	return harness.Options{Module: s.so, Env: s.env, Extra: "write_paths = [\"" + s.dir + "\"]\n" + extra}
}

// tell gives an order and waits until a worker obeys it.
func (s *shim) tell(t *testing.T, what string) {
	t.Helper()
	order := filepath.Join(s.dir, what)
	write(t, order, nil)
	waitFor(t, "a worker to obey the order "+what, func() bool {
		_, err := os.Stat(order)
		return os.IsNotExist(err)
	})
}

// logins returns a letter for each C_Login of the user ("u") or the SO ("s").
func (s *shim) logins() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "logins"))
	return string(b)
}

// TestHangingModule, TestCrashingModule and TestRemovedDevice are promise P5
// with a module that misbehaves by itself, seen by callers of the API: none of
// them gets an error.
func TestHangingModule(t *testing.T)  { misbehave(t, "hang") }
func TestCrashingModule(t *testing.T) { misbehave(t, "crash") }
func TestRemovedDevice(t *testing.T)  { misbehave(t, "removed") }

func misbehave(t *testing.T, what string) {
	t.Helper()
	t.Parallel()
	sh := newShim(t)
	s := harness.SoftHSM(t, sh.options(`call_timeout = "1s"`))
	s.OK(t, "POST", "transit/keys/aes", nil)
	s.OK(t, "POST", "transit/keys/p256", map[string]any{"type": "ecdsa-p256"})
	s.OK(t, "POST", "transit/keys/ed", map[string]any{"type": "ed25519"}) // an object of the token
	l := startCounting(s, "transit/encrypt/aes", "transit/sign/p256", "transit/sign/ed")
	for range 3 {
		time.Sleep(500 * time.Millisecond)
		sh.tell(t, what)
	}
	time.Sleep(1500 * time.Millisecond)
	l.finish(t, 100)
	if !counted(s.Metrics(t), "claviger_hsm_retries_total") {
		t.Error("no call was repeated: the module did not misbehave")
	}
}

// counted tells whether a metric has a value other than 0.
func counted(text, name string) bool {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, name) && !strings.HasSuffix(strings.TrimSpace(line), " 0") {
			return true
		}
	}
	return false
}

// TestWrongPINOnce: real HSMs lock after a few wrong PINs. One that was refused
// never reaches the token again, not even after a restart of the server; the
// right one does.
func TestWrongPINOnce(t *testing.T) {
	t.Parallel()
	sh := newShim(t)
	initToken(t, sh.env, knownPIN)
	o := sh.options("")
	o.Sealed = true
	s := harness.SoftHSM(t, o)
	for _, round := range []string{"at first", "again", "after a restart", "after a kill"} {
		switch round {
		case "after a restart":
			s.Stop()
			s.Start(t)
		case "after a kill":
			s.Kill()
			s.Start(t)
		}
		status, body := adopt(t, s, "mistyped")
		if status != 400 {
			t.Errorf("a wrong PIN %s: status %d: %v, want 400", round, status, body)
		}
		if n := sh.logins(); n != "u" {
			t.Fatalf("%s: C_Login was called for %q, want once for the user", round, n)
		}
	}
	adoptOK(t, s, knownPIN)
	if n := sh.logins(); len(n) < 2 {
		t.Errorf("the right PIN did not reach the token: C_Login was called for %q", n)
	}
	s.OK(t, "POST", "transit/keys/k", nil)
	s.OK(t, "POST", "transit/encrypt/k", map[string]any{"plaintext": random(32)})
}
