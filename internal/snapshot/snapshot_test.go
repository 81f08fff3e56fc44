package snapshot

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

// signer is an audit key in memory.
type signer struct {
	key  *ecdsa.PrivateKey
	pkix []byte
}

func newSigner(t testing.TB) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkix, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{key, pkix}
}

func (s *signer) sign(_ context.Context, digest [32]byte) ([]byte, error) {
	r, v, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
	if err != nil {
		return nil, err
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	v.FillBytes(out[32:])
	return out, nil
}

// records is a store that can only be dumped.
type records struct {
	store.Store
	all []store.Record
}

func (r records) Dump(_ context.Context, each func(store.Record) error) error {
	for _, rec := range r.all {
		if err := each(rec); err != nil {
			return err
		}
	}
	return nil
}

var some = []store.Record{
	{Table: "a", Key: "", Version: 1, Data: []byte{}},
	{Table: "a", Key: "\x00\xff", Version: 7, Data: []byte("zero")},
	{Table: "ab", Key: "k", Version: 1 << 40, Data: bytes.Repeat([]byte("long"), 300)},
}

var blobs = [][]byte{[]byte("first"), {}}

func testManifest() Manifest {
	return Manifest{ID: "6f0f1c3e", Created: time.Unix(1_800_000_000, 0).UTC(), Release: "0.1.0", StoreID: "store-1", Term: 2,
		Token: Token{Label: "claviger", Serial: "0011"}, Audit: Audit{Seq: 9, Hash: "00"}, Driver: "sqlite"}
}

func take(t testing.TB, s *signer, m Manifest, all []store.Record) []byte {
	t.Helper()
	shot, err := Take(context.Background(), Taking{Manifest: m, Store: records{all: all}, Sign: s.sign, PublicKey: s.pkix, Dir: t.TempDir(),
		Proofs: func(_ context.Context, put func([]byte) error) error {
			return errors.Join(put(blobs[0]), put(blobs[1]))
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer shot.File.Close()
	b, err := io.ReadAll(shot.File)
	if err != nil || int64(len(b)) != shot.Size {
		t.Fatalf("%d bytes, size %d, %v", len(b), shot.Size, err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != shot.SHA256 {
		t.Error("the digest is another")
	}
	return b
}

// content is what a snapshot holds.
type content struct {
	Manifest Manifest
	Records  []store.Record
	Proofs   [][]byte
}

func read(b []byte, keys ...[]byte) (*content, *Report, error) {
	var c content
	report, err := Read(bytes.NewReader(b), Reading{Keys: keys,
		Manifest: func(m *Manifest) error { c.Manifest = *m; return nil },
		Record:   func(r store.Record) error { c.Records = append(c.Records, r); return nil },
		Proof:    func(p []byte) error { c.Proofs = append(c.Proofs, p); return nil },
	})
	return &c, report, err
}

func same(t testing.TB, got *content) {
	t.Helper()
	want := testManifest()
	want.Format, want.Records, want.Proofs, want.Tables = 1, 3, 2, map[string]int64{"a": 2, "ab": 1}
	if !reflect.DeepEqual(got.Manifest, want) {
		t.Errorf("manifest %+v, want %+v", got.Manifest, want)
	}
	if len(got.Records) != len(some) || len(got.Proofs) != len(blobs) {
		t.Fatalf("%d records, %d proofs", len(got.Records), len(got.Proofs))
	}
	for i, r := range got.Records {
		if r.Table != some[i].Table || r.Key != some[i].Key || r.Version != some[i].Version || !bytes.Equal(r.Data, some[i].Data) {
			t.Errorf("record %d: %+v", i, r)
		}
	}
	for i, p := range got.Proofs {
		if !bytes.Equal(p, blobs[i]) {
			t.Errorf("proof %d: %q", i, p)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	b := take(t, s, testManifest(), some)
	got, report, err := read(b, newSigner(t).pkix, s.pkix)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got)
	sum := sha256.Sum256(b)
	if !report.Trusted || report.Size != int64(len(b)) || report.SHA256 != hex.EncodeToString(sum[:]) || report.KeyID != KeyID(s.pkix) {
		t.Errorf("report %+v", report)
	}
	if _, report, err = read(b); err != nil || report.Trusted {
		t.Errorf("without a key: %v, trusted %v", err, report.Trusted)
	}
	if _, _, err := read(b, newSigner(t).pkix); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "another key") {
		t.Errorf("another key: %v", err)
	}
}

func TestNothing(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	shot, err := Take(t.Context(), Taking{Manifest: testManifest(), Store: records{}, Sign: s.sign, PublicKey: s.pkix, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer shot.File.Close()
	if _, err := Read(shot.File, Reading{Keys: [][]byte{s.pkix}}); err != nil {
		t.Error(err)
	}
}

// Cut at any byte it is refused, with words that say so.
func TestTruncated(t *testing.T) {
	t.Parallel()
	b := take(t, newSigner(t), testManifest(), some)
	for n := range b {
		_, report, err := read(b[:n])
		if report != nil || fault.KindOf(err) != fault.Invalid || fault.HintOf(err) == "" {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(b), err)
		}
	}
	if _, _, err := read(append(bytes.Clone(b), 0)); fault.KindOf(err) != fault.Invalid {
		t.Errorf("with a byte more: %v", err)
	}
	if _, _, err := read(append(bytes.Clone(b), b...)); fault.KindOf(err) != fault.Invalid {
		t.Errorf("twice: %v", err)
	}
}

// Whatever bit is turned, a snapshot that is taken says the same: what is not refused
// was a bit of the archive's forms that means nothing.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	b := take(t, s, testManifest(), some)
	taken := 0
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		got, _, err := read(b, s.pkix)
		switch {
		case err == nil:
			same(t, got)
			taken++
		case fault.KindOf(err) != fault.Invalid:
			t.Fatalf("bit %d: %v", bit, err)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	// Time, speed and system in the header of gzip (RFC 1952 section 2.3), and what fills
	// up the blocks of deflate (RFC 1951 section 3.2.4).
	if taken > 24*8 {
		t.Errorf("%d bits of %d mean nothing", taken, len(b)*8)
	}
}

// files unpacks a snapshot, pack puts one together.
func files(t testing.TB, b []byte) map[string][]byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, r := map[string][]byte{}, tar.NewReader(z)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err == nil {
			out[h.Name], err = io.ReadAll(r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

var order = []string{manifestFile, recordsFile, proofsFile, sumsFile, sealFile}

func pack(t testing.TB, names []string, all map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range names {
		w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(all[name])), Mode: 0o600})
		w.Write(all[name])
	}
	w.Close()
	z.Close()
	return b.Bytes()
}

// resign gives altered files sums and a signature that fit.
func resign(t testing.TB, s *signer, all map[string][]byte) {
	t.Helper()
	sums := map[string]string{}
	for _, name := range order[:3] {
		sum := sha256.Sum256(all[name])
		sums[name] = hex.EncodeToString(sum[:])
	}
	all[sumsFile] = sumsOf(sums)
	signature, err := s.sign(context.Background(), Digest(all[sumsFile]))
	if err != nil {
		t.Fatal(err)
	}
	all[sealFile], _ = json.Marshal(seal{KeyID(s.pkix), s.pkix, signature})
}

// What somebody may put together who can write the file, and even sign it.
func TestPutTogether(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	mine, other := testManifest(), testManifest()
	other.StoreID = "store-2"
	b, foreign := take(t, s, mine, some), files(t, take(t, s, other, some[:1]))
	for _, c := range []struct {
		name   string
		want   string
		change func(all map[string][]byte)
		signed bool
	}{
		{"records of another", "digests", func(all map[string][]byte) {
			all[recordsFile] = bytes.Replace(all[recordsFile], []byte("zero"), []byte("null"), 1)
		}, false},
		{"all but the seal of another", "signature is wrong", func(all map[string][]byte) {
			for _, name := range order[:4] {
				all[name] = foreign[name]
			}
		}, false},
		{"another store's name", "digests", func(all map[string][]byte) {
			all[manifestFile] = bytes.Replace(all[manifestFile], []byte("store-1"), []byte("store-2"), 1)
		}, false},
		{"fewer records", "its manifest says 3", func(all map[string][]byte) { all[recordsFile] = nil }, true},
		{"fewer proofs", "its manifest says 2", func(all map[string][]byte) { all[proofsFile] = nil }, true},
		{"records twice", "order", func(all map[string][]byte) {
			all[recordsFile] = append(bytes.Clone(all[recordsFile]), all[recordsFile]...)
		}, true},
		{"a record cut", "ends early", func(all map[string][]byte) { all[recordsFile] = all[recordsFile][:len(all[recordsFile])-1] }, true},
		{"a long length", "claims to have", func(all map[string][]byte) {
			all[recordsFile] = append(bytes.Clone(all[recordsFile]), 0, 1, 'z', 0xff, 0xff, 0xff, 0xff)
		}, true},
		{"version 0", "version 0", func(all map[string][]byte) {
			all[recordsFile] = []byte("\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
		}, true},
		{"a newer format", "newer release", func(all map[string][]byte) {
			all[manifestFile] = bytes.Replace(all[manifestFile], []byte(`"format": 1`), []byte(`"format": 2`), 1)
		}, true},
		{"no manifest", "manifest is none", func(all map[string][]byte) { all[manifestFile] = []byte("[]") }, true},
		{"no identity", "lacks", func(all map[string][]byte) {
			all[manifestFile] = bytes.Replace(all[manifestFile], []byte(`"store-1"`), []byte(`""`), 1)
		}, true},
		{"another key in the seal", "not that of the key", func(all map[string][]byte) {
			all[sealFile] = bytes.Replace(all[sealFile], []byte(`"key_id":"`), []byte(`"key_id":"0`), 1)
		}, false},
		{"no signature", "not signed", func(all map[string][]byte) { all[sealFile], _ = json.Marshal(seal{KeyID(s.pkix), s.pkix, nil}) }, false},
	} {
		all := files(t, b)
		c.change(all)
		if c.signed {
			resign(t, s, all)
		}
		_, report, err := read(pack(t, order, all), s.pkix)
		if report != nil || fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	all := files(t, b)
	for _, names := range [][]string{order[1:], {recordsFile, manifestFile, proofsFile, sumsFile, sealFile}, append([]string{"x"}, order...), append(order[:5:5], "x"), order[:4], order[:0]} {
		if _, report, err := read(pack(t, names, all), s.pkix); report != nil || fault.KindOf(err) != fault.Invalid {
			t.Errorf("files %v: %v", names, err)
		}
	}
	if _, _, err := read([]byte("something else")); !strings.Contains(err.Error(), "no snapshot of Claviger") {
		t.Error(err)
	}
}

// An error of the caller is the caller's.
func TestCallersErrors(t *testing.T) {
	t.Parallel()
	b := take(t, newSigner(t), testManifest(), some)
	mine := errors.New("mine")
	for name, g := range map[string]Reading{
		"manifest": {Manifest: func(*Manifest) error { return mine }},
		"record":   {Record: func(store.Record) error { return mine }},
		"proof":    {Proof: func([]byte) error { return mine }},
	} {
		if _, err := Read(bytes.NewReader(b), g); err != mine {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTakeFails(t *testing.T) {
	t.Parallel()
	s, mine := newSigner(t), errors.New("mine")
	dir := t.TempDir()
	good := Taking{Manifest: testManifest(), Store: records{all: some}, Sign: s.sign, PublicKey: s.pkix, Dir: dir}
	for name, change := range map[string]func(*Taking){
		"signing":     func(k *Taking) { k.Sign = func(context.Context, [32]byte) ([]byte, error) { return nil, mine } },
		"another key": func(k *Taking) { k.PublicKey = newSigner(t).pkix },
		"proofs":      func(k *Taking) { k.Proofs = func(context.Context, func([]byte) error) error { return mine } },
		"no room":     func(k *Taking) { k.Dir = filepath.Join(dir, "absent") },
		"a record":    func(k *Taking) { k.Store = records{all: []store.Record{{Table: strings.Repeat("t", 300), Version: 1}}} },
	} {
		k := good
		change(&k)
		if shot, err := Take(t.Context(), k); err == nil {
			shot.File.Close()
			t.Errorf("%s: no error", name)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mounting a file system is not permitted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) })
	s := newSigner(t)
	noise := make([]byte, 200<<10)
	rand.Read(noise)
	_, err := Take(t.Context(), Taking{Manifest: testManifest(), Store: records{all: []store.Record{{Table: "t", Key: "k", Version: 1, Data: noise}}},
		Sign: s.sign, PublicKey: s.pkix, Dir: dir})
	if fault.KindOf(err) != fault.Unavailable || !errors.Is(err, syscall.ENOSPC) || fault.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
}

// The snapshot of release 0.1: later releases read it. It was made by this test with
// CLAVIGER_SNAPSHOT_FIXTURE=1, once.
func TestRelease01(t *testing.T) {
	t.Parallel()
	const path = "testdata/release-0.1.snap"
	if os.Getenv("CLAVIGER_SNAPSHOT_FIXTURE") != "" {
		if err := os.WriteFile(path, take(t, newSigner(t), testManifest(), some), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, report, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got)
	if report.SHA256 != release01 {
		t.Errorf("the fixture was changed: %s", report.SHA256)
	}
}

func FuzzRead(f *testing.F) {
	b, err := os.ReadFile("testdata/release-0.1.snap")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte{0x1f, 0x8b})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, err := read(b)
		if err != nil && fault.KindOf(err) != fault.Invalid {
			t.Errorf("%v", err)
		}
	})
}

// FuzzRecords: what is read is what is written again.
func FuzzRecords(f *testing.F) {
	var b []byte
	for i := range some {
		b, _ = appendRecord(b, &some[i])
	}
	f.Add(b)
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		rr := &recordReader{r: bytes.NewReader(b), seen: map[string]int64{}}
		var again []byte
		for {
			r, err := rr.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
			if again, err = appendRecord(again, &r); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x was read as %x", b, again)
		}
	})
}

// release01 is the SHA-256 of the fixture.
const release01 = "ba2dec936dcb06cceb1619cc6adb565cc51dcca59669e5824366d2e6901b52dd"
