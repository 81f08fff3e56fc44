package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/token/tokentest"
)

// newServer starts a server that is not initialised, on SoftHSM2.
func newServer(t *testing.T) (address string) {
	t.Helper()
	module, env := tokentest.SoftHSM(t)
	cfg := config.Dev(t.TempDir())
	cfg.Token.Driver, cfg.Token.PKCS11.Module, cfg.Token.PKCS11.Env = config.DriverPKCS11, module, variables(env)
	cfg.Listeners = []config.Listener{{Address: "127.0.0.1:0"}}
	s, err := server.New(cfg, server.Options{Version: version, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s.Addresses()[0]
}

// gpgHome is a GnuPG home with a key of each of these people, without a passphrase.
func gpgHome(t *testing.T, people ...string) (home string, fingerprints map[string]string) {
	t.Helper()
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Skip("GnuPG is not installed")
	}
	home, err := os.MkdirTemp("", "gpg") // a short path: the agent's socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	fingerprints = map[string]string{}
	for _, name := range people {
		gpg := exec.Command("gpg", "--homedir", home, "--batch", "--quiet", "--status-fd", "1", "--passphrase", "", "--quick-gen-key", name+" <"+name+"@example.org>", "future-default", "default", "2y")
		out, err := gpg.CombinedOutput()
		m := regexp.MustCompile(`KEY_CREATED \S+ (\S+)`).FindSubmatch(out)
		if err != nil || m == nil {
			t.Fatalf("gpg: %v: %s", err, out)
		}
		fingerprints[name] = string(m[1])
	}
	return home, fingerprints
}

// guideRun runs the commands of a guide, as a reader would.
type guideRun struct {
	t    *testing.T
	dir  string
	env  []string
	make *strings.Replacer // what the reader puts in the place of words
}

// sh runs a block. What it exports is there for the next one.
func (g *guideRun) sh(script string) (stdout, stderr string) {
	g.t.Helper()
	const exported = "exported"
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script+"\n echo \"CLAVIGER_TOKEN=${CLAVIGER_TOKEN:-}\" > "+exported)
	cmd.Dir, cmd.Env = g.dir, g.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		g.t.Fatalf("%v:\n%s\n%s%s", err, script, out.String(), errs.String())
	}
	line, err := os.ReadFile(filepath.Join(g.dir, exported))
	if err != nil {
		g.t.Fatal(err)
	}
	g.env = append(g.env, strings.TrimSuffix(string(line), "\n"))
	return out.String(), errs.String()
}

func (g *guideRun) write(name, text string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// confirmations writes a file that confirms a document.
func (g *guideRun) confirmations(document, file, names string) {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, document))
	if err != nil {
		g.t.Fatal(err)
	}
	g.write(file, fmt.Sprintf("document: %x\nconfirmed_by: [%s]\nreason: a test\n", sha256.Sum256(text), names))
}

// TestCeremonyGuide does what docs/guides/ceremonies.md tells, command by command, with
// GnuPG and a server on SoftHSM2.
func TestCeremonyGuide(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/guides/ceremonies.md")
	if err != nil {
		t.Fatal(err)
	}
	address := newServer(t)
	g := newGuideRun(t, address, "ada", "grace", "alan", "edsger")
	blocks := regexp.MustCompile("(?ms)(?:`([a-z-]+\\.yaml)`[^`]*)?^```(sh|yaml)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	var all strings.Builder
	for _, b := range blocks {
		name, language, text := b[1], b[2], b[3]
		if language == "sh" {
			out, errs := g.sh(text)
			all.WriteString(out + errs)
			continue
		}
		switch {
		case strings.HasPrefix(text, "document: "):
			continue // written with its document, as the test runs it in another order
		case strings.HasPrefix(text, "ceremony: "):
			kind, _, _ := strings.Cut(strings.TrimPrefix(text, "ceremony: "), "\n")
			name = map[string]string{"init": "init.yaml", "rekey": "rekey.yaml", "generate-root": "root.yaml"}[kind]
		}
		g.write(name, g.make.Replace(text))
		names := "Ada Example, Grace Example"
		if name == "root.yaml" {
			names = "Edsger Example"
		}
		g.confirmations(name, strings.TrimSuffix(name, ".yaml")+"-yes.yaml", names)
	}
	for _, want := range []string{
		"1      Ada Example     ada <ada@example.org>", "3 new shares, of which 2 open the server",
		"Rehearsal", "Genuine: this is share 1 of 3", "Initialized", "New PIN", `"outcome": "done"`,
		"Shares given  1 3 of the set", "Given back    1 3", "Ada Example, OpenPGP key ", "Alan Example, OpenPGP key ",
		"The transcript has the signature of Ada Example now.", ", the one that was given", "rekey.yaml", "policies",
	} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("nothing says %q", want)
		}
	}
	if t.Failed() {
		t.Log(all.String())
	}
}

func newGuideRun(t *testing.T, address string, people ...string) *guideRun {
	t.Helper()
	home, prints := gpgHome(t, people...)
	g := &guideRun{t: t, dir: t.TempDir()}
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil || os.Symlink(self, filepath.Join(bin, "claviger")) != nil {
		t.Fatal("make the command: ", err)
	}
	g.env = append(os.Environ(), "CLAVIGER_ADDR="+address, "GNUPGHOME="+home, "HOME="+g.dir, "GORACE=atexit_sleep_ms=0",
		"PATH="+bin+":"+os.Getenv("PATH"), "CLAVIGER_TOKEN=")
	list := []string{"https://claviger.example.org:8200", address}
	for name, print := range prints {
		list = append(list, "FINGERPRINT-OF-"+strings.ToUpper(name), print)
	}
	g.make = strings.NewReplacer(list...)
	return g
}
