package snapshot

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

// The files of a snapshot, in their order.
const (
	manifestFile = "manifest.json"
	recordsFile  = "records.bin"
	proofsFile   = "proofs.bin"
	sumsFile     = "SHA256SUMS"
	sealFile     = "SHA256SUMS.sealed"
)

// Bounds of the small files, and of what may follow the last file, in bytes.
const (
	maxManifest = 1 << 20
	maxSums     = 4 << 10
	maxPadding  = 64 << 10
)

// Reading says what to do with what a snapshot holds. Record and Proof may be nil.
// They are called before it is known whether the snapshot is genuine: what they
// keep counts only after Read returned without an error.
type Reading struct {
	Manifest func(*Manifest) error // before the records
	Record   func(store.Record) error
	Proof    func([]byte) error
	// Keys are the public keys in PKIX form of which one must have signed; none: any.
	Keys [][]byte
}

// Report is what Read found.
type Report struct {
	Manifest *Manifest
	SHA256   string // of the whole file, hex
	Size     int64  // of the whole file in bytes
	KeyID    string // of the key that signed
	Trusted  bool   // it is one of Reading.Keys
}

// Read reads a whole snapshot and checks everything that can be checked without the
// HSM token. An error of a function of g is returned as it is, all others are
// *fault.Error.
func Read(r io.Reader, g Reading) (*Report, error) {
	whole := sha256.New()
	count := &counting{r: io.TeeReader(r, whole)}
	in := bufio.NewReaderSize(count, 64<<10)
	p := &reader{g: g, sums: map[string]string{}}
	if err := p.archive(in); err != nil {
		return nil, explained(err)
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return nil, damaged("something follows its end")
	}
	return &Report{Manifest: p.manifest, SHA256: hex.EncodeToString(whole.Sum(nil)), Size: count.n,
		KeyID: p.seal.KeyID, Trusted: p.trusted}, nil
}

// explained turns the errors of the archive's formats into our own.
func explained(err error) error {
	if _, ours := errors.AsType[*fault.Error](err); ours {
		return err
	}
	if own, ok := errors.AsType[*callerError](err); ok {
		return own.err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return damaged("it ends early")
	}
	return damaged("%v", err)
}

// callerError is an error of one of the caller's functions.
type callerError struct{ err error }

func (e *callerError) Error() string { return e.err.Error() }

func callers(err error) error {
	if err == nil {
		return nil
	}
	return &callerError{err}
}

type counting struct {
	r io.Reader
	n int64
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// reader is a snapshot that is being read.
type reader struct {
	g        Reading
	tar      *tar.Reader
	sums     map[string]string // SHA-256 by file, hex
	manifest *Manifest
	seal     seal
	trusted  bool
}

func (p *reader) archive(in *bufio.Reader) error {
	magic, err := in.Peek(2)
	if err != nil || magic[0] != 0x1f || magic[1] != 0x8b {
		return fault.New(fault.Invalid, "this is no snapshot of Claviger").WithHint("give the file that claviger snapshot save wrote")
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	z.Multistream(false)
	p.tar = tar.NewReader(z)
	for _, step := range []func() error{p.readManifest, p.readRecords, p.readProofs, p.readSums} {
		if err := step(); err != nil {
			return err
		}
	}
	if _, err := p.tar.Next(); err != io.EOF {
		return damaged("it holds more files than it should")
	}
	// What fills the last block of the archive; reading to the end lets gzip check
	// its sum.
	rest, err := io.ReadAll(io.LimitReader(z, maxPadding+1))
	if err != nil {
		return err
	}
	if len(rest) > maxPadding || slices.ContainsFunc(rest, func(b byte) bool { return b != 0 }) {
		return damaged("something follows its last file")
	}
	return nil
}

// open goes on to the next file, which must have this name; its digest is known
// when the function that it returns was called.
func (p *reader) open(name string, most int64) (r io.Reader, closed func(), err error) {
	h, err := p.tar.Next()
	if err != nil {
		return nil, nil, err
	}
	if h.Name != name || h.Typeflag != tar.TypeReg {
		return nil, nil, damaged("it holds the file %.80q where %s should be", h.Name, name)
	}
	if most > 0 && h.Size > most {
		return nil, nil, damaged("%s has %d bytes; the most is %d", name, h.Size, most)
	}
	sum := sha256.New()
	return io.TeeReader(p.tar, sum), func() { p.sums[name] = hex.EncodeToString(sum.Sum(nil)) }, nil
}

func (p *reader) small(name string, most int64) ([]byte, error) {
	r, closed, err := p.open(name, most)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	closed()
	return b, nil
}

func (p *reader) readManifest() error {
	text, err := p.small(manifestFile, maxManifest)
	if err != nil {
		return err
	}
	if p.manifest, err = parseManifest(text); err != nil {
		return err
	}
	if p.g.Manifest != nil {
		return callers(p.g.Manifest(p.manifest))
	}
	return nil
}

func (p *reader) readRecords() error {
	r, closed, err := p.open(recordsFile, 0)
	if err != nil {
		return err
	}
	rr := &recordReader{r: bufio.NewReader(r), seen: map[string]int64{}}
	for {
		rec, err := rr.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if p.g.Record != nil {
			if err := p.g.Record(rec); err != nil {
				return callers(err)
			}
		}
	}
	closed()
	if rr.count != p.manifest.Records || !maps.Equal(rr.seen, p.manifest.Tables) {
		return damaged("it holds %d records, its manifest says %d", rr.count, p.manifest.Records)
	}
	return nil
}

func (p *reader) readProofs() error {
	r, closed, err := p.open(proofsFile, 0)
	if err != nil {
		return err
	}
	in, n := bufio.NewReader(r), int64(0)
	for ; ; n++ {
		b, err := readPart(in, 4, maxProof)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if p.g.Proof != nil {
			if err := p.g.Proof(b); err != nil {
				return callers(err)
			}
		}
	}
	closed()
	if n != p.manifest.Proofs {
		return damaged("it holds %d parts of test ciphertexts, its manifest says %d", n, p.manifest.Proofs)
	}
	return nil
}

// readSums compares the digests and verifies the signature.
func (p *reader) readSums() error {
	want := sumsOf(p.sums)
	got, err := p.small(sumsFile, maxSums)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return damaged("the digests of its files are not those that it says")
	}
	text, err := p.small(sealFile, maxSums)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &p.seal); err != nil {
		return damaged("its signature cannot be read: %v", err)
	}
	if err := p.seal.verify(got); err != nil {
		return err
	}
	p.trusted = slices.ContainsFunc(p.g.Keys, func(k []byte) bool { return bytes.Equal(k, p.seal.PublicKey) })
	if len(p.g.Keys) > 0 && !p.trusted {
		return fault.New(fault.Invalid, "the snapshot is signed by another key than the given: %.16s…", p.seal.KeyID).
			WithHint("it is another server's, or somebody's forgery; an HSM token that was replaced has another audit key, which can be given beside the new one")
	}
	return nil
}

// sumsOf is the file SHA256SUMS.
func sumsOf(sums map[string]string) []byte {
	var b bytes.Buffer
	for _, name := range []string{manifestFile, recordsFile, proofsFile} {
		fmt.Fprintf(&b, "%s  %s\n", sums[name], name)
	}
	return b.Bytes()
}
