// Package harness runs the real binary as a user would, for tests: builds it
// once, writes its configuration into a temporary directory, starts it on a
// free loopback port, initialises and unseals it, kills and restarts it.
package harness

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/lint"
)

var build struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// Main runs a package's tests and removes what Binary built. Call it from
// TestMain. What is given is done after the tests, and fails the run by its error.
func Main(m *testing.M, then ...func() error) {
	code := m.Run()
	for _, f := range then {
		if err := f(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	removeBinary()
	os.Exit(code)
}

// MainWithDev is Main for a package whose examples need a server: a development
// server runs as long as the tests. use is told its address and root token.
func MainWithDev(m *testing.M, use func(addr, token string)) {
	code := func() int {
		dir, err := os.MkdirTemp("", "claviger-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		path, err := binary()
		defer removeBinary()
		s := dev(dir)
		if err == nil {
			err = s.launch(path)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer s.Stop()
		use(s.Addr, s.RootToken)
		return m.Run()
	}()
	os.Exit(code)
}

func removeBinary() {
	if build.dir != "" {
		os.RemoveAll(build.dir)
	}
}

// Binary builds claviger once and returns its path.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func binary() (string, error) {
	build.once.Do(func() {
		if build.dir, build.err = os.MkdirTemp("", "claviger-test-"); build.err != nil {
			return
		}
		build.path = filepath.Join(build.dir, "claviger")
		build.err = goBuild(build.path)
	})
	if build.err != nil {
		return "", fmt.Errorf("building claviger: %w", build.err)
	}
	return build.path, nil
}

// goBuild builds in claviger's own module, whichever module the test is of.
func goBuild(path string) error {
	const module = "github.com/claviger/claviger"
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return fmt.Errorf("finding the module: %w", err)
	}
	cmd := exec.Command("go", "build", "-o", path, module+"/cmd/claviger")
	cmd.Dir = strings.TrimSpace(string(dir))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// Server is a running claviger.
type Server struct {
	Addr      string // http://127.0.0.1:port
	RootToken string
	Shares    []string
	Dir       string // data, configuration, HSM token
	Config    string // path of the configuration, "" of a development server
	Module    string // PKCS#11 module, "" of the software token
	Env       []string
	Environ   []string // of the server's process, beside the test's; for the next Start

	args []string
	cmd  *exec.Cmd
	done chan struct{}
	log  *logBuffer
}

// Options change what SoftHSM and Embedded start.
type Options struct {
	Shares, Threshold int    // default 1 and 1
	Module            string // instead of SoftHSM2, with Env
	Env               []string
	Extra             string // appended to the section [token.pkcs11]
	Sections          string // appended to the configuration
	Sealed            bool   // do not initialise
	Address           string // of the listener, so that it stays over a restart; default a free port
}

// Dev starts a development server on the embedded software token.
func Dev(t testing.TB) *Server {
	t.Helper()
	s := dev(t.TempDir())
	s.Start(t)
	return s
}

func dev(dir string) *Server {
	s := &Server{RootToken: "dev-root", Dir: dir}
	s.args = []string{"server", "--dev", "--dev-root-token-id", s.RootToken, "--listen", "127.0.0.1:0"}
	return s
}

// SoftHSM starts a server whose keys live in a new SoftHSM2 token, initialises
// and unseals it.
func SoftHSM(t testing.TB, o Options) *Server {
	t.Helper()
	module, env := o.Module, o.Env
	if module == "" {
		module, env = tokentest.SoftHSM(t)
	}
	var envTable []string
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		envTable = append(envTable, fmt.Sprintf("%s = %q", name, value))
	}
	s := &Server{Dir: t.TempDir(), Module: module, Env: env}
	s.configure(t, o, fmt.Sprintf(`[token]
driver = "pkcs11"
label = "claviger-test"
on_init = "create"
[token.pkcs11]
module = %q
%s
[token.pkcs11.env]
%s
`, module, o.Extra, strings.Join(envTable, "\n")))
	return s
}

// Embedded starts a server whose keys live in the embedded software token, in
// files that outlive its restarts, initialises and unseals it.
func Embedded(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{Dir: t.TempDir()}
	s.configure(t, o, "[token]\ndriver = \"soft\"\nlabel = \"claviger-test\"\non_init = \"create\"\n")
	return s
}

// configure writes the configuration, starts the server, initialises and
// unseals it.
func (s *Server) configure(t testing.TB, o Options, token string) {
	t.Helper()
	s.Config = filepath.Join(s.Dir, "claviger.toml")
	s.args = []string{"server", "--config", s.Config}
	listen := cmp.Or(o.Address, "127.0.0.1:0")
	text := fmt.Sprintf("data_dir = %q\n[[listener]]\naddress = %q\n%s%s\n", filepath.Join(s.Dir, "data"), listen, token, o.Sections)
	if err := os.WriteFile(s.Config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
	if !o.Sealed {
		s.Init(t, max(o.Shares, 1), max(o.Threshold, 1))
		s.Unseal(t, s.Shares[:max(o.Threshold, 1)]...)
	}
}

// Refused runs a server with a configuration that it must refuse, and returns
// what it printed.
func Refused(t testing.TB, config string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "claviger.toml")
	if err := os.WriteFile(path, []byte(fmt.Sprintf("data_dir = %q\n%s", t.TempDir(), config)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, Binary(t), "server", "--config", path).CombinedOutput()
	if err == nil || ctx.Err() != nil {
		t.Errorf("the server took the configuration:\n%s\n%s", config, out)
	}
	return string(out)
}

var listening = regexp.MustCompile(`https?://127\.0\.0\.1:\d+`)

// Start runs the server's process and waits until it listens. It is stopped at
// the end of the test.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.launch(Binary(t)); err != nil {
		t.Fatal(err)
	}
	cmd, done := s.cmd, s.done
	t.Cleanup(func() {
		s.lintAuthorities(t)
		stop(cmd, done)
	})
}

// lintAuthorities complains of everything that the server's authorities signed
// and that breaks the rules for certificates, CRLs and OCSP answers. A server that
// was ended or sealed is not asked.
func (s *Server) lintAuthorities(t testing.TB) {
	if s.RootToken == "" || !s.Running() {
		return
	}
	_, complaints := lint.Authorities(func(method, path string) (int, []byte, error) {
		return s.raw(method, path, s.RootToken, nil)
	})
	for _, c := range complaints {
		t.Error(c)
	}
}

// launch starts the process and waits until it listens; if it does not it is
// stopped.
func (s *Server) launch(path string) error {
	s.cmd = exec.Command(path, s.args...)
	s.cmd.Env = append(append(os.Environ(), "HOME="+s.Dir), s.Environ...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.log = &logBuffer{found: make(chan string, 1)}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	cmd, done := s.cmd, make(chan struct{})
	s.done = done
	go func() { cmd.Wait(); close(done) }()
	select {
	case s.Addr = <-s.log.found:
		return nil
	case <-done:
		return fmt.Errorf("the server ended at its start:\n%s", s.log)
	case <-time.After(30 * time.Second):
		stop(cmd, done)
		return fmt.Errorf("the server does not listen:\n%s", s.log)
	}
}

func stop(cmd *exec.Cmd, done chan struct{}) {
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		cmd.Process.Kill()
		<-done
	}
}

// Stop ends the server in order.
func (s *Server) Stop() { stop(s.cmd, s.done) }

// Kill ends the server with SIGKILL.
func (s *Server) Kill() {
	s.cmd.Process.Kill()
	<-s.done
}

// PID is the server's process id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Running tells whether the process lives.
func (s *Server) Running() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// Log is what the server wrote so far.
func (s *Server) Log() string { return s.log.String() }

// Workers are the process ids of the server's workers.
func (s *Server) Workers(t testing.TB) []int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.PID(), s.PID()))
	if err == nil && len(bytes.TrimSpace(b)) > 0 {
		return atoi(strings.Fields(string(b)))
	}
	// The thread that forked may be another one.
	out, _ := exec.Command("pgrep", "-P", strconv.Itoa(s.PID())).Output()
	return atoi(strings.Fields(string(out)))
}

func atoi(fields []string) []int {
	var pids []int
	for _, f := range fields {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Init initialises the server and keeps the shares and the root token.
func (s *Server) Init(t testing.TB, shares, threshold int) {
	t.Helper()
	status, body := s.Do(t, "PUT", "sys/init", map[string]any{"secret_shares": shares, "secret_threshold": threshold})
	if status != 200 {
		t.Fatalf("sys/init: status %d: %v\n%s", status, body, s.Log())
	}
	s.Shares = nil
	for _, k := range body["keys_base64"].([]any) {
		s.Shares = append(s.Shares, k.(string))
	}
	s.RootToken = body["root_token"].(string)
}

// Unseal gives shares; after the last the server must be unsealed.
func (s *Server) Unseal(t testing.TB, shares ...string) {
	t.Helper()
	var body map[string]any
	for _, share := range shares {
		var status int
		if status, body = s.Do(t, "PUT", "sys/unseal", map[string]any{"key": share}); status != 200 {
			t.Fatalf("sys/unseal: status %d: %v\n%s", status, body, s.Log())
		}
	}
	if body["sealed"] != false {
		t.Fatalf("still sealed after %d shares: %v", len(shares), body)
	}
}

// Do sends a request with the root token and returns status and JSON answer.
func (s *Server) Do(t testing.TB, method, path string, body any) (int, map[string]any) {
	t.Helper()
	status, answer, err := s.Try(method, path, s.RootToken, body)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", method, path, err, s.Log())
	}
	return status, answer
}

// OK sends a request that must succeed and returns the answer's data.
func (s *Server) OK(t testing.TB, method, path string, body any) map[string]any {
	t.Helper()
	status, answer := s.Do(t, method, path, body)
	if status >= 300 {
		t.Fatalf("%s %s: status %d: %v", method, path, status, answer)
	}
	data, _ := answer["data"].(map[string]any)
	return data
}

var client = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// Try sends a request; a body that is no string or []byte is sent as JSON.
func (s *Server) Try(method, path, token string, body any) (int, map[string]any, error) {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	case []byte:
		r = bytes.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return 0, nil, err
		}
		r = bytes.NewReader(text)
	}
	status, text, err := s.raw(method, path, token, r)
	if err != nil || len(text) == 0 {
		return status, nil, err
	}
	var answer map[string]any
	if err := json.Unmarshal(text, &answer); err != nil {
		return status, nil, fmt.Errorf("the answer is no JSON: %w: %.200q", err, text)
	}
	return status, answer, nil
}

// raw sends a request and returns the answer's body as it is.
func (s *Server) raw(method, path, token string, body io.Reader) (int, []byte, error) {
	req, err := http.NewRequest(method, s.Addr+"/v1/"+path, body)
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

// Metrics returns the server's metrics in the text format of Prometheus.
func (s *Server) Metrics(t testing.TB) string {
	t.Helper()
	req, err := http.NewRequest("GET", s.Addr+"/v1/sys/metrics?format=prometheus", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", s.RootToken)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("sys/metrics: status %d, %v: %.200q", resp.StatusCode, err, text)
	}
	return string(text)
}

// logBuffer keeps what a process prints and finds the address that it names.
type logBuffer struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	found chan string
	sent  bool
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	if l.sent {
		return len(p), nil
	}
	for sc := bufio.NewScanner(bytes.NewReader(l.buf.Bytes())); sc.Scan(); {
		if !strings.Contains(sc.Text(), "listening") {
			continue
		}
		if addr := listening.FindString(sc.Text()); addr != "" {
			l.sent = true
			l.found <- addr
			break
		}
	}
	return len(p), nil
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
