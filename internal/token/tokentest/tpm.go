package tokentest

import (
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var tpmModules = []string{
	"/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
	"/usr/lib/aarch64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
	"/usr/lib64/pkcs11/libtpm2_pkcs11.so",
	"/usr/local/lib/libtpm2_pkcs11.so",
}

// TPMToken is an initialised token of tpm2-pkcs11 whose keys are in a TPM.
type TPMToken struct {
	Module string   // path of the PKCS#11 module
	Env    []string // "NAME=value", for every process that loads the module
	Store  string   // directory in which the module keeps its database
	Label  string
	PIN    []byte
	SOPIN  []byte
}

// TPMModule returns the path of tpm2-pkcs11, or skips the test.
func TPMModule(t testing.TB) string {
	t.Helper()
	module := firstFile(tpmModules)
	if module == "" {
		t.Skip("tpm2-pkcs11 is not installed (Debian package libtpm2-pkcs11-1)")
	}
	return module
}

// TPM starts a TPM 2.0 emulator of the test's own with a resource manager in
// front of it, as the kernel has one in front of a real TPM, and makes a token.
// All ends with the test. It skips the test where a program is not installed.
func TPM(t testing.TB) TPMToken {
	t.Helper()
	module := TPMModule(t)
	for program, pkg := range map[string]string{
		"swtpm": "swtpm", "tpm2_ptool": "libtpm2-pkcs11-tools", "tpm2_createprimary": "tpm2-tools",
	} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed (Debian package %s)", program, pkg)
		}
	}
	dir, err := os.MkdirTemp("", "tpm") // paths of sockets have to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	tcti := fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", startTPM(t, dir))
	store := filepath.Join(dir, "store")
	if err := os.Mkdir(store, 0o700); err != nil {
		t.Fatal(err)
	}
	tok := TPMToken{
		Module: module,
		Env:    []string{"TPM2_PKCS11_STORE=" + store, "TPM2_PKCS11_TCTI=" + tcti, "TPM2TOOLS_TCTI=" + tcti},
		Store:  store, Label: "suite", PIN: []byte(rand.Text()), SOPIN: []byte(rand.Text()),
	}
	tok.ptool(t, "init")
	tok.ptool(t, "addtoken", "--pid", "1", "--label", tok.Label,
		"--sopin", string(tok.SOPIN), "--userpin", string(tok.PIN)) // of this test only
	return tok
}

func (k TPMToken) ptool(t testing.TB, command string, args ...string) {
	t.Helper()
	cmd := exec.Command("tpm2_ptool", append([]string{command, "--path", k.Store}, args...)...)
	cmd.Env = append(os.Environ(), k.Env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tpm2_ptool %s: %v\n%s", command, err, out)
	}
}

// startTPM starts swtpm and returns the first of two TCP ports on which the
// resource manager serves what swtpm's clients expect: commands, then control.
func startTPM(t testing.TB, dir string) int {
	t.Helper()
	state, data, ctrl := filepath.Join(dir, "state"), filepath.Join(dir, "data"), filepath.Join(dir, "ctrl")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	logFile, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	// --terminate: it ends with our connection, even when the test is killed.
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state, "--terminate",
		"--server", "type=unixio,path="+data, "--ctrl", "type=unixio,path="+ctrl,
		"--flags", "not-need-init,startup-clear")
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	conn := dialTPM(t, data, logFile.Name())
	manager, err := newTPMManager(conn)
	if err != nil {
		t.Fatal(err)
	}
	commands, control := listenPair(t)
	go serve(commands, manager.serve)
	go serve(control, func(c net.Conn) { forward(c, ctrl) })
	t.Cleanup(func() { commands.Close(); control.Close(); conn.Close() })
	return commands.Addr().(*net.TCPAddr).Port
}

func dialTPM(t testing.TB, path, logFile string) net.Conn {
	t.Helper()
	var err error
	for range 100 {
		var conn net.Conn
		if conn, err = net.Dial("unix", path); err == nil {
			return conn
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(logFile)
	t.Fatalf("swtpm does not answer: %v\n%s", err, text)
	return nil
}

// listenPair listens on two adjacent ports of the loopback interface.
func listenPair(t testing.TB) (first, second net.Listener) {
	t.Helper()
	for range 100 {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		next := first.Addr().(*net.TCPAddr).Port + 1
		second, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", next))
		if err == nil {
			return first, second
		}
		first.Close()
	}
	t.Fatal("there are no two adjacent free ports")
	return nil, nil
}

// serve hands each connection to f, one after another, until l is closed.
func serve(l net.Listener, f func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		f(conn)
		conn.Close()
	}
}

// forward joins a client with swtpm's control socket.
func forward(client net.Conn, path string) {
	swtpm, err := net.Dial("unix", path)
	if err != nil {
		return
	}
	defer swtpm.Close()
	go func() {
		io.Copy(swtpm, client)
		swtpm.(*net.UnixConn).CloseWrite()
	}()
	io.Copy(client, swtpm)
}
