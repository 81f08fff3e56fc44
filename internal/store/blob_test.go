package store_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"github.com/claviger/claviger/internal/store"
)

func unsealed(t testing.TB, first byte) *store.Sealed {
	t.Helper()
	s := store.NewSealed(nil)
	if err := s.Unseal(append([]byte{first}, make([]byte, store.StorageKeySize-1)...)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBlob(t *testing.T) {
	t.Parallel()
	s := unsealed(t, 1)
	for _, data := range [][]byte{{}, []byte("x"), bytes.Repeat([]byte("long"), 1000)} {
		blob, err := s.SealBlob("test", data)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 1 && bytes.Contains(blob, data[:2]) && bytes.Contains(blob, data) {
			t.Error("the data is plain")
		}
		if got, err := s.OpenBlob("test", blob); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%q %v", got, err)
		}
		if _, err := s.OpenBlob("text", blob); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("another purpose: %v", err)
		}
		if _, err := unsealed(t, 2).OpenBlob("test", blob); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("another storage key: %v", err)
		}
		for i := range min(len(blob), 64) {
			altered := slices.Clone(blob)
			altered[i] ^= 0x80
			if _, err := s.OpenBlob("test", altered); !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("byte %d altered: %v", i, err)
			}
		}
		if _, err := s.OpenBlob("test", blob[:len(blob)-1]); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("cut: %v", err)
		}
	}
	s.Seal()
	if _, err := s.SealBlob("test", nil); !errors.Is(err, store.ErrSealed) {
		t.Error(err)
	}
	if _, err := s.OpenBlob("test", nil); !errors.Is(err, store.ErrSealed) {
		t.Error(err)
	}
}

// The format of a blob, built here from its description: later releases must
// open what this one wrote.
func TestBlobFormat(t *testing.T) {
	t.Parallel()
	storageKey := append([]byte{1}, make([]byte, 31)...)
	key, err := hkdf.Key(sha256.New, storageKey, nil, "claviger blob 1", 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := []byte("twelve bytes")
	blob := append([]byte{1}, nonce...)
	blob = aead.Seal(blob, nonce, []byte("data"), []byte("claviger blob 1\x00\x00\x00\x00\x00\x00\x00\x04test"))
	if got, err := unsealed(t, 1).OpenBlob("test", blob); err != nil || string(got) != "data" {
		t.Errorf("%q %v", got, err)
	}
}

func FuzzOpenBlob(f *testing.F) {
	s := unsealed(f, 1)
	good, err := s.SealBlob("test", []byte("data"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, blob []byte) {
		if data, err := s.OpenBlob("test", blob); err == nil && string(data) != "data" {
			t.Errorf("forged %q", data)
		}
	})
}
