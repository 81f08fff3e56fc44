package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

// TestMoVaultCurl runs the calls of Mo-Vault's description with curl.
func TestMoVaultCurl(t *testing.T) {
	t.Parallel()
	module, env := tokentest.SoftHSM(t)
	initToken(t, env, daemonPIN)
	out := moVaultCurl(t, movault(t, module, env, t.TempDir()))
	want := `{"Info":"RSA Key with random_test/rsa Generated"}
{"Info":"Key was exsits"}
{"Info":"RSA Key with random_test/rsa Generated"}
{"plaintext":"you are handsome man"}
{"plaintext":"you are handsome man"}
{"Verify Result":true}
{"Verify Result":false}
{"Verify Result":true}
`
	if out != want {
		t.Errorf("curl shows\n%s\nwant\n%s", out, want)
	}
}

func moVaultCurl(t *testing.T, at string) string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	script, err := filepath.Abs("testdata/movault-curl.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", script)
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "at="+at)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// TestMigrateMoVault runs the commands of docs/migrate/mo-vault.md on a token whose
// PIN is in shares for two custodians. A client makes the key when the server is up.
func TestMigrateMoVault(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	// The PIN that the shares of the known answer in internal/custody/sss combine to.
	const pin = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	module, env := tokentest.SoftHSM(t)
	initToken(t, env, pin)
	dir := t.TempDir()
	bin, state := filepath.Join(dir, "bin"), filepath.Join(dir, "state")
	for _, d := range []string{bin, state} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	custodians := newGnuPG(t)
	for i, name := range []string{"1111222233334444", "5555666677778888"} {
		custodians.key(t, name+"@example.org")
		custodians.run(t, shareLines[i], "--encrypt", "-r", name+"@example.org", "--output", filepath.Join(dir, name+".pin.gpg"))
	}
	program(t, filepath.Join(bin, "sudo"), `exec "$@"`)
	// The server goes to the background, and a client uses a key and the next version.
	pid := filepath.Join(dir, "pid")
	program(t, filepath.Join(bin, "claviger"), `[ "$*" = movault ] || exec `+harness.Binary(t)+` "$@"
`+harness.Binary(t)+` movault --listen 127.0.0.1:0 --state-dir `+state+` > log 2>&1 & echo $! > `+pid+`
for i in $(seq 400); do at=$(sed -n 's/.*API is served","address":"\([^"]*\)".*/\1/p' log); [ -z "$at" ] || break; sleep 0.1; done
curl --silent --show-error --header "Content-Type: application/json" --data '{"secret_path":"random_test/rsa","secret_version":2}' "$at/gen/key/rsa"`)
	t.Cleanup(func() {
		if b, err := os.ReadFile(pid); err == nil {
			_ = exec.Command("kill", strings.TrimSpace(string(b))).Run()
		}
	})
	script := strings.NewReplacer("TOKENLABEL=DEMO", "TOKENLABEL=claviger-test", "/usr/lib/softhsm/libsofthsm2.so", module, "/var/lib/movault", state).
		Replace(commandsOf(t, "../../docs/migrate/mo-vault.md"))
	cmd := exec.Command("sh")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader("set -eu\n"+script)
	cmd.Env = append(append(os.Environ(), env...), "PATH="+bin+":"+os.Getenv("PATH"), "GNUPGHOME="+custodians.home)
	out, err := cmd.CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Fatalf("%v\n%s\n%s", err, out, log)
	}
	for _, want := range []string{`{"Info":"RSA Key with random_test/rsa Generated"}`, "rsa-v2-random_test.2frsa", "is deleted"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the commands do not show %q:\n%s", want, out)
		}
	}
	// Deletion destroyed the objects, of the rotated version too.
	objects := tokentest.Tool(t, module, "claviger-test", pin, env, "--list-objects")
	if regexp.MustCompile(`label: +.*random_test`).Match(objects) || strings.Contains(string(objects), "RSA") {
		t.Errorf("the HSM token has still\n%s", objects)
	}
}

// Lines of the known answer in internal/custody/sss.
var shareLines = []string{
	"0192f729f3828c53c8a0c53a994c8958a3c85a7576c4e5570f67fa7302ebd856e5f9eeba491eedbbe1085dfe3f79f4484f12a5dbc47ebdeef9c05f75aad85117e6f515533333a459be196c52b528cdab704663361da54f5c24a14d4ffaf7549aba32d466d0651d05ae57bb22f40ccf2022b7\n",
	"028ff37d4ac0c916de6cd32bfa7399f5cd2c335cd8095e500b55fc37a1eb35c374f9eeba491eedbbe1085dfe3f79f4484f12a5dbc47ebdeef9c05f75aad85117e6f515533333a459be196c52b528cdab704663361da54f5c24a14d4ffaf7549aba32d466d0651d05ae57bb22f40ccf2022b7\n",
}

// gnuPG is a home of gpg with keys of custodians.
type gnuPG struct{ home string }

func newGnuPG(t *testing.T) *gnuPG {
	t.Helper()
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Skip("GnuPG is not installed")
	}
	home, err := os.MkdirTemp("", "gpg") // a short path: the agent's socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		kill := exec.Command("gpgconf", "--kill", "all")
		kill.Env = append(os.Environ(), "GNUPGHOME="+home)
		_ = kill.Run()
		os.RemoveAll(home)
	})
	return &gnuPG{home: home}
}

func (g *gnuPG) run(t *testing.T, stdin string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("gpg", append([]string{"--batch", "--quiet", "--trust-model", "always"}, args...)...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+g.home)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("gpg %q: %v\n%s", args, err, out)
	}
	return out
}

// key makes a key without passphrase.
func (g *gnuPG) key(t *testing.T, user string) {
	t.Helper()
	g.run(t, "", "--passphrase", "", "--quick-gen-key", user, "default", "default", "never")
}
