package programs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pinentry answers GnuPG's question for the PIN (Assuan protocol) with the
// content of a file.
const pinentry = `#!/bin/sh
echo 'OK ready'
while read -r command rest; do
	case $command in
	GETPIN) echo "D $(cat '@FILE@')"; echo OK ;;
	BYE) echo OK; exit ;;
	*) echo OK ;;
	esac
done
`

// TestGnuPG does what docs/guides/gnupg.md says, with RSA keys, as
// gnupg-pkcs11-scd knows no others.
func TestGnuPG(t *testing.T) {
	t.Parallel()
	need(t, "gnupg-pkcs11-scd", "gnupg-pkcs11-scd")
	need(t, "gpgsm", "gpgsm")
	each(t, func(t *testing.T, p *provider) {
		for _, kind := range kindsOf(p) {
			if strings.HasPrefix(kind, "rsa") {
				t.Run(kind, func(t *testing.T) { gnupg(t, p, kind) })
			}
		}
	})
}

func gnupg(t *testing.T, p *provider, kind string) {
	k := p.key(t, "mail-"+kind, kind)
	dir := workplace(t, p)
	home := filepath.Join(dir, ".gnupg")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, home, "pinentry", strings.ReplaceAll(pinentry, "@FILE@", filepath.Join(dir, "pin")))
	if err := os.Chmod(filepath.Join(home, "pinentry"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, b := range guide(t, "gnupg.md") {
		if b.path != "" {
			write(t, home, filepath.Base(b.path), strings.ReplaceAll(b.text, guideModule, p.module))
		}
	}
	f, err := os.OpenFile(filepath.Join(home, "gpg-agent.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("pinentry-program " + filepath.Join(home, "pinentry") + "\n"); err != nil {
		t.Fatal(err)
	}
	if p.pin != "" && !p.direct() {
		write(t, filepath.Join(dir, ".config/claviger"), "pkcs11.conf", "pin_file = "+filepath.Join(dir, "pin")+"\n")
	}
	// GnuPG would rather ask about the authority than be told.
	write(t, home, "trustlist.txt", fingerprint(t, p.cas)+" S relax\n")
	write(t, home, "gpgsm.conf", "disable-crl-checks\n")
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all")
		cmd.Env = append(environment(), "GNUPGHOME="+home)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	printed := play(t, p, dir, "gnupg.md", "secret-keys mail", "secret-keys "+k.name, "with-colons mail", "with-colons "+k.name,
		"user mail", "user "+k.name, "recipient mail", "recipient "+k.name)
	contains(t, printed, "Good signature from", "Meet me at dawn.", `Good signature from "Alice <alice@example.com>"`)
	worked(t, "gpgsm", k)
	worked(t, "gpg", k)
}

// fingerprint is the SHA-1 of the first certificate of a PEM file, in hex, as
// GnuPG's list of trusted authorities has it.
func fingerprint(t testing.TB, file string) string {
	t.Helper()
	out := mustRun(t, environment(), "openssl", "x509", "-in", file, "-noout", "-fingerprint", "-sha1")
	_, hex, _ := strings.Cut(strings.TrimSpace(out), "=")
	return strings.ReplaceAll(hex, ":", "")
}
