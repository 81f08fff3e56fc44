package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

// ceremony is what a container of Mo-Vault has: an empty volume, public keys of
// three custodians, settings.
type ceremony struct {
	custodians          *gnuPG
	keys, state, tokens string
	env, ids            []string
}

func newCeremony(t *testing.T) *ceremony {
	t.Helper()
	c := &ceremony{custodians: newGnuPG(t), keys: t.TempDir(), state: filepath.Join(t.TempDir(), "state")}
	module, env := tokentest.SoftHSM(t)
	c.tokens = filepath.Join(filepath.Dir(strings.TrimPrefix(env[0], "SOFTHSM2_CONF=")), "tokens")
	c.env = append(append(os.Environ(), env...), "MY_TOKENLABEL=DEMO", "PKCS11_MODULE="+module, "GNUPGHOME="+c.custodians.home, "HSM_KEYSHARES=3")
	for _, name := range []string{"a", "b", "c"} {
		c.custodians.key(t, name+"@example.org")
		public := c.custodians.run(t, "", "--export", "--armor", name+"@example.org")
		if name == "b" {
			public = c.custodians.run(t, "", "--export", name+"@example.org")
		}
		if err := os.WriteFile(filepath.Join(c.keys, name), public, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^pub:(?:[^:]*:){3}([0-9A-F]{16}):`).FindAllSubmatch(c.custodians.run(t, "", "--list-public-keys", "--with-colons"), -1) {
		c.ids = append(c.ids, string(m[1]))
	}
	return c
}

func (c *ceremony) command(t *testing.T, env ...string) *exec.Cmd {
	cmd := exec.Command(harness.Binary(t), "movault", "--init", "--listen", "127.0.0.1:0", "--state-dir", c.state, "--public-keys", c.keys)
	cmd.Env = append(append([]string{}, c.env...), env...)
	return cmd
}

// refused runs the command, which must fail with a text and leave the volume as it is.
func (c *ceremony) refused(t *testing.T, want string, env ...string) {
	t.Helper()
	before := c.volume(t)
	out, err := ended(c.command(t, env...))
	if err == nil || !strings.Contains(string(out), want) {
		t.Errorf("%q: %v, it shows not %q:\n%s", env, err, want, out)
	}
	if after := c.volume(t); after != before {
		t.Errorf("%q: before %s, after %s", env, before, after)
	}
}

// volume lists the directory of the tokens.
func (c *ceremony) volume(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir(c.tokens)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// combine gives the first and the last custodian's share of a PIN to combine-sss.
func (c *ceremony) combine(t *testing.T, kind string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "pin")
	cmd := exec.Command(harness.Binary(t), "custody", "combine-sss", "--out", out,
		filepath.Join(c.tokens, c.ids[0]+kind), filepath.Join(c.tokens, c.ids[2]+kind))
	cmd.Env = c.env
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	pin := string(readFile(t, out))
	if !regexp.MustCompile(`^[0-9a-f]{64}\n$`).MatchString(pin) {
		t.Fatalf("a PIN of %d bytes", len(pin))
	}
	return strings.TrimSpace(pin)
}

// TestMoVaultInit is the life of a container: a first start without a token, shares
// that gpg opens, a restart with the PIN that two custodians put together.
func TestMoVaultInit(t *testing.T) {
	t.Parallel()
	c := newCeremony(t)
	c.refused(t, "3 shares with threshold 3", "HSM_KEY_THESHOLD=3")
	c.refused(t, "set one of them", "HSM_KEY_THESHOLD=2", "HSM_KEY_THRESHOLD=3")
	c.refused(t, "whole number", "HSM_KEY_THRESHOLD=two")
	c.refused(t, "there are 3 OpenPGP public keys for 4 shares", "HSM_KEYSHARES=4")
	const key = `{"secret_path":"random_test/rsa","secret_version":"1"}`
	t.Run("first start", func(t *testing.T) {
		at := served(t, c.command(t, "HSM_KEY_THESHOLD=2"))
		if status, a := asked(t, at+"/gen/key/rsa", key); status != 200 || a["Info"] != "RSA Key with random_test/rsa Generated" {
			t.Errorf("%d %v", status, a)
		}
	})
	lines := map[string]bool{}
	for _, id := range c.ids {
		for _, kind := range []string{".pin.gpg", ".sopin.gpg"} {
			line := c.custodians.run(t, "", "--decrypt", filepath.Join(c.tokens, id+kind))
			lines[string(line)] = true
			if !regexp.MustCompile(`^0[123][0-9a-f]{226}\n$`).Match(line) {
				t.Errorf("%s%s: a share of %d bytes", id, kind, len(line))
			}
		}
	}
	if len(lines) != 6 {
		t.Errorf("%d different shares", len(lines))
	}
	pin, soPIN := c.combine(t, ".pin.gpg"), c.combine(t, ".sopin.gpg")
	if pin == soPIN {
		t.Error("both PINs are the same")
	}
	c.refused(t, "PINSECRET is not set")
	t.Run("restart", func(t *testing.T) {
		at := served(t, c.command(t, "PINSECRET="+pin))
		if status, a := asked(t, at+"/gen/key/rsa", key); status != 200 || a["Info"] != "Key was exsits" {
			t.Errorf("%d %v", status, a)
		}
		if s := string(bytes.ReplaceAll([]byte(moVaultCurl(t, at)), []byte("\n"), nil)); !strings.Contains(s, `{"Verify Result":true}`) {
			t.Error(s)
		}
	})
	t.Run("the volume is not mounted", func(t *testing.T) {
		if err := os.Rename(c.tokens, c.tokens+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(c.tokens, 0o700); err != nil {
			t.Fatal(err)
		}
		c.refused(t, "has records, but there is no HSM token")
		c.refused(t, "HSM token", "PINSECRET="+pin)
	})
}
