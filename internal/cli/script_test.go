package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/internal/token/worker"
)

// The test binary is the command "claviger" of the scripts, and the worker of
// the servers that tests start in their own process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerCommand {
		os.Exit(worker.Main())
	}
	run := func() { os.Exit(Main()) }
	testscript.Main(m, map[string]func(){"claviger": run, "cryptech_backup": run})
}

// TestScripts runs each script of testdata/script in a directory of its own. A
// file "server" in it is what a server answers, see canned.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/script",
		Cmds: commands,
		Setup: func(env *testscript.Env) error {
			s, err := newCanned(env.WorkDir)
			if err != nil {
				return err
			}
			h := httptest.NewServer(s)
			env.Defer(h.Close)
			return setup(env, h.URL, "s.script")
		},
	})
}

// TestLive runs the scripts of testdata/live against real servers.
func TestLive(t *testing.T) {
	t.Parallel()
	t.Run("software token", func(t *testing.T) {
		t.Parallel()
		live(t, config.Dev(t.TempDir()), "software")
	})
	t.Run("SoftHSM2", func(t *testing.T) {
		t.Parallel()
		module, env := tokentest.SoftHSM(t)
		cfg := config.Dev(t.TempDir())
		cfg.Token.Driver = config.DriverPKCS11
		cfg.Token.PKCS11.Module = module
		cfg.Token.PKCS11.Env = variables(env)
		live(t, cfg, "wrapped")
	})
}

// serve runs a server until the end of the test.
func serve(t *testing.T, cfg *config.Config, dev *server.Dev) *server.Server {
	t.Helper()
	cfg.Listeners = []config.Listener{{Address: "127.0.0.1:0"}}
	s, err := server.New(cfg, server.Options{Dev: dev, Version: version, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// live starts an unsealed server and runs the scripts against it. PROTECTION is
// how keys are kept there by default, POOLS a directory where its pools may lie.
func live(t *testing.T, cfg *config.Config, protection string) {
	pools := t.TempDir()
	cfg.HMACPool.Dirs = []string{pools}
	s := serve(t, cfg, &server.Dev{})
	root, _ := s.DevInfo()
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/live",
		Cmds: commands,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PROTECTION", protection)
			env.Setenv("POOLS", pools)
			return setup(env, s.Addresses()[0], root)
		},
	})
}

// doctorPIN is the user PIN of the token that the scripts of testdata/softhsm
// examine.
const doctorPIN = "user-pin-4711"

// TestSoftHSM runs the scripts of testdata/softhsm: MODULE is SoftHSM2, CONF its
// configuration with a token "doctor", in whose PIN file stands doctorPIN.
func TestSoftHSM(t *testing.T) {
	t.Parallel()
	module, conf := tokentest.SoftHSM(t)
	d, err := worker.NewDevice(worker.Config{Module: module, Label: "doctor", Env: conf})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := d.Create(ctx, []byte("so-pin-81500"), []byte(doctorPIN)); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/softhsm",
		Cmds: commands,
		Setup: func(env *testscript.Env) error {
			env.Setenv("MODULE", module)
			env.Setenv("CONF", strings.TrimPrefix(conf[0], "SOFTHSM2_CONF="))
			return errors.Join(
				setup(env, "http://127.0.0.1:1", ""), // doctor calls no server
				os.WriteFile(filepath.Join(env.WorkDir, "pin"), []byte(doctorPIN+"\n"), 0o600))
		},
	})
}

// variables turns "NAME=value" into a table.
func variables(env []string) map[string]string {
	table := map[string]string{}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		table[name] = value
	}
	return table
}

// setup gives a script a home and the address of a server with a client token.
func setup(env *testscript.Env, address, token string) error {
	home := filepath.Join(env.WorkDir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	env.Setenv("HOME", home)
	// A program with the race detector waits a second before it ends.
	env.Setenv("GORACE", "atexit_sleep_ms=0")
	env.Setenv("CLAVIGER_ADDR", address)
	env.Setenv("CLAVIGER_TOKEN", token)
	return nil
}

// commands are what scripts can do beside testscript's own.
var commands = map[string]func(*testscript.TestScript, bool, []string){
	// exits STATUS PROGRAM ARGS… checks the exit status exactly.
	"exits": func(ts *testscript.TestScript, _ bool, args []string) {
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
	"waitfor": func(ts *testscript.TestScript, _ bool, args []string) {
		for range 1500 {
			if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		ts.Fatalf("%s does not appear", args[0])
	},
	// empty DIR checks that nothing is in the directory.
	"empty": func(ts *testscript.TestScript, neg bool, args []string) {
		all, err := os.ReadDir(ts.MkAbs(args[0]))
		ts.Check(err)
		if (len(all) > 0) != neg {
			ts.Fatalf("in %s lie %v", args[0], all)
		}
	},
	// mode FILE PERMISSION checks the permission bits.
	"mode": func(ts *testscript.TestScript, _ bool, args []string) {
		info, err := os.Stat(ts.MkAbs(args[0]))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
			ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
		}
	},
	// expand FILE puts the values of variables in the place of ${NAME}.
	"expand": func(ts *testscript.TestScript, _ bool, args []string) {
		text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
	},
	// cut PREFIX FROM TO writes what follows the prefix in a line of FROM to TO.
	"cut": func(ts *testscript.TestScript, _ bool, args []string) {
		for line := range strings.Lines(ts.ReadFile(args[1])) {
			if rest, ok := strings.CutPrefix(line, args[0]); ok {
				ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(rest), 0o600))
				return
			}
		}
		ts.Fatalf("no line of %s begins with %q", args[1], args[0])
	},
	// replace OLD NEW FILE changes the first OLD in the file.
	"replace": func(ts *testscript.TestScript, _ bool, args []string) {
		before := []byte(ts.ReadFile(args[2]))
		after := bytes.Replace(before, []byte(args[0]), []byte(args[1]), 1)
		if bytes.Equal(before, after) {
			ts.Fatalf("%s has no %q", args[2], args[0])
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), after, 0o600))
	},
	// hangup sends SIGHUP to the commands that run in the background.
	"hangup": func(ts *testscript.TestScript, _ bool, _ []string) {
		for _, cmd := range ts.BackgroundCmds() {
			ts.Check(cmd.Process.Signal(syscall.SIGHUP))
		}
	},
}
