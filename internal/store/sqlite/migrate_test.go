package sqlite

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

// migrateVariable tells a child of TestKillWhileMigrating where its database is.
const migrateVariable = "CLAVIGER_SQLITE_MIGRATE"

// migrateChild opens a database, which migrates it, and says so.
func migrateChild() bool {
	path := os.Getenv(migrateVariable)
	if path == "" {
		return false
	}
	s, err := Open(context.Background(), Config{Path: path, Logger: slog.New(slog.NewTextHandler(os.Stdout, nil))})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s.Close()
	// The peak of this program alone: what the kernel tells the parent has the
	// parent's own memory in it.
	status, _ := os.ReadFile("/proc/self/status")
	fmt.Println(regexp.MustCompile(`VmHWM:\s+\d+ kB`).FindString(string(status)))
	return true
}

// firstSchema makes a database of schema 1 with n records of 3 kB in two tables.
func firstSchema(t *testing.T, path string, n int) {
	t.Helper()
	if err := mark(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	db, err := pool(dsn(path, false), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	exec := func(text string, args ...any) {
		t.Helper()
		if _, err := db.Exec(text, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE TABLE migrations (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied TEXT NOT NULL) STRICT`)
	if err := all[0].apply(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	exec(`BEGIN`)
	for i := range n {
		r := oldRecord(i)
		exec(`INSERT INTO records VALUES (?, ?, ?, ?)`, r.Table, []byte(r.Key), r.Version, r.Data)
	}
	exec(`COMMIT`)
}

func oldRecord(i int) store.Record {
	sum := sha256.Sum256(fmt.Append(nil, i))
	return store.Record{
		Table: fmt.Sprint("t", i%2), Key: string(sum[:20]), Version: int64(1 + i%3),
		Data: bytes.Repeat(sum[:], 100),
	}
}

// checkRecords checks that the n records of firstSchema are there and no other.
func checkRecords(t *testing.T, s *Store, n int) {
	t.Helper()
	for i := range n {
		want := oldRecord(i)
		got, err := s.Get(t.Context(), want.Table, want.Key)
		if err != nil || got.Version != want.Version || !bytes.Equal(got.Data, want.Data) {
			t.Fatalf("record %d: version %d with %d bytes, error %v", i, got.Version, len(got.Data), err)
		}
	}
	var have int
	if err := s.writer.QueryRow(`SELECT count(*) FROM records`).Scan(&have); err != nil || have != n {
		t.Errorf("%d records, error %v, want %d", have, err, n)
	}
	var sound string
	if err := s.writer.QueryRow(`PRAGMA integrity_check`).Scan(&sound); err != nil || sound != "ok" {
		t.Errorf("the file is not sound: %s, %v", sound, err)
	}
}

// A process that is killed in the middle of a migration leaves the database as
// it was before, and the next one migrates it.
func TestKillWhileMigrating(t *testing.T) {
	t.Parallel()
	const records, steps = 6000, 6
	path := filepath.Join(t.TempDir(), "c.db")
	firstSchema(t, path, records)
	size := fileSize(path)
	middle := 0
	for step := 1; step < steps; step++ {
		// The log becomes about as large as the copy and the old table together.
		killMigration(t, path, 2*size*int64(step)/steps)
		if schemaOf(t, path) == 1 {
			middle++
		}
	}
	t.Logf("%d of %d were killed before the end", middle, steps-1)
	if middle == 0 {
		t.Error("no migration was killed before its end")
	}
	s, err := Open(t.Context(), Config{Path: path, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	checkRecords(t, s, records)
	if log := fileSize(path + "-wal"); log > size/10 {
		t.Errorf("the log of the migration kept %d bytes", log)
	}
}

// killMigration starts a process that migrates, and kills it when its log has
// that many bytes.
func killMigration(t *testing.T, path string, atSize int64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), migrateVariable+"="+path)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() && !strings.Contains(lines.Text(), "migrating the database") {
		}
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && fileSize(path+"-wal") < atSize; {
			time.Sleep(time.Millisecond)
		}
		cmd.Process.Kill()
	}()
	_ = cmd.Wait()
}

func fileSize(path string) int64 {
	fi, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return fi.Size()
}

// schemaOf is the version that a database has, without migrating it.
func schemaOf(t *testing.T, path string) (version int) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(`SELECT max(version) FROM migrations`).Scan(&version); err != nil {
		t.Fatal(err)
	}
	return version
}

// A migration that finds no room changes nothing, and works when there is some.
func TestFullDiskWhileMigrating(t *testing.T) {
	t.Parallel()
	const records = 300
	old := filepath.Join(t.TempDir(), "c.db")
	firstSchema(t, old, records)
	raw, err := os.ReadFile(old)
	if err != nil {
		t.Fatal(err)
	}
	dir := smallDisk(t, "4m")
	path := filepath.Join(dir, "c.db")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 4<<20-len(raw)-600<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openQuiet(path); fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.Message(err), "full") {
		t.Fatalf("got %v", err)
	}
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	if v := schemaOf(t, path); v != 1 {
		t.Errorf("the schema is %d", v)
	}
	s, err := Open(t.Context(), Config{Path: path, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	checkRecords(t, s, records)
}

// The log says that a database is migrated, before and after; of a new one only after.
func TestMigrationIsLogged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "c.db")
	firstSchema(t, path, 2)
	for _, c := range []struct {
		path   string
		before int
		after  int
	}{{path, 1, 1}, {path, 0, 0}, {filepath.Join(t.TempDir(), "new.db"), 0, 2}} {
		var log bytes.Buffer
		s, err := Open(t.Context(), Config{Path: c.path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		before, after := strings.Count(log.String(), "migrating the database"), strings.Count(log.String(), "database migrated")
		if before != c.before || after != c.after {
			t.Errorf("%s: announced %d, want %d; done %d, want %d\n%s", filepath.Base(c.path), before, c.before, after, c.after, &log)
		}
	}
}

// Records are found by one look-up in an index, and lists of names read nothing else.
func TestKeysHaveAnIndex(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	query, args := listQuery("key", "t", "pki/", "", 0)
	for _, c := range []struct {
		query string
		args  []any
		want  string
	}{
		{`SELECT version, data FROM records WHERE tbl = ? AND key = ?`, []any{"t", []byte("k")}, "USING INDEX records_by_key (tbl=? AND key=?)"},
		{query, args, "USING COVERING INDEX records_by_key"},
	} {
		var id, parent, unused int
		var detail string
		err := s.readers.QueryRowContext(t.Context(), "EXPLAIN QUERY PLAN "+c.query, c.args...).Scan(&id, &parent, &unused, &detail)
		if err != nil || !strings.Contains(detail, c.want) {
			t.Errorf("%s: the plan is %q, %v", c.query, detail, err)
		}
	}
}

// The memory of a migration does not grow with the database.
func TestMemoryOfMigration(t *testing.T) {
	t.Parallel()
	const records = 15_000
	path := filepath.Join(t.TempDir(), "c.db")
	firstSchema(t, path, records)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), migrateVariable+"="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	peak := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(out)
	if peak == nil {
		t.Fatalf("no peak: %s", out)
	}
	used, err := strconv.Atoi(string(peak[1]))
	if err != nil {
		t.Fatal(err)
	}
	used >>= 10
	t.Logf("%d MiB for a table of %d MiB", used, fileSize(path)>>20)
	if used > 70 {
		t.Errorf("the migration of %d records needed %d MiB", records, used)
	}
}
