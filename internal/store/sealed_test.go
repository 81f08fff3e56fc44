package store_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/sqlite"
)

// one is a Store of a single record, for the places that a real one would refuse.
type one struct {
	store.Store
	record store.Record
}

func (o one) Get(_ context.Context, table, key string) (store.Record, error) { return o.record, nil }

func (o one) List(_ context.Context, table, prefix, after string, limit int) ([]store.Record, error) {
	return []store.Record{o.record}, nil
}

var testKey = bytes.Repeat([]byte{7}, store.StorageKeySize)

// opens tells whether Sealed opens a record, by Get and by List alike.
func opens(t *testing.T, key []byte, r store.Record) (json.RawMessage, error) {
	t.Helper()
	s := store.NewSealed(one{record: r})
	if err := s.Unseal(key); err != nil {
		t.Fatal(err)
	}
	var got json.RawMessage
	_, err := s.Get(t.Context(), r.Table, r.Key, &got)
	entries, listErr := s.List(t.Context(), r.Table, "", "", 0)
	if (err == nil) != (listErr == nil) || errors.Is(err, store.ErrCorrupt) != errors.Is(listErr, store.ErrCorrupt) {
		t.Fatalf("Get says %v, List says %v", err, listErr)
	}
	if err == nil {
		var listed json.RawMessage
		if err := entries[0].Decode(&listed); err != nil || !bytes.Equal(listed, got) || entries[0].Version != r.Version {
			t.Fatalf("List gives %s version %d, %v", listed, entries[0].Version, err)
		}
	}
	return got, err
}

// sealedRecord is what Put writes, as a record of the database.
func sealedRecord(t *testing.T, table, key string, version int64, v any) store.Record {
	t.Helper()
	s := store.NewSealed(nil)
	if err := s.Unseal(testKey); err != nil {
		t.Fatal(err)
	}
	c, err := s.Put(table, key, version-1, v)
	if err != nil {
		t.Fatal(err)
	}
	if c.Table != table || c.Key != key || c.Expect != version-1 {
		t.Fatalf("change %+v", c)
	}
	return store.Record{Table: table, Key: key, Version: version, Data: c.Data}
}

type knownAnswer struct {
	StorageKey string `json:"storage_key"`
	Table      string `json:"table"`
	Key        string `json:"key"`
	Version    int64  `json:"version"`
	JSON       string `json:"json"`
	Sealed     string `json:"sealed"`
}

// knownAnswers reads testdata/sealed-1.json, which was made from the description
// of the format by another implementation (Python's cryptography package).
func knownAnswers(t testing.TB) []knownAnswer {
	t.Helper()
	raw, err := os.ReadFile("testdata/sealed-1.json")
	if err != nil {
		t.Fatal(err)
	}
	var answers []knownAnswer
	if err := json.Unmarshal(raw, &answers); err != nil || len(answers) == 0 {
		t.Fatal("known answers: ", err)
	}
	return answers
}

func TestSealedKnownAnswers(t *testing.T) {
	t.Parallel()
	for _, a := range knownAnswers(t) {
		key, _ := hex.DecodeString(a.StorageKey)
		data, _ := hex.DecodeString(a.Sealed)
		got, err := opens(t, key, store.Record{Table: a.Table, Key: a.Key, Version: a.Version, Data: data})
		if err != nil || string(got) != a.JSON {
			t.Errorf("%s/%q: got %s, %v", a.Table, a.Key, got, err)
		}
	}
}

// What Put writes is the documented format, opened here by hand.
func TestSealedFormat(t *testing.T) {
	t.Parallel()
	r := sealedRecord(t, "tab", "the key", 5, map[string]int{"n": 1})
	aad := []byte("claviger record 1\x00\x00\x00\x00\x00\x00\x00\x03tab\x00\x00\x00\x00\x00\x00\x00\x07the key")
	aad = binary.BigEndian.AppendUint64(aad, 5)
	block, _ := aes.NewCipher(testKey)
	gcm, _ := cipher.NewGCM(block)
	plain, err := gcm.Open(nil, r.Data[1:13], r.Data[13:], aad)
	if err != nil || string(plain) != `{"n":1}` || r.Data[0] != 1 {
		t.Errorf("got %q, %v", plain, err)
	}
	if other := sealedRecord(t, "tab", "the key", 5, map[string]int{"n": 1}); bytes.Equal(r.Data[1:13], other.Data[1:13]) {
		t.Error("a nonce was used twice")
	}
}

func TestSealedEveryBit(t *testing.T) {
	t.Parallel()
	r := sealedRecord(t, "t", "k", 1, "a secret value")
	if _, err := opens(t, testKey, r); err != nil {
		t.Fatal(err)
	}
	for bit := range len(r.Data) * 8 {
		r.Data[bit/8] ^= 1 << (bit % 8)
		if got, err := opens(t, testKey, r); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("bit %d: got %s, %v", bit, got, err)
		}
		r.Data[bit/8] ^= 1 << (bit % 8)
	}
	for n := range len(r.Data) {
		cut := r
		cut.Data = r.Data[:n]
		if _, err := opens(t, testKey, cut); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	r.Data = append(r.Data, 0)
	if _, err := opens(t, testKey, r); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("with a byte more: %v", err)
	}
}

// A record opens only under its own table, key and version. The names are
// chosen so that joining them without lengths would confuse them.
func TestSealedSwapped(t *testing.T) {
	t.Parallel()
	r := sealedRecord(t, "ab", "c", 2, "value")
	for _, place := range []store.Record{
		{Table: "a", Key: "bc", Version: 2},
		{Table: "abc", Key: "", Version: 2},
		{Table: "", Key: "abc", Version: 2},
		{Table: "ab", Key: "d", Version: 2},
		{Table: "ac", Key: "c", Version: 2},
		{Table: "ab", Key: "c", Version: 1},
		{Table: "ab", Key: "c", Version: 3},
		{Table: "ab", Key: "c", Version: 2 + 1<<32},
	} {
		place.Data = r.Data
		if _, err := opens(t, testKey, place); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s/%s version %d: %v", place.Table, place.Key, place.Version, err)
		}
	}
	otherKey := bytes.Repeat([]byte{8}, store.StorageKeySize)
	if _, err := opens(t, otherKey, r); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("with another storage key: %v", err)
	}
}

// The same in a real database: what somebody with write access can do.
func TestSealedInDatabase(t *testing.T) {
	t.Parallel()
	db, err := sqlite.Open(t.Context(), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := store.NewSealed(db)
	if err := s.Unseal(testKey); err != nil {
		t.Fatal(err)
	}
	var changes []store.Change
	for _, k := range []string{"a", "b"} {
		c, err := s.Put("t", k, 0, "value of "+k)
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, c)
	}
	if err := s.Apply(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
	var v string
	if n, err := s.Get(t.Context(), "t", "a", &v); err != nil || n != 1 || v != "value of a" {
		t.Fatalf("got %q version %d, %v", v, n, err)
	}
	a, _ := db.Get(t.Context(), "t", "a")
	b, _ := db.Get(t.Context(), "t", "b")
	err = db.Apply(t.Context(),
		store.Change{Table: "t", Key: "a", Expect: 1, Data: b.Data},
		store.Change{Table: "t", Key: "b", Expect: 1, Data: a.Data},
		store.Change{Table: "u", Key: "a", Data: a.Data})
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range [][2]string{{"t", "a"}, {"t", "b"}, {"u", "a"}} {
		if _, err := s.Get(t.Context(), place[0], place[1], &v); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%v: %v", place, err)
		}
	}
	if _, err := s.List(t.Context(), "t", "", "", 0); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("list: %v", err)
	}
	if err := s.Apply(t.Context(), s.Remove("t", "a", 2)); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), "t", "a", &v); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("removed: %v", err)
	}
}

func TestSealedWithoutKey(t *testing.T) {
	t.Parallel()
	r := sealedRecord(t, "t", "k", 1, "x")
	s := store.NewSealed(one{record: r})
	for _, size := range []int{0, 16, 31, 33} {
		if err := s.Unseal(make([]byte, size)); err == nil {
			t.Errorf("a storage key of %d bytes was taken", size)
		}
	}
	check := func() {
		t.Helper()
		var v string
		_, get := s.Get(t.Context(), "t", "k", &v)
		_, list := s.List(t.Context(), "t", "", "", 0)
		_, put := s.Put("t", "k", 0, "x")
		apply := s.Apply(t.Context(), s.Remove("t", "k", 1))
		for _, err := range []error{get, list, put, apply} {
			if !errors.Is(err, store.ErrSealed) {
				t.Errorf("got %v", err)
			}
		}
	}
	check()
	if err := s.Unseal(testKey); err != nil {
		t.Fatal(err)
	}
	var v string
	if _, err := s.Get(t.Context(), "t", "k", &v); err != nil || v != "x" {
		t.Fatalf("got %q, %v", v, err)
	}
	s.Seal()
	check()
	// Sealed, not even the absence of a record is told.
	s = store.NewSealed(nil)
	check()
}

// The genuine record is the first known answer: a fuzzing process is started
// several times and must see the same one each time.
func FuzzSealedOpen(f *testing.F) {
	a := knownAnswers(f)[0]
	storageKey, _ := hex.DecodeString(a.StorageKey)
	sealed, _ := hex.DecodeString(a.Sealed)
	f.Add(a.Table, a.Key, a.Version, sealed)
	f.Add("", "", int64(0), []byte{1})
	f.Add("t", "k", int64(-1), make([]byte, 29))
	f.Fuzz(func(t *testing.T, table, key string, version int64, data []byte) {
		genuine := table == a.Table && key == a.Key && version == a.Version && bytes.Equal(data, sealed)
		_, err := opens(t, storageKey, store.Record{Table: table, Key: key, Version: version, Data: data})
		if genuine != (err == nil) || !genuine && !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("genuine %v, error %v", genuine, err)
		}
	})
}
