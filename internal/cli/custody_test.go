package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/custody/sss"
)

// TestCombineSSS opens shares in text and as gpg encrypts them.
func TestCombineSSS(t *testing.T) {
	home, err := os.MkdirTemp("", "gpg") // a short path: the agent's socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", home)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--kill", "all").Run()
		os.RemoveAll(home)
	})
	gpg := func(args ...string) {
		if out, err := exec.Command("gpg", append([]string{"--batch", "--quiet", "--trust-model", "always"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("gpg %q: %v\n%s", args, err, out)
		}
	}
	lines, err := sss.Split([]byte("0123456789abcdef\n"), 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for i, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(path(name), []byte(lines[i]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gpg("--passphrase", "", "--quick-gen-key", "custodian@example.org", "default", "default", "never")
	gpg("--encrypt", "-r", "custodian@example.org", "--output", path("b.gpg"), path("b"))
	a, _, _ := testApp(t)
	if err := a.combineSSS(t.Context(), path("pin"), []string{path("a"), path("b.gpg")}); err != nil {
		t.Fatal(err)
	}
	pin, err := os.ReadFile(path("pin"))
	if info, statErr := os.Stat(path("pin")); err != nil || statErr != nil || string(pin) != "0123456789abcdef\n" || info.Mode().Perm() != 0o600 {
		t.Errorf("%q %v", pin, err)
	}
	for _, c := range []struct {
		out   string
		files []string
		want  string
	}{
		{"pin", []string{"a", "c"}, "exists"},
		{"one", []string{"a"}, "fewer than 2"},
		{"none", []string{"a", "nothing"}, "read a share"},
	} {
		for i := range c.files {
			c.files[i] = path(c.files[i])
		}
		if err := a.combineSSS(t.Context(), path(c.out), c.files); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if _, err := os.Stat(path("one")); err == nil {
		t.Error("a failure left a file")
	}
}
