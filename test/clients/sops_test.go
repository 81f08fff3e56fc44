package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

const secretYAML = `database:
    user: app
    password: correct horse battery staple
    ports:
        - 5432
        - 5433
# a comment
enabled: true
`

const sopsPolicy = `
path "transit/encrypt/sops" { capabilities = ["create", "update"] }
path "transit/decrypt/sops" { capabilities = ["update"] }`

// TestSOPS encrypts a YAML file with the sops program, whose key is made by its
// first use, and decrypts it again.
func TestSOPS(t *testing.T) {
	onTokensParallel(t, sopsRoundTrip)
}

func sopsRoundTrip(t *testing.T, s *harness.Server) {
	t.Helper()
	s.OK(t, "POST", "sys/policies/acl/sops", map[string]any{"policy": sopsPolicy})
	_, answer := s.Do(t, "POST", "auth/token/create", map[string]any{"policies": []string{"sops"}})
	token := answer["auth"].(map[string]any)["client_token"].(string)
	dir := t.TempDir()
	file := filepath.Join(dir, "secret.yaml")
	if err := os.WriteFile(file, []byte(secretYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	encrypted := sops(t, s, token, "encrypt", "--hc-vault-transit", s.Addr+"/v1/transit/keys/sops", file)
	for _, secret := range []string{"correct horse", "5432"} {
		if strings.Contains(encrypted, secret) {
			t.Errorf("the encrypted file shows %q", secret)
		}
	}
	if !strings.Contains(encrypted, "vault:v1:") {
		t.Errorf("the encrypted file has no ciphertext of the data key:\n%s", encrypted)
	}
	if err := os.WriteFile(file, []byte(encrypted), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := sops(t, s, token, "decrypt", file); got != secretYAML {
		t.Errorf("decrypted:\n%s\nwant:\n%s", got, secretYAML)
	}
	s.OK(t, "POST", "transit/keys/sops/rotate", nil)
	if got := sops(t, s, token, "decrypt", file); got != secretYAML {
		t.Errorf("decrypted after a rotation:\n%s", got)
	}
}

func sops(t *testing.T, s *harness.Server, token string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"tool", "sops", "--disable-version-check"}, args...)...)
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+s.Addr, "VAULT_TOKEN="+token)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sops %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}
