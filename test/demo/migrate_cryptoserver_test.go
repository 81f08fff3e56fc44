package demo

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

// TestMigrateCryptoserver runs the commands of docs/migrate/cryptoserver.md in
// their order, with directories and a port of its own, and compares the answer
// with the HMAC under the secret that "hello world" chooses, number 25820.
func TestMigrateCryptoserver(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(harness.Binary(t), filepath.Join(bin, "claviger")); err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("set -eu\ntrap 'kill $! 2>/dev/null || true' EXIT\n")
	for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(read(t, "docs/migrate/cryptoserver.md"), -1) {
		script.WriteString(m[1])
	}
	text := strings.NewReplacer("/secrets", dir+"/secrets", "/usr/local/bin", bin, "localhost:8080", address).Replace(script.String())
	cmd := exec.CommandContext(t.Context(), "sh", "-c", text)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "CRYPTOSERVER_SECRETDIR="+dir+"/secrets",
		"CRYPTOSERVER_BIND="+address, "CRYPTOSERVER_STATE="+dir+"/state", "RUST_LOG=error")
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	secrets, err := os.ReadFile(filepath.Join(dir, "secrets", "0000"))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, secrets[25820*32:25821*32])
	mac.Write([]byte("hello world"))
	sum := fmt.Sprintf("% x", mac.Sum(nil))
	if !strings.Contains(string(out), " "+sum[:47]+"\n "+sum[48:]) {
		t.Errorf("%s is not in %s", sum, out)
	}
	for _, want := range []string{"The plain pool in " + dir + "/secrets is whole", "The pool in " + dir + "/secrets/new is complete"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
	if _, err := os.Lstat(filepath.Join(bin, "cryptoserver")); err == nil {
		t.Error("the link is still there")
	}
	records, err := os.ReadFile(filepath.Join(dir, "state", "audit.log"))
	if n := strings.Count(string(records), `"operation":"hmacpool.hmac"`); err != nil || n != 1 {
		t.Errorf("%d records, %v", n, err)
	}
}

// TestMigrateCryptoserverSealed runs the guide's commands of a sealed pool, in
// MODE16: one of MODE32 has 137 GB.
func TestMigrateCryptoserverSealed(t *testing.T) {
	t.Parallel()
	s := harness.Dev(t)
	dir := filepath.Join(t.TempDir(), "secrets")
	script := "set -eu\n"
	for _, m := range regexp.MustCompile(`(?m)^    (claviger .*)$`).FindAllStringSubmatch(read(t, "docs/migrate/cryptoserver.md"), -1) {
		script += m[1] + "\n"
	}
	script = strings.NewReplacer("claviger ", harness.Binary(t)+" ", "--mode 32", "--mode 16", "/secrets", dir).Replace(script)
	if !strings.Contains(script, "--sealed") {
		t.Fatalf("the guide has no commands of a sealed pool:\n%s", script)
	}
	script += harness.Binary(t) + " hmacpool verify --mode 16 " + dir + "\n"
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+s.Addr, "VAULT_TOKEN="+s.RootToken)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "sealed pool in "+dir+" is whole") {
		t.Errorf("%v: %s", err, out)
	}
}
