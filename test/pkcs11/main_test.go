// Package pkcs11 builds libclaviger-pkcs11.so and runs its tests: those in C
// against a server of their own, and the module as programs load it against ours.
package pkcs11

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const source = "../../pkcs11"

// need skips the test if a program is not installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed (scripts/install-test-packages.sh does it)", p)
		}
	}
}

// run makes targets of the module's Makefile.
func run(t *testing.T, targets ...string) {
	t.Helper()
	need(t, "make", "cc")
	if out, err := exec.Command("make", append([]string{"-s", "-C", source}, targets...)...).CombinedOutput(); err != nil {
		t.Fatalf("make %v: %v\n%s", targets, err, out)
	}
}

// built returns the path of what the Makefile builds.
func built(t *testing.T, name string) string {
	t.Helper()
	run(t, "build/"+name)
	path, err := filepath.Abs(filepath.Join(source, "build", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}
