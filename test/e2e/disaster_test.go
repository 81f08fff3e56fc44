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

	"github.com/claviger/claviger/test/harness"
)

// machine is a server on SoftHSM2 with what the run-book names.
type machine struct {
	*harness.Server
	dir    string // with the program, the run-book's files
	tokens string // directory of SoftHSM2's tokens
	backup string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	s := harness.SoftHSM(t, harness.Options{Shares: 3, Threshold: 2})
	m := &machine{Server: s, dir: t.TempDir(), backup: t.TempDir()}
	conf := strings.TrimPrefix(s.Env[0], "SOFTHSM2_CONF=")
	m.tokens = filepath.Join(filepath.Dir(conf), "tokens")
	if err := os.Symlink(harness.Binary(t), filepath.Join(m.dir, "claviger")); err != nil {
		t.Fatal(err)
	}
	return m
}

// run runs commands as the run-book has them. shares are on standard input.
func (m *machine) run(t *testing.T, commands, shares string) (string, error) {
	t.Helper()
	script := exec.Command("sh", "-ceux", commands)
	script.Dir = m.dir
	script.Stdin = strings.NewReader(shares)
	script.Env = append(append(os.Environ(), m.Env...), "PATH="+m.dir+":"+os.Getenv("PATH"),
		"CLAVIGER_ADDR="+m.Addr, "CLAVIGER_TOKEN="+m.RootToken, "CLAVIGER_CONFIG="+m.Config,
		"TOKENS="+m.tokens, "BACKUP="+m.backup, "LOCK="+filepath.Join(m.Dir, "data", "token.lock"))
	out, err := script.CombinedOutput()
	return string(out), err
}

func (m *machine) ok(t *testing.T, commands, shares string) string {
	t.Helper()
	out, err := m.run(t, commands, shares)
	if err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, out)
	}
	return out
}

// old is what clients keep of a key: what it encrypted, signed, authenticated.
type old struct{ key, ciphertext, signature, hmac, context string }

// everyKind makes keys of every kind and has each make something.
func (m *machine) everyKind(t *testing.T) []old {
	t.Helper()
	var all []old
	for _, k := range []struct {
		name, typ   string
		protection  string
		more        map[string]any
		crypt, sign bool
	}{
		{"aes", "aes256-gcm96", "wrapped", nil, true, false},
		{"aes-soft", "aes128-gcm96", "software", nil, true, false},
		{"aes-token", "aes256-gcm96", "token", nil, true, false},
		{"chacha", "chacha20-poly1305", "software", nil, true, false},
		{"derived", "aes256-gcm96", "wrapped", map[string]any{"derived": true}, true, false},
		{"derived-soft", "chacha20-poly1305", "software", map[string]any{"derived": true}, true, false},
		{"p256", "ecdsa-p256", "wrapped", nil, false, true},
		{"p521", "ecdsa-p521", "wrapped", nil, false, true},
		{"ed", "ed25519", "token", nil, false, true},
		{"rsa", "rsa-2048", "wrapped", nil, true, true},
		{"mac", "hmac", "wrapped", map[string]any{"key_size": 32}, false, false},
	} {
		body := map[string]any{"type": k.typ, "protection": k.protection}
		for n, v := range k.more {
			body[n] = v
		}
		m.OK(t, "POST", "transit/keys/"+k.name, body)
		o := old{key: k.name}
		if k.more["derived"] == true {
			o.context = "Y29udGV4dA=="
		}
		for range 2 { // an older version and the newest one
			if k.crypt {
				o.ciphertext = m.OK(t, "POST", "transit/encrypt/"+k.name, map[string]any{"plaintext": "b2xk", "context": o.context})["ciphertext"].(string)
			}
			if k.sign {
				o.signature = m.OK(t, "POST", "transit/sign/"+k.name, map[string]any{"input": "b2xk"})["signature"].(string)
			}
			o.hmac = m.OK(t, "POST", "transit/hmac/"+k.name, map[string]any{"input": "b2xk"})["hmac"].(string)
			all = append(all, o)
			m.OK(t, "POST", "transit/keys/"+k.name+"/rotate", nil)
		}
	}
	return all
}

// serves checks that what is old is served, and that every key makes anew.
func (m *machine) serves(t *testing.T, all []old) {
	t.Helper()
	for _, o := range all {
		if o.ciphertext != "" {
			if got := m.OK(t, "POST", "transit/decrypt/"+o.key, map[string]any{"ciphertext": o.ciphertext, "context": o.context})["plaintext"]; got != "b2xk" {
				t.Errorf("%s: decrypted %v", o.key, got)
			}
		}
		if o.signature != "" {
			if got := m.OK(t, "POST", "transit/verify/"+o.key, map[string]any{"input": "b2xk", "signature": o.signature})["valid"]; got != true {
				t.Errorf("%s: the signature is %v", o.key, got)
			}
			m.OK(t, "POST", "transit/sign/"+o.key, map[string]any{"input": "bmV3"})
		}
		if got := m.OK(t, "POST", "transit/verify/"+o.key, map[string]any{"input": "b2xk", "hmac": o.hmac})["valid"]; got != true {
			t.Errorf("%s: the HMAC is %v", o.key, got)
		}
	}
}

// lose removes what a lost machine takes with it.
func (m *machine) lose(t *testing.T) {
	t.Helper()
	m.Kill()
	for _, dir := range []string{m.tokens, filepath.Join(m.Dir, "data")} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// part is the commands of one part of the run-book.
func part(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations/disaster.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("the run-book has no part %q", heading)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	var commands strings.Builder
	for line := range strings.Lines(rest) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			commands.WriteString(command)
		}
	}
	if commands.Len() == 0 {
		t.Fatalf("the part %q has no commands", heading)
	}
	return commands.String()
}

// The drill: a machine is lost with token and store; by the commands of the run-book
// another one serves every old ciphertext and signature.
func TestDisasterDrill(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	all := m.everyKind(t)
	m.OK(t, "POST", "sys/mounts/pki", map[string]any{"type": "pki"})
	m.OK(t, "POST", "pki/root/generate/internal", map[string]any{"common_name": "drill"})
	m.OK(t, "POST", "pki/roles/any", map[string]any{"allow_any_name": true})
	m.ok(t, part(t, "Every day"), "")
	shares := m.Shares[0] + "\n" + m.Shares[2] + "\n"
	out := m.ok(t, part(t, "Rehearse"), shares)
	var shown struct {
		Keys, Versions, Proved, Worked int
		Failed                         []any
	}
	text := m.ok(t, `claviger snapshot rehearse --format json --hsm-backup "$BACKUP/tokens" "$BACKUP/claviger.snap" > shown 2>warnings`, shares)
	shownText, err := os.ReadFile(filepath.Join(m.dir, "shown"))
	if err == nil {
		err = json.Unmarshal(shownText, &shown)
	}
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, text, out)
	}
	if shown.Keys != 12 || shown.Versions != 34 || shown.Proved != 34 || len(shown.Failed) != 0 {
		t.Errorf("%+v\n%s", shown, out)
	}
	if metrics := m.Metrics(t); strings.Contains(metrics, "claviger_snapshot_last_timestamp_seconds 0\n") {
		t.Error("the metrics do not know of the snapshot")
	}
	m.OK(t, "POST", "transit/keys/later", nil)
	if status, body := m.Do(t, "POST", "sys/storage/raft/snapshot", map[string]any{}); status != 405 || !strings.Contains(fmt.Sprint(body), "unsupported operation") {
		t.Errorf("restoring by a call: status %d: %v", status, body)
	}
	m.lose(t)
	out = m.ok(t, part(t, "A machine is lost, its HSM token is not"), "")
	if !strings.Contains(out, "audit.restart") {
		t.Errorf("the restoring does not say what is to do about the audit log:\n%s", out)
	}
	replaceIn(t, m.Config, "[token]\n", "[audit]\nrestart = true\n[token]\n")
	m.Start(t)
	m.Unseal(t, m.Shares[1], m.Shares[2])
	m.serves(t, all)
	if status, _ := m.Do(t, "GET", "transit/keys/later", nil); status != 404 {
		t.Errorf("a key that was made after the snapshot: status %d", status)
	}
	m.OK(t, "POST", "pki/issue/any", map[string]any{"common_name": "new.example.org"})
}

func replaceIn(t *testing.T, path, from, to string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(from)) {
		t.Fatalf("%s lacks %q", path, from)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte(from), []byte(to), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}
