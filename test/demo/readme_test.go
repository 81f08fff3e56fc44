package demo

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

var fenced = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// TestReadme runs the commands of README.md in their order, as a reader would,
// in a home of their own.
func TestReadme(t *testing.T) {
	t.Parallel()
	tokentest.SoftHSM(t) // skips without it
	need(t, "curl")
	var commands strings.Builder
	blocks := fenced.FindAllStringSubmatch(read(t, "README.md"), -1)
	for _, block := range blocks {
		commands.WriteString(block[1])
	}
	if len(blocks) < 8 {
		t.Fatalf("README.md has %d blocks of commands, its tour is not all found", len(blocks))
	}
	home := shortDir(t)
	cmd := command(t, 2*time.Minute,
		environment("HOME="+home, "PATH="+filepath.Dir(harness.Binary(t))+":"+os.Getenv("PATH")), "sh", "-eu")
	cmd.Dir = home
	cmd.Stdin = strings.NewReader(commands.String())
	b, err := cmd.CombinedOutput()
	out := string(b)
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(home, "claviger-tour", "server.log"))
		t.Fatalf("%v\n%s\nlog of the server:\n%s", err, out, log)
	}
	rest := out
	for _, want := range []string{
		"claviger.toml is right", "3 of 5 unseal", "Unseal Progress +1/3", "Unseal Progress +2/3",
		"Sealed +false", "Manufacturer +SoftHSM", "Protection +wrapped", "(?m)^Meet me at dawn.$", "Type +ecdsa-p256", "Protection +wrapped",
		"(?m)^valid$", "Policy signer is written", "(?m)^vault:v1:", "permission denied", "refused, as it should be",
		`"signature":"vault:v1:`, "The server is sealed", "Sealed +true", "status 2: sealed",
		"[0-9]+ lines .*are whole", "[1-9][0-9]* checkpoints?, signed by the given key", "; 0 lines after the last",
	} {
		at := regexp.MustCompile(want).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("the output lacks %q in its place:\n%s", want, out)
		}
		rest = rest[at[1]:]
	}
	if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
		t.Errorf("the tour leaves %v in the home (%v)", left, err)
	}
}

// shortDir returns a temporary directory in which a socket's path is short
// enough: t.TempDir under a long TMPDIR is not.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "claviger-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
