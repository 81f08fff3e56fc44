package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

// TestTwoServersOneDatabase: the second refuses to start, the first goes on.
func TestTwoServersOneDatabase(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	out, err := exec.Command(harness.Binary(t), "server", "--config", s.Config).CombinedOutput()
	if err == nil {
		t.Fatal("a second server started on the same database")
	}
	if !strings.Contains(string(out), "in use by another server") {
		t.Errorf("the second server does not say why it ended:\n%s", out)
	}
	s.OK(t, "POST", "transit/keys/k", nil)
}

// TestBadModule: a module that is not there or is none is named, nothing is
// made, and the server goes on answering.
func TestBadModule(t *testing.T) {
	t.Parallel()
	notELF := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(notELF, []byte("no shared object"), 0o600); err != nil {
		t.Fatal(err)
	}
	libc, err := filepath.Glob("/lib/*/libc.so.6")
	if err != nil || len(libc) == 0 {
		t.Fatal("no libc found")
	}
	for _, c := range []struct{ module, want string }{
		{"/nowhere/libpkcs11.so", "no PKCS#11 module at /nowhere/libpkcs11.so"},
		{notELF, notELF},
		{libc[0], "C_GetFunctionList"},
	} {
		s := harness.SoftHSM(t, harness.Options{Module: c.module, Sealed: true})
		status, body := s.Do(t, "PUT", "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1})
		if status < 400 || !strings.Contains(fmt.Sprint(body["errors"]), c.want) {
			t.Errorf("module %s: status %d: %v, want an error that names %q", c.module, status, body, c.want)
		}
		if status, body := s.Do(t, "GET", "sys/seal-status", nil); status != 200 || body["initialized"] != false {
			t.Errorf("module %s: seal status %d: %v", c.module, status, body)
		}
	}
}

// TestTokenRemoved: the token directory vanishes at run time and comes back.
func TestTokenRemoved(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	s.OK(t, "POST", "transit/keys/k", nil)
	data := s.OK(t, "POST", "transit/encrypt/k", map[string]any{"plaintext": "aGVsbG8="})

	tokens := tokenDir(t, s)
	away := tokens + ".away"
	if err := os.Rename(tokens, away); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"transit/keys/new", "transit/keys/new", "transit/random/16"} {
		begin := time.Now()
		status, body := s.Do(t, "POST", path, nil)
		if errs, _ := body["errors"].([]any); path == "transit/keys/new" && (status != 503 || len(errs) == 0) {
			t.Errorf("making a key without the token: status %d: %v, want 503 and a reason", status, body)
		}
		if d := time.Since(begin); d > 6*time.Second {
			t.Errorf("%s without the token was answered after %v", path, d)
		}
	}
	if status, _ := s.Do(t, "GET", "sys/health", nil); status != 200 {
		t.Errorf("health: status %d", status)
	}
	if !s.Running() {
		t.Fatalf("the server has ended:\n%s", s.Log())
	}
	if n := strings.Count(s.Log(), "token worker does not start"); n > 2 {
		t.Errorf("the outage was reported %d times:\n%s", n, s.Log())
	}
	if err := os.Rename(away, tokens); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.Log())
		}
	})
	// The first call wakes what waits between two attempts.
	back := s.OK(t, "POST", "transit/decrypt/k", map[string]any{"ciphertext": data["ciphertext"]})
	if back["plaintext"] != "aGVsbG8=" {
		t.Errorf("another plaintext: %v", back)
	}
	s.OK(t, "POST", "transit/keys/new", nil)
	used := s.OK(t, "POST", "transit/encrypt/new", map[string]any{"plaintext": "aGVsbG8="})
	s.OK(t, "POST", "transit/decrypt/new", map[string]any{"ciphertext": used["ciphertext"]})
}

func tokenDir(t *testing.T, s *harness.Server) string {
	t.Helper()
	for _, e := range s.Env {
		conf, ok := strings.CutPrefix(e, "SOFTHSM2_CONF=")
		if !ok {
			continue
		}
		text, err := os.ReadFile(conf)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if dir, ok := strings.CutPrefix(line, "directories.tokendir = "); ok {
				return strings.TrimSpace(dir)
			}
		}
	}
	t.Fatal("the environment names no SoftHSM2 configuration")
	return ""
}

// TestDiskFull: what needs the database or the audit log is refused while the
// disk is full, nothing is lost, and it works again afterwards.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for name, section := range map[string]string{
		"database": "[store]\npath = %q\n",
		"audit":    "[audit]\npath = %q\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := smallDisk(t)
			s := harness.SoftHSM(t, harness.Options{Sections: fmt.Sprintf(section, filepath.Join(disk, "file"))})
			s.OK(t, "POST", "transit/keys/k", nil)
			data := s.OK(t, "POST", "transit/encrypt/k", map[string]any{"plaintext": "aGVsbG8="})

			ballast := filepath.Join(disk, "ballast")
			fill(t, ballast)
			acknowledged, status, body := fillUp(t, s)
			if status != 503 || !strings.Contains(fmt.Sprint(body["errors"]), name) {
				t.Errorf("on a full disk: status %d: %v, want 503 and a text that names the %s", status, body, name)
			}
			if status, _ := s.Do(t, "GET", "sys/health", nil); status != 200 {
				t.Errorf("health: status %d", status)
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			s.OK(t, "POST", "transit/keys/after", nil)
			s.OK(t, "POST", "transit/decrypt/k", map[string]any{"ciphertext": data["ciphertext"]})
			for _, key := range acknowledged {
				s.OK(t, "GET", "transit/keys/"+key, nil)
			}
			s.Kill()
			s.Start(t)
			s.Unseal(t, s.Shares...)
			s.OK(t, "GET", "transit/keys/after", nil)
		})
	}
}

// fillUp makes keys until the disk has no room; it returns those that were
// acknowledged and the first refusal.
func fillUp(t *testing.T, s *harness.Server) (acknowledged []string, status int, body map[string]any) {
	t.Helper()
	for i := range 5000 {
		key := fmt.Sprintf("fill-%d", i)
		if status, body = s.Do(t, "POST", "transit/keys/"+key, nil); status != 200 {
			return acknowledged, status, body
		}
		acknowledged = append(acknowledged, key)
	}
	t.Fatal("the disk did not fill")
	return nil, 0, nil
}

// smallDisk mounts a file system of 4 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("mounting a small file system needs root: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); ; {
		if _, err := f.Write(block); err != nil {
			return
		}
	}
}
