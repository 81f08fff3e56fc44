package store

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync/atomic"
)

// StorageKeySize is the length of a storage key in bytes.
const StorageKeySize = 32

// Sealed keeps records encrypted in a Store.
//
// A sealed record is
//
//	format (1 byte, 1) ‖ nonce (12 bytes) ‖ AES-256-GCM(JSON of the value) ‖ tag (16 bytes)
//
// with the associated data
//
//	"claviger record 1" ‖ len(table) ‖ table ‖ len(key) ‖ key ‖ version
//
// (lengths and version as 8 bytes, big endian), so that a record opens only
// where, and as the version that, it was written. Nonces are random; 2^32
// records under one storage key are the limit of SP 800-38D, far beyond what a
// store of keys is written.
//
// While the storage key is unknown every method returns ErrSealed.
type Sealed struct {
	store Store
	aead  atomic.Pointer[cipher.AEAD]
	blobs atomic.Pointer[cipher.AEAD] // see SealBlob
}

// NewSealed returns a sealed view of s, without its key.
func NewSealed(s Store) *Sealed { return &Sealed{store: s} }

// Unseal sets the storage key, StorageKeySize bytes. The caller wipes its copy.
func (s *Sealed) Unseal(key []byte) error {
	if len(key) != StorageKeySize {
		return fmt.Errorf("a storage key has %d bytes, not %d", StorageKeySize, len(key))
	}
	aead, err := newGCM(key)
	if err != nil {
		return fmt.Errorf("storage key: %w", err)
	}
	blobs, err := newBlobAEAD(key)
	if err != nil {
		return fmt.Errorf("storage key: %w", err)
	}
	s.blobs.Store(&blobs)
	s.aead.Store(&aead)
	return nil
}

// Seal forgets the storage key.
func (s *Sealed) Seal() {
	s.aead.Store(nil)
	s.blobs.Store(nil)
}

// Entry is a record of a list; Decode opens it into a value.
type Entry struct {
	Key     string
	Version int64
	data    []byte
}

// Decode reads the entry's value, as json.Unmarshal does.
func (e *Entry) Decode(v any) error { return json.Unmarshal(e.data, v) }

// Get reads a record into v and returns its version. ErrNotFound if there is none.
func (s *Sealed) Get(ctx context.Context, table, key string, v any) (int64, error) {
	if s.aead.Load() == nil {
		return 0, ErrSealed
	}
	r, err := s.store.Get(ctx, table, key)
	if err != nil {
		return 0, err
	}
	data, err := s.open(r)
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return 0, fmt.Errorf("record %s/%s: %w", table, key, err)
	}
	return r.Version, nil
}

// List opens records as Store.List finds them.
func (s *Sealed) List(ctx context.Context, table, prefix, after string, limit int) ([]Entry, error) {
	if s.aead.Load() == nil {
		return nil, ErrSealed
	}
	records, err := s.store.List(ctx, table, prefix, after, limit)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(records))
	for i, r := range records {
		data, err := s.open(r)
		if err != nil {
			return nil, err
		}
		entries[i] = Entry{Key: r.Key, Version: r.Version, data: data}
	}
	return entries, nil
}

// Names returns the keys of records as List finds them, without opening the
// records: one that was altered does not hide the others.
func (s *Sealed) Names(ctx context.Context, table, prefix, after string, limit int) ([]string, error) {
	if s.aead.Load() == nil {
		return nil, ErrSealed
	}
	records, err := s.store.List(ctx, table, prefix, after, limit)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(records))
	for i, r := range records {
		names[i] = r.Key
	}
	return names, nil
}

// Put is a change that writes v as JSON, sealed, over a record of version
// expect (0: a new one). Give it to Apply.
func (s *Sealed) Put(table, key string, expect int64, v any) (Change, error) {
	aead := s.aead.Load()
	if aead == nil {
		return Change{}, ErrSealed
	}
	data, err := json.Marshal(v)
	if err != nil {
		return Change{}, fmt.Errorf("record %s/%s: %w", table, key, err)
	}
	out := make([]byte, 1+12, 1+12+len(data)+16)
	out[0] = 1
	rand.Read(out[1:13])
	out = (*aead).Seal(out, out[1:13], data, recordAAD(table, key, expect+1))
	clear(data)
	return Change{Table: table, Key: key, Expect: expect, Data: out}, nil
}

// Remove is a change that deletes a record of version expect.
func (s *Sealed) Remove(table, key string, expect int64) Change {
	return Change{Table: table, Key: key, Expect: expect}
}

// Apply makes all changes or none.
func (s *Sealed) Apply(ctx context.Context, changes ...Change) error {
	if s.aead.Load() == nil {
		return ErrSealed
	}
	return s.store.Apply(ctx, changes...)
}

func (s *Sealed) open(r Record) ([]byte, error) {
	aead := s.aead.Load()
	if aead == nil {
		return nil, ErrSealed
	}
	if len(r.Data) < 1+12+16 || r.Data[0] != 1 {
		return nil, fmt.Errorf("record %s/%s: %w", r.Table, r.Key, ErrCorrupt)
	}
	data, err := (*aead).Open(nil, r.Data[1:13], r.Data[13:], recordAAD(r.Table, r.Key, r.Version))
	if err != nil {
		return nil, fmt.Errorf("record %s/%s: %w", r.Table, r.Key, ErrCorrupt)
	}
	return data, nil
}

func recordAAD(table, key string, version int64) []byte {
	b := []byte("claviger record 1")
	b = binary.BigEndian.AppendUint64(b, uint64(len(table)))
	b = append(b, table...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(key)))
	b = append(b, key...)
	return binary.BigEndian.AppendUint64(b, uint64(version))
}
