// Package tpmtest starts software TPMs for tests.
package tpmtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TPM is a TPM 2.0 of the test's own, without a resource manager: what a program
// leaves in it stays, so that leaks show. It serves one connection at a time.
type TPM struct {
	Device string // for tpm.Open: "swtpm:127.0.0.1:port"
	TCTI   string // for tpm2-tools
	Dir    string

	port int
	cmd  *exec.Cmd
}

// New starts swtpm; it ends with the test. It skips the test where swtpm or
// tpm2-tools is not installed.
func New(t testing.TB) *TPM {
	t.Helper()
	for program, pkg := range map[string]string{"swtpm": "swtpm", "tpm2_getcap": "tpm2-tools"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed (Debian package %s)", program, pkg)
		}
	}
	p := &TPM{Dir: t.TempDir()}
	// Another program can take a port between the look and swtpm's start.
	for try := range 10 {
		p.port = freePair(t)
		if p.start() {
			break
		}
		p.Stop()
		if try == 9 {
			t.Fatal("swtpm does not start")
		}
	}
	t.Cleanup(p.Stop)
	p.Device = fmt.Sprintf("swtpm:127.0.0.1:%d", p.port)
	p.TCTI = fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", p.port)
	return p
}

// start runs swtpm and tells whether it listens.
func (p *TPM) start() bool {
	listen := "type=tcp,bindaddr=127.0.0.1,port=%d"
	p.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+p.Dir,
		"--server", fmt.Sprintf(listen, p.port), "--ctrl", fmt.Sprintf(listen, p.port+1),
		"--log", "file="+filepath.Join(p.Dir, "log"), "--flags", "not-need-init,startup-clear")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.cmd.Start() != nil {
		return false
	}
	for range 100 {
		// The control port: a connection to the other would occupy it.
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port+1)); err == nil {
			conn.Close()
			return p.cmd.Process.Signal(syscall.Signal(0)) == nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

// Stop takes the TPM away, as if it were switched off in the firmware.
func (p *TPM) Stop() {
	if p.cmd != nil && p.cmd.Process != nil {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	}
	p.cmd = nil
}

// Restart is a power cycle: PCRs are reset, what was loaded is gone.
func (p *TPM) Restart(t testing.TB) {
	t.Helper()
	p.Tool(t, "tpm2_shutdown", "--clear")
	p.Stop()
	if !p.start() {
		t.Fatal("swtpm does not start again")
	}
}

// Tool runs a program of tpm2-tools on the TPM and returns what it printed.
func (p *TPM) Tool(t testing.TB, program string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = p.Dir
	cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI="+p.TCTI)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return out
}

// freePair returns the first of two adjacent free ports.
func freePair(t testing.TB) int {
	t.Helper()
	for range 100 {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := first.Addr().(*net.TCPAddr).Port
		second, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		first.Close()
		if err == nil {
			second.Close()
			return port
		}
	}
	t.Fatal("there are no two adjacent free ports")
	return 0
}
