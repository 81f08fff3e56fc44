package tokentest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func pkcs11Tool(t *testing.T, module string, env []string, args ...string) string {
	t.Helper()
	out, err := tryPKCS11Tool(t, module, env, args...)
	if err != nil {
		t.Fatalf("pkcs11-tool %s: %v\n%s", args[len(args)-1], err, out)
	}
	return out
}

func tryPKCS11Tool(t *testing.T, module string, env []string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("pkcs11-tool"); err != nil {
		t.Skip("pkcs11-tool is not installed (Debian package opensc)")
	}
	cmd := exec.Command("pkcs11-tool", append([]string{"--module", module}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestSoftHSM(t *testing.T) {
	t.Parallel()
	module, env := SoftHSM(t)
	out := pkcs11Tool(t, module, env, "--list-slots")
	if !strings.Contains(out, "uninitialized") {
		t.Errorf("a fresh SoftHSM2 shows %s", out)
	}
	pkcs11Tool(t, module, env, "--slot-index", "0", "--init-token", "--label", "fresh", "--so-pin", "12345678")
	if out := pkcs11Tool(t, module, env, "--list-slots"); !strings.Contains(out, "fresh") {
		t.Errorf("the token that was made is not shown: %s", out)
	}
}

// TestTPM makes more keys and uses more sessions in one process than a TPM
// without a resource manager has room for.
func TestTPM(t *testing.T) {
	t.Parallel()
	tok := TPM(t)
	login := func(args ...string) string {
		t.Helper()
		base := []string{"--token-label", tok.Label, "--login", "--pin", string(tok.PIN)}
		return pkcs11Tool(t, tok.Module, tok.Env, append(base, args...)...)
	}
	for id, typ := range map[string]string{"01": "EC:prime256v1", "02": "rsa:2048", "03": "EC:prime256v1", "04": "rsa:2048"} {
		login("--keypairgen", "--key-type", typ, "--id", id, "--label", "key"+id)
	}
	objects := login("--list-objects")
	if n := strings.Count(objects, "Private Key Object"); n != 4 {
		t.Errorf("the token has %d private keys, not 4:\n%s", n, objects)
	}
	// It uses all RSA keys in one process. Its exit status tells of OAEP with a
	// label, which tpm2-pkcs11 hands to the TPM without the zero byte at its end.
	tests, _ := tryPKCS11Tool(t, tok.Module, tok.Env,
		"--token-label", tok.Label, "--login", "--pin", string(tok.PIN), "--test")
	for _, label := range []string{"key02", "key04"} {
		_, used, _ := strings.Cut(tests, "("+label+")")
		if used, _, _ = strings.Cut(used, "testing key"); !strings.Contains(used, "RSA-X-509: OK") {
			t.Errorf("%s did not work beside the others:\n%s", label, tests)
		}
	}

	dir := t.TempDir()
	in, out := filepath.Join(dir, "digest"), filepath.Join(dir, "signature")
	digest := sha256.Sum256([]byte("message"))
	if err := os.WriteFile(in, digest[:], 0o600); err != nil {
		t.Fatal(err)
	}
	point := filepath.Join(dir, "public")
	login("--sign", "--mechanism", "ECDSA", "--id", "01", "--input-file", in, "--output-file", out)
	login("--read-object", "--type", "pubkey", "--id", "01", "--output-file", point)
	verifyFile(t, digest[:], out, point)
}

// verifyFile checks r ‖ s against the last 64 bytes of a public key's DER: x ‖ y.
func verifyFile(t *testing.T, digest []byte, sigFile, pubFile string) {
	t.Helper()
	sig, err := os.ReadFile(sigFile)
	must(t, err)
	der, err := os.ReadFile(pubFile)
	must(t, err)
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, der[len(der)-64:]...))
	must(t, err)
	if len(sig) != 64 || !ecdsa.Verify(pub, digest, new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Errorf("the signature %x is wrong", sig)
	}
}
