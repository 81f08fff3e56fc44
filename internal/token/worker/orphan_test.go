package worker

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token"
)

// TestOrphanChild is a server: it opens a token whose module is then told to
// hang, prints the workers' numbers and waits to be killed.
func TestOrphanChild(t *testing.T) {
	if os.Getenv("ORPHAN_MODULE") == "" {
		t.Skip("it is the other half of TestWorkersDieWithServer")
	}
	d := newDevice(t, Config{Module: os.Getenv("ORPHAN_MODULE"), Label: "test", Workers: 2,
		WritePaths: []string{os.Getenv("SHIM_DIR")}})
	h := openDevice(t, d)
	_, k := generate(t, h, token.P256, token.PlaceWrapped)
	waitWorkers(t, h)
	if err := os.WriteFile(filepath.Join(os.Getenv("SHIM_DIR"), "hang"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	go k.Do(within(t), token.Op{Kind: token.Sign}, []token.Item{{In: make([]byte, 32)}})
	for i := range h.pool.procs {
		os.Stdout.WriteString("WORKER " + strconv.Itoa(h.pool.procs[i].Load().child.cmd.Process.Pid) + "\n")
	}
	time.Sleep(20 * time.Second)
}

func TestWorkersDieWithServer(t *testing.T) {
	t.Parallel()
	s := newShim(t)
	openToken(t, s.cfg).Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestOrphanChild$", "-test.v")
	cmd.Env = append(append(os.Environ(), s.cfg.Env...), "ORPHAN_MODULE="+s.cfg.Module)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for sc := bufio.NewScanner(out); len(pids) < 2 && sc.Scan(); {
		if n, ok := strings.CutPrefix(sc.Text(), "WORKER "); ok {
			pid, err := strconv.Atoi(n)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	time.Sleep(100 * time.Millisecond)
	cmd.Process.Kill()
	cmd.Wait()
	if len(pids) != 2 {
		t.Fatalf("%d workers", len(pids))
	}
	for range 100 {
		if !alive(pids[0]) && !alive(pids[1]) {
			return
		}
		time.Sleep(30 * time.Millisecond)
	}
	t.Error("workers outlive their server")
}

// alive tells whether a process runs; one that nobody has waited for does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
