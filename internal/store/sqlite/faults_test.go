package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"golang.org/x/sys/unix"
)

func unavailable(err error, text string) error {
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.Message(err), text) || fault.HintOf(err) == "" {
		return fmt.Errorf("got %v (%v), want %q, unavailable, with a hint", err, fault.KindOf(err), text)
	}
	return nil
}

// fill writes records of 100 KiB until one fails; it returns how many were acknowledged.
func fill(s *Store) (int, error) {
	data := make([]byte, 100<<10)
	for i := range 1000 {
		c := store.Change{Table: "t", Key: fmt.Sprintf("%04d", i), Data: data}
		if err := s.Apply(context.Background(), c); err != nil {
			return i, err
		}
	}
	return 1000, nil
}

// afterFault checks that exactly n records are there and that small and large
// changes work again.
func afterFault(ctx context.Context, s *Store, n int) error {
	list, err := s.List(ctx, "t", "", "", 0)
	if err != nil || len(list) != n {
		return fmt.Errorf("%d records, error %v, want %d", len(list), err, n)
	}
	s.lastCommit.Store(0)
	if err := s.Check(ctx); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if err := s.Apply(ctx, store.Change{Table: "t", Key: "after", Data: make([]byte, 1<<20)}); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	_, err = s.Get(ctx, "t", "after")
	return err
}

func TestFullDatabase(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	if _, err := s.writer.Exec(`PRAGMA max_page_count = 300`); err != nil {
		t.Fatal(err)
	}
	n, err := fill(s)
	if err := unavailable(err, "full"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.writer.Exec(`PRAGMA max_page_count = 100000`); err != nil {
		t.Fatal(err)
	}
	if err := afterFault(t.Context(), s, n); err != nil {
		t.Error(err)
	}
}

// In a group, a change that finds no room fails alone.
func TestFullDatabaseInGroup(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	if _, err := s.writer.Exec(`PRAGMA max_page_count = 100`); err != nil {
		t.Fatal(err)
	}
	call := func(key string, size int) *request {
		c := store.Change{Table: "t", Key: key, Data: make([]byte, size)}
		return &request{ctx: t.Context(), changes: []store.Change{c}, done: make(chan error, 1)}
	}
	group := []*request{call("a", 10), call("b", 10<<20), call("c", 10), call("a", 10)}
	s.commit(group)
	if err := <-group[0].done; err != nil {
		t.Error(err)
	}
	if err := unavailable(<-group[1].done, "full"); err != nil {
		t.Error(err)
	}
	if err := <-group[2].done; err != nil {
		t.Error(err)
	}
	if err := <-group[3].done; !errors.Is(err, store.ErrConflict) {
		t.Error(err)
	}
}

// In a group that succeeds, conflicts and ended calls undo only their own changes.
func TestGroup(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	call := func(ctx context.Context, changes ...store.Change) *request {
		return &request{ctx: ctx, changes: changes, done: make(chan error, 1)}
	}
	c := func(key string, expect int64) store.Change {
		return store.Change{Table: "t", Key: key, Expect: expect, Data: []byte("x")}
	}
	group := []*request{
		call(t.Context(), c("a", 0)),
		call(t.Context(), c("b", 0), c("a", 0)),
		call(ended, c("c", 0)),
		call(t.Context(), c("a", 1), c("d", 0)),
		{ctx: t.Context(), probe: true, done: make(chan error, 1)},
	}
	s.commit(group)
	for i, want := range []error{nil, store.ErrConflict, context.Canceled, nil, nil} {
		if err := <-group[i].done; !errors.Is(err, want) {
			t.Errorf("request %d: got %v, want %v", i, err, want)
		}
	}
	for key, version := range map[string]int64{"a": 2, "b": 0, "c": 0, "d": 1} {
		if r, _ := s.Get(t.Context(), "t", key); r.Version != version {
			t.Errorf("%s has version %d, want %d", key, r.Version, version)
		}
	}
}

// smallDisk mounts a file system of the given size.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mounting a file system is not permitted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, unix.MNT_DETACH) }) // processes that other tests start may hold it
	return dir
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "3m")
	s, err := Open(t.Context(), Config{Path: filepath.Join(dir, "data", "c.db"), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n, err := fill(s)
	if err := unavailable(err, "full"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	if err := afterFault(t.Context(), s, n); err != nil {
		t.Error(err)
	}
}

// A disk on which not even the directory can be made.
func TestNoRoomToBegin(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "32k")
	os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 64<<10), 0o600)
	_, err := openQuiet(filepath.Join(dir, "c.db"))
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "8m")
	path := filepath.Join(dir, "c.db")
	s, err := Open(t.Context(), Config{Path: path, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err = openQuiet(path)
	if !errors.Is(err, syscall.EROFS) || fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
	syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT, "")
	again, err := openQuiet(path)
	if err != nil {
		t.Fatalf("when the cause is gone: %v", err)
	}
	again.Close()
}

// A database that turns read-only under a running server.
func TestReadOnlyConnection(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	n := 1
	if err := s.Apply(t.Context(), store.Change{Table: "t", Key: "k", Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	s.writer.Exec(`PRAGMA query_only = 1`)
	err := s.Apply(t.Context(), store.Change{Table: "t", Key: "l", Data: []byte("x")})
	if err := unavailable(err, "read-only"); err != nil {
		t.Error(err)
	}
	s.lastCommit.Store(0)
	if err := unavailable(s.Check(t.Context()), "read-only"); err != nil {
		t.Error("check:", err)
	}
	if _, err := s.Get(t.Context(), "t", "k"); err != nil {
		t.Error("reading:", err)
	}
	s.writer.Exec(`PRAGMA query_only = 0`)
	if err := afterFault(t.Context(), s, n); err != nil {
		t.Error(err)
	}
}

// Another program (a database shell) that holds the write lock.
func TestForeignLock(t *testing.T) {
	t.Parallel()
	s, path := newStore(t)
	s.writer.Exec(`PRAGMA busy_timeout = 100`)
	other, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`UPDATE probe SET at = 1`); err != nil {
		t.Fatal(err)
	}
	err = s.Apply(t.Context(), store.Change{Table: "t", Key: "k", Data: []byte("x")})
	if err := unavailable(err, "another program"); err != nil {
		t.Error(err)
	}
	tx.Rollback()
	if err := afterFault(t.Context(), s, 0); err != nil {
		t.Error(err)
	}
}

const limitVariable = "CLAVIGER_SQLITE_LIMIT"

// limitChild is the child of TestIOError: with a limit on the size of its files,
// writes fail in the middle with EFBIG, as on a broken disk.
func limitChild() bool {
	path := os.Getenv(limitVariable)
	if path == "" {
		return false
	}
	if err := underLimit(path); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return true
}

func underLimit(path string) error {
	signal.Ignore(unix.SIGXFSZ)
	s, err := Open(context.Background(), Config{Path: path, Logger: quiet})
	if err != nil {
		return err
	}
	defer s.Close()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	old := limit.Cur
	limit.Cur = 500_000
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	n, err := fill(s)
	if err := unavailable(err, "reports an error"); err != nil {
		return err
	}
	s.lastCommit.Store(0)
	limit.Cur = old
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := afterFault(context.Background(), s, n); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	s, err = Open(context.Background(), Config{Path: path, Logger: quiet})
	if err != nil {
		return err
	}
	defer s.Close()
	list, err := s.List(context.Background(), "t", "", "", 0)
	if err != nil || len(list) != n+1 {
		return fmt.Errorf("opened again: %d records, error %v, want %d", len(list), err, n+1)
	}
	return nil
}

func TestIOError(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), limitVariable+"="+filepath.Join(t.TempDir(), "c.db"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestNotOurs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.db")
	db, err := sql.Open("sqlite", foreign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`CREATE TABLE theirs (x)`); err != nil {
		t.Fatal(err)
	}
	db.Close()
	text := filepath.Join(dir, "notes.txt")
	short := filepath.Join(dir, "short")
	os.WriteFile(text, []byte(strings.Repeat("not a database\n", 1000)), 0o600)
	os.WriteFile(short, []byte("x"), 0o600)
	for _, path := range []string{foreign, text, short} {
		before, _ := os.ReadFile(path)
		_, err := openQuiet(path)
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "not a database of Claviger") {
			t.Errorf("%s: %v", path, err)
		}
		if after, _ := os.ReadFile(path); string(after) != string(before) {
			t.Errorf("%s was changed", path)
		}
	}
	if _, err := openQuiet(dir); err == nil {
		t.Error("a directory was opened")
	}
	if _, err := openQuiet(filepath.Join(text, "below", "a.db")); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a path below a file: %v", err)
	}
}

func TestDamagedFile(t *testing.T) {
	t.Parallel()
	s, path := newStore(t)
	if _, err := s.writer.Exec(`PRAGMA max_page_count = 100`); err != nil {
		t.Fatal(err)
	}
	fill(s)
	s.Close()
	raw, _ := os.ReadFile(path)
	for i := 200; i < len(raw); i++ {
		raw[i] ^= 0x5a
	}
	os.WriteFile(path, raw, 0o600)
	_, err := openQuiet(path)
	if err := unavailable(err, "damaged"); err != nil {
		t.Error(err)
	}
}

func TestNewerRelease(t *testing.T) {
	t.Parallel()
	s, path := newStore(t)
	if _, err := s.writer.Exec(`INSERT INTO migrations VALUES (99, 'future', '')`); err != nil {
		t.Fatal(err)
	}
	s.Close()
	_, err := openQuiet(path)
	if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "newer release") || fault.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
}

// A migration that fails leaves nothing of itself.
func TestFailingMigration(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	m := migration{version: 3, name: "bad", text: `CREATE TABLE half (x); INSERT INTO nowhere VALUES (1);`}
	if err := m.apply(t.Context(), s.writer); err == nil {
		t.Fatal("no error")
	}
	var n int
	err := s.writer.QueryRow(`SELECT (SELECT count(*) FROM sqlite_schema WHERE name = 'half') + (SELECT max(version) FROM migrations)`).Scan(&n)
	if err != nil || n != 2 {
		t.Errorf("something of it stayed: %d, %v", n, err)
	}
}

// Check writes for itself when nothing was committed for a while.
func TestCheckWrites(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	s.lastCommit.Store(time.Now().Add(-time.Hour).UnixNano())
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	var at int64
	if err := s.writer.QueryRow(`SELECT at FROM probe`).Scan(&at); err != nil || time.Now().Unix()-at > 5 {
		t.Errorf("at %d, %v", at, err)
	}
}
