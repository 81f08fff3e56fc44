package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

// movault runs the program as Mo-Vault's users do, and returns where it listens.
func movault(t *testing.T, module string, env []string, state string, args ...string) string {
	t.Helper()
	cmd := exec.Command(harness.Binary(t), append([]string{"movault", "--listen", "127.0.0.1:0", "--state-dir", state}, args...)...)
	cmd.Env = append(append(os.Environ(), env...), "TOKENLABEL=claviger-test", "PINSECRET="+daemonPIN, "PKCS11_MODULE="+module)
	log := filepath.Join(t.TempDir(), "log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		out.Close()
	})
	served := regexp.MustCompile(`API is served","address":"([^"]*)"`)
	for deadline := time.Now().Add(40 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if m := served.FindSubmatch(readFile(t, log)); m != nil {
			return string(m[1])
		}
	}
	t.Fatalf("it does not start: %s", readFile(t, log))
	return ""
}

// asked sends JSON, and returns the answer.
func asked(t *testing.T, url, body string) (int, map[string]any) {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, resp)
}

func decoded(t *testing.T, resp *http.Response) (int, map[string]any) {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var a map[string]any
	if err := json.Unmarshal(b, &a); err != nil {
		t.Fatalf("%d %q: %v", resp.StatusCode, b, err)
	}
	return resp.StatusCode, a
}

func file(t *testing.T, url, name string, fields ...string) (int, map[string]any) {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	w, err := form.CreateFormFile("data", name)
	if err == nil {
		_, err = io.WriteString(w, "you are handsome man")
	}
	for i := 0; err == nil && i < len(fields); i += 2 {
		err = form.WriteField(fields[i], fields[i+1])
	}
	if err != nil {
		t.Fatal(err)
	}
	form.Close()
	resp, err := http.Post(url, form.FormDataContentType(), &body)
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, resp)
}

// TestMoVault does what Mo-Vault's description shows, on a token that SoftHSM2's
// tools made, with keys that pkcs11-tool made as Mo-Vault stores them, and once
// more after a start with another state directory.
func TestMoVault(t *testing.T) {
	t.Parallel()
	module, env := tokentest.SoftHSM(t)
	initToken(t, env, daemonPIN)
	pkcs11Tool := func(args ...string) {
		cmd := exec.Command("pkcs11-tool", append([]string{"--module", module, "--token-label", "claviger-test", "--login", "--pin", daemonPIN}, args...)...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("pkcs11-tool %q: %v\n%s", args, err, out)
		}
	}
	pkcs11Tool("--keypairgen", "--key-type", "rsa:2048", "--label", "older/rsa", "--id", "0080")
	pkcs11Tool("--keygen", "--key-type", "aes:16", "--label", "older/aes", "--id", "02", "--sensitive")
	const rsa2 = `"secret_path":"random_test/rsa","secret_version":"2"`
	var signature string
	t.Run("first", func(t *testing.T) {
		at := movault(t, module, env, t.TempDir())
		for _, c := range []struct{ path, body, want string }{
			{"/gen/key/rsa", "{" + rsa2 + "}", "RSA Key with random_test/rsa Generated"},
			{"/gen/key/rsa", `{"secret_path":"random_test/rsa","secret_version":2}`, "Key was exsits"},
			{"/gen/key/rsa", `{"secret_path":"","secret_version":2}`, "Key was exsits"},
			{"/gen/key/aes", `{"secret_path":"p","secret_version":255}`, "AES Key with p Generated"},
			{"/gen/key/rsa", `{"secret_path":"older/rsa","secret_version":128}`, "Key was exsits"},
			{"/key/encrypt/aes", `{"secret_path":"none","secret_version":1,"plaintext":"x"}`, "Key not was exsits"},
		} {
			if status, a := asked(t, at+c.path, c.body); status != 200 || a["Info"] != c.want {
				t.Errorf("%s %s: %d %v", c.path, c.body, status, a)
			}
		}
		for _, k := range []struct{ typ, key string }{
			{"rsa", rsa2}, {"rsa", `"secret_path":"older/rsa","secret_version":"128"`},
			{"aes", `"secret_path":"p","secret_version":"255"`}, {"aes", `"secret_path":"older/aes","secret_version":2`},
		} {
			status, e := asked(t, at+"/key/encrypt/"+k.typ, `{`+k.key+`,"plaintext":"you are handsome man"}`)
			if status != 200 {
				t.Fatalf("%v: %d %v", k, status, e)
			}
			more, _ := json.Marshal(e)
			if status, d := asked(t, at+"/key/decrypt/"+k.typ, `{`+k.key+`,`+string(more[1:])); status != 200 || d["plaintext"] != "you are handsome man" {
				t.Errorf("%v: %d %v", k, status, d)
			}
		}
		_, a := asked(t, at+"/key/sign/message", `{`+rsa2+`,"data":"you are handsome man"}`)
		signature, _ = a["signature"].(string)
		if len(signature) != 512 {
			t.Fatalf("%v", a)
		}
		if _, a := file(t, at+"/key/sign/file", "test.txt", "secret_path", "random_test/rsa", "secret_version", "2"); a["signature"] != signature {
			t.Errorf("the file's signature: %v", a)
		}
		if status, a := file(t, at+"/key/sign/file", "test.exe", "secret_path", "random_test/rsa", "secret_version", "2"); status != 400 || a["Error"] == nil {
			t.Errorf("an .exe: %d %v", status, a)
		}
	})
	t.Run("another state directory", func(t *testing.T) {
		at := movault(t, module, env, t.TempDir())
		for sig, want := range map[string]bool{signature: true, "0" + signature[1:]: signature[0] == '0', signature[1:]: false, signature[2:]: false, "": false, "zz": false} {
			status, a := asked(t, at+"/key/verify/message", `{`+rsa2+`,"data":"you are handsome man","signature":"`+sig+`"}`)
			if status != 200 || a["Verify Result"] != want {
				t.Errorf("signature %.8q…: %d %v", sig, status, a)
			}
		}
		if _, a := file(t, at+"/key/verify/file", "test.txt", "secret_path", "random_test/rsa", "secret_version", "2", "signature", signature); a["Verify Result"] != true {
			t.Errorf("%v", a)
		}
		for body, status := range map[string]int{
			`{` + rsa2 + `,"plaintext":"` + strings.Repeat("x", 214) + `"}`:          200,
			`{` + rsa2 + `,"plaintext":"` + strings.Repeat("x", 215) + `"}`:          400,
			`{"secret_path":"none","secret_version":"1","plaintext":"x"}`:            404,
			`{"secret_path":"random_test/rsa","secret_version":"x","plaintext":"x"}`: 400,
			`{"secret_path":"random_test/rsa","secret_version":"2","plaintext":7}`:   400,
			`{"secret_path":"random_test/rsa","secret_version":"2"}`:                 400,
			`{"secret_path":"random_test/rsa","plaintext":"x"`:                       400,
			`[]`: 400,
		} {
			if got, a := asked(t, at+"/key/encrypt/rsa", body); got != status || got != 200 && a["Error"] == nil {
				t.Errorf("%.90s: %d %v", body, got, a)
			}
		}
		if status, a := asked(t, at+"/key/decrypt/rsa", `{`+rsa2+`,"ciphertext":"00"}`); status != 400 || !strings.Contains(a["Error"].(string), "decryption failed") {
			t.Errorf("%d %v", status, a)
		}
	})
	t.Run("token", func(t *testing.T) {
		token := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(token, []byte("0123456789abcdefX\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		at := movault(t, module, env, t.TempDir(), "--token-file", token)
		for shown, want := range map[string]int{"": 401, "Bearer wrong": 401, "Bearer 0123456789abcdefX": 200} {
			r, err := http.NewRequest("GET", at+"/gen/key/rsa", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", shown)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if status, a := decoded(t, resp); status != want {
				t.Errorf("%q: %d %v", shown, status, a)
			}
		}
	})
}
