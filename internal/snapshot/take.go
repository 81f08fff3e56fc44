package snapshot

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

// Taking says what to take a snapshot of.
type Taking struct {
	// Manifest has what is known beforehand; Take adds the format and the numbers.
	Manifest Manifest
	Store    store.Archive
	// Proofs calls put for each blob of test ciphertexts; nil: there are none. It is
	// called before the store is read.
	Proofs func(ctx context.Context, put func([]byte) error) error
	// Sign signs a digest with the HSM token's audit key: r ‖ s, 64 bytes.
	Sign      func(ctx context.Context, digest [32]byte) ([]byte, error)
	PublicKey []byte // PKIX, of that key
	Dir       string // where there is room for the snapshot and its records, for a while
}

// Snapshot is a taken one: a file without a name, which goes with the process.
type Snapshot struct {
	Manifest Manifest
	File     *os.File // at its beginning; the caller closes it
	Size     int64    // bytes
	SHA256   string   // of the file, hex
}

// Take takes a snapshot of a store that others go on using. If it fails nothing is
// left of it.
func Take(ctx context.Context, t Taking) (*Snapshot, error) {
	m := t.Manifest
	m.Format = Format
	proofs, err := spool(t.Dir, func(w io.Writer) (err error) {
		m.Proofs, err = t.writeProofs(ctx, w)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer proofs.file.Close()
	records, err := spool(t.Dir, func(w io.Writer) (err error) {
		m.Records, m.Tables, err = writeRecords(ctx, t.Store, w)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer records.file.Close()
	whole, err := spool(t.Dir, func(w io.Writer) error { return t.writeArchive(ctx, w, &m, records, proofs) })
	if err != nil {
		return nil, err
	}
	return &Snapshot{Manifest: m, File: whole.file, Size: whole.size, SHA256: whole.sum}, nil
}

// spooled is a file without a name, at its beginning.
type spooled struct {
	file *os.File
	size int64
	sum  string // SHA-256, hex
}

// spool keeps what write writes.
func spool(dir string, write func(io.Writer) error) (*spooled, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, os.NewSyscallError("open", err), "no file can be made in the data directory, where a snapshot is put together")
	}
	f := os.NewFile(uintptr(fd), dir+" (a snapshot)")
	sum := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(f, sum), 256<<10)
	err = write(w)
	if err == nil {
		err = roomy(w.Flush())
	}
	if err == nil {
		var size int64
		if size, err = f.Seek(0, io.SeekCurrent); err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
		if err == nil {
			return &spooled{f, size, hex.EncodeToString(sum.Sum(nil))}, nil
		}
	}
	f.Close()
	return nil, err
}

// roomy says of a failed write what it most often is.
func roomy(err error) error {
	if err == nil {
		return nil
	}
	e := &fault.Error{Kind: fault.Unavailable, Msg: "the snapshot cannot be put together in the data directory", Err: err}
	return e.WithHint("is its disk full? It needs room for twice the database, for as long as the snapshot is sent")
}

func (t *Taking) writeProofs(ctx context.Context, w io.Writer) (n int64, err error) {
	if t.Proofs == nil {
		return 0, nil
	}
	err = t.Proofs(ctx, func(b []byte) error {
		if len(b) > maxProof {
			return fmt.Errorf("%d bytes of test ciphertexts; the most is %d", len(b), maxProof)
		}
		n++
		_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
		return roomy(err)
	})
	return n, err
}

func writeRecords(ctx context.Context, s store.Archive, w io.Writer) (n int64, tables map[string]int64, err error) {
	tables = map[string]int64{}
	var b []byte
	err = s.Dump(ctx, func(r store.Record) error {
		var err error
		if b, err = appendRecord(b[:0], &r); err != nil {
			return err
		}
		n++
		tables[r.Table]++
		_, err = w.Write(b)
		return roomy(err)
	})
	return n, tables, err
}

func (t *Taking) writeArchive(ctx context.Context, w io.Writer, m *Manifest, records, proofs *spooled) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the manifest: %w", err)
	}
	text = append(text, '\n')
	sum := sha256.Sum256(text)
	sums := sumsOf(map[string]string{manifestFile: hex.EncodeToString(sum[:]), recordsFile: records.sum, proofsFile: proofs.sum})
	signature, err := t.Sign(ctx, Digest(sums))
	if err != nil {
		return fmt.Errorf("signing the snapshot: %w", err)
	}
	s := seal{KeyID: KeyID(t.PublicKey), PublicKey: t.PublicKey, Signature: signature}
	if err := s.verify(sums); err != nil {
		return fmt.Errorf("the audit key's signature does not fit its public key: %w", err)
	}
	sealed, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encoding the signature: %w", err)
	}
	// What is sealed can't be compressed; names can.
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	a := archive{tar.NewWriter(z), m}
	for _, add := range []func() error{
		func() error { return a.bytes(manifestFile, text) },
		func() error { return a.add(recordsFile, records.size, records.file) },
		func() error { return a.add(proofsFile, proofs.size, proofs.file) },
		func() error { return a.bytes(sumsFile, sums) },
		func() error { return a.bytes(sealFile, sealed) },
		a.tar.Close, z.Close,
	} {
		if err := add(); err != nil {
			return roomy(err)
		}
	}
	return nil
}

// archive writes the files of a snapshot.
type archive struct {
	tar *tar.Writer
	m   *Manifest
}

func (a *archive) bytes(name string, b []byte) error {
	err := a.header(name, int64(len(b)))
	if err == nil {
		_, err = a.tar.Write(b)
	}
	return err
}

func (a *archive) add(name string, size int64, r io.Reader) error {
	err := a.header(name, size)
	if err == nil {
		_, err = io.Copy(a.tar, r)
	}
	return err
}

func (a *archive) header(name string, size int64) error {
	return a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: a.m.Created.Truncate(1e9)})
}
