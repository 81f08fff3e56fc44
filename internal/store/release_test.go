package store_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/sqlite"
)

var update = flag.Bool("update", false, "write the database of the current release anew")

// currentRelease names the directory that -update writes. Directories of older
// releases are never written again.
const currentRelease = "release-0.1"

// fixtureKey is the storage key of the fixtures. It is public and protects nothing.
var fixtureKey = []byte("claviger public fixture key 0001")

type fixtureRecord struct {
	Text  string            `json:"text"`
	Bytes []byte            `json:"bytes"`
	Meta  map[string]string `json:"meta"`
	N     int64             `json:"n"`
}

func fixtureRecords() map[[2]string]fixtureRecord {
	records := map[[2]string]fixtureRecord{
		{"keys", "transit/app"}:          {Text: "a key", Bytes: []byte{0, 1, 0xff}, N: 1 << 60},
		{"keys", "transit/ünïcode/日本"}:   {Text: "日本", Meta: map[string]string{"a": "b"}},
		{"policies", "default"}:          {Text: `path "x/*" { capabilities = ["read"] }`},
		{"audit", "head"}:                {N: 17},
		{"tokens", "100% _odd_ \x00key"}: {Text: strings.Repeat("large ", 3000)},
	}
	for i := range 20 {
		records[[2]string{"many", fmt.Sprintf("%03d", i)}] = fixtureRecord{N: int64(i)}
	}
	return records
}

// writeFixture makes a database in which the record keys/transit/app was
// written three times and one record was deleted.
func writeFixture(t *testing.T, path string) {
	os.Remove(path)
	db, s := openFixture(t, path)
	for place, r := range fixtureRecords() {
		for version := range int64(3) {
			if version > 0 && place != [2]string{"keys", "transit/app"} {
				break
			}
			applyPut(t, s, place[0], place[1], version, r)
		}
	}
	applyPut(t, s, "many", "deleted", 0, fixtureRecord{})
	if err := s.Apply(t.Context(), s.Remove("many", "deleted", 1)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	os.Remove(path + ".lock")
}

func applyPut(t *testing.T, s *store.Sealed, table, key string, expect int64, v any) {
	t.Helper()
	c, err := s.Put(table, key, expect, v)
	if err == nil {
		err = s.Apply(t.Context(), c)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func openFixture(t *testing.T, path string) (*sqlite.Store, *store.Sealed) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s := store.NewSealed(db)
	if err := s.Unseal(fixtureKey); err != nil {
		t.Fatal(err)
	}
	return db, s
}

// The database of every release so far opens, says what it said, and can be
// written on.
func TestReleases(t *testing.T) {
	if *update {
		writeFixture(t, filepath.Join("testdata", currentRelease, "claviger.db"))
	}
	fixtures, err := filepath.Glob("testdata/release-*/claviger.db")
	if err != nil || len(fixtures) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, fixture := range fixtures {
		t.Run(filepath.Base(filepath.Dir(fixture)), func(t *testing.T) { readFixture(t, fixture) })
	}
}

func readFixture(t *testing.T, fixture string) {
	raw, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "claviger.db")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	db, s := openFixture(t, path)
	for place, want := range fixtureRecords() {
		var got fixtureRecord
		version, err := s.Get(t.Context(), place[0], place[1], &got)
		if err != nil {
			t.Fatal(err)
		}
		wantVersion := int64(1)
		if place == [2]string{"keys", "transit/app"} {
			wantVersion = 3
		}
		if version != wantVersion || got.Text != want.Text || !bytes.Equal(got.Bytes, want.Bytes) || got.N != want.N || fmt.Sprint(got.Meta) != fmt.Sprint(want.Meta) {
			t.Errorf("%q: version %d, %+v", place, version, got)
		}
	}
	list, err := s.List(t.Context(), "many", "", "", 0)
	if err != nil || len(list) != 20 {
		t.Errorf("%d entries, %v", len(list), err)
	}
	applyPut(t, s, "keys", "transit/app", 3, fixtureRecord{})
	if err := db.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
