package hmacpool

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/claviger/claviger/internal/fault"
)

// Unwrap opens the pool key of a sealed pool by the key that its header names.
// The caller wipes the result.
type Unwrap func(ctx context.Context, h *Header, aad []byte) ([]byte, error)

// pool is a pool that can be used. It is safe for concurrent use.
type pool struct {
	Settings
	seal *seal     // nil of a plain pool
	only keptFile  // not of MODE32
	room sync.Pool // *[]byte for a chunk of a sealed pool
}

// openPool looks whether the pool is there and opens its key if it is sealed. The
// files that the original looks at must have their size: a pool of a wrong mode
// is found at once.
func openPool(ctx context.Context, s Settings, unwrap Unwrap) (*pool, error) {
	h, err := ReadHeader(s.Dir)
	if err != nil {
		return nil, err
	}
	p := &pool{Settings: s}
	if h != nil {
		if p.seal, err = openSeal(ctx, &s, h, unwrap); err != nil {
			return nil, err
		}
		p.room.New = func() any { b := make([]byte, chunkSize(s.Mode)); return &b }
	}
	if s.Mode != Mode32 {
		p.only.path = s.path(s.Mode.fileName(0))
	}
	for _, file := range s.Mode.startFiles() {
		if err := s.checkSize(file, h != nil); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func openSeal(ctx context.Context, s *Settings, h *Header, unwrap Unwrap) (*seal, error) {
	if h.Mode != s.Mode.String() {
		return nil, fault.New(fault.Invalid, "the sealed pool in %s is of %s, not of %s", s.Dir, h.Mode, s.Mode)
	}
	if unwrap == nil {
		return nil, fault.New(fault.Invalid, "the pool in %s is sealed: it is opened by the server that has the key %q", s.Dir, h.Key)
	}
	aad, err := h.KeyAAD()
	if err != nil {
		return nil, err
	}
	key, err := unwrap(ctx, h, aad)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return newSeal(h, key)
}

// ReadHeader reads the header of a sealed pool; nil if dir has none, as that of
// a plain pool.
func ReadHeader(dir string) (*Header, error) {
	path := (&Settings{Dir: dir}).path(HeaderFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxHeader) {
		return nil, headerFault("it has more than %d bytes or is no file", maxHeader)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "read the header of the sealed pool")
	}
	return ParseHeader(text)
}

// checkSize looks whether a file is there and whole.
func (s *Settings) checkSize(file uint16, sealed bool) error {
	path := s.path(s.Mode.fileName(file))
	info, err := os.Stat(path)
	if short := s.Mode.shortName(file); errors.Is(err, fs.ErrNotExist) && short != "" {
		info, err = os.Stat(s.path(short))
	}
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "%s needs the file %s", s.Mode, path)
	}
	if want := fileSize(s.Mode, sealed); !info.Mode().IsRegular() || info.Size() != want {
		return wrongSize(path, info.Size(), want)
	}
	return nil
}

// code appends HMAC-SHA-256 of message to out.
func (p *pool) code(out, message []byte) ([]byte, error) {
	at := p.place(message)
	var secret [SecretSize]byte
	defer clear(secret[:])
	var err error
	if p.seal == nil {
		err = p.readAt(at, secret[:], int64(at.record)*SecretSize)
	} else {
		err = p.readSealed(at, &secret)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, fmt.Errorf("pool %s, %s: %w", p.Dir, at, err),
			"the secret of this message can't be read: a file of the pool is missing, short or altered")
	}
	mac := hmac.New(sha256.New, secret[:])
	mac.Write(message)
	return mac.Sum(out), nil
}

func (p *pool) readSealed(at place, secret *[SecretSize]byte) error {
	room := p.room.Get().(*[]byte)
	defer p.room.Put(room)
	defer clear(*room)
	n := uint16(chunkSecrets(p.Mode))
	chunk := at.record / n
	if err := p.readAt(at, *room, int64(chunk)*int64(len(*room))); err != nil {
		return err
	}
	secrets, err := p.seal.open(*room, at.file, chunk)
	if err != nil {
		return err
	}
	copy(secret[:], secrets[int(at.record%n)*SecretSize:])
	return nil
}

// readAt fills b from a file. Those of MODE32 are opened anew each time: keeping
// them would take 2^16 descriptors.
func (p *pool) readAt(at place, b []byte, offset int64) error {
	if p.only.path != "" {
		return p.only.readAt(b, offset)
	}
	fd, err := p.openNumber(at.file)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return pread(fd, b, offset)
}

// openNumber opens the file of a number, under either of its names.
func (p *pool) openNumber(file uint16) (int, error) {
	fd, err := openRead(p.path(p.Mode.fileName(file)))
	if short := p.Mode.shortName(file); err == unix.ENOENT && short != "" {
		return openRead(p.path(short))
	}
	return fd, err
}

// openRead opens a file without waiting for anything that stands in its place,
// such as a pipe.
func openRead(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
