package hmacpool

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/fault"
)

// TestCreate: a pool is made once, is usable, and is not touched by a second run.
func TestCreate(t *testing.T) {
	t.Parallel()
	for _, m := range []Mode{Mode0, Mode16} {
		dir := filepath.Join(t.TempDir(), "new", "pool")
		p, err := Create(t.Context(), CreateOptions{Dir: dir, Mode: m})
		if err != nil || p.Files != 1 || p.Total != 1 || p.Bytes != fileSize(m, false) {
			t.Fatalf("%v: %+v, %v", m, p, err)
		}
		before, err := os.ReadFile(filepath.Join(dir, m.fileName(0)))
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(filepath.Join(dir, m.fileName(0))); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		open(t, Settings{Dir: dir, Mode: m})
		if p, err := Create(t.Context(), CreateOptions{Dir: dir, Mode: m}); err != nil || p.Bytes != 0 || p.Files != 1 {
			t.Errorf("%v again: %+v, %v", m, p, err)
		}
		if after, err := os.ReadFile(filepath.Join(dir, m.fileName(0))); err != nil || !slices.Equal(before, after) {
			t.Errorf("%v: the second run changed the file, %v", m, err)
		}
	}
}

// TestCreateGoesOn: MODE32, interrupted and gone on with. All files but a few are
// there already, without taking room.
func TestCreateGoesOn(t *testing.T) {
	t.Parallel()
	for _, sealed := range []bool{false, true} {
		var ring keyring
		o := CreateOptions{Dir: t.TempDir(), Mode: Mode32, free: plenty}
		if sealed {
			o.Sealing = ring.sealing()
		}
		ctx, cancel := context.WithCancel(t.Context())
		o.Progress = func(p Progress) {
			if p.Files == 3 {
				cancel()
			}
			if p.Files > 3 {
				t.Fatal("it goes on after the interruption") // to the end it would be 128 GiB
			}
		}
		p, err := Create(ctx, o)
		if !errors.Is(err, context.Canceled) || p.Files != 3 || p.Total != 65536 {
			t.Fatalf("interrupted: %+v, %v", p, err)
		}
		first, err := os.ReadFile(filepath.Join(o.Dir, "0000"))
		if err != nil {
			t.Fatal(err)
		}
		// What a run leaves that is killed in the middle of a file.
		write(t, o.Dir, ".0003.part", first[:1000])
		// The rest of the pool: two contents under many names, as many as a file
		// system allows for one.
		for file := 5; file < 65536; file++ {
			name := Mode32.fileName(uint16(file))
			if file == 0xb9f {
				name = "b9f"
			}
			if err := os.Link(filepath.Join(o.Dir, Mode32.fileName(uint16(1+file%2))), filepath.Join(o.Dir, name)); err != nil {
				t.Skipf("no pool of links here: %v", err)
			}
		}
		o.Progress = nil
		if p, err = Create(t.Context(), o); err != nil || p.Files != 65536 || p.Bytes != 2*fileSize(Mode32, sealed) {
			t.Errorf("gone on: %+v, %v", p, err)
		}
		for _, name := range []string{"0b9f", ".0003.part"} {
			if _, err := os.Lstat(filepath.Join(o.Dir, name)); err == nil {
				t.Errorf("there is %s", name)
			}
		}
		r, err := Verify(t.Context(), VerifyOptions{Dir: o.Dir, Mode: Mode32, Quick: true})
		if err != nil || r.Files != 65536 || r.Faults != 0 || r.Sealed != sealed {
			t.Errorf("%+v, %v", r, err)
		}
		if now, err := os.ReadFile(filepath.Join(o.Dir, "0000")); err != nil || !slices.Equal(first, now) {
			t.Errorf("a file was changed, %v", err)
		}
		if !sealed {
			continue
		}
		s, err := openPool(t.Context(), Settings{Dir: o.Dir, Mode: Mode32}, ring.unwrap)
		if err != nil {
			t.Fatal(err)
		}
		// One file of the first run, and both of the second.
		for _, file := range []uint16{2, 3, 4} {
			var secret [SecretSize]byte
			if err := s.readSealed(place{file: file, record: 20}, &secret); err != nil || secret == [SecretSize]byte{} {
				t.Errorf("file %d: %v", file, err)
			}
		}
	}
}

// plenty is a disk that holds every pool.
func plenty(string) (int64, error) { return 1 << 40, nil }

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	refuses := func(what, text string, kind fault.Kind, o CreateOptions) {
		t.Helper()
		before := listing(t, o.Dir)
		if _, err := Create(t.Context(), o); fault.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", what, err)
		}
		if after := listing(t, o.Dir); !slices.Equal(before, after) {
			t.Errorf("%s: %q became %q", what, before, after)
		}
	}
	var ring keyring
	dir := t.TempDir()
	write(t, dir, "0000", []byte("short"))
	refuses("a file of a wrong size", "has 5 bytes, not 2097152", fault.Invalid, CreateOptions{Dir: dir, Mode: Mode16})
	plain := t.TempDir()
	write(t, plain, "0000", make([]byte, fileSize(Mode16, true)))
	refuses("files without a header", "no pool.json", fault.Invalid, CreateOptions{Dir: plain, Mode: Mode16, Sealing: ring.sealing()})
	sealed := t.TempDir()
	if _, err := Create(t.Context(), CreateOptions{Dir: sealed, Mode: Mode0, Sealing: ring.sealing()}); err != nil {
		t.Fatal(err)
	}
	refuses("another mode", "is of MODE0", fault.Invalid, CreateOptions{Dir: sealed, Mode: Mode16, Sealing: ring.sealing()})
	refuses("a sealed pool as a plain one", "--sealed", fault.Invalid, CreateOptions{Dir: sealed, Mode: Mode16})
	var other keyring
	refuses("another HSM", "authentication", fault.Invalid, CreateOptions{Dir: sealed, Mode: Mode0, Sealing: other.sealing()})
	other.err = errors.New("the server is gone")
	empty := t.TempDir()
	refuses("no wrapped key", "gone", fault.Internal, CreateOptions{Dir: empty, Mode: Mode0, Sealing: other.sealing()})
	unlock, err := lockDir(empty)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	refuses("two at a time", "at this moment", fault.Conflict, CreateOptions{Dir: empty, Mode: Mode0})
	refuses("a full disk", "needs 32 bytes more", fault.Invalid, CreateOptions{Dir: t.TempDir(), Mode: Mode0,
		free: func(string) (int64, error) { return 31, nil }})
	file := filepath.Join(t.TempDir(), "file")
	write(t, filepath.Dir(file), "file", nil)
	if _, err := Create(t.Context(), CreateOptions{Dir: file, Mode: Mode0}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a file for a directory: %v", err)
	}
}

func listing(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestWriteNew never replaces a file, and leaves no part of one.
func TestWriteNew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "0000", []byte("used"))
	if err := writeNew(dir, "0000", []byte("new")); err == nil {
		t.Error("replaced a file")
	}
	if b, err := os.ReadFile(filepath.Join(dir, "0000")); err != nil || string(b) != "used" {
		t.Errorf("%q, %v", b, err)
	}
	if names := listing(t, dir); !slices.Equal(names, []string{"0000"}) {
		t.Errorf("%q", names)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	content := secrets16()
	clear(content[32*31 : 32*33])
	write(t, dir, "0000", content)
	var calls int
	r, err := Verify(t.Context(), VerifyOptions{Dir: dir, Mode: Mode16, Progress: func(Progress) { calls++ }})
	if err != nil || r.Faults != 2 || r.Files != 0 || r.Total != 1 || r.Problem[1] != "0000: record 32 is all zeros" || calls != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := Verify(t.Context(), VerifyOptions{Dir: dir, Mode: Mode16, Quick: true}); err != nil || r.Faults != 0 {
		t.Errorf("quick: %+v, %v", r, err)
	}
	if r, err := Verify(t.Context(), VerifyOptions{Dir: dir, Mode: Mode32}); err != nil || r.Faults < 65535 || len(r.Problem) != maxProblems {
		t.Errorf("MODE32: %d faults, %d shown, %v", r.Faults, len(r.Problem), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Verify(ctx, VerifyOptions{Dir: dir, Mode: Mode32}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	twice := t.TempDir()
	write(t, twice, "0b9f", secrets16())
	write(t, twice, "b9f", secrets16())
	v := &verifier{VerifyOptions: VerifyOptions{Mode: Mode32, Quick: true}, pool: pool{Settings: Settings{Dir: twice, Mode: Mode32}}, report: &Report{}}
	if err := v.file(0xb9f); err == nil || !strings.Contains(err.Error(), "as well as") {
		t.Errorf("two names: %v", err)
	}
}

func TestVerifySealed(t *testing.T) {
	t.Parallel()
	var ring keyring
	dir := t.TempDir()
	if _, err := Create(t.Context(), CreateOptions{Dir: dir, Mode: Mode16, Sealing: ring.sealing()}); err != nil {
		t.Fatal(err)
	}
	verify := func() *Report {
		t.Helper()
		r, err := Verify(t.Context(), VerifyOptions{Dir: dir, Mode: Mode16, Unwrap: ring.unwrap})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := verify(); r.Faults != 0 || !r.Sealed || r.Files != 1 {
		t.Errorf("%+v", r)
	}
	content, err := os.ReadFile(filepath.Join(dir, "0000"))
	if err != nil {
		t.Fatal(err)
	}
	size := chunkSize(Mode16)
	swapped := slices.Concat(content[size:2*size], content[:size], content[2*size:])
	write(t, dir, "0000", swapped)
	if r := verify(); r.Faults != 2 || !strings.Contains(r.Problem[1], "chunk 1") {
		t.Errorf("swapped chunks: %+v", r)
	}
	if _, err := Verify(t.Context(), VerifyOptions{Dir: dir, Mode: Mode16}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("without the key: %v", err)
	}
}
