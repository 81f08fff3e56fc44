package p11kit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token/tokentest"
)

// clientModules are places of p11-kit-client.so, Debian's first.
var clientModules = []string{
	"/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so", "/usr/lib/aarch64-linux-gnu/pkcs11/p11-kit-client.so",
	"/usr/lib64/pkcs11/p11-kit-client.so",
}

func clientModule(t testing.TB) string {
	t.Helper()
	for _, path := range clientModules {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Skip("p11-kit-client.so is not installed (Debian package p11-kit-modules)")
	return ""
}

func needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

// TestRecording lets p11-kit's client and server talk about a token of SoftHSM2 and
// checks all that they say, so also what the installed release says.
func TestRecording(t *testing.T) {
	t.Parallel()
	module := clientModule(t)
	needs(t, "p11-kit", "pkcs11-tool", "softhsm2-util")
	tap := startTap(t, startP11Kit(t))
	use(t, module, tap.path)
	all := tap.exchanges()
	if len(all) < 200 {
		t.Fatalf("only %d calls were recorded", len(all))
	}
	for _, e := range all {
		checkExchange(t, e)
	}
	if *updated && !t.Failed() {
		writeRecord(t, all)
	}
}

// startP11Kit starts p11-kit's own server with a new token, and returns its socket.
func startP11Kit(t *testing.T) string {
	t.Helper()
	softhsm, env := tokentest.SoftHSM(t)
	env = append(os.Environ(), env...)
	dir := t.TempDir()
	init := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "rec", "--pin", "1234", "--so-pin", "4321")
	init.Env = env
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	socket := filepath.Join(dir, "p11-kit.sock")
	cmd := exec.Command("p11-kit", "server", "-f", "-p", softhsm, "-n", socket, "pkcs11:token=rec")
	cmd.Env = append(env, "XDG_RUNTIME_DIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatal("p11-kit's server does not listen")
		}
	}
}

// use makes the client say what programs say.
func use(t *testing.T, module, socket string) {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("digest"), bytes.Repeat([]byte{5}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-M"},
		{"--keypairgen", "--key-type", "rsa:2048", "--id", "01", "--label", "web", "--usage-sign", "--usage-decrypt"},
		{"--keypairgen", "--key-type", "EC:prime256v1", "--id", "02", "--label", "ec"},
		{"--keygen", "--key-type", "AES:32", "--id", "03", "--label", "aes"},
		{"--write-object", file("digest"), "--type", "data", "--label", "data"},
		{"-O"},
		{"--sign", "-m", "SHA256-RSA-PKCS", "--id", "01", "-i", file("digest"), "-o", file("sig")},
		{"--verify", "-m", "SHA256-RSA-PKCS", "--id", "01", "-i", file("digest"), "--signature-file", file("sig")},
		{"--sign", "-m", "RSA-PKCS-PSS", "--hash-algorithm", "SHA256", "--id", "01", "-i", file("digest"), "-o", file("sig")},
		{"--sign", "-m", "ECDSA", "--id", "02", "-i", file("digest"), "-o", file("sig")},
		{"--hash", "-m", "SHA256", "-i", file("digest"), "-o", file("sum")},
		{"--generate-random", "16", "-o", file("random")},
		{"--delete-object", "--type", "data", "--label", "data"},
	} {
		out, err := tool(module, socket, append(args, "--login", "--pin", "1234")...)
		if err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	tool(module, socket, "-I")
	tool(module, socket, "-L")
	tool(module, socket, "--login", "--pin", "1234", "--test") // fails where SoftHSM2 lacks something
}

// tool runs pkcs11-tool with the client.
func tool(module, socket string, args ...string) (string, error) {
	cmd := exec.Command("pkcs11-tool", append([]string{"--module", module}, args...)...)
	cmd.Env = append(os.Environ(), "P11_KIT_SERVER_ADDRESS=unix:path="+socket)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// tap stands between client and server and notes what they say.
type tap struct {
	path, server string
	mu           sync.Mutex
	all          []exchange
}

func startTap(t *testing.T, server string) *tap {
	t.Helper()
	p := &tap{path: filepath.Join(t.TempDir(), "tap.sock"), server: server}
	l, err := net.Listen("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.pass(conn)
		}
	}()
	return p
}

func (p *tap) exchanges() []exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all
}

// pass hands the versions over, then one message after the other.
func (p *tap) pass(client net.Conn) error {
	defer client.Close()
	server, err := net.Dial("unix", p.server)
	if err != nil {
		return err
	}
	defer server.Close()
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		if _, err := io.CopyN(way[1], way[0], 1); err != nil {
			return err
		}
	}
	for {
		request, err := hand(client, server)
		if err != nil {
			return err
		}
		answer, err := hand(server, client)
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.all = append(p.all, exchange{request, answer})
		p.mu.Unlock()
	}
}

func hand(from io.Reader, to io.Writer) ([]byte, error) {
	head := make([]byte, headSize)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	options, n := binary.BigEndian.Uint32(head[4:]), binary.BigEndian.Uint32(head[8:])
	if options > maxOptions || n > maxFrame {
		return nil, errors.New("the frame is too long")
	}
	rest := make([]byte, options+n)
	if _, err := io.ReadFull(from, rest); err != nil {
		return nil, err
	}
	_, err := to.Write(append(head, rest...))
	return rest[options:], err
}

// writeRecord keeps some of each call.
func writeRecord(t *testing.T, all []exchange) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Messages between p11-kit-client.so and p11-kit's server (0.24.1, version 0 of the protocol):\n" +
		"# call, request, answer. go test ./internal/p11/p11kit -run TestRecording -update makes it anew.\n")
	kept := map[string]int{}
	for _, e := range all {
		name := calls[binary.BigEndian.Uint32(e.request)].name
		kind := name + string(e.answer[3]) // errors apart
		if kept[kind]++; kept[kind] > 6 || len(e.request)+len(e.answer) > 4096 {
			continue
		}
		fmt.Fprintf(&b, "%s %x %x\n", name, e.request, e.answer)
	}
	if err := os.MkdirAll(filepath.Dir(recordFile), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(recordFile, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
