package harness

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

// Agent is a running claviger agent.
type Agent struct {
	Socket string
	Config string

	cmd  *exec.Cmd
	done chan struct{}
	log  *logBuffer
}

// StartAgent starts an agent of a server. token is its own client token, "" for
// none; sections are appended to its configuration.
func StartAgent(t testing.TB, s *Server, token, sections string) *Agent {
	t.Helper()
	dir := t.TempDir()
	a := &Agent{Socket: filepath.Join(dir, "agent.sock"), Config: filepath.Join(dir, "agent.toml")}
	text := fmt.Sprintf("socket = %q\n[server]\naddresses = [%q]\n", a.Socket, s.Addr)
	if token != "" {
		file := filepath.Join(dir, "token")
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("[token]\nsource = \"file\"\nfile = %q\n", file)
	}
	if err := os.WriteFile(a.Config, []byte(text+sections), 0o600); err != nil {
		t.Fatal(err)
	}
	a.Start(t)
	return a
}

// Start runs the agent's process and waits until it listens. It is stopped at the
// end of the test.
func (a *Agent) Start(t testing.TB) {
	t.Helper()
	a.cmd = exec.Command(Binary(t), "agent", "--config", a.Config)
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	a.log = &logBuffer{found: make(chan string, 1)}
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd, done := a.cmd, make(chan struct{})
	a.done = done
	go func() { cmd.Wait(); close(done) }()
	t.Cleanup(func() { stop(cmd, done) })
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("unix", a.Socket); err == nil {
			conn.Close()
			return
		}
		select {
		case <-done:
			t.Fatalf("the agent ended at its start:\n%s", a.log)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the agent does not listen:\n%s", a.log)
		}
	}
}

// Stop ends the agent in order, Kill with SIGKILL.
func (a *Agent) Stop() { stop(a.cmd, a.done) }

// Kill ends the agent with SIGKILL.
func (a *Agent) Kill() {
	a.cmd.Process.Kill()
	<-a.done
}

// Log is what the agent wrote so far.
func (a *Agent) Log() string { return a.log.String() }
