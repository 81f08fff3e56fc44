package soft

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/claviger/claviger/internal/token"
)

// storage is where the key file lies.
type storage interface {
	// prepare makes what lock and write need.
	prepare() error
	// lock makes the caller the only user of the file, over all processes, or
	// fails at once.
	lock() (unlock func() error, err error)
	// read returns the file, or token.ErrAbsent.
	read() ([]byte, error)
	// write replaces the file; when it returns nil, the new one survives a
	// crash, and before that a crash leaves the old one or the new one.
	write(file []byte) error
}

var errInUse = errors.New("the software token is in use already")

const (
	fileName = "token.key"
	tempName = "token.key.new"
	lockName = "token.lock"
)

// directory is a storage on the disk: files of mode 0600 in a directory that is
// made with mode 0700.
type directory string

func (d directory) path(name string) string { return filepath.Join(string(d), name) }

// lock takes an advisory lock (flock) that the kernel drops with the process.
// It is on a file of its own, since the key file is replaced at every write.
func (d directory) lock() (func() error, error) {
	f, err := os.OpenFile(d.path(lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no directory %s", token.ErrAbsent, d)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the software token: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is locked by this or another process", errInUse, d.path(lockName))
		}
		return nil, fmt.Errorf("lock %s: %w", d.path(lockName), err)
	}
	// Closing alone would not do: a process that is just being started may hold
	// a copy of the descriptor until its exec.
	return func() error { return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close()) }, nil
}

func (d directory) read() ([]byte, error) {
	file, err := os.ReadFile(d.path(fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s", token.ErrAbsent, d.path(fileName))
	}
	if err != nil {
		return nil, fmt.Errorf("read the key file: %w", err)
	}
	return file, nil
}

func (d directory) write(file []byte) error {
	if err := d.replace(file); err != nil {
		return fmt.Errorf("write the key file: %w", err)
	}
	return nil
}

func (d directory) replace(file []byte) error {
	if err := writeSynced(d.path(tempName), file); err != nil {
		return errors.Join(err, os.Remove(d.path(tempName)))
	}
	if err := os.Rename(d.path(tempName), d.path(fileName)); err != nil {
		return err
	}
	return syncDir(string(d))
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// prepare makes the directory, durably.
func (d directory) prepare() error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("make the directory of the software token: %w", err)
	}
	return syncDir(filepath.Dir(filepath.Clean(string(d))))
}

// memory is a storage that ends with the process.
type memory struct {
	mu   sync.Mutex
	used bool
	file []byte
}

func (m *memory) lock() (func() error, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used {
		return nil, errInUse
	}
	m.used = true
	return m.unlock, nil
}

func (m *memory) unlock() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used = false
	return nil
}

func (m *memory) read() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		return nil, token.ErrAbsent
	}
	return m.file, nil
}

func (m *memory) write(file []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.file = file
	return nil
}

func (m *memory) prepare() error { return nil }
