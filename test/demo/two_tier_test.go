package demo

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

// TestTwoTierCA runs the commands of docs/guides/two-tier-ca.md in their order, on a
// terminal at which the custodians type their PINs and phrases.
func TestTwoTierCA(t *testing.T) {
	t.Parallel()
	module, _ := tokentest.SoftHSM(t)
	for _, p := range []string{"curl", "jq", "openssl", "softhsm2-util"} {
		need(t, p)
	}
	server := harness.SoftHSM(t, harness.Options{})
	var text strings.Builder
	blocks := fenced.FindAllStringSubmatch(read(t, "docs/guides/two-tier-ca.md"), -1)
	if len(blocks) < 8 {
		t.Fatalf("the guide has %d blocks of commands", len(blocks))
	}
	for _, b := range blocks {
		text.WriteString(b[1])
	}
	home := shortDir(t)
	path := filepath.Join(home, "guide.sh")
	script(t, path, "set -eux\n"+strings.ReplaceAll(text.String(), "/usr/lib/softhsm/libsofthsm2.so", module))
	out, err := atTerminal(t, environment("HOME="+home, "PATH="+filepath.Dir(harness.Binary(t))+":"+os.Getenv("PATH"),
		"VAULT_ADDR="+server.Addr, "VAULT_TOKEN="+server.RootToken, "TERM=dumb"), home, answers, path)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rest := out
	for _, want := range []string{
		"has been initialized", "REHEARSAL", "Public key +ECDSA, P-384", "it went well", "Made +.*root.pem", "Confirmed by +Alice Example, Bob Example",
		"root.pem: OK", "root.yaml [0-9a-f]{64}, the same", "intermediate-1.pem: OK", "leaf-1.pem: OK", "root-1.crl", "intermediate-1.pem: OK",
		"leaf-2.pem: OK", "Revoked +1 certificates", "superseded", "intermediate-2.pem: OK", "certificate revoked", "revoked, as it should be",
		"Signed by +SHA-256 [0-9a-f]{64}, the one that was given",
	} {
		at := regexp.MustCompile(want).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("the output lacks %q in its place:\n%s", want, out)
		}
		rest = rest[at[1]:]
	}
	if strings.Contains(out, userPIN) {
		t.Error("the PIN is shown")
	}
}

const userPIN = "user-pin-2718"

// interruption is what Ctrl-C types.
const interruption = "\x03"

// reply is what is typed at a prompt; late if it is typed once the echo is off:
// softhsm2-util shows its prompts before that.
type reply struct {
	prompt *regexp.Regexp
	answer string
	late   bool
}

// answers are what people type, by the last line that they see.
var answers = []reply{
	{prompt: regexp.MustCompile(`SO PIN: $`), answer: "so-pin-31415", late: true},
	{prompt: regexp.MustCompile(`user PIN: $`), answer: userPIN, late: true},
	{prompt: regexp.MustCompile(`User PIN of the HSM token "offline-root" \(not shown\): $`), answer: userPIN},
	{prompt: regexp.MustCompile(`: type (\S+) to confirm, or nothing if you don't\r?\n> $`), answer: "$1"},
}

// atTerminal runs a program on a terminal of its own, answers what it asks, and
// returns what it showed.
func atTerminal(t *testing.T, env []string, dir string, replies []reply, name string, args ...string) (string, error) {
	t.Helper()
	master, slave := terminal(t)
	cmd := command(t, 4*time.Minute, env, name, args...)
	cmd.Dir = dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	var shown bytes.Buffer
	var typing sync.WaitGroup
	typing.Go(func() {
		asked := 0 // up to where prompts were answered
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			shown.Write(b[:n])
			if err != nil {
				return // EIO: the last program on the terminal has ended
			}
			asked += answer(master, replies, shown.Bytes()[asked:])
		}
	})
	err := cmd.Wait()
	typing.Wait()
	return shown.String(), err
}

// answer types what is asked for, and returns how much of the text is settled.
func answer(master *os.File, replies []reply, text []byte) int {
	for _, a := range replies {
		if m := a.prompt.FindSubmatchIndex(text); m != nil {
			line := a.prompt.Expand(nil, []byte(a.answer), text, m)
			if string(line) != interruption {
				line = append(line, '\n')
			}
			for begin := time.Now(); a.late && echoes(master) && time.Since(begin) < 10*time.Second; {
				time.Sleep(time.Millisecond)
			}
			master.Write(line)
			return len(text)
		}
	}
	return 0
}

func echoes(terminal *os.File) bool {
	t, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	return err == nil && t.Lflag&unix.ECHO != 0
}

// terminal makes a pair of ends of a terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		t.Skip("there are no terminals here (/dev/ptmx)")
	}
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("/dev/pts", strconv.Itoa(n))
	if slave, err = os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// TestCeremonyDeclined: custodians who type nothing, or end the program, leave neither
// a key nor a file.
func TestCeremonyDeclined(t *testing.T) {
	t.Parallel()
	const document = `ceremony: root
title: A root that nobody wants
custodians: {threshold: 1, names: [Alice]}
token: {soft: tok, label: offline, create: true}
transcript: root.transcript
plan: {subject: {common_name: Root}, key: {label: root, type: ecdsa-p256}, valid_for: 1y, certificate: root.pem}
`
	binary := harness.Binary(t)
	for want, typed := range map[string]string{"0 custodians confirmed, and 1 must": "", "interrupted": interruption} {
		dir := t.TempDir()
		path := filepath.Join(dir, "root.yaml")
		pin := reply{prompt: regexp.MustCompile(`\(not shown\): $`), answer: userPIN}
		hold := func(phrase string) (string, error) {
			return atTerminal(t, environment("HOME="+dir, "TERM=dumb"), dir,
				[]reply{pin, {prompt: answers[3].prompt, answer: phrase}}, binary, "ceremony", "run", path)
		}
		if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := hold(typed)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%v, want %q:\n%s", err, want, out)
		}
		for _, name := range []string{"root.pem", "root.transcript"} {
			if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
				t.Errorf("%s: there is %s", want, name)
			}
		}
		// The key is gone: the same document goes through, on the token that was made.
		if err := os.WriteFile(path, []byte(strings.Replace(document, ", create: true", "", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := hold("$1"); err != nil || !strings.Contains(out, "Made") {
			t.Errorf("%v:\n%s", err, out)
		}
	}
}
