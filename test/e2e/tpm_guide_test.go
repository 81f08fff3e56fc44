package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/internal/tpm/tpmtest"
	"github.com/claviger/claviger/test/harness"
)

// tpmDevice is what claviger tpm calls a TPM of tokentest.
func tpmDevice(tok tokentest.TPMToken) string {
	for _, e := range tok.Env {
		if port, ok := strings.CutPrefix(e, "TPM2_PKCS11_TCTI=swtpm:host=127.0.0.1,port="); ok {
			return "swtpm:127.0.0.1:" + port
		}
	}
	return ""
}

// TestTPMGuide runs the commands of docs/guides/tpm.md in their order, with two TPMs:
// the second is shared by the server, by claviger tpm and by tpm2-tools.
func TestTPMGuide(t *testing.T) {
	t.Parallel()
	tok, source := tokentest.TPM(t), tpmtest.New(t)
	dir := t.TempDir()
	bin := t.TempDir()
	if err := os.Symlink(harness.Binary(t), filepath.Join(bin, "claviger")); err != nil {
		t.Fatal(err)
	}
	program(t, filepath.Join(bin, "on_source"), "CLAVIGER_TPM="+source.Device+" exec \"$@\"\n")
	env := append(os.Environ(), tok.Env...)
	env = append(env, "TPM2_PKCS11_STORE="+filepath.Join(dir, "store"), "CLAVIGER_TPM="+tpmDevice(tok), "PATH="+bin+":"+os.Getenv("PATH"))
	run := func(text string, env ...string) string {
		t.Helper()
		script := exec.CommandContext(t.Context(), "sh", "-ceux", text)
		script.Dir, script.Env = dir, env
		out, err := script.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	// At the handle of the guide lies the storage key of tok.
	text := strings.NewReplacer("--label claviger ", "--label claviger-test ", "0x81000001", "0x81000002").
		Replace(commandsOf(t, "../../docs/guides/tpm.md"))
	// The server starts before keys are moved, and again where the guide says so.
	parts := regexp.MustCompile(`(?m)^claviger (?:tpm parent|key adopt) `).Split(text, -1)
	if len(parts) != 4 {
		t.Fatalf("the guide has %d parts", len(parts))
	}
	run(parts[0], env...)
	s := serveTPM(t, tok, filepath.Join(dir, "store"), strings.TrimSpace(string(readFile(t, filepath.Join(dir, "user-pin")))))
	out := run("umask 077\nclaviger tpm parent "+parts[1], env...)
	for _, part := range parts[2:] {
		s.Stop()
		s.Start(t)
		s.Unseal(t, s.Shares...)
		out += run("umask 077\nclaviger key adopt "+part, append(env, "CLAVIGER_ADDR="+s.Addr, "CLAVIGER_TOKEN="+s.RootToken)...)
	}
	if n := strings.Count(out, "vault:v1:"); n < 3 {
		t.Errorf("%d signatures:\n%s", n, out)
	}
	verifies(t, dir, bin, s, "ca", "ca.json", map[string]any{"signature_algorithm": "pkcs1v15"})
	verifies(t, dir, bin, s, "release", "moved.json", nil)
}

// serveTPM starts a server that adopts the token of tpm2-pkcs11 in store; more is for
// the module's environment.
func serveTPM(t *testing.T, tok tokentest.TPMToken, store, pin string, more ...string) *harness.Server {
	t.Helper()
	env := append(more, "TPM2_PKCS11_STORE="+store)
	for _, e := range tok.Env {
		if strings.HasPrefix(e, "TPM2_PKCS11_TCTI=") {
			env = append(env, e)
		}
	}
	s := harness.SoftHSM(t, harness.Options{
		Module: tok.Module, Env: env, Sealed: true, Extra: fmt.Sprintf("workers = 1\nwrite_paths = [%q]", store),
	})
	status, body := s.Do(t, "PUT", "sys/init", map[string]any{
		"secret_shares": 1, "secret_threshold": 1, "hsm_token": "adopt", "hsm_pin": pin,
	})
	if status != 200 {
		t.Fatalf("sys/init: %d %v\n%s", status, body, s.Log())
	}
	s.RootToken = body["root_token"].(string)
	s.Shares = []string{body["keys_base64"].([]any)[0].(string)}
	s.Unseal(t, s.Shares...)
	return s
}

// verifies lets openssl check a signature that the server makes with the key that
// file holds.
func verifies(t *testing.T, dir, bin string, s *harness.Server, name, file string, request map[string]any) {
	t.Helper()
	body := map[string]any{"input": base64.StdEncoding.EncodeToString([]byte("a message"))}
	for field, value := range request {
		body[field] = value
	}
	signature := s.OK(t, "POST", "transit/sign/"+name+"/sha2-256", body)["signature"].(string)
	der, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signature, "vault:v1:"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sig"), der, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-ce", `"$0" tpm show "$1" --public-key > public.pem
openssl dgst -sha256 -verify public.pem -signature sig message`, filepath.Join(bin, "claviger"), file)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
}
