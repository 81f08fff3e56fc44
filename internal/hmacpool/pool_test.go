package hmacpool

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/claviger/claviger/internal/fault"
)

// secrets16 is the content of the test file 0000 of MODE16.
func secrets16() []byte {
	var b []byte
	for i := range perFile {
		sum := sha256.Sum256(binary.BigEndian.AppendUint16([]byte("crypto16:"), uint16(i)))
		b = append(b, sum[:]...)
	}
	return b
}

// secrets32 is the content of a test file of MODE32.
func secrets32(file uint16) []byte {
	var b []byte
	for i := range perFile {
		name := binary.BigEndian.AppendUint16([]byte("crypto32:"), file)
		sum := sha256.Sum256(binary.BigEndian.AppendUint16(name, uint16(i)))
		b = append(b, sum[:]...)
	}
	return b
}

func write(t testing.TB, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// sparse makes files of the right size that take no room.
func sparse(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		write(t, dir, name, nil)
		if err := os.Truncate(filepath.Join(dir, name), perFile*SecretSize); err != nil {
			t.Fatal(err)
		}
	}
}

// startNames are the files of MODE32 that the original looks at.
func startNames() []string {
	var names []string
	for _, d := range "0123456789abcdef" {
		names = append(names, strings.Repeat(string(d), 4))
	}
	return names
}

func ascending() []byte {
	b := make([]byte, SecretSize)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func open(t testing.TB, s Settings) *pool {
	t.Helper()
	p, err := openPool(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func checkCode(t *testing.T, p *pool, message, want string) {
	t.Helper()
	code, err := p.code(nil, []byte(message))
	if err != nil || hex.EncodeToString(code) != want {
		t.Errorf("%v %q: %x, %v", p.Mode, message, code, err)
	}
}

// TestKnownAnswers are computed by independent means: see the package's format.
func TestKnownAnswers(t *testing.T) {
	t.Parallel()
	dir0, dir16, dir32 := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, dir0, "secret", ascending())
	write(t, dir16, "0000", secrets16())
	if sum := sha256.Sum256(secrets16()); hex.EncodeToString(sum[:]) != "4d47d93862f2d0533b73ab99761666cdbfe3d58bbce4e0beaee55277bca279ba" {
		t.Fatalf("the test file has SHA-256 %x", sum)
	}
	sparse(t, dir32, startNames()...)
	for _, file := range []uint16{0xbd33, 0xbfa8, 0xbb74} {
		write(t, dir32, Mode32.fileName(file), secrets32(file))
	}
	p0, p16, p32 := open(t, Settings{Dir: dir0, Mode: Mode0}), open(t, Settings{Dir: dir16, Mode: Mode16}), open(t, Settings{Dir: dir32, Mode: Mode32})
	for message, want := range map[string][3]string{
		"hello world": {"411b9a51e8565e1fc79643b2a6c4672f4a3c3e573c33d0995a08748cb6128e8e",
			"1db1ca798bbfd26c86d69cbb6046ba856450562d2f357c7fc5e7de684485cf5b", "c5c75bff783cbcc65078f79acd6fef86644c823a7fa4867a98832d44f83b976b"},
		"apples and pears": {"df317af34883fe993b782a41cc09cbf9c93b56a69350f1aea2a355307cbd65f1",
			"f86a3bd5e18a78a4efcd4d90645a741c8c8b6c7125251989b16a570f4865e968", "01e0581ab2a8d69a9c30c6d931542cf1f29813387f87bc53e1700b0ac4caff80"},
		"a": {"5167dd15d18166a9dd6caa3522f7026f13d2f82c052bb245c9f3366588205222",
			"1c4ba6c8ba9ec9315a41759ef80c6f1943f9bed0a63bc074ec92515b715efdb1", "4e628ff6a74978e7bb9e16dde49c67df14acdc1ebc404fb6ce4fb7a7acce5948"},
	} {
		checkCode(t, p0, message, want[0])
		checkCode(t, p16, message, want[1])
		checkCode(t, p32, message, want[2])
	}
	old := open(t, Settings{Dir: dir16, Mode: Mode16, Index: Old})
	checkCode(t, old, "hello world", "e0d5687c6e68b6596b6a1f507dc32ec8509f8adbe4c7230e331feb463c3d396c")
}

// TestNamesOfFiles: files are found with and without leading zeros, those with
// them first.
func TestNamesOfFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sparse(t, dir, startNames()...)
	p := open(t, Settings{Dir: dir, Mode: Mode32})
	for message, names := range map[string][2]string{"msg8": {"0b9f", "b9f"}, "msg6805": {"000c", "c"}} {
		if _, err := p.code(nil, []byte(message)); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), names[0]) {
			t.Errorf("%s without a file: %v", message, err)
		}
		file := p.place([]byte(message)).file
		write(t, dir, names[1], secrets32(file))
		short, err := p.code(nil, []byte(message))
		if err != nil {
			t.Errorf("%s in %s: %v", message, names[1], err)
		}
		write(t, dir, names[0], secrets32(file+1))
		long, err := p.code(nil, []byte(message))
		if err != nil || string(long) == string(short) {
			t.Errorf("%s in %s: %x, %v", message, names[0], long, err)
		}
		if err := os.Remove(filepath.Join(dir, names[1])); err != nil {
			t.Fatal(err)
		}
		if again, err := p.code(nil, []byte(message)); err != nil || string(again) != string(long) {
			t.Errorf("%s in %s alone: %v", message, names[0], err)
		}
	}
}

// TestFilesChange: a file that is replaced, cut, removed or blocked while the pool
// is in use counts at once.
func TestFilesChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "0000", secrets16())
	p := open(t, Settings{Dir: dir, Mode: Mode16})
	before, err := p.code(nil, []byte("hello world"))
	if err != nil {
		t.Fatal(err)
	}
	other := secrets32(0)
	write(t, dir, "next", other)
	if err := os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "0000")); err != nil {
		t.Fatal(err)
	}
	if after, err := p.code(nil, []byte("hello world")); err != nil || string(after) == string(before) {
		t.Errorf("after the file was replaced: %x, %v", after, err)
	}
	second, err := p.code(nil, []byte("hello world"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "0000"), filepath.Join(dir, "aside")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "0000", secrets16())
	p.only.current.Load().checked.Add(-int64(keepTime) - 1) // a second passes
	if third, err := p.code(nil, []byte("hello world")); err != nil || string(third) != string(before) || string(third) == string(second) {
		t.Errorf("after the file was moved aside: %x, %v", third, err)
	}
	write(t, dir, "0000", other[:826240+31])
	fails := func(what string) {
		t.Helper()
		if _, err := p.code(nil, []byte("hello world")); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: %v", what, err)
		}
	}
	fails("a file that ends within the record")
	if err := os.Remove(filepath.Join(dir, "0000")); err != nil {
		t.Fatal(err)
	}
	fails("no file")
	if err := unix.Mkfifo(filepath.Join(dir, "0000"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails("a pipe")
	if err := os.Remove(filepath.Join(dir, "0000")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "0000"), 0o700); err != nil {
		t.Fatal(err)
	}
	fails("a directory")
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what  string
		mode  Mode
		files map[string]int64
	}{
		{"nothing there", Mode0, nil},
		{"a short secret", Mode0, map[string]int64{"secret": 31}},
		{"a long secret", Mode0, map[string]int64{"secret": 33}},
		{"a secret with a newline", Mode16, map[string]int64{"0000": 2097153}},
		{"one secret for MODE16", Mode16, map[string]int64{"0000": 32}},
		{"MODE0's file for MODE16", Mode16, map[string]int64{"secret": 32}},
		{"one file of MODE32", Mode32, map[string]int64{"0000": 2097152}},
	} {
		dir := t.TempDir()
		for name, size := range c.files {
			write(t, dir, name, nil)
			if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := openPool(context.Background(), Settings{Dir: dir, Mode: c.mode}, nil); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// TestCodeMemory: a request keeps nothing, whichever secret it takes.
func TestCodeMemory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "0000", secrets16())
	p := open(t, Settings{Dir: dir, Mode: Mode16})
	message := make([]byte, 32)
	out := make([]byte, 0, 32)
	if n := testing.AllocsPerRun(1000, func() {
		message[0]++
		if _, err := p.code(out, message); err != nil {
			t.Fatal(err)
		}
	}); n > 12 {
		t.Errorf("%v allocations for a code", n)
	}
	// What is kept a little at a time is not seen in the allocations of one code.
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range 20_000 {
		binary.BigEndian.PutUint32(message, uint32(i))
		if _, err := p.code(out, message); err != nil {
			t.Fatal(err)
		}
	}
	if after := heap(); after > before+128<<10 {
		t.Errorf("the heap has %d bytes more after 20,000 codes", after-before)
	}
	runtime.KeepAlive(p)
}

func BenchmarkCode(b *testing.B) {
	dir := b.TempDir()
	write(b, dir, "0000", secrets16())
	p := open(b, Settings{Dir: dir, Mode: Mode16})
	message := make([]byte, 32)
	out := make([]byte, 0, 32)
	for b.Loop() {
		message[0]++
		if _, err := p.code(out, message); err != nil {
			b.Fatal(err)
		}
	}
}
