package worker

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token"
)

// shimDir is removed by TestMain.
var shimDir string

var shimOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "claviger-shim")
	if err != nil {
		return "", err
	}
	shimDir = dir
	so := filepath.Join(dir, "shim.so")
	out, err := exec.Command("gcc", "-O1", "-Wall", "-shared", "-fPIC", "-o", so, "testdata/shim.c", "-ldl").CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return so, nil
})

// shim is a SoftHSM2 that misbehaves on demand.
type shim struct {
	cfg      Config
	dir      string
	retries  atomic.Int64
	restarts atomic.Int64
}

func newShim(t testing.TB) *shim {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is not installed")
	}
	cfg := softConfig(t)
	so, err := shimOnce()
	if err != nil {
		t.Fatal(err)
	}
	s := &shim{dir: t.TempDir()}
	cfg.Module = filepath.Join(s.dir, "module.so")
	b, err := os.ReadFile(so)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.Module, b, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg.Env = append(cfg.Env, "SHIM_REAL="+softHSM, "SHIM_DIR="+s.dir)
	cfg.WritePaths = []string{s.dir}
	cfg.Observe = Observer{Retry: func() { s.retries.Add(1) }, Restart: func(string) { s.restarts.Add(1) }}
	s.cfg = cfg
	return s
}

func (s *shim) tell(t testing.TB, what string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, what), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *shim) read(name string) string {
	b, _ := os.ReadFile(filepath.Join(s.dir, name))
	return string(b)
}

// load runs callers until stop; every call must succeed. It returns the number of calls.
func runLoad(t *testing.T, callers int, ks []token.Key, deadline time.Duration, stop <-chan struct{}) int64 {
	t.Helper()
	var n atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := 0; ; j++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), deadline)
				k := ks[(i+j)%len(ks)]
				op, it := token.Op{Kind: token.Sign}, token.Item{In: make([]byte, 32)}
				if (i+j)%len(ks) == 0 {
					op, it = token.Op{Kind: token.Seal}, token.Item{Nonce: make([]byte, 12), In: make([]byte, 100)}
				}
				items := []token.Item{it, it, it}
				err := k.Do(ctx, op, items)
				cancel()
				if err = errors.Join(err, items[0].Err, items[2].Err); err != nil {
					t.Errorf("call %d: %v", j, err)
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return n.Load()
}

func loadKeys(t *testing.T, h *hsm) []token.Key {
	t.Helper()
	var ks []token.Key
	for _, s := range []struct {
		typ   token.Type
		place token.Place
	}{{token.AES256, token.PlaceWrapped}, {token.P256, token.PlaceWrapped}, {token.P256, token.PlaceObject}} {
		_, k := generate(t, h, s.typ, s.place)
		ks = append(ks, k)
	}
	return ks
}

func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	cfg := softConfig(t)
	var restarts atomic.Int64
	cfg.Observe.Restart = func(string) { restarts.Add(1) }
	h := openToken(t, cfg)
	ks := loadKeys(t, h)
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for i := range 6 {
			time.Sleep(400 * time.Millisecond)
			if pr := h.pool.procs[i%2].Load(); pr != nil {
				syscall.Kill(pr.child.cmd.Process.Pid, syscall.SIGKILL)
			}
		}
		time.Sleep(300 * time.Millisecond)
	}()
	n := runLoad(t, 8, ks, 20*time.Second, stop)
	if n < 100 || restarts.Load() < 3 {
		t.Errorf("%d calls, %d restarts", n, restarts.Load())
	}
	t.Logf("%d calls, %d restarts", n, restarts.Load())
}

func TestMisbehavingModule(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"hang", "crash", "removed", "session", "device"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newShim(t)
			s.cfg.CallTimeout = 2 * time.Second
			h := openToken(t, s.cfg)
			ks := loadKeys(t, h)
			stop := make(chan struct{})
			go func() {
				defer close(stop)
				for range 3 {
					time.Sleep(500 * time.Millisecond)
					s.tell(t, what)
				}
				time.Sleep(500 * time.Millisecond)
			}()
			n := runLoad(t, 4, ks, 20*time.Second, stop)
			if n == 0 {
				t.Error("no call")
			}
			if what != "session" && what != "device" && s.retries.Load() == 0 {
				t.Error("no call was repeated")
			}
			if (what == "session" || what == "device") && s.restarts.Load() != 0 {
				t.Error("a broken session cost a worker")
			}
			t.Logf("%d calls, %d retries, %d restarts", n, s.retries.Load(), s.restarts.Load())
		})
	}
}

// A caller whose deadline is shorter than the watchdog's is helped as well.
func TestHangBelowCallTimeout(t *testing.T) {
	t.Parallel()
	s := newShim(t)
	s.cfg.CallTimeout = 8 * time.Second
	h := openToken(t, s.cfg)
	_, k := generate(t, h, token.P256, token.PlaceWrapped)
	waitWorkers(t, h)
	s.tell(t, "hang")
	begin := time.Now()
	ctx := contextOf(t, 6*time.Second)
	if err := k.Do(ctx, token.Op{Kind: token.Sign}, []token.Item{{In: make([]byte, 32)}}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < 500*time.Millisecond || s.retries.Load() == 0 {
		t.Errorf("the call took %v with %d retries: the module did not hang", d, s.retries.Load())
	}
}

func waitWorkers(t testing.TB, h *hsm) {
	t.Helper()
	for range 1000 {
		n := 0
		for i := range h.pool.procs {
			if h.pool.procs[i].Load() != nil {
				n++
			}
		}
		if n == len(h.pool.procs) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("not all workers came up")
}

func TestAllHang(t *testing.T) {
	t.Parallel()
	s := newShim(t)
	s.cfg.CallTimeout = time.Second
	h := openToken(t, s.cfg)
	_, k := generate(t, h, token.P256, token.PlaceWrapped)
	s.tell(t, "hang-all")
	begin := time.Now()
	err := k.Do(contextOf(t, 3*time.Second), token.Op{Kind: token.Sign}, []token.Item{{In: make([]byte, 32)}})
	if !errors.Is(err, token.ErrUnavailable) || time.Since(begin) > 4*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
	if err := os.Remove(filepath.Join(s.dir, "hang-all")); err != nil {
		t.Fatal(err)
	}
	do1(t, k, token.Op{Kind: token.Sign}, token.Item{In: make([]byte, 32)})
}

func TestGenerateAcrossCrash(t *testing.T) {
	t.Parallel()
	s := newShim(t)
	h := openToken(t, s.cfg)
	s.tell(t, "crash-after-generate")
	st, k := generate(t, h, token.P256, token.PlaceObject)
	if s.retries.Load() == 0 {
		t.Fatal("nothing crashed")
	}
	digest := sha256.Sum256(nil)
	checkECDSA(t, st.Public, digest[:], do1(t, k, token.Op{Kind: token.Sign}, token.Item{In: digest[:]}))
}

func TestWrongPINOnce(t *testing.T) {
	t.Parallel()
	s := newShim(t)
	d := newDevice(t, s.cfg)
	ctx := within(t)
	if err := d.Create(ctx, []byte(testSO), []byte(testPIN)); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(s.dir, "logins"))
	if _, err := d.Open(ctx, []byte("wrong-pin")); !errors.Is(err, token.ErrPIN) {
		t.Fatalf("wrong PIN: %v", err)
	}
	time.Sleep(200 * time.Millisecond)
	if n := s.read("logins"); n != "u" {
		t.Errorf("C_Login was called %q", n)
	}
	s.tell(t, "login-locked")
	if _, err := d.Open(ctx, []byte(testPIN)); !errors.Is(err, token.ErrLocked) {
		t.Errorf("locked PIN: %v", err)
	}
}

// What SoftHSM2 answers while another program logs in to the token is tried again.
func TestLoginTriedAgain(t *testing.T) {
	t.Parallel()
	s := newShim(t)
	d := newDevice(t, s.cfg)
	ctx := within(t)
	if err := d.Create(ctx, []byte(testSO), []byte(testPIN)); err != nil {
		t.Fatal(err)
	}
	for _, passing := range []string{"login-busy", "token-half-written"} {
		s.tell(t, passing)
		h, err := d.open(ctx, []byte(testPIN))
		if err != nil {
			t.Fatalf("%s: %v", passing, err)
		}
		h.Close()
	}
}

// A PIN that stops being right while the server runs is tried once, by one
// worker, and never again.
func TestPINChanged(t *testing.T) {
	t.Parallel()
	s := newShim(t)
	h := openToken(t, s.cfg)
	waitWorkers(t, h)
	env := append(os.Environ(), s.cfg.Env...)
	cmd := exec.Command("pkcs11-tool", "--module", softHSM, "--token-label", "test", "--login", "--pin", testPIN,
		"--change-pin", "--new-pin", "another-pin")
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("pkcs11-tool can't change the PIN: %v: %s", err, out)
	}
	os.Remove(filepath.Join(s.dir, "logins"))
	for i := range h.pool.procs {
		if pr := h.pool.procs[i].Load(); pr != nil {
			pr.stop("test")
		}
	}
	err := h.Random(contextOf(t, 10*time.Second), make([]byte, 8))
	if !errors.Is(err, token.ErrUnavailable) || !errors.Is(err, token.ErrPIN) {
		t.Errorf("after a changed PIN: %v", err)
	}
	time.Sleep(300 * time.Millisecond)
	if n := s.read("logins"); n != "u" {
		t.Errorf("C_Login was called %q", n)
	}
}

func TestStartHangs(t *testing.T) {
	t.Parallel()
	s := newShim(t)
	s.cfg.StartTimeout = time.Second
	d := newDevice(t, s.cfg)
	s.tell(t, "slow-start")
	if _, err := d.State(within(t)); !errors.Is(err, token.ErrUnavailable) {
		t.Errorf("a module that hangs in C_Initialize: %v", err)
	}
	if st, err := d.State(within(t)); err != nil || !st.Present {
		t.Errorf("after that: %+v, %v", st, err)
	}
}

func TestNoModule(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text.so")
	if err := os.WriteFile(text, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "absent.so"):        "no such file",
		text:                                   "is no PKCS#11 module",
		dir:                                    "is a directory",
		"/lib/x86_64-linux-gnu/libm.so.6":      "C_GetFunctionList",
		"/usr/lib/x86_64-linux-gnu/libdl.so.2": "C_GetFunctionList",
	} {
		if strings.HasPrefix(path, "/") && !strings.HasPrefix(path, dir) {
			if _, err := os.Stat(path); err != nil {
				continue
			}
		}
		cfg := softConfig(t)
		cfg.Module = path
		_, err := newDevice(t, cfg).State(within(t))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, cfg := range []Config{{}, {Module: "relative.so"}, {Module: "/m", Label: strings.Repeat("x", 33)}, {Module: "/m", Workers: -1}} {
		if _, err := NewDevice(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

func TestLandlock(t *testing.T) {
	t.Parallel()
	s := newShim(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.cfg.Env = append(s.cfg.Env, "SHIM_SECRET="+secret)
	h := openToken(t, s.cfg)
	for _, m := range h.view.missing {
		if strings.HasPrefix(m, "landlock") {
			t.Skip("this kernel has no Landlock: " + m)
		}
	}
	if got := s.read("landlock"); !strings.HasPrefix(got, "denied\n") || strings.Contains(got, "open") {
		t.Errorf("the worker read a file outside: %q", got)
	}
}

func TestHardening(t *testing.T) {
	t.Parallel()
	h := openToken(t, softConfig(t))
	pid := h.pool.procs[0].Load().child.cmd.Process.Pid
	dir := filepath.Join("/proc", itoa(pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		t.Skip("no /proc")
	}
	if !strings.Contains(string(status), "NoNewPrivs:\t1") {
		t.Error("no_new_privs is not set")
	}
	limits, err := os.ReadFile(filepath.Join(dir, "limits"))
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0") {
		t.Errorf("core dumps are allowed: %v", err)
	}
	// The files of a process that is not dumpable belong to root.
	if st, err := os.Stat(filepath.Join(dir, "mem")); err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("the process is dumpable: %v", err)
	}
	cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
	if strings.Contains(string(cmdline)+string(environ), testPIN) {
		t.Error("the PIN is in the arguments or the environment")
	}
}

// P1: every object is sensitive, private and not extractable, and wrapped keys add none.
func TestObjectsAreSecret(t *testing.T) {
	t.Parallel()
	for _, transferable := range []bool{false, true} {
		cfg := softConfig(t)
		d := newDevice(t, cfg)
		if err := d.Create(within(t), []byte(testSO), []byte(testPIN)); err != nil {
			t.Fatal(err)
		}
		h := openDevice(t, d)
		if err := h.Provision(within(t), transferable); err != nil {
			t.Fatal(err)
		}
		if h.Info().Transferable != transferable {
			t.Error("Info.Transferable is wrong")
		}
		for _, typ := range []token.Type{token.AES256, token.P256, token.HMAC, token.RSA2048} {
			generate(t, h, typ, token.PlaceWrapped)
		}
		if n := len(inspect(t, cfg, transferable)); n != 3 {
			t.Errorf("%d objects", n)
		}
		for _, typ := range []token.Type{token.AES256, token.P256, token.Ed25519, token.HMAC, token.RSA2048} {
			generate(t, h, typ, token.PlaceObject)
		}
		if n := len(inspect(t, cfg, transferable)); n != 3+5 {
			t.Errorf("%d objects", n)
		}
	}
}
