package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/token/tokentest"
)

// newServer starts a server that is not initialised, on SoftHSM2.
func newServer(t *testing.T) (address string) {
	t.Helper()
	module, env := tokentest.SoftHSM(t)
	cfg := config.Dev(t.TempDir())
	cfg.Token.Driver, cfg.Token.PKCS11.Module, cfg.Token.PKCS11.Env = config.DriverPKCS11, module, variables(env)
	return serve(t, cfg, nil).Addresses()[0]
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

// waitfor is a command of blocks that waits for a file, not for ever.
const waitfor = `waitfor() { for _ in $(seq 600); do [ -e "$1" ] && return; sleep 0.1; done; echo "no $1" >&2; return 1; }
`

// sh runs a block. What it exports is there for the next one.
func (g *guideRun) sh(script string) (stdout, stderr string) {
	g.t.Helper()
	const exported = "exported"
	ctx, cancel := context.WithTimeout(g.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", waitfor+script+"\n echo \"CLAVIGER_TOKEN=${CLAVIGER_TOKEN:-}\" > "+exported)
	cmd.Dir, cmd.Env = g.dir, g.env
	// A loop of the block must not outlive it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
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

// fails runs a command that must fail with these words and that status.
func (g *guideRun) fails(status int, script string, words ...string) {
	g.t.Helper()
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = g.dir, g.env
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != status {
		g.t.Errorf("%s: %v, want status %d: %s", script, err, status, out)
	}
	for _, word := range words {
		if !strings.Contains(string(out), word) {
			g.t.Errorf("%s: nothing says %q: %s", script, word, out)
		}
	}
}

const rehearsed = `ceremony: rekey
title: A rehearsal
date: 2001-02-03
custodians: {threshold: 1, names: [Ada Example]}
server: {address: https://claviger.example.org:8200}
transcript: rekey.transcript
plan:
  threshold: 2
  shares:
    - {custodian: Ada Example, key: ada.asc, fingerprint: FINGERPRINT-OF-ADA, file: ada.gpg}
    - {custodian: Alan Example, key: alan.asc, fingerprint: FINGERPRINT-OF-ALAN, file: alan.gpg}
  share_set: set.json
`

// The custodians rehearse with their own keys: the server is never asked, and what is
// made says that it is of a rehearsal. And what is wrong is said before anything.
func TestCeremonyCommands(t *testing.T) {
	t.Parallel()
	g := newGuideRun(t, "http://127.0.0.1:1", "ada", "alan")
	g.sh("for n in ada alan; do gpg --armor --export $n@example.org > $n.asc; done; mkdir out")
	g.write("rekey.yaml", g.make.Replace(rehearsed))
	g.confirmations("rekey.yaml", "yes.yaml", "Ada Example")
	_, said := g.sh(`(
		waitfor out/set.json
		gpg --decrypt out/ada.gpg; echo
		gpg --decrypt out/alan.gpg; echo
	) | claviger ceremony run --rehearse --confirmations yes.yaml --out out --share-fd 0 rekey.yaml
	claviger ceremony rehearse --confirmations yes.yaml --scratch-keys rekey.yaml`)
	if !strings.Contains(said, "REHEARSAL: ") {
		t.Errorf("%s", said)
	}
	out, _ := g.sh("claviger ceremony verify out/rekey.transcript; ls; claviger ceremony show --format json rekey.yaml")
	for _, want := range []string{"Rehearsal    ", "a scratch server", "File          ada.gpg", ", the same", `"custodian": "Alan Example"`, `"date": "2001-02-03"`} {
		if !strings.Contains(strings.ReplaceAll(out, "Rehearsal     ", "Rehearsal    "), want) {
			t.Errorf("nothing says %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\nada.gpg\n") {
		t.Error("the rehearsal wrote to the place of the ceremony")
	}
	g.fails(1, "claviger ceremony run --confirmations yes.yaml rekey.yaml </dev/null", "the document is for 2001-02-03")
	g.fails(2, "claviger ceremony run rekey.yaml </dev/null", "standard input is no terminal", "--confirmations")
	g.fails(2, "claviger ceremony run --confirmations yes.yaml --address http://127.0.0.1:2 rekey.yaml", "the document says http://127.0.0.1:1")
	g.fails(2, "claviger ceremony sign --as Ada out/rekey.transcript", "--as and --signature go together")
	g.fails(1, "claviger ceremony sign --as Eve --signature yes.yaml out/rekey.transcript", `no OpenPGP key of the custodian "Eve"`)
	g.fails(1, "claviger ceremony run --confirmations yes.yaml --restart rekey.yaml", "rekey.transcript")
	g.sh("sed -i s/threshold:.2/threshold:\\ 3/ rekey.yaml")
	g.fails(1, "claviger ceremony show rekey.yaml", "threshold is 3; it is from 1 to 2")
	g.sh("claviger ceremony example root > root.yaml")
	g.fails(2, "claviger ceremony show root.yaml", "claviger ceremony rehearse shows what it signs")
	g.fails(2, "claviger ceremony run --restart root.yaml", "--restart is for acts that a server performs")
	g.fails(2, "claviger ceremony rehearse --scratch-keys root.yaml", "--scratch-keys is for acts that a server performs")
}

// A ceremony whose process is killed while it waits for the new shares is begun anew.
func TestCeremonyRestart(t *testing.T) {
	t.Parallel()
	address := newServer(t)
	g := newGuideRun(t, address, "ada", "alan")
	g.sh("for n in ada alan; do gpg --armor --export $n@example.org > $n.asc; done")
	g.sh(`claviger init -n 1 -t 1 --hsm-token create > made
	sed -n 's/^Unseal Key 1: //p' made > share; claviger unseal < share >/dev/null
	export CLAVIGER_TOKEN=$(sed -n 's/^Initial Root Token: //p' made)`)
	g.write("rekey.yaml", g.make.Replace(strings.Replace(rehearsed, "date: 2001-02-03\n", "", 1)))
	g.confirmations("rekey.yaml", "yes.yaml", "Ada Example")
	g.sh(`mkfifo shares; exec 9<>shares
	claviger ceremony run --confirmations yes.yaml rekey.yaml < shares 2> said & pid=$!
	cat share >&9
	waitfor set.json
	kill -9 $pid; wait $pid || true`)
	g.fails(1, "claviger ceremony verify rekey.transcript", "its ceremony was interrupted after 4 lines")
	g.fails(1, "claviger ceremony run --confirmations yes.yaml rekey.yaml < share", "exists already")
	_, said := g.sh(`(
		cat share
		waitfor set.json.cut; waitfor set.json
		gpg --decrypt ada.gpg; echo
		gpg --decrypt alan.gpg; echo
	) | claviger ceremony run --confirmations yes.yaml --restart rekey.yaml`)
	if !strings.Contains(said, "The server did not do it") {
		t.Errorf("%s", said)
	}
	g.sh("claviger hsm audit-key --out audit.pem; claviger ceremony verify --key audit.pem --document rekey.yaml rekey.transcript")
	// The transcript of one that the server did is completed.
	_, said = g.sh(`head -4 rekey.transcript > cut; mv cut rekey.transcript
	claviger ceremony run --confirmations yes.yaml --restart rekey.yaml < /dev/null
	claviger ceremony verify --key audit.pem rekey.transcript`)
	if !strings.Contains(said, "The server did it before the ceremony was broken off") {
		t.Errorf("%s", said)
	}
	g.sh("echo '# remark' >> rekey.yaml; head -4 rekey.transcript > cut; mv cut rekey.transcript")
	g.fails(1, "claviger ceremony run --restart --confirmations yes.yaml rekey.yaml </dev/null", "the document is another one than that of")
}
