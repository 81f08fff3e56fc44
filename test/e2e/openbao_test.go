package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

// bao is a server of OpenBao, the program that CLAVIGER_TEST_BAO names.
type bao struct {
	*harness.Server // Addr and RootToken, for Try
	config          string
	cmd             *exec.Cmd
}

func newBao(t *testing.T) *bao {
	t.Helper()
	if os.Getenv("CLAVIGER_TEST_BAO") == "" {
		t.Skip("CLAVIGER_TEST_BAO does not name the program of OpenBao")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	b := &bao{Server: &harness.Server{Addr: "http://" + address}, config: filepath.Join(dir, "bao.hcl")}
	text := fmt.Sprintf("storage \"file\" { path = %q }\nlistener \"tcp\" {\n  address = %q\n  tls_disable = true\n}\ndisable_mlock = true\n", filepath.Join(dir, "data"), address)
	if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start(t)
	t.Cleanup(b.kill)
	return b
}

func (b *bao) start(t *testing.T) {
	t.Helper()
	b.cmd = exec.Command(os.Getenv("CLAVIGER_TEST_BAO"), "server", "-config="+b.config)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "OpenBao answers", func() bool {
		_, _, err := b.Try("GET", "sys/seal-status", "", nil)
		return err == nil
	})
}

func (b *bao) kill() {
	b.cmd.Process.Kill()
	b.cmd.Wait()
}

func (b *bao) sealed() bool {
	_, st, err := b.Try("GET", "sys/seal-status", "", nil)
	return err != nil || st["sealed"] != false
}

// must sends a request that must succeed.
func (b *bao) must(t *testing.T, method, path string, body any) map[string]any {
	t.Helper()
	status, answer, err := b.Try(method, path, b.RootToken, body)
	if err != nil || status >= 300 {
		t.Fatalf("%s %s: status %d: %v %v", method, path, status, answer, err)
	}
	return answer
}

// TestOpenBao: our unsealers keep OpenBao unsealed, and its transit engine opens our
// server, through restarts of both.
func TestOpenBao(t *testing.T) {
	t.Parallel()
	b := newBao(t)
	made := b.must(t, "PUT", "sys/init", map[string]any{"secret_shares": 3, "secret_threshold": 2})
	b.RootToken = made["root_token"].(string)
	var unsealers []*unsealerProcess
	for _, share := range made["keys_base64"].([]any)[:2] {
		if unsealers = append(unsealers, startUnsealer(t, fromFile(t, share.(string)), b.Addr)); len(unsealers) == 1 {
			eventually(t, 10*time.Second, "one share is given", func() bool { return unsealers[0].posts(t, "accepted") == 1 })
			if !b.sealed() {
				t.Error("one unsealer alone unsealed")
			}
		}
	}
	eventually(t, 10*time.Second, "OpenBao is unsealed", func() bool { return !b.sealed() })

	b.must(t, "POST", "sys/mounts/transit", map[string]any{"type": "transit"})
	b.must(t, "POST", "transit/keys/claviger-unseal", nil)
	b.must(t, "POST", "sys/policies/acl/claviger-unseal", map[string]any{"policy": `path "transit/+/claviger-unseal" { capabilities = ["update"] }`})
	auth := b.must(t, "POST", "auth/token/create", map[string]any{"policies": []string{"claviger-unseal"}, "no_parent": true, "period": "768h"})["auth"].(map[string]any)
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(auth["client_token"].(string)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := harness.SoftHSM(t, harness.Options{Sealed: true, Sections: fmt.Sprintf("[custody]\nkind = \"auto\"\nprovider = \"transit\"\n[custody.transit]\naddress = %q\ntoken_file = %q\nmount = \"transit\"\nkey = \"claviger-unseal\"\n", b.Addr, tokenFile)})
	status, init := s.Do(t, "PUT", "sys/init", map[string]any{"recovery_shares": 1, "recovery_threshold": 1})
	if status != 200 {
		t.Fatalf("status %d: %v\n%s", status, init, s.Log())
	}
	opens := func(when string) {
		t.Helper()
		eventually(t, 90*time.Second, "the server opens by itself "+when, func() bool { sealed, _ := sealStatus(t, s); return !sealed })
	}
	for range 2 {
		b.kill()
		s.Kill()
		s.Start(t) // the provider comes later
		b.start(t)
		eventually(t, 15*time.Second, "OpenBao is unsealed again", func() bool { return !b.sealed() })
		opens("after both were killed")
	}
	b.must(t, "POST", "transit/keys/claviger-unseal/rotate", nil)
	s.Kill()
	s.Start(t)
	opens("after the provider's key was rotated")
	for _, u := range unsealers {
		for _, share := range made["keys_base64"].([]any) {
			if strings.Contains(u.log.String(), share.(string)) {
				t.Error("a share is in the log")
			}
		}
	}
}
