package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"golang.org/x/sys/unix"
)

// Open opens the log, or begins it. It checks that the file is the one that the
// store remembers, at least as long as it was at the newest checkpoint, and
// unchanged from there on; if not, the error is an ErrMismatch. A line that was
// not written whole, because the machine stopped, is cut off and reported in
// the log. The store must be unsealed.
func Open(cfg Config) (*Log, error) {
	public, err := cfg.check()
	if err != nil {
		return nil, err
	}
	l := newLog(cfg, public)
	ctx, cancel := context.WithTimeout(context.Background(), signTimeout)
	defer cancel()
	if err := l.loadHead(ctx); err != nil {
		return nil, err
	}
	if l.f, l.size, err = openFile(cfg.Path); err != nil {
		return nil, err
	}
	if err := l.attach(ctx); err != nil {
		closeFile(l.f)
		return nil, err
	}
	go l.background()
	return l, nil
}

// openFile opens or makes a file and locks it.
func openFile(path string) (*os.File, int64, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, 0, fault.Wrap(fault.Unavailable, err, "the directory of the audit log cannot be made")
	}
	// Without O_NONBLOCK a named pipe would keep us here.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, 0, fault.Wrap(fault.Unavailable, err, "the audit log cannot be opened")
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fault.New(fault.Invalid, "the audit log must be a regular file, and %s is not", path)
	}
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fault.New(fault.Unavailable, "another server writes the audit log %s", path)
		}
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, fi.Size(), nil
}

// closeFile unlocks and closes a file. A child process that is just being
// started holds the same lock until it runs its program; unlocking ends that too.
func closeFile(f *os.File) error {
	unix.Flock(int(f.Fd()), unix.LOCK_UN)
	return f.Close()
}

// attach finds the log's end in its file, or begins a new file.
func (l *Log) attach(ctx context.Context) error {
	end, cut, err := l.recover()
	l.pending = l.head.Unsigned
	if end.seq > l.head.Seq {
		l.pending += int(end.seq - l.head.Seq)
	}
	switch {
	case errors.Is(err, errNewFile):
		err = l.begin(ctx, end, false)
	case errors.Is(err, ErrMismatch) && l.cfg.Restart:
		err = l.restart(ctx, err)
	case err == nil:
		l.last, l.size = end.place, end.size
		if cut > 0 {
			err = fault.Wrap(fault.Unavailable, l.f.Truncate(end.size), "the audit log's torn end cannot be cut off")
		}
	}
	if err != nil || cut == 0 {
		return err
	}
	return l.reportCut(cut)
}

// reportCut records that a line was not written whole.
func (l *Log) reportCut(cut int64) error {
	l.cfg.Logger.Warn("audit log: the last line was not written whole and is cut off", "bytes", cut)
	l.own.repair(cut)
	if err := l.put(&l.own); err != nil {
		return err
	}
	l.pending++
	return nil
}

// errNewFile says that a new file is to be begun after the place found.
var errNewFile = errors.New("a new file")

// ending is the end of a log in a file.
type ending struct {
	place
	size int64 // up to the end of the last whole line
}

// recover finds where the log ends and how many bytes after it are to be cut off.
func (l *Log) recover() (ending, int64, error) {
	if err := l.dropBeginning(); err != nil {
		return ending{}, 0, err
	}
	if l.size == 0 {
		end, cut, err := l.predecessor()
		if err != nil {
			return end, 0, err
		}
		return end, cut, errNewFile
	}
	if l.head.version == 0 {
		return ending{}, 0, l.mismatch(l.cfg.Path + " holds a log, and the store remembers none")
	}
	end, cut, err := scanFile(l.f, l.head)
	if err == nil || !errors.Is(err, errScan) {
		return end, cut, err
	}
	return end, 0, l.mismatch(fmt.Sprintf("%s: %v", l.cfg.Path, err))
}

func (l *Log) mismatch(what string) error {
	e := &fault.Error{
		Kind: fault.Unavailable,
		Msg:  fmt.Sprintf("the audit log does not fit the store, which knows it up to record %d", l.head.Seq),
		Err:  fmt.Errorf("%w: %s", ErrMismatch, what),
	}
	return e.WithHint("Put the right file back, uncompressed. If it is lost, look for the reason, then start once with the audit log's restart option: what is there is kept under another name, and a new file goes on with the chain.")
}

// dropBeginning empties a file whose beginning was interrupted before the store
// was told of it: in it is nothing but a part of a first line, or the whole one
// of a log that never got further.
func (l *Log) dropBeginning() error {
	if l.size == 0 || l.size > 1024 || l.head.version != 0 && !l.head.Moved {
		return nil
	}
	lines := newLineReader(io.NewSectionReader(l.f, 0, l.size), 0)
	b, _, whole, err := lines.next()
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the audit log cannot be read")
	}
	first, err := parseLine(b)
	never := l.head.version == 0 && err == nil && first.typ == typeFile && first.seq == 1 && lines.offset == l.size
	if whole && !never {
		return nil
	}
	if err := l.f.Truncate(0); err != nil {
		return fault.Wrap(fault.Unavailable, err, "the audit log cannot be written")
	}
	l.size = 0
	return nil
}

// predecessor finds the place after which an empty file begins: the end of a
// file that was renamed, or, after a rotation that was interrupted, what the
// store remembers. It returns how many bytes it cut off at that end.
func (l *Log) predecessor() (ending, int64, error) {
	if l.head.version == 0 {
		return ending{}, 0, nil
	}
	dir, base := filepath.Dir(l.cfg.Path), filepath.Base(l.cfg.Path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ending{}, 0, fault.Wrap(fault.Unavailable, err, "the directory of the audit log cannot be read")
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || e.Name() == base || !strings.HasPrefix(e.Name(), base) {
			continue
		}
		end, cut, err := scanRenamed(filepath.Join(dir, e.Name()), l.head)
		if errors.Is(err, errScan) {
			continue
		}
		l.cfg.Logger.Info("audit log: goes on after a renamed file", "file", e.Name())
		return end, cut, err
	}
	if l.head.Moved {
		return ending{place: l.head.place()}, 0, nil
	}
	return ending{}, 0, l.mismatch(l.cfg.Path + " is missing or empty")
}

func (h headRecord) place() place {
	p := place{offset: h.Offset}
	p.seq = h.Seq
	copy(p.hash[:], h.Hash)
	copy(p.prev[:], h.Prev)
	return p
}

// scanRenamed scans a file that was renamed and cuts off its torn end.
func scanRenamed(path string, h headRecord) (ending, int64, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return ending{}, 0, fault.Wrap(fault.Unavailable, err, "the renamed audit log cannot be opened")
	}
	defer f.Close()
	end, cut, err := scanFile(f, h)
	if err == nil && cut > 0 {
		err = fault.Wrap(fault.Unavailable, f.Truncate(end.size), "the renamed audit log's torn end cannot be cut off")
	}
	return end, cut, err
}

// errScan: the file is not the one that a head belongs to.
var errScan = errors.New("not the file that was written")

// scanFile checks a file from the place h on and finds its end. The bytes to be
// cut off are those of a last line without newline.
func scanFile(f *os.File, h headRecord) (ending, int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return ending{}, 0, fault.Wrap(fault.Unavailable, err, "the audit log cannot be read")
	}
	from, err := scanFrom(f, fi.Size(), h)
	if err != nil {
		return ending{}, 0, err
	}
	offset := from.offset
	lines := newLineReader(io.NewSectionReader(f, offset, fi.Size()-offset), offset)
	end := ending{place: from, size: offset}
	for {
		b, start, whole, err := lines.next()
		switch {
		case errors.Is(err, io.EOF):
			return checkEnd(end, h, 0)
		case err != nil:
			return ending{}, 0, fault.Wrap(fault.Unavailable, err, "the audit log cannot be read")
		case !whole:
			return checkEnd(end, h, fi.Size()-start)
		}
		read, err := parseLine(b)
		if err != nil || read.seq != end.seq+1 || read.hash != end.next(read.body) ||
			read.seq == h.Seq && !bytes.Equal(read.hash[:], h.Hash) {
			return ending{}, 0, fmt.Errorf("%w: the line at byte %d was changed", errScan, start)
		}
		end.prev, end.hash, end.seq, end.offset = end.hash, read.hash, read.seq, start
		end.size = lines.offset
	}
}

// checkEnd: the log goes at least as far as the store remembers.
func checkEnd(end ending, h headRecord, cut int64) (ending, int64, error) {
	if end.seq < h.Seq || end.size == 0 {
		return ending{}, 0, fmt.Errorf("%w: it ends at record %d", errScan, end.seq)
	}
	return end, cut, nil
}

// scanFrom is the place from which a file is checked: just before the line that
// the head names, or, in a file that follows it, before the first line. Its
// offset is where the next line begins.
func scanFrom(f *os.File, size int64, h headRecord) (place, error) {
	p := place{offset: h.Offset}
	if first, err := firstLine(f, size); err == nil && first.seq == h.Seq+1 && bytes.Equal(first.prev[:], h.Hash) {
		p.seq, p.offset = h.Seq, 0
		p.hash = first.prev
		return p, nil
	}
	if h.Offset >= size {
		return p, fmt.Errorf("%w: it has %d bytes and had at least %d", errScan, size, h.Offset)
	}
	p.seq = h.Seq - 1
	copy(p.hash[:], h.Prev)
	return p, nil
}

type firstOfFile struct {
	fileLine
	seq uint64
}

func firstLine(r io.ReaderAt, size int64) (firstOfFile, error) {
	b, _, whole, err := newLineReader(io.NewSectionReader(r, 0, size), 0).next()
	if err != nil || !whole {
		return firstOfFile{}, errLine
	}
	l, err := parseLine(b)
	if err != nil {
		return firstOfFile{}, err
	}
	f, err := parseFile(l)
	return firstOfFile{f, l.seq}, err
}

// begin writes the first line of l.f, which follows the place end, and has the
// store remember it.
func (l *Log) begin(ctx context.Context, end ending, restart bool) error {
	if end.seq > 0 && (!l.head.Moved || l.head.Seq != end.seq) {
		h := headOf(end.place, l.pending)
		h.Moved = true
		if err := l.saveHead(ctx, h); err != nil {
			return err
		}
	}
	l.last, l.size = end.place, 0
	l.own.file(end.hash, l.key, restart)
	err := l.put(&l.own)
	if err == nil {
		err = fault.Wrap(fault.Unavailable, l.f.Sync(), "the audit log cannot be written")
	}
	if err == nil {
		err = syncDir(filepath.Dir(l.cfg.Path))
	}
	l.pending++
	if err == nil {
		err = l.saveHead(ctx, headOf(l.last, l.pending))
	}
	return err
}

// restart keeps a file that does not fit under another name and begins a new
// one after the place that the store remembers.
func (l *Log) restart(ctx context.Context, reason error) error {
	if l.size > 0 {
		aside := fmt.Sprintf("%s.refused-%s", l.cfg.Path, time.Now().UTC().Format("20060102T150405.000000Z"))
		if err := os.Rename(l.cfg.Path, aside); err != nil {
			return fault.Wrap(fault.Unavailable, err, "the misfit audit log cannot be renamed")
		}
		closeFile(l.f)
		var err error
		if l.f, l.size, err = openFile(l.cfg.Path); err != nil {
			return err
		}
	}
	l.cfg.Logger.Error("audit log: begun anew as the operator asked", "reason", reason, "after", l.head.Seq)
	return l.begin(ctx, ending{place: l.head.place()}, true)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the directory of the audit log cannot be read")
	}
	defer d.Close()
	return fault.Wrap(fault.Unavailable, d.Sync(), "the directory of the audit log cannot be synchronised")
}
