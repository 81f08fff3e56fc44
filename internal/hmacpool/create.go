package hmacpool

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/claviger/claviger/internal/fault"
)

// Progress is how far the making or checking of a pool is.
type Progress struct {
	Files, Total int   // files that are done, and all of them
	Bytes        int64 // that were written or read by this call
	FileSize     int64 // bytes
}

// Sealing is what a sealed pool needs: the named key that wraps the pool key, and
// who asks the HSM token for it.
type Sealing struct {
	Mount, Key string
	// Wrap encrypts the pool key, which it neither keeps nor wipes, and returns
	// the ciphertext as the operation encrypt does.
	Wrap   func(ctx context.Context, h *Header, key, aad []byte) (string, error)
	Unwrap Unwrap
}

// CreateOptions say which pool is made.
type CreateOptions struct {
	Dir  string
	Mode Mode
	// Sealing is nil for a plain pool.
	Sealing *Sealing
	// Progress is called after every file; may be nil.
	Progress func(Progress)

	// free tells the free bytes of a directory's file system; nil asks it.
	free func(dir string) (int64, error)
}

// partSuffix ends the names of files that are being written; they begin with a dot.
const partSuffix = ".part"

// Create makes the files of a pool that are missing in its directory, and the
// directory. It can be interrupted at any time: called again it goes on. Files
// that are there are never changed; one of a wrong size is an error, before
// anything is written. Errors are *fault.Error where the caller can do something.
func Create(ctx context.Context, o CreateOptions) (Progress, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return Progress{}, fault.Wrap(fault.Invalid, err, "make the directory of the pool")
	}
	unlock, err := lockDir(o.Dir)
	if err != nil {
		return Progress{}, err
	}
	defer unlock()
	m := &maker{CreateOptions: o, settings: Settings{Dir: o.Dir, Mode: o.Mode}}
	m.size = fileSize(o.Mode, o.Sealing != nil)
	if m.free == nil {
		m.free = freeSpace
	}
	have, err := m.survey()
	if err != nil {
		return Progress{}, err
	}
	if err := m.prepareSeal(ctx, len(have) > 0); err != nil {
		return Progress{}, err
	}
	return m.fill(ctx, have)
}

// lockDir keeps others from making files in dir at the same time.
func lockDir(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "open the directory of the pool")
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.Close()
		return nil, fault.New(fault.Conflict, "a pool is being made in %s at this moment", dir)
	}
	return func() { d.Close() }, nil
}

type maker struct {
	CreateOptions
	settings Settings
	size     int64
	seal     *seal
	plain    []byte
	sealed   []byte
}

// survey finds the files that are there, and removes what an interrupted run left.
func (m *maker) survey() (map[uint16]bool, error) {
	have := map[uint16]bool{}
	for file := range m.Mode.Files() {
		n := uint16(file)
		for _, name := range []string{m.Mode.fileName(n), m.Mode.shortName(n)} {
			if name == "" {
				continue
			}
			info, err := os.Lstat(m.settings.path(name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fault.Wrap(fault.Invalid, err, "look at the pool")
			}
			if !info.Mode().IsRegular() || info.Size() != m.size {
				return nil, wrongSize(m.settings.path(name), info.Size(), m.size).WithHint("nothing was changed; move the file away if it is not needed")
			}
			have[n] = true
		}
	}
	if err := m.checkSpace(len(have)); err != nil {
		return nil, err
	}
	return have, removeParts(m.Dir)
}

func removeParts(dir string) error {
	parts, err := filepath.Glob(filepath.Join(escapeGlob(dir), ".*"+partSuffix))
	if err != nil {
		return fmt.Errorf("look for unfinished files: %w", err)
	}
	for _, path := range parts {
		if err := os.Remove(path); err != nil {
			return fault.Wrap(fault.Invalid, err, "remove an unfinished file")
		}
	}
	return nil
}

var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

func escapeGlob(s string) string { return globEscaper.Replace(s) }

// checkSpace refuses before hours of work that can't end well.
func (m *maker) checkSpace(have int) error {
	free, err := m.free(m.Dir)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "ask for the free space of %s", m.Dir)
	}
	if need := int64(m.Mode.Files()-have) * m.size; need > free {
		return fault.New(fault.Invalid, "the pool needs %d bytes more, and %s has %d free", need, m.Dir, free)
	}
	return nil
}

func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// prepareSeal makes or opens the header of a sealed pool.
func (m *maker) prepareSeal(ctx context.Context, someFiles bool) error {
	h, err := ReadHeader(m.Dir)
	switch {
	case err != nil:
		return err
	case m.Sealing == nil && h != nil:
		return fault.New(fault.Invalid, "the pool in %s is sealed: go on with --sealed", m.Dir)
	case m.Sealing == nil:
		return nil
	case h != nil:
		m.seal, err = openSeal(ctx, &m.settings, h, m.Sealing.Unwrap)
		return err
	case someFiles:
		return fault.New(fault.Invalid, "%s holds files of a pool, but no %s", m.Dir, HeaderFile)
	}
	return m.newSeal(ctx)
}

func (m *maker) newSeal(ctx context.Context) error {
	h := newHeader(m.Mode, m.Sealing.Mount, m.Sealing.Key)
	key := make([]byte, KeySize)
	defer clear(key)
	rand.Read(key)
	aad, err := h.KeyAAD()
	if err != nil {
		return err
	}
	if h.Wrapped, err = m.Sealing.Wrap(ctx, h, key, aad); err != nil {
		return err
	}
	text, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return fmt.Errorf("write the header: %w", err)
	}
	if err := writeNew(m.Dir, HeaderFile, append(text, '\n')); err != nil {
		return err
	}
	m.seal, err = newSeal(h, key)
	return err
}

// fill makes the files that are missing.
func (m *maker) fill(ctx context.Context, have map[uint16]bool) (Progress, error) {
	p := Progress{Files: len(have), Total: m.Mode.Files(), FileSize: m.size}
	m.report(p)
	m.plain = make([]byte, m.Mode.PerFile()*SecretSize)
	defer clear(m.plain)
	for file := range p.Total {
		if have[uint16(file)] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return p, err
		}
		if err := m.make(uint16(file)); err != nil {
			return p, err
		}
		p.Files++
		p.Bytes += m.size
		m.report(p)
	}
	return p, syncDir(m.Dir)
}

func (m *maker) report(p Progress) {
	if m.Progress != nil {
		m.Progress(p)
	}
}

// make fills and writes one file.
func (m *maker) make(file uint16) error {
	rand.Read(m.plain)
	content := m.plain
	if m.seal != nil {
		content = m.sealed[:0]
		size := chunkSecrets(m.Mode) * SecretSize
		for chunk := range len(m.plain) / size {
			content = m.seal.append(content, m.plain[chunk*size:(chunk+1)*size], file, uint16(chunk))
		}
		m.sealed = content
	}
	return writeNew(m.Dir, m.Mode.fileName(file), content)
}

// writeNew writes a file that does not exist yet, as a whole or not at all.
func writeNew(dir, name string, content []byte) error {
	part := filepath.Join(dir, "."+name+partSuffix)
	if err := writePart(part, content); err != nil {
		return fault.Wrap(fault.Unavailable, errors.Join(err, ignoreAbsent(os.Remove(part))), "write %s", filepath.Join(dir, name))
	}
	// A link, unlike a rename, replaces nothing.
	err := os.Link(part, filepath.Join(dir, name))
	return fault.Wrap(fault.Unavailable, errors.Join(err, os.Remove(part)), "write %s", filepath.Join(dir, name))
}

func writePart(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "sync the directory of the pool")
	}
	return fault.Wrap(fault.Unavailable, errors.Join(d.Sync(), d.Close()), "sync the directory of the pool")
}
