package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/storetest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

var onDisk = storetest.Backend{
	Place: func(t *testing.T) string { return filepath.Join(t.TempDir(), "data", "claviger.db") },
	Open:  func(place string) (store.Store, error) { return openQuiet(place) },
}

func openQuiet(path string) (store.Store, error) {
	s, err := Open(context.Background(), Config{Path: path, Logger: quiet})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func TestMain(m *testing.M) {
	if limitChild() || migrateChild() || buildChild() {
		return
	}
	storetest.Main(m, onDisk)
}

func TestSuiteOnDisk(t *testing.T) { t.Parallel(); storetest.Run(t, onDisk) }

func TestSuiteInMemory(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Backend{
		Place:    func(*testing.T) string { return "" },
		Open:     openQuiet,
		Volatile: true,
	})
}

// newStore opens a database in a directory of its own.
func newStore(t testing.TB) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data", "claviger.db")
	s, err := Open(t.Context(), Config{Path: path, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, path
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	s, path := newStore(t)
	if err := s.Apply(t.Context(), store.Change{Table: "t", Key: "k", Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	if fi, _ := os.Stat(dir); fi.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %o", fi.Mode().Perm())
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 4 {
		t.Errorf("files %v, want the database, its log, its index and the lock", entries)
	}
	for _, e := range entries {
		if fi, _ := e.Info(); fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", e.Name(), fi.Mode().Perm())
		}
	}
	s.Close()
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := openQuiet(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if fi, _ := os.Stat(path); fi.Mode().Perm() != 0o600 {
		t.Errorf("after opening again the file has mode %o", fi.Mode().Perm())
	}
}

func TestTwoServers(t *testing.T) {
	t.Parallel()
	s, path := newStore(t)
	_, err := openQuiet(path)
	if !errors.Is(err, store.ErrBusy) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Fatalf("second Open: %v", err)
	}
	if err := s.Apply(t.Context(), store.Change{Table: "t", Key: "k", Data: []byte("x")}); err != nil {
		t.Errorf("the first server: %v", err)
	}
	s.Close()
	again, err := openQuiet(path)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	again.Close()
}

func TestOddPaths(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a b?mode=ro#x%41.db", "ü&_synchronous=OFF.db", "%2e.db"} {
		path := filepath.Join(t.TempDir(), name)
		s, err := openQuiet(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s.Close()
		if fi, err := os.Stat(path); err != nil || fi.Size() == 0 {
			t.Errorf("%s: not the file that was written: %v", name, err)
		}
	}
}

// The settings that durability and safety rest on, as SQLite reports them.
func TestSettings(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000",
		"trusted_schema": "0", "secure_delete": "1", "cell_size_check": "1",
	} {
		var got string
		if err := s.writer.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, want %s (%v)", pragma, got, want, err)
		}
	}
	if _, err := s.readers.Exec(`DELETE FROM records`); err == nil {
		t.Error("a reader can write")
	}
}

func BenchmarkGet(b *testing.B) {
	s, _ := newStore(b)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	for i := range 1000 {
		if err := s.Apply(ctx, store.Change{Table: "keys", Key: fmt.Sprint("k", i), Data: make([]byte, 500)}); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		if _, err := s.Get(ctx, "keys", fmt.Sprint("k", i%1000)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			s, _ := newStore(b)
			b.SetParallelism((callers + 1) / 2)
			names := make(chan string, 100)
			go func() {
				for i := range 100 {
					names <- fmt.Sprint("k", i)
				}
			}()
			b.RunParallel(func(pb *testing.PB) {
				key := <-names
				data := make([]byte, 500)
				for n := int64(0); pb.Next(); n++ {
					if err := s.Apply(b.Context(), store.Change{Table: "t", Key: key, Expect: n, Data: data}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// TestPageIsFoundAtOnce: a page in the middle of a long list is looked up, not
// counted from the list's beginning.
func TestPageIsFoundAtOnce(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	query, args := listQuery("key", "t", "pki/", "pki/5", 100)
	rows, err := s.readers.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if strings.Count(query, "key >") != 1 {
		t.Errorf("two lower bounds: %s", query)
	}
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(detail, "SEARCH") || !strings.Contains(detail, "key>? AND key<?") {
			t.Errorf("the plan is %q", detail)
		}
	}
	if err := rows.Err(); err != nil {
		t.Error(err)
	}
}

// TestGroupWithConflict: a conflict gives up a group that runs without
// savepoints, with nothing changed; with them it is its own member's alone, in
// the same transaction.
func TestGroupWithConflict(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	if err := s.Apply(t.Context(), store.Change{Table: "t", Key: "there", Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	add := func(keys ...string) *request {
		r := &request{ctx: t.Context()}
		for _, k := range keys {
			r.changes = append(r.changes, store.Change{Table: "t", Key: k, Data: []byte("x")})
		}
		return r
	}
	group := []*request{add("a"), add("b", "there"), add("c")}
	has := func() string {
		names, err := s.Names(t.Context(), "t", "", "", 0)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(names, " ")
	}
	if err := s.transact(group, make([]error, 3), false); !errors.Is(err, store.ErrConflict) || has() != "there" {
		t.Errorf("without savepoints: %v, records %q", err, has())
	}
	results := make([]error, 3)
	if err := s.transact(group, results, true); err != nil || has() != "a c there" {
		t.Errorf("with savepoints: %v, records %q", err, has())
	}
	if results[0] != nil || !errors.Is(results[1], store.ErrConflict) || results[2] != nil {
		t.Errorf("with savepoints the members fare so: %v", results)
	}
}
