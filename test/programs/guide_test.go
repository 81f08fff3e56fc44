package programs

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

// What the guides write, where a test has something else.
const (
	guideModule = modulePath
	guideCA     = "ca.pem"
)

// play does what a page of docs/guides says, in a directory of workplace: the
// blocks that name a file become files, those of commands are run in their
// order. It returns what they printed. replace are pairs of texts of the page
// and of the test.
func play(t testing.TB, p *provider, dir, page string, replace ...string) string {
	t.Helper()
	return playPart(t, p, dir, page, "", replace...)
}

// playPart is play for the files and for those blocks of commands that contain a
// word.
func playPart(t testing.TB, p *provider, dir, page, word string, pairs ...string) string {
	t.Helper()
	pairs = append(pairs, guideModule, p.module)
	for _, b := range guide(t, page) {
		if b.path != "" {
			write(t, dir, filepath.Base(b.path), strings.NewReplacer(pairs...).Replace(b.text))
		}
	}
	printed, err := shell(t, p, dir, strings.NewReplacer(pairs...).Replace(commands(t, page, word)))
	if err != nil {
		t.Fatalf("%s: %v\n%s", page, err, printed)
	}
	return printed
}

// kindsOf are the kinds of keys to try with a provider: through an agent those of
// this run; two over the other ways, and one without Claviger, where the run is
// not full.
func kindsOf(p *provider) []string {
	switch {
	case p.name == "agent":
		return kinds()
	case p.direct() && !full:
		return someKinds[1:]
	default:
		return someKinds
	}
}

// workplace returns a directory with what the guides assume: the certificate of
// the authority, and the PIN, which is the client token.
func workplace(t testing.TB, p *provider) string {
	t.Helper()
	// Sockets are made there, and their paths must be short.
	dir, err := os.MkdirTemp("/tmp", "claviger-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ca, err := os.ReadFile(p.cas)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{guideCA: ca, "pin": []byte(p.login(t))} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// login is a PIN that the token takes: where none is needed, a client token does.
func (p *provider) login(t testing.TB) string {
	t.Helper()
	if p.pin != "" {
		return p.pin
	}
	return p.claviger.policy(t, "programs", keyPolicy)
}

// shell runs commands as a user would who is logged in to the server, and stops
// at the first that fails. What they leave running is ended.
func shell(t testing.TB, p *provider, dir, commands string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	bin := filepath.Join(dir, ".bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	env := p.environ("PATH="+bin+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME="+dir, "LC_ALL=C.UTF-8")
	write(t, bin, "askpass", "#!/bin/sh\ncat '"+filepath.Join(dir, "pin")+"'\n")
	if err := os.Chmod(filepath.Join(bin, "askpass"), 0o700); err != nil {
		t.Fatal(err)
	}
	env = append(env, "SSH_ASKPASS="+filepath.Join(bin, "askpass"), "SSH_ASKPASS_REQUIRE=force")
	if p.direct() {
		elsewhere(t, p, bin)
	} else {
		link := filepath.Join(bin, "claviger")
		if err := os.Symlink(harness.Binary(t), link); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		env = append(env, "CLAVIGER_ADDR="+p.claviger.server.Addr, "CLAVIGER_TOKEN="+p.claviger.server.RootToken)
	}
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", commands)
	cmd.Dir, cmd.Env = dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	// Gone already, unless the commands left something in the background.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	return out.String(), err
}

// certifyElsewhere is "claviger cert sign" where there is no Claviger.
const certifyElsewhere = `[ "$1 $2" = "cert sign" ] || { echo "only cert sign is here" >&2; exit 1; }
while [ $# -gt 0 ]; do
	case $1 in --csr) csr=$2 ;; --out) out=$2 ;; esac
	shift
done
openssl x509 -req -in "$csr" -CA "$CA" -CAkey "$KEY" -days 1 -copy_extensions copy -out "$out" 2>/dev/null
cat "$CA" >>"$out"
`

// elsewhere puts a program in the place of claviger that certifies by the
// authority of a provider that is without it.
func elsewhere(t testing.TB, p *provider, bin string) {
	t.Helper()
	key := filepath.Join(bin, "ca.key")
	if err := os.WriteFile(key, p.maker.(*authority).secret(t), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "#!/bin/sh -eu\nCA='" + p.cas + "' KEY='" + key + "'\n" + certifyElsewhere
	if err := os.WriteFile(filepath.Join(bin, "claviger"), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// contains checks that what was printed has parts, in their order.
func contains(t testing.TB, printed string, parts ...string) {
	t.Helper()
	rest := printed
	for _, part := range parts {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Errorf("%q is not printed in its place:\n%s", part, printed)
			return
		}
		rest = after
	}
}

// secret is the authority's key in PEM.
func (a *authority) secret(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
