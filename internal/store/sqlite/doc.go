// Package sqlite keeps records in one SQLite file, or in memory for a
// development server.
//
// Promise: what Apply acknowledged is on the disk (write-ahead log with
// synchronous=FULL) and nothing half-made is ever visible, after kill -9 and
// after a loss of power. A full disk, a read-only file system or an I/O error
// is answered with a fault.Unavailable error, changes nothing, and the store
// works again when its cause is gone. Only one server uses a file at a time.
//
// One case stays open: an Apply that failed because the disk could not be
// synchronised may be found done if the machine then crashes before the next
// change. Compare-and-swap makes it safe to try again.
//
// Trusts: the file system to keep what it said it synchronised, and the owner
// of the directory. The file's content is not trusted: records are sealed
// (store.Sealed), the schema runs no code (defensive, trusted_schema off).
//
// Layout: records stand in the order in which they came and one unique index
// finds them by table and key, so that a change costs about the same among a
// thousand records and among a million with random keys. Migrations bring older
// files to this layout, each in one transaction (see migrate.go); they end with
// an empty write-ahead log.
//
// Versions: a record's version counts its writes; a record that was deleted and
// made again begins at 1, as store.Change defines it. A sealed record therefore
// opens only at its own place and version number, but somebody who can write
// the database file can put an older state of a record, version and data
// together, back in place. No table inside the same file could prevent that,
// because it could be put back as well. Who must notice such a roll-back
// compares with something outside the database, as the audit log does.
package sqlite
