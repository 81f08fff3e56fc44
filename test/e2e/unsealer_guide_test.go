package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/tpm/tpmtest"
	"github.com/claviger/claviger/test/harness"
)

// TestUnsealerGuide runs every command of docs/operations/unsealer.md, in its
// order, with /etc/claviger in a directory of the test, its TPM and its server.
// Programs that would change the machine are played.
func TestUnsealerGuide(t *testing.T) {
	t.Parallel()
	p := tpmtest.New(t)
	s := harness.SoftHSM(t, harness.Options{Sealed: true})
	s.Init(t, 3, 2)
	dir := t.TempDir()
	etc, bin := filepath.Join(dir, "etc"), filepath.Join(dir, "bin")
	for _, d := range []string{etc, bin} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(harness.Binary(t), filepath.Join(bin, "claviger")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"useradd", "chown", "systemctl", "systemd-creds"} {
		program(t, filepath.Join(bin, name), `echo "$0" "$@"`)
	}
	// For systemd-creds the text has the share once more.
	if err := os.WriteFile(filepath.Join(dir, "share.txt"), []byte(s.Shares[0]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pin := serverCertificate(t, filepath.Join(dir, "server.pem"))
	text := commandsOf(t, "../../docs/operations/unsealer.md")
	text = strings.NewReplacer("/etc/claviger", etc, "/dev/tpmrm0", p.Device, "https://keys1.example.org:8200", s.Addr,
		// What stands in the document as the printed section goes into the file here.
		"claviger unsealer check", configure+"claviger unsealer check").Replace(text)
	script := exec.Command("sh", "-ceux", text)
	script.Dir = dir
	script.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "ETC="+etc, "TPM="+p.Device, "SERVER="+s.Addr)
	out, err := script.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		`source = "tpm"`, "file = \"" + etc + "/unsealer.sealed\"", "password_file = \"" + etc + "/unsealer.password\"",
		"unsealer.toml is right", pin, "useradd --system", "systemd-creds encrypt --name=share",
	} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	if sealed, progress := sealStatus(t, s); !sealed || progress != 1 {
		t.Errorf("sealed %t, progress %d after the same share twice", sealed, progress)
	}
	noShareIn(t, "what the commands print", string(out), s.Shares)
	for name, mode := range map[string]os.FileMode{"unsealer.sealed": 0o600, "unsealer.password": 0o600} {
		if info, err := os.Stat(filepath.Join(etc, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// configure writes the configuration as the guide says in words.
const configure = `printf '[share]\nsource = "tpm"\nfile = "%s"\npassword_file = "%s"\ndevice = "%s"\n[[server]]\naddress = "%s"\n' ` +
	`"$ETC/unsealer.sealed" "$ETC/unsealer.password" "$TPM" "$SERVER" > "$ETC/unsealer.toml"` + "\n"

// serverCertificate writes a certificate and returns the pin of its key.
func serverCertificate(t *testing.T, path string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "keys1"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// TestUnsealerCommand is the table of calls that are refused, and of exit statuses.
func TestUnsealerCommand(t *testing.T) {
	t.Parallel()
	p := tpmtest.New(t)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		if err := os.WriteFile(path(name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	const share = "zNT4oPOouNycPE4snfK6T84FvwzopejhtApPnaEckLQB"
	good := write("share", share+"\n", 0o600)
	open := write("open", share+"\n", 0o644)
	empty := write("empty", "\n", 0o600)
	binary := write("binary", "\xde\xad\xbe\xef\xde\xad", 0o600)
	run := func(stdin string, args ...string) (int, string) {
		t.Helper()
		cmd := exec.Command(harness.Binary(t), append([]string{"unsealer"}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // without a terminal, wherever the test runs
		out, err := cmd.CombinedOutput()
		if strings.Contains(string(out), share[8:]) {
			t.Errorf("%q prints the share:\n%s", args, out)
		}
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(out)
	}
	enroll := []string{"enroll", "--tpm", p.Device, "--out", path("sealed"), "--password-file", path("password")}
	if code, out := run(share, append(enroll, "--generate-password")...); code != 0 {
		t.Fatalf("enroll: %d\n%s", code, out)
	}
	tpmConfig := func(name, password string) string {
		return write(name, fmt.Sprintf("[share]\nsource = \"tpm\"\nfile = %q\ndevice = %q\npassword_file = %q\n[[server]]\naddress = \"http://127.0.0.1:1\"\n",
			path("sealed"), p.Device, write(name+".password", password, 0o600)), 0o600)
	}
	password, err := os.ReadFile(path("password"))
	if err != nil {
		t.Fatal(err)
	}
	right, wrong := tpmConfig("right.toml", string(password)), tpmConfig("wrong.toml", "wrong")
	for _, c := range []struct {
		stdin string
		args  []string
		code  int
		words string
	}{
		{"", []string{"check", "--config", right}, 0, "is right"},
		{"", []string{"check", "--config", wrong}, 3, "refuses the password"},
		{"", []string{"--config", wrong}, 3, "refuses the password"},
		{"", []string{"--config", right, "--once"}, 1, "http://127.0.0.1:1: not reachable"},
		{"", []string{"--config", path("none.toml")}, 1, "does not exist"},
		{"", []string{"--share-file", good}, 1, "at least one"},
		{"", []string{"--share-file", open, "--server", "http://127.0.0.1:1"}, 1, "chmod 600"},
		{"", []string{"--share-file", binary, "--server", "http://127.0.0.1:1"}, 1, "no text in hex or base64"},
		{"", []string{"--share-file", good, "--server", "http://192.0.2.1:1"}, 1, "insecure = true"},
		{"", []string{"--stdin", "--server", "http://127.0.0.1:1"}, 1, "the share is empty"},
		{share, []string{"--stdin", "--server", "http://127.0.0.1:1", "--once"}, 1, "not reachable"},
		{share, []string{"--stdin", "--share-file", good, "--server", "http://127.0.0.1:1"}, 2, "exclude"},
		{share, append(enroll, "--generate-password"), 2, "exists already"},
		{share, append(enroll, "--no-password", "--force"), 2, "excludes"},
		{share, []string{"enroll", "--tpm", p.Device, "--out", path("other")}, 2, "no terminal"},
		{share, []string{"enroll", "--tpm", p.Device, "--out", path("other"), "--password-file", empty}, 2, "the password is empty"},
		{"pw", []string{"enroll", "--tpm", p.Device, "--out", path("third"), "--share-file", good, "--password-fd", "0"}, 0, "password_file = the file"},
		{share, []string{"enroll", "--tpm", p.Device, "--out", path("other"), "--no-password", "--pcr", "24"}, 1, "0 to 23"},
		{share, []string{"enroll", "--tpm", path("tpm0"), "--out", path("other"), "--no-password"}, 1, "there is no TPM"},
		{"", []string{"enroll", "--tpm", p.Device, "--out", path("other"), "--no-password"}, 1, "read the share"},
		{"-----BEGIN PGP MESSAGE-----", []string{"enroll", "--tpm", p.Device, "--out", path("other"), "--no-password"}, 1, "still encrypted"},
	} {
		if code, out := run(c.stdin, c.args...); code != c.code || !strings.Contains(out, c.words) {
			t.Errorf("%q: exit status %d, want %d with %q:\n%s", c.args, code, c.code, c.words, out)
		}
	}
	if _, err := os.Stat(path("other")); err == nil {
		t.Error("a refused enrolment left a file")
	}
}
