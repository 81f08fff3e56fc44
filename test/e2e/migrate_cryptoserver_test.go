package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// configurationOf returns the block of a document that begins with a section of a
// configuration.
func configurationOf(t *testing.T, document, section string) string {
	t.Helper()
	for _, block := range shellBlock.FindAllString(string(readFile(t, document)), -1) {
		if text := strings.ReplaceAll("\n"+block, "\n    ", "\n"); strings.HasPrefix(text, "\n["+section+"]\n") {
			return text
		}
	}
	t.Fatalf("%s has no section [%s]", document, section)
	return ""
}

// TestMigrateCryptoserverServer runs a whole server with the configuration of
// docs/migrate/cryptoserver.md, and asks it as the guide says.
func TestMigrateCryptoserverServer(t *testing.T) {
	t.Parallel()
	const guide = "../../docs/migrate/cryptoserver.md"
	dir := t.TempDir()
	cert, key, secrets := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "secrets")
	writeCertificate(t, cert, key, "hmac")
	run := func(env []string, args ...string) {
		t.Helper()
		cmd := exec.Command(harness.Binary(t), args...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("claviger %q: %v\n%s", args, err, out)
		}
	}
	run(nil, "hmacpool", "create", "--mode", "16", secrets)
	sections := strings.NewReplacer("0.0.0.0:8080", "127.0.0.1:0", "/etc/claviger/tls.crt", cert, "/etc/claviger/tls.key", key, "/secrets", secrets).
		Replace(configurationOf(t, guide, "front.cryptoserver"))
	s := harness.SoftHSM(t, harness.Options{Sections: sections})
	mount := regexp.MustCompile("`claviger (mount enable [^`]*)`").FindSubmatch(readFile(t, guide))
	if mount == nil {
		t.Fatal("the guide enables no mount")
	}
	run([]string{"VAULT_ADDR=" + s.Addr, "VAULT_TOKEN=" + s.RootToken}, strings.Fields(string(mount[1]))...)
	s.OK(t, "PUT", "sys/policies/acl/hmac", map[string]any{"policy": `path "hmacpool/hmac" { capabilities = ["update"] }`})
	token := func(policies ...string) string {
		_, made := s.Do(t, "POST", "auth/token/create", map[string]any{"policies": policies, "no_default_policy": true})
		return made["auth"].(map[string]any)["client_token"].(string)
	}
	may, mayNot := token("hmac"), token("other")

	// The secret that "hello world" chooses has the number 25820.
	mac := hmac.New(sha256.New, readFile(t, filepath.Join(secrets, "0000"))[25820*32:25821*32])
	mac.Write([]byte("hello world"))
	want := mac.Sum(nil)
	c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer c.CloseIdleConnections()
	for _, a := range []struct {
		header, value string
		status        int
	}{
		{"X-Vault-Token", may, 200}, {"Authorization", "Bearer " + may, 200},
		{"X-Vault-Token", mayNot, 403}, {"Authorization", "Bearer " + mayNot, 403}, {"X-Vault-Token", "wrong", 403}, {"Accept", "*/*", 403},
	} {
		r, err := http.NewRequest("POST", "https://"+secondAddress(t, s)+"/hmac", strings.NewReader("hello world"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(a.header, a.value)
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != a.status || (string(body) == string(want)) != (a.status == 200) {
			t.Errorf("%s of %d: status %d, %x, %v, want %d, %x", a.header, len(a.value), resp.StatusCode, body, err, a.status, want)
		}
	}
	input := base64.StdEncoding.EncodeToString([]byte("hello world"))
	answer := s.OK(t, "POST", "hmacpool/hmac", map[string]any{"batch_input": []any{map[string]any{"input": input}, map[string]any{"input": "YQ=="}}})
	results, _ := answer["batch_results"].([]any)
	if len(results) != 2 || results[0].(map[string]any)["hmac"] != base64.StdEncoding.EncodeToString(want) {
		t.Errorf("the batch is %v, want %s first", answer, hex.EncodeToString(want))
	}
}
