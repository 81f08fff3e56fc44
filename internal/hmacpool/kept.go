package hmacpool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keepTime is how long an open file is used without a look at what its name
// leads to. Files that were deleted, or replaced by a rename, are noticed at once.
const keepTime = time.Second

var (
	errShort = errors.New("the file ends before the record")
	// errGone: the open file is no longer the one of its name.
	errGone = errors.New("the file was replaced")
)

// keptFile is the only file of a pool, kept open: opening it anew would cost more
// than everything else about an HMAC.
type keptFile struct {
	path    string
	current atomic.Pointer[openFile]
}

// openFile is an open file. It may be closed while others read it.
type openFile struct {
	f        *os.File
	raw      syscall.RawConn
	dev, ino uint64
	checked  atomic.Int64 // Unix time in nanoseconds of the last look at the name
}

// readAt fills b from the file that the name leads to.
func (k *keptFile) readAt(b []byte, offset int64) error {
	o := k.current.Load()
	if o != nil {
		err := o.read(k.path, b, offset)
		if err != errGone && !errors.Is(err, fs.ErrClosed) {
			return err
		}
	}
	next, err := openToKeep(k.path)
	if err != nil {
		return err
	}
	if k.current.CompareAndSwap(o, next) {
		if o != nil {
			o.f.Close() // of a file that was only read
		}
	} else {
		defer next.f.Close()
	}
	return next.read(k.path, b, offset)
}

func openToKeep(path string) (*openFile, error) {
	// Without O_NONBLOCK a pipe in the file's place would be waited for.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	o := &openFile{f: f}
	var st unix.Stat_t
	o.raw, err = f.SyscallConn()
	if err == nil {
		err = o.control(func(fd int) error { return unix.Fstat(fd, &st) })
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	o.dev, o.ino = uint64(st.Dev), st.Ino
	o.checked.Store(time.Now().UnixNano())
	return o, nil
}

func (o *openFile) control(do func(fd int) error) error {
	var err error
	if cerr := o.raw.Control(func(fd uintptr) { err = do(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

// read fills b, or tells that the file is gone.
func (o *openFile) read(path string, b []byte, offset int64) error {
	if now := time.Now().UnixNano(); now-o.checked.Load() > int64(keepTime) {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil || uint64(st.Dev) != o.dev || st.Ino != o.ino {
			return errGone
		}
		o.checked.Store(now)
	}
	return o.control(func(fd int) error {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Nlink == 0 {
			return errGone
		}
		return pread(fd, b, offset)
	})
}

// pread fills b.
func pread(fd int, b []byte, offset int64) error {
	for {
		n, err := unix.Pread(fd, b, offset)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("reading: %w", err)
		case n < len(b):
			return errShort
		}
		return nil
	}
}
