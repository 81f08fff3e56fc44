package tokentest

import (
	"os"
	"path/filepath"
	"testing"
)

// Debian's places first.
var softHSMModules = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
}

// SoftHSM returns the path of the SoftHSM2 module and the environment, of form
// "NAME=value", in which it has no tokens yet and keeps new ones in a directory
// that ends with the test. It skips the test where SoftHSM2 is not installed.
func SoftHSM(t testing.TB) (module string, env []string) {
	t.Helper()
	module = firstFile(softHSMModules)
	if module == "" {
		t.Skip("SoftHSM2 is not installed (Debian package libsofthsm2)")
	}
	dir := t.TempDir()
	tokens, conf := filepath.Join(dir, "tokens"), filepath.Join(dir, "softhsm2.conf")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	text := "directories.tokendir = " + tokens + "\nobjectstore.backend = file\n" +
		"log.level = ERROR\nslots.removable = false\nslots.mechanisms = ALL\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return module, []string{"SOFTHSM2_CONF=" + conf}
}

func firstFile(paths []string) string {
	for _, path := range paths {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return path
		}
	}
	return ""
}
