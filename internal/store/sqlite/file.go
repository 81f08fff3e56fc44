package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"golang.org/x/sys/unix"
	driver "modernc.org/sqlite"
)

// applicationID marks our files ("Clvg") at offset 68 of the database header
// (SQLite file format, section 1.3). It is written before anything else and
// never changes, so it can be read from the file itself, whatever the
// write-ahead log holds.
const (
	applicationID       = 0x436c7667
	applicationIDOffset = 68
)

// prepareFile makes directory and file with narrow permissions and takes the
// lock, which is held until the returned file is closed.
func prepareFile(path string, log *slog.Logger) (*os.File, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the directory of the database cannot be made")
	}
	if fi, err := os.Stat(dir); err == nil && fi.Mode().Perm()&0o022 != 0 {
		log.Warn("others may write the directory of the database", "directory", dir, "mode", fi.Mode().Perm())
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	if err := makeFile(path, dir); err != nil {
		unlock(lock)
		return nil, err
	}
	return lock, nil
}

// lockFile takes the lock of a database and writes our process id into it. The
// kernel drops the lock when the process ends, however it ends.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the lock of the database cannot be opened")
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = busy(f, path)
	} else if err != nil {
		err = fault.Wrap(fault.Unavailable, err, "the database cannot be locked")
	} else {
		err = writePID(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// unlock gives the lock back. A child process that is just being started holds
// the same lock until it runs its program; unlocking ends that too.
func unlock(f *os.File) error {
	unix.Flock(int(f.Fd()), unix.LOCK_UN)
	return f.Close()
}

func busy(f *os.File, path string) error {
	pid, _ := io.ReadAll(io.LimitReader(f, 20))
	who := "another server"
	if n, err := strconv.Atoi(strings.TrimSpace(string(pid))); err == nil {
		who = fmt.Sprintf("process %d", n)
	}
	return (&fault.Error{
		Kind: fault.Unavailable,
		Msg:  fmt.Sprintf("%s already uses this database", who),
		Err:  fmt.Errorf("%s: %w", path, store.ErrBusy),
	}).WithHint("Stop it first, or give this server a database of its own.")
}

func writePID(f *os.File) error {
	err := f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return fault.Wrap(fault.Unavailable, err, "the lock of the database cannot be written")
}

// makeFile makes the database file before SQLite would with wider permissions;
// SQLite gives the files beside it the same ones.
func makeFile(path, dir string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		e := &fault.Error{Kind: fault.Unavailable, Msg: "the database file cannot be opened for writing", Err: err}
		return e.WithHint("Check the path, and that the file, its directory and its file system are writable for the server.")
	}
	defer f.Close()
	fi, err := f.Stat()
	if err == nil && fi.Mode().Perm()&0o077 != 0 {
		err = f.Chmod(0o600)
	}
	if err == nil {
		err = syncDir(dir)
	}
	return fault.Wrap(fault.Unavailable, err, "the database file cannot be made")
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// claim marks an empty file as ours and refuses files that are not, before
// anything in them is changed.
func claim(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the database file cannot be read")
	}
	defer f.Close()
	header := make([]byte, applicationIDOffset+4)
	n, err := io.ReadFull(f, header)
	switch {
	case errors.Is(err, io.EOF):
		return mark(ctx, path)
	case errors.Is(err, io.ErrUnexpectedEOF) || err == nil:
		if n == len(header) && string(header[:16]) == "SQLite format 3\x00" &&
			binary.BigEndian.Uint32(header[applicationIDOffset:]) == applicationID {
			return nil
		}
		e := fault.New(fault.Invalid, "the file is not a database of Claviger")
		e.Err = &fs.PathError{Op: "open", Path: path, Err: fs.ErrInvalid}
		return e.WithHint("Give the path of Claviger's own database, or of a file that does not exist yet.")
	}
	return fault.Wrap(fault.Unavailable, err, "the database file cannot be read")
}

// mark writes the header of an empty database in rollback-journal mode, so that
// it is in the file itself.
func mark(ctx context.Context, path string) error {
	connector, err := driver.NewConnector(fileURI(path) + "?_synchronous=FULL&_error_rc=1")
	if err != nil {
		return fmt.Errorf("database address: %w", err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	_, err = db.ExecContext(ctx, fmt.Sprintf(`PRAGMA application_id = %d`, applicationID))
	return explain(ctx, err, "making the database")
}
