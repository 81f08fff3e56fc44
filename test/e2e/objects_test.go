package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

// knownPIN is the user PIN of tokens that are adopted.
const knownPIN = "4711-known-to-the-test"

// adopted starts a server on a token that softhsm2-util made, so that the test
// knows its PIN.
func adopted(t *testing.T) (s *harness.Server, pin string) {
	t.Helper()
	module, env := tokentest.SoftHSM(t)
	initToken(t, env, knownPIN)
	s = harness.SoftHSM(t, harness.Options{Module: module, Env: env, Sealed: true})
	adoptOK(t, s, knownPIN)
	return s, knownPIN
}

// initToken makes a token with softhsm2-util.
func initToken(t *testing.T, env []string, pin string) {
	t.Helper()
	util := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "claviger-test", "--pin", pin, "--so-pin", "so-"+pin)
	util.Env = append(os.Environ(), env...)
	if out, err := util.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
}

func adopt(t *testing.T, s *harness.Server, pin string) (status int, body map[string]any) {
	t.Helper()
	return s.Do(t, "PUT", "sys/init", map[string]any{
		"secret_shares": 1, "secret_threshold": 1, "hsm_token": "adopt", "hsm_pin": pin,
	})
}

// adoptOK adopts the token, which must succeed, and unseals.
func adoptOK(t *testing.T, s *harness.Server, pin string) {
	t.Helper()
	status, body := adopt(t, s, pin)
	if status != 200 {
		t.Fatalf("adopting the token: status %d: %v", status, body)
	}
	s.RootToken = body["root_token"].(string)
	s.Shares = []string{body["keys_base64"].([]any)[0].(string)}
	s.Unseal(t, s.Shares...)
}

// TestObjectsOfTheToken lists the token with a program of other people: it
// holds a handful of objects, all sensitive and private, none extractable, and
// ten thousand keys add none.
func TestObjectsOfTheToken(t *testing.T) {
	t.Parallel()
	s, pin := adopted(t)
	before := listObjects(t, s, pin)
	if len(before) == 0 || len(before) > 6 {
		t.Fatalf("the token has %d objects, want a handful:\n%s", len(before), strings.Join(before, "\n"))
	}
	for _, o := range before {
		checkObject(t, o)
	}
	public := listObjects(t, s, "")
	if len(public) > 0 {
		t.Errorf("without login the token shows:\n%s", strings.Join(public, "\n"))
	}

	createKeys(t, s, 10_000)
	if after := listObjects(t, s, pin); len(after) != len(before) {
		t.Errorf("10,000 keys made %d objects out of %d", len(after), len(before))
	}
	// What SoftHSM2 can't wrap becomes an object, as secret as the others.
	s.OK(t, "POST", "transit/keys/ed", map[string]any{"type": "ed25519"})
	after := listObjects(t, s, pin)
	if len(after) <= len(before) {
		t.Errorf("an Ed25519 key, which SoftHSM2 can't wrap, made no object")
	}
	for _, o := range after {
		checkObject(t, o)
	}
}

func createKeys(t *testing.T, s *harness.Server, n int64) {
	t.Helper()
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				if _, ok := try(s, fmt.Sprintf("transit/keys/many-%d", i), map[string]any{"type": "aes256-gcm96"}); !ok {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() > 0 {
		t.Fatalf("%d of %d keys were not made", failed.Load(), n)
	}
}

// listObjects returns a paragraph of pkcs11-tool for each object.
func listObjects(t *testing.T, s *harness.Server, pin string) []string {
	t.Helper()
	out := tokentest.Tool(t, s.Module, "claviger-test", pin, s.Env, "--list-objects")
	var objects []string
	for line := range strings.Lines(string(out)) {
		if line[0] != ' ' && line[0] != '\t' {
			objects = append(objects, line)
		} else if len(objects) > 0 {
			objects[len(objects)-1] += line
		}
	}
	return objects
}

func checkObject(t *testing.T, object string) {
	t.Helper()
	kind, _, _ := strings.Cut(object, ";")
	if strings.HasPrefix(kind, "Public Key") {
		t.Errorf("a public object in the token:\n%s", object)
		return
	}
	_, access, _ := strings.Cut(object, "Access:")
	if !strings.Contains(access, "sensitive") || !strings.Contains(access, "never extractable") {
		t.Errorf("an object that is not sensitive and never extractable:\n%s", object)
	}
}

// TestPINIsNowhere looks for secrets that the test knows (PIN, share, root
// token) in every file that the server wrote and in its log (promise P6).
func TestPINIsNowhere(t *testing.T) {
	t.Parallel()
	s, pin := adopted(t)
	s.OK(t, "POST", "transit/keys/k", nil)
	s.OK(t, "POST", "transit/encrypt/k", map[string]any{"plaintext": random(32)})
	s.Stop()
	haystacks := map[string]string{"the log": s.Log()}
	filepath.Walk(s.Dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			if b, err := os.ReadFile(path); err == nil {
				haystacks[path] = string(b)
			}
		}
		return nil
	})
	if len(haystacks) < 4 {
		t.Fatalf("only %d files were looked at", len(haystacks))
	}
	for where, text := range haystacks {
		for what, secret := range map[string]string{"the PIN": pin, "a share": s.Shares[0], "the root token": s.RootToken} {
			if strings.Contains(text, secret) {
				t.Errorf("%s stands in %s", what, where)
			}
		}
	}
}
