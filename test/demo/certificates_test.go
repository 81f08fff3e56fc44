package demo

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

// TestCertificateGuide runs the commands of docs/guides/certificates.md in their
// order, with the keys in SoftHSM2, and the front that hands out CRLs and OCSP
// answers at an address of its own.
func TestCertificateGuide(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	need(t, "curl")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	s := harness.SoftHSM(t, harness.Options{Sections: "[front.distribution]\nenabled = true\naddress = \"" + address + "\"\n"})
	var commands strings.Builder
	for _, block := range fenced.FindAllStringSubmatch(read(t, "docs/guides/certificates.md"), -1) {
		commands.WriteString(block[1])
	}
	dir := t.TempDir()
	cmd := command(t, 2*time.Minute, environment("HOME="+dir, "CLAVIGER_ADDR="+s.Addr, "CLAVIGER_TOKEN="+s.RootToken,
		"PATH="+filepath.Dir(harness.Binary(t))+":"+os.Getenv("PATH")), "sh", "-eux")
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(commands.String(), "pki.example.com", address))
	b, err := cmd.CombinedOutput()
	out := string(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"www.pem: OK", "└─ Example Web CA  (authority, P-256, ", "   └─ www.example.com  (certificate, P-256, ", "app.example.com",
		"The certificate is revoked since", "www.pem: revoked", "verify OK",
	} {
		_, rest, found := strings.Cut(out, want)
		if !found {
			t.Fatalf("the output lacks %q in its place:\n%s", want, b)
		}
		out = rest
	}
	if info, err := os.Stat(filepath.Join(dir, "www.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}
