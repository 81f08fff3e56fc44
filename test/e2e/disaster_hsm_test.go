package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

// adoptedMachine is a machine whose HSM token was made by others, with a PIN that they
// know and a key that may leave it. Its KEK may leave too.
func adoptedMachine(t *testing.T) *machine {
	t.Helper()
	module, env := tokentest.SoftHSM(t)
	initToken(t, env, knownPIN)
	for _, label := range []string{"release", "stays"} {
		object := []string{"--keypairgen", "--key-type", "EC:prime256v1", "--label", label, "--id", "0102", "--usage-sign"}
		if label == "release" {
			object = append(object, "--extractable")
		}
		tokentest.Tool(t, module, "claviger-test", knownPIN, env, object...)
	}
	s := harness.SoftHSM(t, harness.Options{Module: module, Env: env, Sealed: true})
	status, body := s.Do(t, "PUT", "sys/init", map[string]any{"secret_shares": 3, "secret_threshold": 2, "hsm_token": "adopt", "hsm_pin": knownPIN, "transferable_kek": true})
	if status != 200 {
		t.Fatalf("sys/init: status %d: %v", status, body)
	}
	for _, k := range body["keys_base64"].([]any) {
		s.Shares = append(s.Shares, k.(string))
	}
	s.RootToken = body["root_token"].(string)
	s.Unseal(t, s.Shares[:2]...)
	m := &machine{Server: s, dir: t.TempDir(), backup: t.TempDir()}
	m.tokens = filepath.Join(filepath.Dir(strings.TrimPrefix(env[0], "SOFTHSM2_CONF=")), "tokens")
	m.put(t, "main.pin", knownPIN+"\n")
	m.put(t, "share1", s.Shares[0]+"\n")
	m.put(t, "share3", s.Shares[2]+"\n")
	if err := os.Symlink(harness.Binary(t), filepath.Join(m.dir, "claviger")); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// other is another machine with an HSM of its own, whose configuration is spare.toml.
// It works on the files of m.
func (m *machine) other(t *testing.T) *machine {
	t.Helper()
	module, env := tokentest.SoftHSM(t)
	s := harness.SoftHSM(t, harness.Options{Module: module, Env: env, Sealed: true})
	s.Stop()
	if err := os.RemoveAll(filepath.Join(s.Dir, "data")); err != nil {
		t.Fatal(err)
	}
	replaceIn(t, s.Config, `"claviger-test"`, `"spare"`)
	if err := os.Symlink(s.Config, filepath.Join(m.dir, "spare.toml")); err != nil {
		t.Fatal(err)
	}
	s.RootToken, s.Shares = m.RootToken, m.Shares
	return &machine{Server: s, dir: m.dir, backup: m.backup}
}

// lost are the keys that a rehearsal found not to open.
func (m *machine) lost(t *testing.T, commands string) []string {
	t.Helper()
	commands = strings.TrimSpace(commands) + " --format json > shown"
	out, err := m.run(t, commands, m.Shares[0]+"\n"+m.Shares[2]+"\n")
	if _, ok := err.(*exec.ExitError); !ok {
		t.Fatalf("a rehearsal with keys that are lost ended with %v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(m.dir, "shown"))
	var shown struct {
		Failed []struct{ Key, Protection string }
	}
	if err == nil {
		err = json.Unmarshal(text, &shown)
	}
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, text, out)
	}
	var names []string
	for _, k := range shown.Failed {
		if k.Protection != "token" {
			t.Errorf("%s with protection %s does not open", k.Key, k.Protection)
		}
		names = append(names, k.Key)
	}
	return slices.Compact(names)
}

// moduleOf has the environment of another machine's HSM, for commands on its token.
func (m *machine) moduleOf(b *machine) *machine {
	c := *m
	s := *m.Server
	s.Env = append(slices.Clone(b.Env), "MODULE="+b.Module)
	c.Server = &s
	return &c
}

// The drill for the loss of the HSM: machine A is lost with its token and its store; by
// the commands of the run-book B, with an HSM of its own, serves every old ciphertext and
// signature, but for the keys that the rehearsal named.
func TestDisasterNewHSM(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skip("jq is not installed")
	}
	a := adoptedMachine(t)
	b := a.other(t)
	all := a.everyKind(t)
	for _, label := range []string{"release", "stays"} {
		a.OK(t, "POST", "transit/keys/"+label+"/adopt", map[string]any{"label": label})
	}
	signed := a.OK(t, "POST", "transit/sign/release", map[string]any{"input": "b2xk"})["signature"]
	with := a.moduleOf(b)
	shown := with.ok(t, part(t, "A spare HSM token, beforehand")+part(t, "Objects that may leave"), "")
	shown += a.ok(t, part(t, "Every day"), "")
	mayBeLost := []string{"transit/aes-token", "transit/ed", "transit/release", "transit/stays"}
	if got := b.lost(t, part(t, "Rehearse the loss of the HSM")); !slices.Equal(got, mayBeLost) {
		t.Errorf("the rehearsal names %v", got)
	}
	a.lose(t)

	restore := part(t, "The HSM token is lost too, and another one has its KEK")
	shown += b.ok(t, restore, a.Shares[2]+"\n"+a.Shares[0]+"\n")
	if !strings.Contains(shown, "audit.restart") {
		t.Errorf("the restoring does not say what is to do about the audit log:\n%s", shown)
	}
	replaceIn(t, b.Config, "[token]\n", "[audit]\nrestart = true\n[token]\n")
	b.Start(t)
	first := part(t, "The first hour with the new HSM token")
	before, adopt, _ := strings.Cut(first, "claviger key adopt")
	before, rehearse, _ := strings.Cut(before, "claviger snapshot rehearse")
	shown += b.ok(t, before, "")
	if got := b.lost(t, "claviger snapshot rehearse"+rehearse); !slices.Equal(got, mayBeLost) {
		t.Errorf("the rehearsal on B names %v", got)
	}
	b.ok(t, "claviger key adopt"+adopt, "")
	b.serves(t, slices.DeleteFunc(all, func(o old) bool { return o.key == "aes-token" || o.key == "ed" }))
	b.serves(t, []old{{key: "release", signature: signed.(string), hmac: b.OK(t, "POST", "transit/hmac/release", map[string]any{"input": "b2xk"})["hmac"].(string)}})
	for _, o := range all {
		if o.key == "ed" && b.OK(t, "POST", "transit/verify/ed", map[string]any{"input": "b2xk", "signature": o.signature})["valid"] != true {
			t.Error("what a lost key signed is not verified")
		}
	}
	b.newPIN(t)
	pins, err := os.ReadFile(filepath.Join(a.dir, "spare.pin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range append(strings.Fields(string(pins)), a.Shares...) {
		if strings.Contains(shown, secret) || strings.Contains(b.Log(), secret) {
			t.Error("a share or a PIN was shown")
		}
	}
}

// newPIN replaces shares and PIN; with them the server unseals after a restart.
func (m *machine) newPIN(t *testing.T) {
	t.Helper()
	_, begun := m.Do(t, "PUT", "sys/rekey/init", map[string]any{"secret_shares": 1, "secret_threshold": 1, "new_pin": true, "require_verification": true})
	var made map[string]any
	for _, share := range m.Shares[:2] {
		_, made = m.Do(t, "PUT", "sys/rekey/update", map[string]any{"nonce": begun["nonce"], "key": share})
	}
	if made["complete"] != true {
		t.Fatalf("%v %v", begun, made)
	}
	share := made["keys_base64"].([]any)[0].(string)
	if status, body := m.Do(t, "PUT", "sys/rekey/verify", map[string]any{"nonce": made["verification_nonce"], "key": share}); status != 200 || body["complete"] != true {
		t.Fatalf("status %d: %v", status, body)
	}
	m.Stop()
	m.Start(t)
	m.Unseal(t, share)
}
