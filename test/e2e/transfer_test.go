package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

// transferable starts a server whose KEK may leave.
func transferable(t *testing.T, shares, threshold int) *harness.Server {
	t.Helper()
	s := harness.SoftHSM(t, harness.Options{Sealed: true})
	status, body := s.Do(t, "PUT", "sys/init", map[string]any{"secret_shares": shares, "secret_threshold": threshold, "transferable_kek": true})
	if status != 200 {
		t.Fatalf("sys/init: status %d: %v", status, body)
	}
	for _, k := range body["keys_base64"].([]any) {
		s.Shares = append(s.Shares, k.(string))
	}
	s.RootToken = body["root_token"].(string)
	s.Unseal(t, s.Shares[:threshold]...)
	return s
}

// Every command of the page about transfers, in its order.
func TestTransferPage(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skip("jq is not installed")
	}
	from, to := transferable(t, 3, 2), harness.SoftHSM(t, harness.Options{})
	from.OK(t, "POST", "transit/keys/k", nil)
	text := from.OK(t, "POST", "transit/encrypt/k", map[string]any{"plaintext": "aGk="})["ciphertext"]
	dir := t.TempDir()
	if err := os.Symlink(harness.Binary(t), filepath.Join(dir, "claviger")); err != nil {
		t.Fatal(err)
	}
	module, env := tokentest.SoftHSM(t)
	initToken := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "spare", "--pin", "123456", "--so-pin", "12345678")
	initToken.Env = append(os.Environ(), env...)
	if out, err := initToken.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, data := range map[string]string{"pin": "123456\n", "share1": from.Shares[0] + "\n", "share2": from.Shares[2] + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := exec.Command("sh", "-ceu", commandsOf(t, "../../docs/operations/transfer.md"))
	script.Dir = dir
	script.Env = append(append(os.Environ(), env...), "PATH="+dir+":"+os.Getenv("PATH"), "MODULE="+module,
		"CLAVIGER_ADDR="+from.Addr, "CLAVIGER_TOKEN="+from.RootToken, "SPARE_ADDR="+to.Addr, "SPARE_TOKEN="+to.RootToken)
	out, err := script.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"the KEK", "1 of 1 keys", "CKA_NEVER_EXTRACTABLE"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	for _, share := range from.Shares {
		if bytes.Contains(out, []byte(share)) || strings.Contains(from.Log(), share) {
			t.Error("a share was shown")
		}
	}
	if got := to.OK(t, "POST", "transit/decrypt/k", map[string]any{"ciphertext": text})["plaintext"]; got != "aGk=" {
		t.Errorf("%v", got)
	}
	adoptSpare(t, module, env)
}

// adoptSpare initialises a server with a token that has a KEK already, which stays.
func adoptSpare(t *testing.T, module string, env []string) {
	t.Helper()
	s := harness.SoftHSM(t, harness.Options{Module: module, Env: env, Sealed: true})
	text, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Config, bytes.Replace(text, []byte(`"claviger-test"`), []byte(`"spare"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	s.Start(t)
	status, body := s.Do(t, "PUT", "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1, "hsm_token": "adopt", "hsm_pin": "123456"})
	if status != 200 {
		t.Fatalf("status %d: %v\n%s", status, body, s.Log())
	}
	s.RootToken = body["root_token"].(string)
	s.Unseal(t, body["keys_base64"].([]any)[0].(string))
	if hsm := s.OK(t, "GET", "sys/hsm", nil); hsm["transferable_kek"] != false {
		t.Errorf("%v", hsm)
	}
	s.OK(t, "POST", "transit/keys/k", nil)
}

// TestTransferKilled moves keys while the client's file is cut and both servers are
// killed, and uses them at the destination; 10,000 with CLAVIGER_TEST_FULL=1.
func TestTransferKilled(t *testing.T) {
	t.Parallel()
	n := 130
	if os.Getenv("CLAVIGER_TEST_FULL") != "" {
		n = 10_000
	}
	from, to := transferable(t, 1, 1), harness.SoftHSM(t, harness.Options{})
	types := []string{"aes256-gcm96", "ecdsa-p256"}
	for i := range n {
		from.OK(t, "POST", fmt.Sprintf("transit/keys/k%05d", i), map[string]any{"type": types[i%2]})
	}
	texts := map[int]any{}
	for i := 0; i < n; i += 20 {
		texts[i] = from.OK(t, "POST", fmt.Sprintf("transit/encrypt/k%05d", i), map[string]any{"plaintext": "aGk="})["ciphertext"]
	}
	dir := t.TempDir()
	statement, ring := filepath.Join(dir, "statement"), filepath.Join(dir, "ring")
	claviger := func(s *harness.Server, stdin string, args ...string) (string, error) {
		cmd := exec.Command(harness.Binary(t), append([]string{"transfer"}, args...)...)
		cmd.Env = append(os.Environ(), "CLAVIGER_ADDR="+s.Addr, "CLAVIGER_TOKEN="+s.RootToken, "CLAVIGER_MAX_RETRIES=0")
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(out string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return out
	}
	must(claviger(to, "", "prepare", "--output", statement))
	export := []string{"export", "--statement", statement, "--mount", "transit", "--output", ring}
	must(claviger(from, "", append(export, "--wait=false")...))
	var st struct{ Nonce string }
	if err := json.Unmarshal([]byte(must(claviger(from, "", "status", "--format", "json"))), &st); err != nil {
		t.Fatal(err)
	}
	must(claviger(from, from.Shares[0]+"\n", "confirm", "--nonce", st.Nonce))

	begin := time.Now()
	killed := killWhile(t, from, ring, func() (string, error) { return claviger(from, "", export...) })
	if info, err := os.Stat(ring); err != nil {
		t.Fatal(err)
	} else if err := os.Truncate(ring, info.Size()*2/3+1); err != nil { // in the middle of a line
		t.Fatal(err)
	}
	if !killed { // the export was faster, and has ended
		must(claviger(from, "", append(export, "--wait=false")...))
		t.Skip("the export ended before the server was killed")
	}
	must(claviger(from, "", export...))
	t.Logf("exported %d keys in %v", n, time.Since(begin))

	begin = time.Now()
	whole, err := os.ReadFile(ring)
	if err != nil {
		t.Fatal(err)
	}
	// A ring that is cut imports what is whole of it.
	cut := filepath.Join(dir, "cut")
	if err := os.WriteFile(cut, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := claviger(to, "", "import", "--input", cut); err == nil || !strings.Contains(out, "cut off") {
		t.Errorf("%v\n%s", err, out)
	}
	done := make(chan struct{})
	go func() { defer close(done); claviger(to, "", "import", "--input", ring) }()
	time.Sleep(200 * time.Millisecond)
	to.Kill()
	<-done
	to.Start(t)
	to.Unseal(t, to.Shares...)
	out := must(claviger(to, "", "import", "--input", ring))
	t.Logf("imported %d keys in %v\n%s", n, time.Since(begin), out)
	if keys := to.OK(t, "LIST", "transit/keys", nil)["keys"].([]any); len(keys) != n {
		t.Errorf("%d keys came", len(keys))
	}
	for i, text := range texts {
		name := fmt.Sprintf("k%05d", i)
		if got := to.OK(t, "POST", "transit/decrypt/"+name, map[string]any{"ciphertext": text})["plaintext"]; got != "aGk=" {
			t.Errorf("%s: %v", name, got)
		}
		to.OK(t, "POST", fmt.Sprintf("transit/sign/k%05d", i+1), map[string]any{"input": "aGk="})
	}
}

// killWhile kills the server as soon as a file has more than its first lines, while
// do runs, and starts it again. It tells whether do was under way.
func killWhile(t *testing.T, s *harness.Server, file string, do func() (string, error)) bool {
	t.Helper()
	ended := make(chan error, 1)
	go func() { _, err := do(); ended <- err }()
	for {
		select {
		case err := <-ended:
			return err != nil
		case <-time.After(time.Millisecond):
		}
		if info, err := os.Stat(file); err == nil && info.Size() > 20_000 {
			s.Kill()
			err := <-ended
			s.Start(t)
			s.Unseal(t, s.Shares...)
			return err != nil
		}
	}
}
