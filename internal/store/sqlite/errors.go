package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/claviger/claviger/internal/fault"
	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"
)

// explain turns an error of SQLite into one that the operator can act on; what
// says what was being tried. nil stays nil, the end of ctx stays the end of ctx.
func explain(ctx context.Context, err error, what string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	cause := fmt.Errorf("%s: %w", what, err)
	e := &fault.Error{Kind: fault.Unavailable, Msg: "the database does not answer", Err: cause}
	sqliteErr, ok := errors.AsType[*driver.Error](err)
	if !ok {
		return e
	}
	// The low byte of an extended result code is the primary one.
	switch sqliteErr.Code() & 0xff {
	case codes.SQLITE_FULL:
		e.Msg, e.Hint = "the disk of the database is full", "Free some space; nothing was changed, and the server goes on by itself."
	case codes.SQLITE_READONLY:
		e.Msg, e.Hint = "the database is read-only", "Make the file, its directory and its file system writable for the server."
	case codes.SQLITE_IOERR:
		e.Msg, e.Hint = "the disk of the database reports an error", "Look into the kernel's log and at the disk's limits; nothing was changed."
	case codes.SQLITE_CANTOPEN:
		e.Msg, e.Hint = "the database file cannot be opened", "Check the path and that its directory is writable for the server."
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED:
		e.Msg, e.Hint = "another program holds the database locked", "Close other programs that have the file open, such as a database shell."
	case codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB:
		e.Msg, e.Hint = "the database file is damaged", "Restore it from a backup."
	}
	return e
}
