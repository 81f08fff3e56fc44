package audit

import (
	"encoding/base64"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/fault"
)

// A torn last line, cut at every byte, is removed and reported; the log verifies.
func TestTornTail(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	l := mustOpen(t, cfg)
	mustWrite(t, l, 0, 3)
	if err := l.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, l, 3, 5)
	crash(l)
	records := 5
	for _, keep := range []int{1, 2, 7, 40, 100, 200, -2, -1} {
		lines := readLines(t, cfg.Path)
		last := lines[len(lines)-1] + "\n"
		if keep < 0 {
			keep += len(last)
		}
		torn := strings.Join(lines, "") + "\n" + last[:keep]
		if err := os.WriteFile(cfg.Path, []byte(torn), 0o600); err != nil {
			t.Fatal(err)
		}
		l := mustOpen(t, cfg)
		mustWrite(t, l, 0, 1)
		records++
		crash(l)
		if r := mustVerify(t, cfg.Path); r.Records != records {
			t.Errorf("%d bytes kept: %+v", keep, r)
		}
	}
	if r := mustVerify(t, cfg.Path); r.Repairs != 8 {
		t.Errorf("%d repairs", r.Repairs)
	}
}

// The file is cut below what the store remembers, or rewritten, or away: refused,
// and untouched. With Restart the log goes on, and says so.
func TestMismatch(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, path string, lines []string) []string{
		"cut in the checkpoint": func(_ *testing.T, _ string, lines []string) []string {
			return append(lines[:6:6], lines[6][:100])
		},
		"cut before the checkpoint": func(_ *testing.T, _ string, lines []string) []string { return lines[:6] },
		"cut to the first line":     func(_ *testing.T, _ string, lines []string) []string { return lines[:1] },
		"emptied":                   func(_ *testing.T, _ string, lines []string) []string { return nil },
		"changed after it": func(_ *testing.T, _ string, lines []string) []string {
			lines[8] = strings.Replace(lines[8], "transit", "tramsit", 1)
			return lines
		},
		"dropped after it": func(_ *testing.T, _ string, lines []string) []string { return append(lines[:8:8], lines[9:]...) },
		"rewritten": func(t *testing.T, _ string, lines []string) []string {
			lines[3] = strings.Replace(lines[3], "transit", "tramsit", 1)
			return rechain(t, lines, 3)
		},
		"checkpoint rewritten": func(t *testing.T, _ string, lines []string) []string {
			lines[6] = strings.Replace(lines[6], `"time":"20`, `"time":"21`, 1)
			return rechain(t, lines, 6)
		},
		"another log": func(t *testing.T, _ string, _ []string) []string {
			files, _ := sampleLog(t)
			return files[0]
		},
		"zeros": func(_ *testing.T, _ string, lines []string) []string {
			return []string{strings.Repeat("\x00", len(strings.Join(lines, "")))}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			l := mustOpen(t, cfg)
			mustWrite(t, l, 0, 5)
			if err := l.Checkpoint(t.Context()); err != nil { // line 7
				t.Fatal(err)
			}
			mustWrite(t, l, 5, 9)
			crash(l)
			lines := readLines(t, cfg.Path)
			lines[len(lines)-1] += "\n"
			damaged := strings.Join(damage(t, cfg.Path, lines), "")
			if err := os.WriteFile(cfg.Path, []byte(damaged), 0o600); err != nil {
				t.Fatal(err)
			}
			refusedThenRestarted(t, cfg, damaged)
		})
	}
}

func refusedThenRestarted(t *testing.T, cfg Config, damaged string) {
	t.Helper()
	_, err := Open(cfg)
	if !errors.Is(err, ErrMismatch) || fault.HintOf(err) == "" {
		t.Fatalf("got %v", err)
	}
	if raw, _ := os.ReadFile(cfg.Path); string(raw) != damaged {
		t.Error("the file was changed")
	}
	cfg.Restart = true
	l := mustOpen(t, cfg)
	mustWrite(t, l, 0, 2)
	l.Close()
	r := mustVerify(t, cfg.Path)
	if r.Restarts != 1 || r.First != 8 || r.Records != 2 || r.Unsigned != 0 {
		t.Errorf("%+v", r)
	}
	aside, _ := filepath.Glob(cfg.Path + ".refused-*")
	if damaged != "" {
		if len(aside) != 1 {
			t.Fatalf("kept: %v", aside)
		}
		if raw, _ := os.ReadFile(aside[0]); string(raw) != damaged {
			t.Error("what was refused was changed")
		}
	}
	// From now on it goes on without the option.
	cfg.Restart = false
	again := mustOpen(t, cfg)
	mustWrite(t, again, 0, 1)
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	l := mustOpen(t, cfg)
	mustWrite(t, l, 0, 5)
	l.Close()
	os.Remove(cfg.Path)
	if _, err := Open(cfg); !errors.Is(err, ErrMismatch) {
		t.Errorf("got %v", err)
	}
}

// A log whose place is not in the store is not taken over.
func TestUnknownLog(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	l := mustOpen(t, cfg)
	mustWrite(t, l, 0, 5)
	l.Close()
	other := testConfig(t)
	other.Path = cfg.Path
	if _, err := Open(other); !errors.Is(err, ErrMismatch) {
		t.Errorf("got %v", err)
	}
	mustVerify(t, cfg.Path)
	other.Restart = true
	again := mustOpen(t, other)
	mustWrite(t, again, 0, 1)
}

// The first start was interrupted while the first line was written, or before
// the store was told.
func TestInterruptedFirstStart(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	l := mustOpen(t, cfg)
	crash(l)
	first, _ := os.ReadFile(cfg.Path)
	for n := 0; n <= len(first); n += 20 {
		cfg := testConfig(t)
		os.MkdirAll(filepath.Dir(cfg.Path), 0o700)
		os.WriteFile(cfg.Path, first[:min(n, len(first))], 0o600)
		l := mustOpen(t, cfg)
		mustWrite(t, l, 0, 1)
		l.Close()
		if r := mustVerify(t, cfg.Path); r.Records != 1 || r.First != 1 {
			t.Errorf("%+v", r)
		}
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	l := mustOpen(t, cfg)
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				stopped <- n
				return
			default:
			}
			if err := l.Write(testEntry(n)); err != nil {
				t.Error(err)
			}
		}
	}()
	paths := []string{cfg.Path}
	for _, name := range []string{".3", ".2", ".1"} {
		if err := l.Reopen(t.Context()); err != nil {
			t.Errorf("Reopen without a new file: %v", err)
		}
		if err := os.Rename(cfg.Path, cfg.Path+name); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, cfg.Path+name)
		if name == ".2" { // logrotate may make the new file itself
			os.WriteFile(cfg.Path, nil, 0o600)
		}
		if err := l.Reopen(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	n := <-stopped
	l.Close()
	r := mustVerify(t, paths...)
	if r.Files != 4 || r.Records != n || r.Unsigned != 0 || r.First != 1 {
		t.Errorf("%d written: %+v", n, r)
	}
	again := mustOpen(t, cfg)
	mustWrite(t, again, 0, 1)
}

func TestRotationRefused(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	l := mustOpen(t, cfg)
	mustWrite(t, l, 0, 1)
	os.Rename(cfg.Path, cfg.Path+".1")
	os.WriteFile(cfg.Path, []byte("somebody else's\n"), 0o600)
	if err := l.Reopen(t.Context()); fault.KindOf(err) != fault.Invalid {
		t.Errorf("got %v", err)
	}
	mustWrite(t, l, 1, 2)
	os.Remove(cfg.Path)
	if err := l.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, l, 2, 3)
	l.Close()
	if r := mustVerify(t, cfg.Path, cfg.Path+".1"); r.Records != 3 {
		t.Errorf("%+v", r)
	}
	if err := l.Reopen(t.Context()); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

// A file that was renamed while no server ran, with or without a new empty one.
func TestRenamedWhileDown(t *testing.T) {
	t.Parallel()
	for _, clean := range []bool{true, false} {
		for _, empty := range []bool{true, false} {
			cfg := testConfig(t)
			l := mustOpen(t, cfg)
			mustWrite(t, l, 0, 3)
			l.Checkpoint(t.Context())
			mustWrite(t, l, 3, 5)
			if clean {
				l.Close()
			} else {
				crash(l)
				appendTo(cfg.Path, `{"seq":9,"time":"20`)
			}
			os.Rename(cfg.Path, cfg.Path+"-20260101")
			os.WriteFile(cfg.Path+".notes", []byte("not a log"), 0o600)
			if empty {
				os.WriteFile(cfg.Path, nil, 0o600)
			}
			again := mustOpen(t, cfg)
			mustWrite(t, again, 5, 6)
			again.Close()
			if r := mustVerify(t, cfg.Path, cfg.Path+"-20260101"); r.Records != 6 || r.Restarts != 0 || r.Unsigned != 0 {
				t.Errorf("%+v", r)
			}
		}
	}
}

// A rotation that ended at each of its steps.
func TestInterruptedRotation(t *testing.T) {
	t.Parallel()
	for step, content := range []func(first []byte) []byte{
		func([]byte) []byte { return nil },
		func(first []byte) []byte { return first[:50] },
		func(first []byte) []byte { return first },
	} {
		cfg := testConfig(t)
		l := mustOpen(t, cfg)
		mustWrite(t, l, 0, 3)
		if err := l.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		var r renderer
		next := l.last
		r.file(next.hash, l.key, false)
		first := r.seal(&next.chain, time.Now())
		h := headOf(l.last, l.pending)
		h.Moved = true
		if err := l.saveHead(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		crash(l)
		os.Rename(cfg.Path, filepath.Join(t.TempDir(), "archived"))
		os.WriteFile(cfg.Path, content(first), 0o600)
		again, err := Open(cfg)
		if err != nil {
			t.Errorf("step %d: %v", step, err)
			continue
		}
		mustWrite(t, again, 0, 1)
		again.Close()
		if r := mustVerify(t, cfg.Path); r.First != 6 || r.Restarts != 0 {
			t.Errorf("step %d: %+v", step, r)
		}
	}
}

// Somebody removes or cuts the file under the running server.
func TestFileTakenAway(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(path string) error{
		"removed":  os.Remove,
		"cut":      func(path string) error { return os.Truncate(path, 0) },
		"appended": func(path string) error { return appendTo(path, "x\n") },
	} {
		cfg := testConfig(t)
		l := mustOpen(t, cfg)
		mustWrite(t, l, 0, 3)
		if err := harm(cfg.Path); err != nil {
			t.Fatal(err)
		}
		l.inspect()
		if err := l.Write(testEntry(0)); fault.KindOf(err) != fault.Unavailable || fault.HintOf(err) == "" {
			t.Errorf("%s: got %v", name, err)
		}
		if l.Status().Err == nil {
			t.Errorf("%s: Status says that all is well", name)
		}
		os.Rename(cfg.Path, cfg.Path+".bad")
		if err := l.Reopen(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, l, 3, 4)
		l.Close()
		if r := mustVerify(t, cfg.Path); r.First != 5 || r.Records != 1 {
			t.Errorf("%s: %+v", name, r)
		}
		again := mustOpen(t, cfg)
		again.Close()
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// A full disk: the operation is refused, nothing of its record stays, and it
// goes on when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mounting a file system is not permitted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) })
	cfg := testConfig(t)
	cfg.Path = filepath.Join(dir, "audit.log")
	l := mustOpen(t, cfg)
	written := 0
	var err error
	for ; err == nil && written < 1000; written++ {
		err = l.Write(testEntry(written))
	}
	written--
	if fault.KindOf(err) != fault.Unavailable || !errors.Is(err, syscall.ENOSPC) || fault.HintOf(err) == "" {
		t.Fatalf("got %v", err)
	}
	if err := l.Write(testEntry(0)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("second try: %v", err)
	}
	if r := mustVerify(t, cfg.Path); r.Records != written {
		t.Errorf("%d written: %+v", written, r)
	}
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT, "size=1m"); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, l, 0, 1)
	l.Close()
	if r := mustVerify(t, cfg.Path); r.Records != written+1 || r.Repairs == 0 || r.Unsigned != 0 {
		t.Errorf("%d written: %+v", written, r)
	}
}

var update = flag.Bool("update", false, "write the log of the current release anew")

// The log of release 0.1 and the key that signed it.
const (
	fixtureLog    = "testdata/release-0.1/audit.log"
	fixturePublic = "testdata/release-0.1/public-key"
)

func decodePublic(t testing.TB, text []byte) []byte {
	der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func writeFixture(t *testing.T) {
	cfg := testConfig(t)
	l := mustOpen(t, cfg)
	mustWrite(t, l, 0, 3)
	if err := l.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.reportCut(7); err != nil {
		t.Fatal(err)
	}
	l.Write(&Entry{Type: Response, RequestID: "id-2", Kind: fault.Denied, Error: "permission denied"})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	raw, _ := os.ReadFile(cfg.Path)
	os.MkdirAll(filepath.Dir(fixtureLog), 0o755)
	os.WriteFile(fixtureLog, raw, 0o644)
	os.WriteFile(fixturePublic, []byte(base64.StdEncoding.EncodeToString(testPublic())+"\n"), 0o644)
}

// The log of every release so far verifies.
func TestReleases(t *testing.T) {
	if *update {
		writeFixture(t)
	}
	logs, _ := filepath.Glob("testdata/release-*/audit.log")
	if len(logs) == 0 {
		t.Fatal("no fixtures")
	}
	for _, path := range logs {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(path), "public-key"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := VerifyFiles(VerifyOptions{PublicKeys: [][]byte{decodePublic(t, text)}}, path)
		if err != nil || r.Fault != nil || r.Records != 4 || r.Repairs != 1 || r.Checkpoints != 2 || r.Unsigned != 0 {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
	}
}
