package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// debianPython is the interpreter that finds Debian's Python packages.
const debianPython = "/usr/bin/python3"

// TestHvac runs a Python program on Debian's hvac.
func TestHvac(t *testing.T) {
	if err := exec.Command(debianPython, "-c", "import hvac").Run(); err != nil {
		t.Skip("hvac is not installed (Debian package python3-hvac)")
	}
	onNewTokens(t, func(t *testing.T, s *harness.Server) {
		script(t, s, debianPython, "testdata/hvac_client.py")
	})
}

// TestNodeVault runs a Node.js program on node-vault, as its lock file names it.
func TestNodeVault(t *testing.T) {
	dir := npmProgram(t, "testdata/node-vault", "client.js")
	onNewTokens(t, func(t *testing.T, s *harness.Server) {
		script(t, s, "node", filepath.Join(dir, "client.js"))
	})
}

// npmProgram copies a Node.js program to a directory of the test, and installs there
// what its lock file names.
func npmProgram(t *testing.T, from, program string) (dir string) {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed (Debian packages nodejs and npm)", tool)
		}
	}
	dir = t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", program} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	npm := exec.Command("npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return dir
}

// script runs a program that uses the server and prints "ok" at its end.
func script(t *testing.T, s *harness.Server, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+s.Addr, "VAULT_TOKEN="+s.RootToken)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "ok\n") {
		t.Errorf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}
