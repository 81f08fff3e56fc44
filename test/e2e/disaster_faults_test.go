package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

// What is refused, and that nothing is changed by it.
func TestRestoreRefusals(t *testing.T) {
	t.Parallel()
	m, other := newMachine(t), newMachine(t)
	m.OK(t, "POST", "transit/keys/k", nil)
	m.ok(t, part(t, "Every day"), "")
	other.ok(t, `claviger snapshot save "$BACKUP/claviger.snap"; claviger hsm audit-key > "$BACKUP/audit.pem"`, "")
	snap := filepath.Join(m.backup, "claviger.snap")
	bad := func(what, want, commands, shares string) {
		t.Helper()
		out, err := m.run(t, commands, shares)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, want %q in\n%s", what, err, want, out)
		}
	}
	bad("a file that is there", "is there already", `claviger snapshot save "$BACKUP/claviger.snap"`, "")
	bad("no such directory", "no such file", `claviger snapshot save "$BACKUP/none/x.snap"`, "")
	bad("wrong proofs", "must be all, latest or none", `claviger snapshot save --proofs some "$BACKUP/x.snap"`, "")
	bad("no right", "permission denied", `CLAVIGER_TOKEN=none claviger snapshot save "$BACKUP/x.snap"`, "")
	if _, err := os.Stat(filepath.Join(m.backup, "x.snap")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left of what was refused: %v", err)
	}
	m.ok(t, `claviger snapshot verify --online "$BACKUP/claviger.snap"; claviger snapshot status`, "")
	bad("another server's key", "another key", `claviger snapshot verify --public-key `+filepath.Join(other.backup, "audit.pem")+` "$BACKUP/claviger.snap"`, "")
	bad("a server that runs", "already uses this database", `claviger snapshot restore --force "$BACKUP/claviger.snap"`, "")
	m.Stop()
	bad("a store that is there", "there is a database", `claviger snapshot restore "$BACKUP/claviger.snap"`, "")
	bad("another store's", "is another one", `claviger snapshot restore --force `+filepath.Join(other.backup, "claviger.snap"), "")
	bad("a KEK that can't leave", "not made transferable", `claviger snapshot restore --force --new-hsm "$BACKUP/claviger.snap"`, "pin\n")
	bad("two wishes", "exclude each other", `claviger snapshot restore --any-token --new-hsm "$BACKUP/claviger.snap"`, "")
	whole, err := os.ReadFile(snap)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(m.backup, "cut.snap")
	for _, n := range []int{0, 1, 100, len(whole) / 2, len(whole) - 1} {
		if err := os.WriteFile(cut, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		bad(fmt.Sprintf("cut to %d bytes", n), "snapshot", `claviger snapshot restore --force "$BACKUP/cut.snap"`, "")
	}
	bad("too few shares", "Share 2 of 2", `claviger snapshot rehearse --hsm-backup "$BACKUP/tokens" "$BACKUP/claviger.snap"`, m.Shares[0]+"\n")
	bad("another server's share", "share", `claviger snapshot rehearse --hsm-backup "$BACKUP/tokens" "$BACKUP/claviger.snap"`, other.Shares[0]+"\n"+m.Shares[0]+"\n")
	bad("no token", "cannot be copied", `claviger snapshot rehearse --hsm-backup "$BACKUP/none" "$BACKUP/claviger.snap"`, m.Shares[0]+"\n"+m.Shares[1]+"\n")
	if err := os.Rename(m.tokens, m.tokens+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(m.tokens, os.DirFS(other.tokens)); err != nil {
		t.Fatal(err)
	}
	bad("another token", "but the HSM shows", `claviger snapshot restore --force "$BACKUP/claviger.snap"`, "")
	os.RemoveAll(m.tokens)
	if err := os.Rename(m.tokens+".away", m.tokens); err != nil {
		t.Fatal(err)
	}
	m.Start(t)
	m.Unseal(t, m.Shares[:2]...)
	m.OK(t, "GET", "transit/keys/k", nil)
}

// A key object that the backup of the token lacks is named, and the status says so.
func TestRehearsalFindsLostKeys(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.OK(t, "POST", "transit/keys/there", map[string]any{"type": "ed25519"})
	m.ok(t, `flock "$LOCK" cp -a "$TOKENS" "$BACKUP/tokens"`, "")
	m.OK(t, "POST", "transit/keys/lost", map[string]any{"type": "ed25519"})
	m.ok(t, `claviger snapshot save "$BACKUP/claviger.snap"`, "")
	out, err := m.run(t, `claviger snapshot rehearse --scratch . --hsm-backup "$BACKUP/tokens" "$BACKUP/claviger.snap"`, m.Shares[0]+"\n"+m.Shares[1]+"\n")
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 1 || !strings.Contains(out, "transit/lost") || strings.Contains(out, "transit/there") || !strings.Contains(out, "1 of 2 versions") {
		t.Errorf("%v\n%s", err, out)
	}
	m.OK(t, "POST", "transit/sign/lost", map[string]any{"input": "b2xk"})
	if left, _ := filepath.Glob(filepath.Join(m.dir, "claviger-rehearsal-*")); len(left) != 0 {
		t.Errorf("left of rehearsals: %v", left)
	}
}

// Killed while it saves: no file. Killed while it restores: a whole store or none, and
// the next attempt succeeds.
func TestSnapshotKilled(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for i := range 40 {
		m.OK(t, "POST", fmt.Sprintf("transit/keys/k%d", i), nil)
	}
	start := func(args ...string) *exec.Cmd {
		cmd := exec.Command(harness.Binary(t), args...)
		cmd.Env = append(append(os.Environ(), m.Env...), "CLAVIGER_ADDR="+m.Addr, "CLAVIGER_TOKEN="+m.RootToken, "CLAVIGER_CONFIG="+m.Config)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	for i := range 8 {
		path := filepath.Join(m.backup, fmt.Sprintf("%d.snap", i))
		cmd := start("snapshot", "save", path)
		time.Sleep(time.Duration(10+25*i) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		entries, _ := os.ReadDir(m.backup)
		for _, e := range entries {
			if e.Name() != filepath.Base(path) {
				t.Errorf("left: %s", e.Name())
			}
			m.ok(t, "claviger snapshot verify "+filepath.Join(m.backup, e.Name()), "")
			os.Remove(filepath.Join(m.backup, e.Name()))
		}
	}
	m.ok(t, `claviger snapshot save "$BACKUP/claviger.snap"`, "")
	m.Kill()
	data := filepath.Join(m.Dir, "data")
	db := filepath.Join(data, "claviger.db")
	if _, err := os.Stat(db); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		os.Remove(db + suffix)
	}
	for i := range 10 {
		cmd := start("snapshot", "restore", filepath.Join(m.backup, "claviger.snap"))
		time.Sleep(time.Duration(20+30*i) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		if _, err := os.Stat(db); err == nil {
			break
		}
	}
	if _, err := os.Stat(db); err != nil {
		m.ok(t, `claviger snapshot restore "$BACKUP/claviger.snap"`, "")
	}
	m.Start(t)
	m.Unseal(t, m.Shares[:2]...)
	for i := range 40 {
		m.OK(t, "GET", fmt.Sprintf("transit/keys/k%d", i), nil)
	}
}
