package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/tpm/tpmtest"
	"github.com/claviger/claviger/test/harness"
)

// page is the parts of a document: by heading, blocks of its indented lines.
type page map[string][]string

func readPage(t *testing.T, path string) page {
	t.Helper()
	p := page{}
	heading, before := "", false
	for line := range strings.Lines(string(readFile(t, path))) {
		text, indented := strings.CutPrefix(line, "    ")
		blocks := p[heading]
		switch {
		case strings.HasPrefix(line, "#"):
			heading = strings.TrimSpace(strings.TrimLeft(line, "#"))
		case indented && before:
			blocks[len(blocks)-1] += text
		case indented:
			p[heading] = append(blocks, text)
		}
		before = indented
	}
	return p
}

// toml are the configurations under a heading, commands all the other blocks.
func (p page) toml(t *testing.T, heading string) (text string) {
	t.Helper()
	for _, b := range p[heading] {
		if strings.HasPrefix(b, "[") {
			text += b
		}
	}
	if text == "" {
		t.Fatalf("the page has no configuration under %q", heading)
	}
	return text
}

func (p page) commands(t *testing.T, heading string) (text string) {
	t.Helper()
	for _, b := range p[heading] {
		if !strings.HasPrefix(b, "[") && !strings.HasPrefix(b, "#") {
			text += b
		}
	}
	if text == "" {
		t.Fatalf("the page has no commands under %q", heading)
	}
	return text
}

// autoMachine is a server whose configuration of custody the page has.
type autoMachine struct {
	*harness.Server
	dir  string // with the program
	base []byte // of its configuration
	page page
}

// provider starts the server anew with the configuration of a provider.
func (m *autoMachine) provider(t *testing.T, name string, replace ...string) {
	t.Helper()
	setting := strings.Replace(m.page.toml(t, "Setting up"), `"tpm"`, `"`+name+`"`, 1)
	own := m.page.toml(t, name)
	for i := 0; i < len(replace); i += 2 {
		changed := regexp.MustCompile("(?m)"+replace[i]).ReplaceAllString(own, replace[i+1])
		if changed == own {
			t.Fatalf("%s: the page has no %s:\n%s", name, replace[i], own)
		}
		own = changed
	}
	m.Stop()
	if err := os.WriteFile(m.Config, []byte(string(m.base)+setting+own), 0o600); err != nil {
		t.Fatal(err)
	}
	m.Start(t)
}

// sh runs commands of the page with the address of a server.
func (m *autoMachine) sh(t *testing.T, of *harness.Server, commands, stdin string) string {
	t.Helper()
	script := exec.Command("sh", "-ceu", commands)
	script.Dir = m.dir
	script.Stdin = strings.NewReader(stdin)
	script.Env = append(os.Environ(), "PATH="+m.dir+":"+os.Getenv("PATH"), "CLAVIGER_ADDR="+of.Addr, "CLAVIGER_TOKEN="+of.RootToken,
		"SYSTEMD_CREDENTIAL_SECRET="+filepath.Join(m.dir, "host.secret"))
	out, err := script.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, out)
	}
	return string(out)
}

// opens waits until the server is open, by itself, and checks the provider that it names.
func (m *autoMachine) opens(t *testing.T, provider string) {
	t.Helper()
	var status map[string]any
	for range 200 {
		_, status = m.Do(t, "GET", "sys/seal-status", nil)
		if status["sealed"] == false {
			if status["type"] != provider || status["recovery_seal"] != true {
				t.Errorf("%v", status)
			}
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s: the server does not open by itself: %v\n%s", provider, status, m.Log())
}

// unseal gives three shares by a command of the page.
func (m *autoMachine) unseal(t *testing.T, command string) {
	t.Helper()
	for _, share := range m.Shares[:3] {
		m.sh(t, m.Server, command, share+"\n")
	}
	if _, status := m.Do(t, "GET", "sys/seal-status", nil); status["sealed"] != false {
		t.Fatalf("%s: still sealed after three shares: %v", command, status)
	}
}

// restarted kills the server, and waits until it has opened by itself again.
func (m *autoMachine) restarted(t *testing.T, provider string) {
	t.Helper()
	m.Kill()
	m.Start(t)
	m.opens(t, provider)
	m.OK(t, "POST", "transit/encrypt/k", map[string]any{"plaintext": "aGk="})
}

var shownShare = regexp.MustCompile(`(?m)^Recovery Key \d: (\S+)$`)

// TestAutoUnsealPage runs the commands of the page about servers that open by
// themselves, with its configurations: a second Claviger as provider, then a migration to
// a TPM, then one to a credential of systemd, each through a restart.
func TestAutoUnsealPage(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skip("jq is not installed")
	}
	p := tpmtest.New(t)
	other := harness.Dev(t)
	m := &autoMachine{Server: harness.SoftHSM(t, harness.Options{Sealed: true}), dir: t.TempDir(), page: readPage(t, "../../docs/operations/auto-unseal.md")}
	m.base = readFile(t, m.Config)
	if err := os.Symlink(harness.Binary(t), filepath.Join(m.dir, "claviger")); err != nil {
		t.Fatal(err)
	}

	m.sh(t, other, m.page.commands(t, "transit"), "")
	tokenFile := filepath.Join(m.dir, "unseal-token")
	if err := os.Chmod(tokenFile, 0o600); err != nil {
		t.Fatal(err)
	}
	transit := []string{`^address = .*$`, `address = "` + other.Addr + `"`, `^(ca_cert|client_cert|client_key) = .*\n`, "",
		`^token_file = "[^"]*"`, `token_file = "` + tokenFile + `"`}
	m.provider(t, "transit", transit...)
	shown := m.sh(t, m.Server, m.page.commands(t, "Setting up"), "")
	for _, share := range shownShare.FindAllStringSubmatch(shown, -1) {
		m.Shares = append(m.Shares, share[1])
	}
	_, root, _ := strings.Cut(shown, "Initial Root Token: ")
	if m.RootToken, _, _ = strings.Cut(root, "\n"); len(m.Shares) != 5 {
		t.Fatalf("%d shares\n%s", len(m.Shares), shown)
	}
	m.opens(t, "transit")
	m.OK(t, "POST", "transit/keys/k", nil)
	m.restarted(t, "transit")

	byHand, migrate, _ := strings.Cut(m.page.commands(t, "When it does not open"), "\n")
	other.OK(t, "POST", "transit/keys/claviger-unseal/config", map[string]any{"deletion_allowed": true})
	other.OK(t, "DELETE", "transit/keys/claviger-unseal", nil)
	m.Kill()
	m.Start(t)
	m.unseal(t, byHand)

	m.provider(t, "tpm", `^device = .*$`, `device = "`+p.Device+`"`)
	if _, status := m.Do(t, "GET", "sys/seal-status", nil); status["migration"] != true || status["sealed"] != true {
		t.Errorf("%v", status)
	}
	m.unseal(t, migrate)
	m.restarted(t, "tpm")
	p.Tool(t, "tpm2_pcrextend", "7:sha256="+strings.Repeat("ab", 32))
	m.Kill()
	m.Start(t)
	m.unseal(t, migrate) // sealed to the new state
	m.restarted(t, "tpm")

	m.credential(t)
	m.provider(t, "systemd-credential")
	m.unseal(t, migrate)
	m.restarted(t, "systemd-credential")
	for _, secret := range append(m.Shares, strings.TrimSpace(string(readFile(t, tokenFile)))) {
		if strings.Contains(m.Log(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

// credential makes the credential of the page, and hands it to the server as systemd does.
func (m *autoMachine) credential(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("systemd-creds"); err != nil {
		t.Skip("systemd-creds is not installed (Debian package systemd)")
	}
	program(t, filepath.Join(m.dir, "sudo"), `exec "$@"`+"\n")
	store, given := filepath.Join(m.dir, "credstore"), filepath.Join(m.dir, "given")
	for _, dir := range []string{store, given} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	commands := m.page.commands(t, "systemd-credential")
	if !strings.Contains(commands, " /etc/credstore.encrypted/") {
		t.Fatalf("the page makes no credential:\n%s", commands)
	}
	m.sh(t, m.Server, strings.ReplaceAll(commands, "/etc/credstore.encrypted", store), "")
	m.sh(t, m.Server, `systemd-creds decrypt --name=claviger-unseal "`+store+`/claviger-unseal" "`+given+`/claviger-unseal"`, "")
	m.Environ = []string{"CREDENTIALS_DIRECTORY=" + given}
}
