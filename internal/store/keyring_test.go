package store_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"errors"
	"testing"

	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/sqlite"
)

func ringKey(b byte) []byte { return bytes.Repeat([]byte{b}, store.StorageKeySize) }

func ringStore(t *testing.T) (store.Store, *store.Sealed) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db, store.NewSealed(db)
}

// What earlier terms sealed opens after a rotation, and what is written then
// opens with the whole keyring only.
func TestKeyring(t *testing.T) {
	t.Parallel()
	db, s := ringStore(t)
	if err := s.AddTerm(ringKey(2)); !errors.Is(err, store.ErrSealed) {
		t.Errorf("a term for a sealed store: %v", err)
	}
	if err := s.Unseal(ringKey(1)); err != nil {
		t.Fatal(err)
	}
	applyPut(t, s, "t", "first", 0, "one")
	applyPut(t, s, "t", "changed", 0, "one")
	old, err := s.SealBlob("p", []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	if term, n := s.Seals(); term != 1 || n != 3 {
		t.Errorf("term %d, %d seals", term, n)
	}
	if err := s.AddTerm(ringKey(2)); err != nil {
		t.Fatal(err)
	}
	if term, n := s.Seals(); term != 2 || n != 0 {
		t.Errorf("term %d, %d seals", term, n)
	}
	applyPut(t, s, "t", "changed", 1, "two")
	young, err := s.SealBlob("p", []byte("young"))
	if err != nil {
		t.Fatal(err)
	}
	all := store.NewSealed(db)
	if err := all.UnsealAll(store.Keyring{ringKey(1), ringKey(2)}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"first": "one", "changed": "two"} {
		var got string
		if _, err := all.Get(t.Context(), "t", name, &got); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for want, blob := range map[string][]byte{"old": old, "young": young} {
		if got, err := all.OpenBlob("p", blob); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", want, got, err)
		}
		if _, err := all.OpenBlob("other", blob); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s for another purpose: %v", want, err)
		}
	}
	for name, keys := range map[string]store.Keyring{
		"one key":  {ringKey(1)},
		"reversed": {ringKey(2), ringKey(1)},
		"others":   {ringKey(1), ringKey(3)},
	} {
		less := store.NewSealed(db)
		if err := less.UnsealAll(keys); err != nil {
			t.Fatal(err)
		}
		var got string
		if _, err := less.Get(t.Context(), "t", "changed", &got); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := less.OpenBlob("p", young); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A record of a later term, computed here from its description.
func TestKeyringFormat(t *testing.T) {
	t.Parallel()
	db, s := ringStore(t)
	if err := s.UnsealAll(store.Keyring{ringKey(1), ringKey(2), ringKey(3)}); err != nil {
		t.Fatal(err)
	}
	block, _ := aes.NewCipher(ringKey(2))
	gcm, _ := cipher.NewGCM(block)
	value, _ := json.Marshal("told")
	nonce := []byte("twelve bytes")
	aad := binary.BigEndian.AppendUint32([]byte("claviger record 2"), 2)
	for _, text := range []string{"t", "k"} {
		aad = append(binary.BigEndian.AppendUint64(aad, uint64(len(text))), text...)
	}
	aad = binary.BigEndian.AppendUint64(aad, 1)
	data := append(append([]byte{2, 0, 0, 0, 2}, nonce...), gcm.Seal(nil, nonce, value, aad)...)
	put := func(key string, data []byte) {
		t.Helper()
		if err := db.Apply(t.Context(), store.Change{Table: "t", Key: key, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	put("k", data)
	var got string
	if _, err := s.Get(t.Context(), "t", "k", &got); err != nil || got != "told" {
		t.Errorf("%q, %v", got, err)
	}
	applyPut(t, s, "t", "mine", 0, "x")
	r, err := db.Get(t.Context(), "t", "mine")
	if err != nil || !bytes.HasPrefix(r.Data, []byte{2, 0, 0, 0, 3}) || len(r.Data) != 5+12+len(`"x"`)+16 {
		t.Errorf("%x, %v", r.Data, err)
	}
	for i, bad := range [][]byte{
		{}, {2}, {2, 0, 0, 0, 2}, {3, 0, 0, 0, 2},
		append([]byte{2, 0, 0, 0, 0}, data[5:]...), append([]byte{2, 0, 0, 0, 1}, data[5:]...),
		append([]byte{2, 0, 0, 0, 3}, data[5:]...), append([]byte{2, 0, 0, 0, 4}, data[5:]...),
		append([]byte{2, 0xff, 0xff, 0xff, 0xff}, data[5:]...), append([]byte{1}, data[5:]...),
	} {
		name := string(rune('a' + i))
		put(name, bad)
		if _, err := s.Get(t.Context(), "t", name, &got); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

func TestKeyringRefuses(t *testing.T) {
	t.Parallel()
	_, s := ringStore(t)
	for name, keys := range map[string]store.Keyring{"none": {}, "a short one": {ringKey(1), ringKey(1)[:31]}} {
		if err := s.UnsealAll(keys); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if term, _ := s.Seals(); term != 0 {
		t.Errorf("term %d", term)
	}
	if err := s.Unseal(ringKey(1)); err != nil {
		t.Fatal(err)
	}
	if err := s.AddTerm(nil); err == nil {
		t.Error("an empty key was accepted")
	}
	keys := store.Keyring{ringKey(1)}
	keys.Wipe()
	if !bytes.Equal(keys[0], make([]byte, store.StorageKeySize)) {
		t.Error("not wiped")
	}
}

func FuzzOpenRecord(f *testing.F) {
	f.Add([]byte{1}, uint8(1))
	f.Add([]byte{2, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29}, uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, terms uint8) {
		s := store.NewSealed(nil)
		keys := store.Keyring{ringKey(0)}
		for i := range terms % 4 {
			keys = append(keys, ringKey(i+1))
		}
		if err := s.UnsealAll(keys); err != nil {
			t.Fatal(err)
		}
		if _, err := s.OpenBlob("p", data); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%x: %v", data, err)
		}
	})
}
