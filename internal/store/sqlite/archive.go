package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

var _ store.Archive = (*Store)(nil)

// Dump reads all records as they are when it begins: one statement of SQLite sees
// one state of the database, and in a file it keeps nobody from writing. In memory
// there is one connection, and changes wait.
func (s *Store) Dump(ctx context.Context, each func(store.Record) error) error {
	rows, err := s.readers.QueryContext(ctx, `SELECT tbl, key, version, data FROM records ORDER BY tbl, key`)
	if err != nil {
		return explain(ctx, err, "reading all records")
	}
	defer rows.Close()
	for rows.Next() {
		var r store.Record
		var key []byte
		if err := rows.Scan(&r.Table, &key, &r.Version, &r.Data); err != nil {
			return explain(ctx, err, "reading all records")
		}
		r.Key = string(key)
		if err := each(r); err != nil {
			return err
		}
	}
	return explain(ctx, rows.Err(), "reading all records")
}

// buildSuffix is appended to a database's name while it is being built.
const buildSuffix = ".new"

// Build makes a database at path with the records that fill puts, versions
// included. It appears whole and durable under its name, or not at all: until then
// it has another name, and what an interrupted Build left there is removed by the
// next. A database that is at path already is refused, fault.Conflict; with
// replace it stays beside the new one, under the name that is returned. A server
// that uses the path is an error that wraps store.ErrBusy.
func Build(ctx context.Context, path string, replace bool, fill func(put func(store.Record) error) error) (aside string, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "the directory of the database cannot be made")
	}
	if replace {
		if err := fold(ctx, path); err != nil {
			return "", err
		}
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock(lock)
	exists, err := occupied(path)
	if err != nil {
		return "", err
	}
	if exists && !replace {
		return "", fault.New(fault.Conflict, "there is a database at %s already; nothing was changed", path).
			WithHint("Restore into an empty state directory, or say that this database is to be set aside.")
	}
	temporary := path + buildSuffix
	defer removeDatabase(temporary)
	if err := build(ctx, temporary, fill); err != nil {
		return "", err
	}
	if exists {
		if aside, err = setAside(path); err != nil {
			return "", err
		}
	}
	err = os.Rename(temporary, path)
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return aside, fault.Wrap(fault.Unavailable, err, "the restored database cannot be put into its place")
}

// occupied tells whether there is a file at path with anything in it.
func occupied(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, fault.Wrap(fault.Unavailable, err, "the place of the database cannot be looked at")
}

func build(ctx context.Context, path string, fill func(put func(store.Record) error) error) error {
	removeDatabase(path)
	s, err := Open(ctx, Config{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	err = s.fill(ctx, fill)
	if closing := s.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the restored database cannot be opened")
	}
	defer f.Close()
	return fault.Wrap(fault.Unavailable, f.Sync(), "the restored database cannot be made durable")
}

// fill puts records in one transaction.
func (s *Store) fill(ctx context.Context, fill func(put func(store.Record) error) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return explain(ctx, err, "filling the database")
	}
	defer tx.Rollback()
	insert, err := tx.PrepareContext(ctx, `INSERT INTO records (tbl, key, version, data) VALUES (?, ?, ?, ?)`)
	if err != nil {
		return explain(ctx, err, "filling the database")
	}
	defer insert.Close()
	err = fill(func(r store.Record) error {
		data := r.Data
		if data == nil {
			data = []byte{}
		}
		_, err := insert.ExecContext(ctx, r.Table, []byte(r.Key), r.Version, data)
		return explain(ctx, err, "filling the database")
	})
	if err != nil {
		return err
	}
	return explain(ctx, tx.Commit(), "filling the database")
}

// fold moves the write-ahead log of a database into its file. What can't be opened
// any more is left as it is: that is a reason to restore.
func fold(ctx context.Context, path string) error {
	exists, err := occupied(path)
	if err != nil || !exists {
		return err
	}
	s, err := Open(ctx, Config{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if errors.Is(err, store.ErrBusy) {
		return err
	}
	if err != nil {
		return nil
	}
	return s.Close()
}

// setAside gives the database at path a second name, so that there is one at path
// at any moment, and takes what belongs to its write-ahead log away.
func setAside(path string) (string, error) {
	aside := fmt.Sprintf("%s.replaced-%s", path, time.Now().UTC().Format("20060102T150405.000000Z"))
	err := os.Link(path, aside)
	if err == nil {
		err = os.Rename(path+"-wal", aside+"-wal")
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.Remove(path + "-shm")
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fault.Wrap(fault.Unavailable, err, "the database that is there cannot be set aside")
	}
	return aside, nil
}

// removeDatabase removes a database that nobody has open, as far as it is there.
func removeDatabase(path string) {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal", ".lock"} {
		os.Remove(path + suffix)
	}
}
