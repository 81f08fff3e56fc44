// Package demo runs what a newcomer runs first: the tour of make demo, the
// commands of README.md, the commands and configurations that the documents
// show, and the installation.
package demo

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// root is the top of the source tree.
const root = "../.."

// environment returns that of the tests without settings of the programs that
// are tested, with changes of the form "NAME=value".
func environment(changes ...string) []string {
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		switch prefix, _, _ := strings.Cut(name, "_"); prefix {
		case "CLAVIGER", "VAULT", "BAO", "SOFTHSM2", "GIT", "VERSION", "DESTDIR", "PREFIX":
		default:
			env = append(env, e)
		}
	}
	return append(env, changes...)
}

// command returns a program in a process group of its own, which is killed at
// the end of the test with whatever it left running.
func command(t *testing.T, limit time.Duration, env []string, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	t.Cleanup(func() {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // gone already, as a rule
		}
	})
	return cmd
}

// script writes an executable shell script.
func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// need skips the test if a program is absent.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed", program)
	}
	return path
}

// read returns a file of the source tree.
func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
