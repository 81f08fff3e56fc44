package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/claviger/claviger/internal/config"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"claviger": func() {
		backend.newServer = newWaitingServer
		backend.verifyAudit = func(files []string, key string, w io.Writer) error {
			_, err := fmt.Fprintf(w, "files %v key %s\n", files, key)
			return err
		}
		backend.workerMain = func() int { return 7 }
		backend.examine = examineNothing
		os.Exit(Main())
	}})
}

// TestScripts runs each script of testdata/script in a directory of its own. A
// file "server" in it is what a server answers, see canned.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Cmds:  commands,
		Setup: func(env *testscript.Env) error { return setup(env, "", "") },
	})
}

// TestLive runs the scripts of testdata/live against a real, unsealed server:
// CLAVIGER_TEST_ADDR is its address, CLAVIGER_TEST_TOKEN a root token.
func TestLive(t *testing.T) {
	address, token := os.Getenv("CLAVIGER_TEST_ADDR"), os.Getenv("CLAVIGER_TEST_TOKEN")
	if address == "" {
		t.Skip("CLAVIGER_TEST_ADDR names no server")
	}
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/live",
		Cmds:  commands,
		Setup: func(env *testscript.Env) error { return setup(env, address, token) },
	})
}

// commands are what scripts can do beside testscript's own.
var commands = map[string]func(*testscript.TestScript, bool, []string){
	// exits STATUS PROGRAM ARGS… checks the exit status exactly.
	"exits": func(ts *testscript.TestScript, neg bool, args []string) {
		want, err := strconv.Atoi(args[0])
		ts.Check(err)
		got := 0
		if e, ok := errors.AsType[*exec.ExitError](ts.Exec(args[1], args[2:]...)); ok {
			got = e.ExitCode()
		}
		if got != want {
			ts.Fatalf("exit status %d, want %d", got, want)
		}
	},
	// waitfor FILE waits until the file exists.
	"waitfor": func(ts *testscript.TestScript, neg bool, args []string) {
		for range 500 {
			if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		ts.Fatalf("%s does not appear", args[0])
	},
	// gone FILE checks that the path that stands in the file does not exist.
	"gone": func(ts *testscript.TestScript, neg bool, args []string) {
		if _, err := os.Stat(ts.ReadFile(args[0])); !errors.Is(err, os.ErrNotExist) {
			ts.Fatalf("%s is still there: %v", ts.ReadFile(args[0]), err)
		}
	},
	// mode FILE PERMISSION checks the permission bits.
	"mode": func(ts *testscript.TestScript, neg bool, args []string) {
		info, err := os.Stat(ts.MkAbs(args[0]))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
			ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
		}
	},
}

// setup gives a script a home and a server.
func setup(env *testscript.Env, address, token string) error {
	home := filepath.Join(env.WorkDir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	env.Setenv("HOME", home)
	if address == "" {
		s, err := newCanned(env.WorkDir)
		if err != nil {
			return err
		}
		h := httptest.NewServer(s)
		env.Defer(h.Close)
		address, token = h.URL, "s.script"
	}
	env.Setenv("CLAVIGER_ADDR", address)
	env.Setenv("CLAVIGER_TOKEN", token)
	return nil
}

// canned is a server that answers what a script's file "server" says, a line an
// answer: "METHOD URI STATUS BODY". Answers to the same call are used in their
// order, the last one again and again. What it was sent stands in "requests".
type canned struct {
	requests string

	mu      sync.Mutex
	answers map[string][]string // "METHOD URI" → "STATUS BODY"
}

func newCanned(dir string) (*canned, error) {
	s := &canned{requests: filepath.Join(dir, "requests"), answers: map[string][]string{}}
	f, err := os.Open(filepath.Join(dir, "server"))
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		parts := strings.SplitN(lines.Text(), " ", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("%q is no answer", lines.Text())
		}
		call := parts[0] + " " + parts[1]
		s.answers[call] = append(s.answers[call], parts[2])
	}
	return s, lines.Err()
}

func (s *canned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = s.log(fmt.Sprintf("%s %s %s token=%s\n", r.Method, r.RequestURI, body, r.Header.Get("X-Vault-Token")))
	}
	call := r.Method + " " + r.RequestURI
	all := s.answers[call]
	if err != nil || len(all) == 0 {
		http.Error(w, fmt.Sprintf(`{"errors":["no answer for %s: %v"]}`, call, err), http.StatusNotFound)
		return
	}
	if len(all) > 1 {
		s.answers[call] = all[1:]
	}
	status, answer, _ := strings.Cut(all[0], " ")
	code, err := strconv.Atoi(status)
	if err != nil {
		code = http.StatusInternalServerError
	}
	w.WriteHeader(code)
	io.WriteString(w, answer)
}

func (s *canned) log(line string) error {
	f, err := os.OpenFile(s.requests, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

// waitingServer shows that it was started, and waits.
type waitingServer struct {
	cfg   *config.Config
	token string
}

func newWaitingServer(cfg *config.Config, o serverOptions) (runningServer, error) {
	s := &waitingServer{cfg: cfg}
	if o.Dev != nil {
		s.token = o.Dev.RootTokenID
	}
	return s, nil
}

func (s *waitingServer) Run(ctx context.Context) error {
	if err := os.WriteFile("ready", []byte(s.cfg.DataDir), 0o600); err != nil {
		return err
	}
	<-ctx.Done()
	_, err := os.Stat(s.cfg.DataDir)
	return errors.Join(err, os.WriteFile("ended", nil, 0o600))
}

func (s *waitingServer) Addresses() []string {
	var all []string
	for _, l := range s.cfg.Listeners {
		all = append(all, "http://"+l.Address)
	}
	return all
}

func (s *waitingServer) Reload() error { return nil }

func (s *waitingServer) DevInfo() (rootToken, unsealKey string) { return s.token, "unseal-key" }

// examineNothing reports what it was asked, in a report with every section.
func examineNothing(_ context.Context, e examination) (*doctorReport, error) {
	if string(e.PIN) == "wrong" {
		return nil, errors.New("the HSM token refuses this PIN")
	}
	return &doctorReport{
		Module: e.Module.Module, Description: "a module", Manufacturer: "nobody", Cryptoki: "2.40", Library: "1.0",
		Slots: []doctorSlot{{
			ID: 5, Label: e.Label, Serial: e.Module.Serial, Flags: []string{"CKF_RNG", "CKF_LOGIN_REQUIRED"},
			Mechanisms: []doctorMechanism{{"CKM_AES_GCM", 16, 32, []string{"CKF_ENCRYPT", "CKF_DECRYPT"}}, {"CKM_SHA256", 0, 0, nil}},
		}},
		KeyTypes: []doctorKeyType{{"aes256-gcm96", "native", true, true, ""}, {"ed25519", "native", false, true, "can't be wrapped"}},
		Quirks:   []string{fmt.Sprintf("environment %v", e.Module.Env["X"])},
		Rates:    []doctorRate{{"sign ecdsa-p256", 2, 1234.5}},
	}, nil
}
