package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// TestESTGuide runs the commands of docs/guides/est.md in their order, against a
// server whose keys are in SoftHSM2, and then what must be refused.
func TestESTGuide(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"curl", "openssl", "jq"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed: scripts/install-test-packages.sh does it", name)
		}
	}
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
	writeCertificate(t, cert, key, "est")
	s := harness.SoftHSM(t, harness.Options{Sections: fmt.Sprintf(
		"[front.est]\nenabled = true\naddress = \"127.0.0.1:0\"\ntls_cert = %q\ntls_key = %q\n", cert, key)})
	base := "https://" + secondAddress(t, s) + "/.well-known/est"

	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(harness.Binary(t), filepath.Join(bin, "claviger")); err != nil {
		t.Fatal(err)
	}
	run := func(script string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "set -eu\n"+script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "CLAVIGER_ADDR="+s.Addr, "CLAVIGER_TOKEN="+s.RootToken, "EST="+base, "HOME="+dir)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	script := ""
	for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllSubmatch(readFile(t, "../../docs/guides/est.md"), -1) {
		script += string(m[1])
	}
	out, err := run(script)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, s.Log())
	}
	for _, want := range []string{"device.pem: OK", "next.pem: OK", "prime256v1"} {
		if !strings.Contains(out, want) {
			t.Errorf("the commands do not show %q:\n%s", want, out)
		}
	}
	record := readFile(t, filepath.Join(s.Dir, "data", "audit.log"))
	for _, want := range []string{`"operation":"pki.est.reenroll"`, `front/est`, `"shown_serial"`} {
		if !bytes.Contains(record, []byte(want)) {
			t.Errorf("the audit log lacks %s", want)
		}
	}

	functions := regexp.MustCompile(`(?m)^(est|certificates)\(\).*$`).FindAllString(script, -1)
	refused := func(what, script, want string) {
		t.Helper()
		out, err := run(strings.Join(functions, "\n") + "\n" + script)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, want %q:\n%s", what, err, want, out)
		}
	}
	const pkcs10 = ` --header "Content-Type: application/pkcs10" --data-binary `
	refused("a password that was used", `printf 'user = "device:%s"\n' "$(cat password)" | est simpleenroll --config -`+pkcs10+"@device.csr", "error: 401")
	refused("nobody", "est simpleenroll"+pkcs10+"@device.csr", "show a client certificate in TLS")
	refused("its own certificate for another name", "openssl req -new -key device.key -subj /CN=d2.devices.example.com -outform DER | openssl base64 -out d2.csr\n"+
		"est simplereenroll --cert device.pem --key device.key"+pkcs10+"@d2.csr", "they must be the same")
	refused("a large request", "head -c 1048576 /dev/zero | tr '\\0' A > large\nest simplereenroll --cert device.pem --key device.key"+pkcs10+"@large", "larger than")
	refused("a label that is none", "est nothing/cacerts", `no EST server with the label "nothing"`)
	refused("serverkeygen", "est serverkeygen --data x", "a device makes its own key")
	if status, _ := s.Do(t, "PUT", "sys/seal", nil); status != 204 {
		t.Fatalf("sealing: status %d", status)
	}
	refused("while sealed", "est cacerts --dump-header header || { cat header; exit 1; }", "Retry-After: 30")
}
