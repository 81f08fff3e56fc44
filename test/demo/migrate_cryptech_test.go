package demo

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

// TestMigrateCryptech runs the commands of docs/migrate/cryptech.md in their order,
// with two SoftHSM2 tokens.
func TestMigrateCryptech(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"pkcs11-tool", "softhsm2-util", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed")
		}
	}
	module, env := tokentest.SoftHSM(t)
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(harness.Binary(t), filepath.Join(bin, "claviger")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"main.pin": "pin-of-main\n", "spare.pin": "pin-of-spare\n", "passphrase": "correct horse battery staple\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, label := range []string{"main", "spare"} {
		cmd := exec.CommandContext(t.Context(), "softhsm2-util", "--init-token", "--free", "--label", label, "--pin", "pin-of-"+label, "--so-pin", "so-pin-81500")
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	make := func(args ...string) {
		tokentest.Tool(t, module, "main", "pin-of-main", env, append([]string{"--keypairgen", "--usage-sign"}, args...)...)
	}
	make("--key-type", "EC:prime256v1", "--label", "release", "--id", "01", "--extractable")
	make("--key-type", "rsa:2048", "--label", "web", "--id", "02", "--extractable")
	make("--key-type", "EC:prime256v1", "--label", "stays", "--id", "03")

	var script strings.Builder
	script.WriteString("set -eu\n")
	for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(read(t, "docs/migrate/cryptech.md"), -1) {
		script.WriteString(m[1])
	}
	text := strings.NewReplacer("/usr/local/bin", bin, "/usr/lib/softhsm/libsofthsm2.so", module).Replace(script.String())
	cmd := exec.CommandContext(t.Context(), "sh", "-c", text)
	cmd.Dir, cmd.Env = dir, append(append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH")), env...)
	cmd.WaitDelay = 10 * time.Second
	b, err := cmd.CombinedOutput()
	out := string(b)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for want, times := range map[string]int{
		"KEKEK ": 5, "4 keys are exported": 3, "Imported ": 4, "Loaded ": 4, `"release": private EC P-256`: 3,
		"Signature Verified Successfully": 1, "stays": 0, "pin-of": 0, "correct horse": 0,
	} {
		if n := strings.Count(out, want); n != times {
			t.Errorf("%q appears %d times instead of %d: %s", want, n, times, out)
		}
	}
	if _, err := os.Lstat(filepath.Join(bin, "cryptech_backup")); err == nil {
		t.Error("the link is still there")
	}
}
