package audit

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// killVariable tells a child of TestKill where its files are.
const killVariable = "CLAVIGER_AUDIT_KILL"

func killConfig(dir string) (Config, func() error, error) {
	db, s, err := openStore(filepath.Join(dir, "store.db"))
	if err != nil {
		return Config{}, nil, err
	}
	return Config{
		Path: filepath.Join(dir, "audit.log"), MacKey: macKey, Sign: testSign, PublicKey: testPublic(),
		Store: s, CheckpointEvery: 7, CheckpointInterval: 3 * time.Millisecond, Logger: quiet,
	}, db.Close, nil
}

// writeUntilKilled writes from several goroutines, rotates now and then, and
// prints every record after it was acknowledged.
func writeUntilKilled(dir string) error {
	cfg, _, err := killConfig(dir)
	if err != nil {
		return err
	}
	l, err := Open(cfg)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for w := range 3 {
		go func() {
			for i := 0; ; i++ {
				e := testEntry(i)
				e.RequestID = fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				if err := l.Write(e); err != nil {
					failed <- err
					return
				}
				fmt.Println(e.RequestID)
			}
		}()
	}
	go func() {
		for n := 0; ; n++ {
			time.Sleep(7 * time.Millisecond)
			os.Rename(cfg.Path, fmt.Sprintf("%s.%d-%d", cfg.Path, os.Getpid(), n))
			if err := l.Reopen(context.Background()); err != nil {
				failed <- err
				return
			}
		}
	}()
	return <-failed
}

// Killed at any moment, in the middle of checkpoints and rotations: the log goes
// on, verifies, and holds every record that was acknowledged.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for range 8 {
		killOnce(t, dir, acknowledged)
		cfg, done, err := killConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Open(cfg)
		if err != nil {
			t.Fatalf("open after kill: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		done()
		paths, _ := filepath.Glob(filepath.Join(dir, "audit.log*"))
		if r := mustVerify(t, paths...); r.First != 1 || r.Unsigned != 0 {
			t.Errorf("%+v", r)
		}
		checkAcknowledged(t, paths, acknowledged)
	}
}

func killOnce(t *testing.T, dir string, acknowledged map[string]bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killVariable+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for lines := bufio.NewScanner(out); lines.Scan(); n++ {
		acknowledged[lines.Text()] = true
		if n == 50 {
			time.AfterFunc(rand.N(30*time.Millisecond), func() { cmd.Process.Kill() })
		}
	}
	cmd.Wait()
	if n < 50 {
		t.Fatalf("the child ended after %d records", n)
	}
}

func checkAcknowledged(t *testing.T, paths []string, acknowledged map[string]bool) {
	t.Helper()
	var all strings.Builder
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(raw)
	}
	found := map[string]bool{}
	for line := range strings.Lines(all.String()) {
		if _, rest, ok := strings.Cut(line, `"request_id":"`); ok {
			id, _, _ := strings.Cut(rest, `"`)
			found[id] = true
		}
	}
	for id := range acknowledged {
		if !found[id] {
			t.Errorf("record %s was acknowledged and is lost", id)
		}
	}
}
