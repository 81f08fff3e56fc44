// Package storetest is the suite that every store.Store must pass: the rules of
// compare-and-swap, atomic changes, order of lists, and durability when the
// process is killed.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/claviger/claviger/internal/store"
)

// Backend is a driver under test.
type Backend struct {
	// Place makes an empty database and returns where it is.
	Place func(t *testing.T) string
	// Open opens the database at a place; after Close it can be opened again.
	Open func(place string) (store.Store, error)
	// Volatile databases forget everything when they are closed.
	Volatile bool
}

// Run runs the suite. A driver whose places outlive the process must call Main
// from its TestMain, with the same backend.
func Run(t *testing.T, b Backend) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Backend)
	}{
		{"versions", testVersions},
		{"conflicts", testConflicts},
		{"atomic", testAtomic},
		{"order of changes", testOrderOfChanges},
		{"absence", testAbsence},
		{"empty data", testEmptyData},
		{"list", testList},
		{"list of odd keys", testListOddKeys},
		{"big values", testBigValues},
		{"counter", testCounter},
		{"readers see whole changes", testReaders},
		{"context", testContext},
		{"closed", testClosed},
		{"check", testCheck},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, b)
		})
	}
	if !b.Volatile {
		t.Run("reopen", func(t *testing.T) { t.Parallel(); testReopen(t, b) })
		t.Run("kill", func(t *testing.T) { t.Parallel(); testKill(t, b) })
	}
}

func (b Backend) open(t *testing.T) store.Store {
	t.Helper()
	s, err := b.Open(b.Place(t))
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(table, key string, expect int64, data string) store.Change {
	return store.Change{Table: table, Key: key, Expect: expect, Data: []byte(data)}
}

func apply(t *testing.T, s store.Store, changes ...store.Change) {
	t.Helper()
	if err := s.Apply(t.Context(), changes...); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

// want checks one record; version 0 means that there is none.
func want(t *testing.T, s store.Store, table, key string, version int64, data string) {
	t.Helper()
	r, err := s.Get(t.Context(), table, key)
	if version == 0 {
		if !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("%s/%q: got version %d, error %v, want none", table, key, r.Version, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("%s/%q: %v", table, key, err)
	}
	if r.Table != table || r.Key != key || r.Version != version || string(r.Data) != data {
		t.Fatalf("got %s/%q version %d %.40q, want %s/%q version %d %.40q", r.Table, r.Key, r.Version, r.Data, table, key, version, data)
	}
}

func wantConflict(t *testing.T, s store.Store, changes ...store.Change) {
	t.Helper()
	if err := s.Apply(t.Context(), changes...); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("got %v, want a conflict", err)
	}
}

func testVersions(t *testing.T, b Backend) {
	s := b.open(t)
	want(t, s, "t", "k", 0, "")
	apply(t, s)
	apply(t, s, put("t", "k", 0, "one"))
	want(t, s, "t", "k", 1, "one")
	want(t, s, "other", "k", 0, "")
	apply(t, s, put("t", "k", 1, "two"))
	want(t, s, "t", "k", 2, "two")
	apply(t, s, store.Change{Table: "t", Key: "k", Expect: 2})
	want(t, s, "t", "k", 0, "")
	apply(t, s, put("t", "k", 0, "again"))
	want(t, s, "t", "k", 1, "again")
}

func testConflicts(t *testing.T, b Backend) {
	s := b.open(t)
	wantConflict(t, s, put("t", "k", 1, "x"))
	wantConflict(t, s, store.Change{Table: "t", Key: "k", Expect: 1})
	wantConflict(t, s, put("t", "k", -1, "x"))
	want(t, s, "t", "k", 0, "")
	apply(t, s, put("t", "k", 0, "one"))
	apply(t, s, put("t", "k", 1, "two"))
	for _, expect := range []int64{-1, 0, 1, 3} {
		wantConflict(t, s, put("t", "k", expect, "x"))
		wantConflict(t, s, store.Change{Table: "t", Key: "k", Expect: expect})
	}
	want(t, s, "t", "k", 2, "two")
}

func testAtomic(t *testing.T, b Backend) {
	s := b.open(t)
	apply(t, s, put("t", "a", 0, "a"), put("t", "b", 0, "b"), put("u", "a", 0, "ua"))
	wantConflict(t, s,
		put("t", "a", 1, "changed"),
		put("t", "new", 0, "new"),
		store.Change{Table: "u", Key: "a", Expect: 1},
		put("t", "b", 7, "conflict"))
	want(t, s, "t", "a", 1, "a")
	want(t, s, "t", "b", 1, "b")
	want(t, s, "u", "a", 1, "ua")
	want(t, s, "t", "new", 0, "")
	apply(t, s, put("t", "a", 1, "a2"), store.Change{Table: "u", Key: "a", Expect: 1}, put("t", "new", 0, "new"))
	want(t, s, "t", "a", 2, "a2")
	want(t, s, "u", "a", 0, "")
	want(t, s, "t", "new", 1, "new")
}

// Changes of one record within one Apply follow each other.
func testOrderOfChanges(t *testing.T, b Backend) {
	s := b.open(t)
	apply(t, s, put("t", "k", 0, "1"), put("t", "k", 1, "2"), put("t", "k", 2, "3"))
	want(t, s, "t", "k", 3, "3")
	apply(t, s, store.Change{Table: "t", Key: "k", Expect: 3}, put("t", "k", 0, "new"))
	want(t, s, "t", "k", 1, "new")
	wantConflict(t, s, put("t", "k", 1, "x"), put("t", "k", 1, "y"))
	want(t, s, "t", "k", 1, "new")
}

// A change with neither a version nor data demands that there is no record.
func testAbsence(t *testing.T, b Backend) {
	s := b.open(t)
	absent := store.Change{Table: "t", Key: "k"}
	apply(t, s, absent, put("t", "other", 0, "x"))
	want(t, s, "t", "k", 0, "")
	apply(t, s, put("t", "k", 0, "x"))
	wantConflict(t, s, put("t", "other", 1, "y"), absent)
	want(t, s, "t", "other", 1, "x")
}

func testEmptyData(t *testing.T, b Backend) {
	s := b.open(t)
	apply(t, s, store.Change{Table: "t", Key: "k", Data: []byte{}})
	want(t, s, "t", "k", 1, "")
	if r, _ := s.Get(t.Context(), "t", "k"); r.Data == nil {
		t.Error("Get: empty data came back as nil, which means deleted")
	}
	list, err := s.List(t.Context(), "t", "", "", 0)
	if err != nil || len(list) != 1 || list[0].Data == nil {
		t.Errorf("List: got %v, %v", list, err)
	}
	apply(t, s, store.Change{Table: "t", Key: "k", Expect: 1, Data: []byte{}})
	want(t, s, "t", "k", 2, "")
	apply(t, s, store.Change{Table: "t", Key: "k", Expect: 2})
	want(t, s, "t", "k", 0, "")
}

func keysOf(t *testing.T, s store.Store, table, prefix, after string, limit int) []string {
	t.Helper()
	records, err := s.List(t.Context(), table, prefix, after, limit)
	if err != nil {
		t.Fatalf("list %q: %v", prefix, err)
	}
	var keys []string
	for _, r := range records {
		if string(r.Data) != "data of "+r.Key || r.Version != 1 || r.Table != table {
			t.Errorf("list: record %+v", r)
		}
		keys = append(keys, r.Key)
	}
	names, err := s.Names(t.Context(), table, prefix, after, limit)
	if err != nil || !slices.Equal(names, keys) {
		t.Errorf("names %q: %q, %v; the list has %q", prefix, names, err, keys)
	}
	return keys
}

func testList(t *testing.T, b Backend) {
	s := b.open(t)
	for _, k := range []string{"b", "a", "a/2", "a/10", "a/1", "A", "c"} {
		apply(t, s, put("t", k, 0, "data of "+k))
	}
	apply(t, s, put("u", "a/1", 0, "data of a/1"))
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          string
	}{
		{"", "", 0, "A a a/1 a/10 a/2 b c"},
		{"", "", 3, "A a a/1"},
		{"", "a/1", 2, "a/10 a/2"},
		{"", "a/11", 0, "a/2 b c"},
		{"", "zzz", 0, ""},
		{"a/", "", 0, "a/1 a/10 a/2"},
		{"a/", "a/1", 1, "a/10"},
		{"a/", "a/2", 0, ""},
		{"a/", "A", 0, "a/1 a/10 a/2"},
		{"a/1", "", 0, "a/1 a/10"},
		{"d", "", 0, ""},
	} {
		if got := strings.Join(keysOf(t, s, "t", c.prefix, c.after, c.limit), " "); got != c.want {
			t.Errorf("prefix %q after %q limit %d: got %q, want %q", c.prefix, c.after, c.limit, got, c.want)
		}
	}
	if got := keysOf(t, s, "nothing", "", "", 0); len(got) != 0 {
		t.Errorf("empty table: got %q", got)
	}
}

func testListOddKeys(t *testing.T, b Backend) {
	s := b.open(t)
	keys := []string{
		"%", "%a", "_", "_a", "*", "?", "[a]", `\`, "'", `"`, "a%b", "a_b", "aXb", "A", " ", "\x01",
		"é", "ée", "ê", "日本", "\u00ff", "\U0010ffff", "\U0010ffff\U0010ffff", "\x7f", "a\x00b", "a\x00",
		"\x80", "\xff", "\xff\xff", "\xffa", "\xfe\xff",
	}
	for _, k := range keys {
		apply(t, s, put("t", k, 0, "data of "+k))
		want(t, s, "t", k, 1, "data of "+k)
	}
	slices.Sort(keys)
	if got := keysOf(t, s, "t", "", "", 0); !slices.Equal(got, keys) {
		t.Fatalf("got  %q\nwant %q", got, keys)
	}
	for _, prefix := range append(keys, "\xc3", "a\x00b", "\xf4") {
		var expect []string
		for _, k := range keys {
			if strings.HasPrefix(k, prefix) {
				expect = append(expect, k)
			}
		}
		if got := keysOf(t, s, "t", prefix, "", 0); !slices.Equal(got, expect) {
			t.Errorf("prefix %q: got %q, want %q", prefix, got, expect)
		}
	}
	var paged []string
	for after := ""; ; {
		page := keysOf(t, s, "t", "", after, 4)
		if len(page) == 0 {
			break
		}
		paged = append(paged, page...)
		after = page[len(page)-1]
	}
	if !slices.Equal(paged, keys) {
		t.Errorf("in pages: got %q", paged)
	}
}

func testBigValues(t *testing.T, b Backend) {
	s := b.open(t)
	for i, size := range []int{1, 4095, 4096, 65537, 1 << 20, 8<<20 + 3} {
		data := bytes.Repeat([]byte{byte(i), 0, 0xff, byte(size)}, size/4+1)[:size]
		key := fmt.Sprint("k", size)
		apply(t, s, store.Change{Table: "t", Key: key, Data: data})
		want(t, s, "t", key, 1, string(data))
	}
	long := strings.Repeat("long key ", 500)
	apply(t, s, put("t", long, 0, "x"))
	want(t, s, "t", long, 1, "x")
}

func testCounter(t *testing.T, b Backend) {
	s := b.open(t)
	const workers, each = 16, 25
	apply(t, s, put("t", "n", 0, "0"))
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				if err := increment(t.Context(), s, fmt.Sprintf("%d/%d", w, i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	want(t, s, "t", "n", workers*each+1, fmt.Sprint(workers*each))
	list, err := s.List(t.Context(), "log", "", "", 0)
	if err != nil || len(list) != workers*each {
		t.Errorf("%d log records, error %v, want %d", len(list), err, workers*each)
	}
}

// increment adds one to the record n, and a log record with it, and tries again
// while others are faster.
func increment(ctx context.Context, s store.Store, mark string) error {
	for {
		r, err := s.Get(ctx, "t", "n")
		if err != nil {
			return err
		}
		var n int
		if _, err := fmt.Sscan(string(r.Data), &n); err != nil {
			return err
		}
		err = s.Apply(ctx, put("log", mark, 0, mark), put("t", "n", r.Version, fmt.Sprint(n+1)))
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// While one goroutine writes two records together, readers never see one change
// without the other.
func testReaders(t *testing.T, b Backend) {
	s := b.open(t)
	apply(t, s, put("t", "a", 0, "0"), put("t", "b", 0, "0"))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				list, err := s.List(t.Context(), "t", "", "", 0)
				if err != nil || len(list) != 2 || list[0].Version != list[1].Version || !bytes.Equal(list[0].Data, list[1].Data) {
					t.Errorf("got %v, %v", list, err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range int64(100) {
		d := fmt.Sprint(i)
		apply(t, s, put("t", "b", i+1, d), put("t", "a", i+1, d))
	}
	close(stop)
	wg.Wait()
}

func testContext(t *testing.T, b Backend) {
	s := b.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Apply(ctx, put("t", "k", 0, "x")); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("apply: %v", err)
	} else if err != nil {
		want(t, s, "t", "k", 0, "")
	}
	if _, err := s.Get(ctx, "t", "none"); !errors.Is(err, context.Canceled) && !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.List(ctx, "t", "", "", 0); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v", err)
	}
	apply(t, s, put("t", "after", 0, "x"))
	want(t, s, "t", "after", 1, "x")
}

func testClosed(t *testing.T, b Backend) {
	s := b.open(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := s.Get(t.Context(), "t", "k"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.List(t.Context(), "t", "", "", 0); err == nil {
		t.Error("list worked")
	}
	if err := s.Apply(t.Context(), put("t", "k", 0, "x")); err == nil || errors.Is(err, store.ErrConflict) {
		t.Errorf("apply: %v", err)
	}
	if err := s.Check(t.Context()); err == nil {
		t.Error("check worked")
	}
}

func testCheck(t *testing.T, b Backend) {
	s := b.open(t)
	for range 3 {
		if err := s.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, s, put("t", "k", 0, "x"))
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func testReopen(t *testing.T, b Backend) {
	place := b.Place(t)
	for i := range int64(4) {
		s, err := b.Open(place)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			want(t, s, "t", "k", i, fmt.Sprint("round ", i-1))
		}
		apply(t, s, put("t", "k", i, fmt.Sprint("round ", i)), put("t", fmt.Sprint("k", i), 0, "x"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
