package tokentest

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"
)

// Tool runs pkcs11-tool on a token, as users do beside a server, and returns what
// it printed. env is what the module needs; the PIN is a test's, no secret; without
// one it logs in nowhere.
//
// A program that loads SoftHSM2 at the moment in which another one logs in may
// find no token there (C_Login rewrites the token's file), so that is tried again.
func Tool(t testing.TB, module, label, pin string, env []string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("pkcs11-tool"); err != nil {
		t.Skip("pkcs11-tool is not installed (Debian package opensc)")
	}
	all := []string{"--module", module, "--token-label", label}
	if pin != "" {
		all = append(all, "--login", "--pin", pin)
	}
	for try := 1; ; try++ {
		cmd := exec.Command("pkcs11-tool", append(all, args...)...)
		cmd.Env = append(os.Environ(), env...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		if err == nil {
			return out.Bytes()
		}
		if try == 5 || !halfWritten.Match(append(out.Bytes(), errs.Bytes()...)) {
			t.Fatalf("pkcs11-tool %q: %v\n%s%s", args, err, &out, &errs)
		}
		time.Sleep(time.Duration(try) * 50 * time.Millisecond)
	}
}

// halfWritten is what pkcs11-tool says where it does nothing because it read a
// file of SoftHSM2 that was being written.
var halfWritten = regexp.MustCompile(`No slot with token named|` +
	`C_(GetTokenInfo|OpenSession|Login) failed: rv = CKR_(TOKEN_NOT_RECOGNIZED|TOKEN_NOT_PRESENT|USER_PIN_NOT_INITIALIZED|GENERAL_ERROR)`)
