package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

var archived = []store.Record{
	{Table: "a", Key: "", Version: 1, Data: []byte{}},
	{Table: "a", Key: "\x00\xff", Version: 7, Data: []byte("x")},
	{Table: "b", Key: "k", Version: 1 << 40, Data: []byte("y")},
}

func fillWith(records []store.Record, after error) func(func(store.Record) error) error {
	return func(put func(store.Record) error) error {
		for _, r := range records {
			if err := put(r); err != nil {
				return err
			}
		}
		return after
	}
}

func dumped(t *testing.T, path string) (all []store.Record) {
	t.Helper()
	s, err := Open(t.Context(), Config{Path: path, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Dump(t.Context(), func(r store.Record) error { all = append(all, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func sameRecords(t *testing.T, got []store.Record) {
	t.Helper()
	if len(got) != len(archived) {
		t.Fatalf("%d records", len(got))
	}
	for i, r := range got {
		w := archived[i]
		if r.Table != w.Table || r.Key != w.Key || r.Version != w.Version || !bytes.Equal(r.Data, w.Data) {
			t.Errorf("record %d: %+v", i, r)
		}
	}
}

// only checks which files are beside a database.
func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("files %v, want %v", names, want)
	}
}

func TestBuildAndDump(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "below", "data")
	path := filepath.Join(dir, "c.db")
	if _, err := Build(t.Context(), path, false, fillWith(archived, nil)); err != nil {
		t.Fatal(err)
	}
	only(t, dir, "c.db", "c.db.lock")
	if fi, _ := os.Stat(path); fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", fi.Mode().Perm())
	}
	sameRecords(t, dumped(t, path))
	s, err := Open(t.Context(), Config{Path: path, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Apply(t.Context(), store.Change{Table: "a", Key: "\x00\xff", Expect: 7, Data: []byte("z")}); err != nil {
		t.Errorf("going on from a restored version: %v", err)
	}
}

// While it is read others write, and are not seen.
func TestDumpIsOneMoment(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	for i := range 200 {
		if err := s.Apply(t.Context(), store.Change{Table: "t", Key: fmt.Sprintf("%03d", i), Data: []byte("before")}); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	err := s.Dump(t.Context(), func(r store.Record) error {
		if seen++; seen == 1 {
			if err := s.Apply(t.Context(), store.Change{Table: "t", Key: "199", Expect: 1, Data: []byte("after")},
				store.Change{Table: "t", Key: "200", Data: []byte("after")}); err != nil {
				return err
			}
		}
		if string(r.Data) != "before" {
			return fmt.Errorf("saw %s of %s", r.Data, r.Key)
		}
		return nil
	})
	if err != nil || seen != 200 {
		t.Errorf("saw %d, %v", seen, err)
	}
	mine := errors.New("mine")
	if err := s.Dump(t.Context(), func(store.Record) error { return mine }); err != mine {
		t.Error(err)
	}
}

func TestBuildOverAnother(t *testing.T) {
	t.Parallel()
	s, path := newStore(t)
	if err := s.Apply(t.Context(), store.Change{Table: "old", Key: "k", Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	for _, replace := range []bool{false, true} {
		if _, err := Build(t.Context(), path, replace, fillWith(archived, nil)); !errors.Is(err, store.ErrBusy) {
			t.Errorf("while a server uses it: %v", err)
		}
	}
	s.Close()
	if _, err := Build(t.Context(), path, false, fillWith(archived, nil)); fault.KindOf(err) != fault.Conflict {
		t.Errorf("without replace: %v", err)
	}
	mine := errors.New("mine")
	if _, err := Build(t.Context(), path, true, fillWith(archived, mine)); err != mine {
		t.Errorf("what fails: %v", err)
	}
	if got := dumped(t, path); len(got) != 1 || got[0].Table != "old" {
		t.Errorf("after what failed: %v", got)
	}
	aside, err := Build(t.Context(), path, true, fillWith(archived, nil))
	if err != nil {
		t.Fatal(err)
	}
	sameRecords(t, dumped(t, path))
	if got := dumped(t, aside); len(got) != 1 || got[0].Table != "old" {
		t.Errorf("aside: %v", got)
	}
}

// A file that is no database any more is no reason not to restore.
func TestBuildOverDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "c.db")
	for name, text := range map[string]string{path: "ruins", path + "-wal": "of a log"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	aside, err := Build(t.Context(), path, true, fillWith(archived, nil))
	if err != nil {
		t.Fatal(err)
	}
	sameRecords(t, dumped(t, path))
	for name, want := range map[string]string{aside: "ruins", aside + "-wal": "of a log"} {
		if text, _ := os.ReadFile(name); string(text) != want {
			t.Errorf("%s: %q", name, text)
		}
	}
}

func TestBuildDiskFull(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "1m")
	path := filepath.Join(dir, "c.db")
	_, err := Build(t.Context(), path, false, fillWith([]store.Record{{Table: "t", Key: "k", Version: 1, Data: make([]byte, 2<<20)}}, nil))
	if err := unavailable(err, "full"); err != nil {
		t.Error(err)
	}
	only(t, dir, "c.db.lock")
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), path, false, fillWith(archived, nil)); err != nil {
		t.Error(err)
	}
}

const buildVariable = "CLAVIGER_SQLITE_BUILD"

// buildChild is the child of TestBuildKilled: it builds a large database over and over.
func buildChild() bool {
	path := os.Getenv(buildVariable)
	if path == "" {
		return false
	}
	for {
		_, err := Build(context.Background(), path, true, func(put func(store.Record) error) error {
			for i := range 2000 {
				if err := put(store.Record{Table: "t", Key: fmt.Sprintf("%04d", i), Version: 3, Data: make([]byte, 500)}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("built")
	}
}

// Killed at any moment: there is a whole database under the name, or none.
func TestBuildKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "c.db")
	for i := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), buildVariable+"="+path)
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+37*i) * time.Millisecond)
		cmd.Process.Kill()
		if cmd.Wait(); strings.Contains(out.String(), "database") {
			t.Fatal(out.String())
		}
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if got := dumped(t, path); len(got) != 2000 {
			t.Fatalf("after %d kills: %d records; %s", i+1, len(got), out.String())
		}
	}
	if _, err := Build(t.Context(), path, true, fillWith(archived, nil)); err != nil {
		t.Fatal(err)
	}
	sameRecords(t, dumped(t, path))
	if left, _ := filepath.Glob(path + buildSuffix + "*"); len(left) != 0 {
		t.Errorf("left of those that were killed: %v", left)
	}
}
