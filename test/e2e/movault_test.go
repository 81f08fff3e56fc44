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

// Answers that another program computed for the key in movault-test-key.pem.
const (
	knownSignature = "7198295ece9dbb90638afa3787d5fbefce93ae73dc3a218e22dd764ae269d82db36af6eea5c3b6b79945847de70ebff39cd8966af04660f778eb7085419092e630b36b095e664ddbd08ba921402df21c98ee95b555e4429306be15f580ec1efbb37e60768abe89c476ade42bcd9d880f2c0f021e024dfab3178fbfbddc6c00257650a907c9a0c2009bfc6e892eeb4ac18a9be82d4fbe8ae9334965ea19cae321f253a6c74d02ae743838d8e4a02df136ea3592c6a7556f0cc86f092da500ac4a7f22ccb8c3314b207d09a07a40d4cd50bec56c6c04bff95f1615e66f065cba08c7189e00e1e3cf0a1891e2f68274b033ce57761f05eef4b2ca8cbf2d78f08440"
	knownOAEP      = "41a043e90a5431585790ee64f1f1d9c118ef0017d90136c29fdaebb84107e6024fbbb1237a17cf15c695ef28246eb3a6f272d87803a644f225b38b8c2771bc2e5d082d6a7e875266dd129445f877876202f086fe92840db9a78e9533d594a1344567772b70f1fb888c47a8042e2356b5dac70febb98aa0a2c2a118ae0c212b3e70f30a33e54cdb9c0830b53779268746bd77fab9e6dba07e42b9d57b5a1b2e92407877a14695060490d0c8e7156a97cee7bc43f50b162c93fbb8714d22e715a85d11a1e68ef9f0f8fa0fdcec3be2c158becf17715095cf717318db58480329340adae2d564c0b7756267d4f951b7d06f751a11fb8061ec2d06cdc0334cf42db3"
)

// movault runs the program as Mo-Vault's users do, and returns where it listens.
func movault(t *testing.T, module string, env []string, state string, args ...string) string {
	t.Helper()
	cmd := exec.Command(harness.Binary(t), append([]string{"movault", "--listen", "127.0.0.1:0", "--state-dir", state}, args...)...)
	cmd.Env = append(append(os.Environ(), env...), "TOKENLABEL=claviger-test", "PINSECRET="+daemonPIN, "PKCS11_MODULE="+module)
	return served(t, cmd)
}

// served starts the program, until the test ends, and returns where it listens.
func served(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-done
		out.Close()
	})
	listens := regexp.MustCompile(`API is served","address":"([^"]*)"`)
	for deadline := time.Now().Add(40 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if m := listens.FindSubmatch(readFile(t, log)); m != nil {
			return string(m[1])
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("it does not start: %v: %s", err, readFile(t, log))
		default:
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
		tokentest.Tool(t, module, "claviger-test", daemonPIN, env, args...)
	}
	pkcs11Tool("--keypairgen", "--key-type", "rsa:2048", "--label", "older/rsa", "--id", "0080")
	pkcs11Tool("--keygen", "--key-type", "aes:16", "--label", "older/aes", "--id", "02", "--sensitive")
	importKey := exec.Command("softhsm2-util", "--import", "testdata/movault-test-key.pem", "--token", "claviger-test", "--label", "known/rsa", "--id", "02", "--pin", daemonPIN)
	importKey.Env = append(os.Environ(), env...)
	if out, err := importKey.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
	raw := filepath.Join(t.TempDir(), "aes")
	if err := os.WriteFile(raw, []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, 0o600); err != nil {
		t.Fatal(err)
	}
	pkcs11Tool("--write-object", raw, "--type", "secrkey", "--key-type", "AES:16", "--label", "known/aes", "--id", "01", "--usage-decrypt")
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
	if signature == "" {
		return // the others ask for what this one made
	}
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
	t.Run("known answers", func(t *testing.T) {
		at := movault(t, module, env, t.TempDir())
		const known = `{"secret_path":"known/rsa","secret_version":"2",`
		if status, a := asked(t, at+"/key/sign/message", known+`"data":"you are handsome man"}`); a["signature"] != knownSignature {
			t.Errorf("signature: %d %v", status, a)
		}
		for path, body := range map[string]string{
			"rsa": known + `"ciphertext":"` + knownOAEP + `"}`,
			"aes": `{"secret_path":"known/aes","secret_version":1,"iv":"00112233445566778899aabbccddeeff","ciphertext":"b61920811b03c3842728ddcfbf380316311d2dbfc60fb41c15ec8bfaba0e2e00"}`,
		} {
			if status, a := asked(t, at+"/key/decrypt/"+path, body); a["plaintext"] != "you are handsome man" {
				t.Errorf("%s: %d %v", path, status, a)
			}
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
