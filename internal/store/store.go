// Package store is the seam to the database: tables of records, changed in
// transactions with compare-and-swap.
//
// A Store keeps bytes and may be read and written by an attacker; Sealed is
// what services use: it encrypts every record under the storage key, bound to
// its place and version (see Sealed). Names of tables and keys, sizes and times
// of change stay visible in the database.
package store

import (
	"context"
	"errors"
)

var (
	// ErrNotFound: there is no record of that table and key.
	ErrNotFound = errors.New("no such record")
	// ErrConflict: a record has another version than the change expected.
	ErrConflict = errors.New("the record was changed meanwhile")
	// ErrBusy: another server uses this database.
	ErrBusy = errors.New("the database is in use by another server")
	// ErrCorrupt: a record does not open: altered, swapped or of another storage key.
	ErrCorrupt = errors.New("the record is not authentic")
	// ErrSealed: the storage key is not known.
	ErrSealed = errors.New("sealed")
)

// Record is a row. Version counts the writes of this record, from 1.
type Record struct {
	Table   string
	Key     string
	Version int64
	Data    []byte
}

// Change is one write of a transaction.
type Change struct {
	Table string
	Key   string
	// Expect is the version that the record must have now: 0 means that it must
	// not exist. The written record has version Expect+1.
	Expect int64
	// Data is the new content; nil deletes the record.
	Data []byte
}

// Store is what a database driver does. It is safe for concurrent use.
type Store interface {
	// Get returns ErrNotFound if there is no such record.
	Get(ctx context.Context, table, key string) (Record, error)
	// List returns at most limit (0: all) records of a table whose keys start
	// with prefix and come after the key after, in the order of their keys' bytes.
	List(ctx context.Context, table, prefix, after string, limit int) ([]Record, error)
	// Names returns the keys of the records that List returns, without their data.
	Names(ctx context.Context, table, prefix, after string, limit int) ([]string, error)
	// Apply makes all changes or none, durable when it returns. ErrConflict if
	// a version is not as expected.
	Apply(ctx context.Context, changes ...Change) error
	// Check tells whether the store can be written now; health and status use it.
	Check(ctx context.Context) error
	Close() error
}
