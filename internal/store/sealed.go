package store

import (
	"context"
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
// under the first storage key, with the associated data
//
//	"claviger record 1" ‖ len(table) ‖ table ‖ len(key) ‖ key ‖ version
//
// (lengths and version as 8 bytes, big endian), so that a record opens only
// where, and as the version that, it was written. Under the storage key of a
// later term (see Keyring) the format is 2 and the term follows it, 4 bytes, big
// endian; the associated data begins with "claviger record 2" ‖ term.
//
// Nonces are random; 2^32 records under one storage key are the limit of SP
// 800-38D: Seals counts them, and the next term begins the count anew.
//
// While the storage key is unknown every method returns ErrSealed.
type Sealed struct {
	store Store
	ring  atomic.Pointer[ring] // nil while sealed
}

// NewSealed returns a sealed view of s, without its key.
func NewSealed(s Store) *Sealed { return &Sealed{store: s} }

// Unseal sets the storage key of a store that has only one, StorageKeySize bytes.
// The caller wipes its copy.
func (s *Sealed) Unseal(key []byte) error { return s.UnsealAll(Keyring{key}) }

// Seal forgets the storage keys.
func (s *Sealed) Seal() { s.ring.Store(nil) }

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
	if s.ring.Load() == nil {
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
	if s.ring.Load() == nil {
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
	if s.ring.Load() == nil {
		return nil, ErrSealed
	}
	return s.store.Names(ctx, table, prefix, after, limit)
}

// Put is a change that writes v as JSON, sealed, over a record of version
// expect (0: a new one). Give it to Apply.
func (s *Sealed) Put(table, key string, expect int64, v any) (Change, error) {
	r := s.ring.Load()
	if r == nil {
		return Change{}, ErrSealed
	}
	data, err := json.Marshal(v)
	if err != nil {
		return Change{}, fmt.Errorf("record %s/%s: %w", table, key, err)
	}
	out := r.seal(recordKeys, data, func(term int) []byte { return recordAAD(term, table, key, expect+1) })
	clear(data)
	return Change{Table: table, Key: key, Expect: expect, Data: out}, nil
}

// Remove is a change that deletes a record of version expect.
func (s *Sealed) Remove(table, key string, expect int64) Change {
	return Change{Table: table, Key: key, Expect: expect}
}

// Apply makes all changes or none.
func (s *Sealed) Apply(ctx context.Context, changes ...Change) error {
	if s.ring.Load() == nil {
		return ErrSealed
	}
	return s.store.Apply(ctx, changes...)
}

func (s *Sealed) open(r Record) ([]byte, error) {
	keys := s.ring.Load()
	if keys == nil {
		return nil, ErrSealed
	}
	data, ok := keys.open(recordKeys, r.Data, func(term int) []byte { return recordAAD(term, r.Table, r.Key, r.Version) })
	if !ok {
		return nil, fmt.Errorf("record %s/%s: %w", r.Table, r.Key, ErrCorrupt)
	}
	return data, nil
}

func recordAAD(term int, table, key string, version int64) []byte {
	b := termAAD("claviger record", term)
	b = binary.BigEndian.AppendUint64(b, uint64(len(table)))
	b = append(b, table...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(key)))
	b = append(b, key...)
	return binary.BigEndian.AppendUint64(b, uint64(version))
}
