package tokentest

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Tool runs pkcs11-tool on a token, as users do beside a server, and returns what
// it printed. env is what the module needs; the PIN is a test's, no secret.
//
// A program that loads SoftHSM2 at the moment in which another one logs in may
// find no token there (C_Login rewrites the token's file), so that is tried again.
func Tool(t testing.TB, module, label, pin string, env []string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("pkcs11-tool"); err != nil {
		t.Skip("pkcs11-tool is not installed (Debian package opensc)")
	}
	all := append([]string{"--module", module, "--token-label", label, "--login", "--pin", pin}, args...)
	for try := 1; ; try++ {
		cmd := exec.Command("pkcs11-tool", all...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err == nil {
			return out
		}
		if try == 5 || !bytes.Contains(out, []byte("No slot with token named")) {
			t.Fatalf("pkcs11-tool %q: %v\n%s", args, err, out)
		}
		time.Sleep(time.Duration(try) * 50 * time.Millisecond)
	}
}
