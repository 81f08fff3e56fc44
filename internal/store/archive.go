package store

import "context"

// Archive is a Store whose whole content can be read as it is at one moment.
// What changed before it in the same process is in it.
type Archive interface {
	Store
	// Dump calls each for every record, in the order of tables and keys by their
	// bytes. Writing goes on meanwhile and is not seen. An error of each ends it
	// and is returned.
	Dump(ctx context.Context, each func(Record) error) error
}
