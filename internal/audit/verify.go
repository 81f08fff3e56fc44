package audit

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/claviger/claviger/internal/fault"
)

// FaultKind says what is wrong with a line.
type FaultKind string

// The faults that Verify finds.
const (
	Malformed    FaultKind = "malformed"     // the line is not one that a log writes
	Changed      FaultKind = "changed"       // the line's content does not fit its chain
	Dropped      FaultKind = "dropped"       // lines are missing before this one
	Reordered    FaultKind = "reordered"     // the line stands before or after its place
	Repeated     FaultKind = "repeated"      // the line was there already
	Rewritten    FaultKind = "rewritten"     // a checkpoint covers other lines than these
	BadSignature FaultKind = "bad signature" // a checkpoint's signature is wrong
	UnknownKey   FaultKind = "unknown key"   // a checkpoint is signed by a key that was not given
	Torn         FaultKind = "torn"          // the last line was not written whole
	Missing      FaultKind = "missing"       // the log does not hold the place that was asked for
)

// Fault is the first thing that is wrong with a log.
type Fault struct {
	File string // name of the input
	Line int    // in the file, from 1
	Seq  uint64 // number that the line should have
	Kind FaultKind
	Msg  string
}

// Error describes the fault and where it is.
func (f *Fault) Error() string {
	return fmt.Sprintf("%s: line %d (record %d): %s: %s", f.File, f.Line, f.Seq, f.Kind, f.Msg)
}

// Report is what Verify found out.
type Report struct {
	Files       int
	Lines       int
	Records     int    // requests and responses
	Repairs     int    // torn lines that the server cut off
	Restarts    int    // files that the operator let begin anew, after others were lost
	Checkpoints int    // with good signatures
	First       uint64 // number of the first line; above 1, earlier files were not given
	Last        Head   // of the last good line
	FirstTime   string // of the first and of the last good line
	LastTime    string
	Signed      uint64 // number of the last line that a checkpoint covers, 0 if none
	Unsigned    int    // lines after it, without checkpoints: chained, but a forger could have made them
	// Fault is the first fault, nil if there is none. Nothing after it was looked at.
	Fault *Fault
}

// VerifyOptions says what to verify a log against.
type VerifyOptions struct {
	// PublicKeys may have signed checkpoints; PKIX, ECDSA P-256.
	PublicKeys [][]byte
	// Head, if it is not nil, is a place that the log must contain, as
	// Log.Status told it earlier. It shows whether lines are missing at the end.
	Head *Head
}

// Input is a file of a log.
type Input struct {
	Name string
	R    io.Reader
}

// Verify reads the files of a log, oldest first, and checks numbers, chain and
// signatures. It needs neither server nor store. The error says that it could
// not be done; what is wrong with the log is in Report.Fault.
func Verify(opt VerifyOptions, inputs ...Input) (*Report, error) {
	v := &verifier{keys: map[string]*ecdsa.PublicKey{}, want: opt.Head}
	for _, der := range opt.PublicKeys {
		public, err := parsePublicKey(der)
		if err != nil {
			return nil, err
		}
		v.keys[keyID(der)] = public
	}
	for _, in := range inputs {
		if err := v.file(in); err != nil {
			return nil, fmt.Errorf("reading the audit log %s: %w", in.Name, err)
		}
		if v.Fault != nil {
			break
		}
	}
	v.finish()
	return &v.Report, nil
}

// VerifyFiles verifies the files of a log, given in any order.
func VerifyFiles(opt VerifyOptions, paths ...string) (*Report, error) {
	type opened struct {
		Input
		first uint64
	}
	var files []opened
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, fault.Wrap(fault.NotFound, err, "the audit log cannot be opened")
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "the audit log cannot be read")
		}
		// A file whose first line is bad comes first, and its fault is found.
		first, _ := firstLine(f, fi.Size())
		files = append(files, opened{Input{path, f}, first.seq})
	}
	slices.SortStableFunc(files, func(a, b opened) int { return cmp.Compare(a.first, b.first) })
	inputs := make([]Input, len(files))
	for i := range files {
		inputs[i] = files[i].Input
	}
	return Verify(opt, inputs...)
}

// uncovered is a line that no checkpoint covers yet.
type uncovered struct {
	hash [sha256.Size]byte
	own  bool // a checkpoint itself
}

type verifier struct {
	Report
	keys map[string]*ecdsa.PublicKey
	want *Head
	met  bool // want was found

	at   chain // the last good line
	tail []uncovered
	from uint64 // number of tail[0]

	name string
	n    int // line in the file
}

func (v *verifier) fault(kind FaultKind, format string, args ...any) {
	if v.Fault == nil {
		v.Fault = &Fault{v.name, v.n, v.at.seq + 1, kind, fmt.Sprintf(format, args...)}
	}
}

func (v *verifier) file(in Input) error {
	v.Files++
	v.name, v.n = in.Name, 0
	lines := newLineReader(in.R, 0)
	for v.Fault == nil {
		b, _, whole, err := lines.next()
		if errors.Is(err, io.EOF) {
			if v.n == 0 {
				v.n = 1
				v.fault(Dropped, "the file is empty")
			}
			return nil
		}
		if err != nil {
			return err
		}
		v.n++
		switch {
		case len(b) > maxLine:
			v.fault(Malformed, "the line is longer than %d MiB", maxLine>>20)
		case !whole:
			v.fault(Torn, "%d bytes without the end of a line", len(b))
		default:
			v.line(b, lines)
		}
	}
	return nil
}

// line checks a line; lines is only asked for the one after it, to name a fault.
func (v *verifier) line(b []byte, lines *lineReader) {
	l, err := parseLine(b)
	if err != nil {
		v.fault(Malformed, "%v", err)
		return
	}
	if v.n == 1 && !v.first(l) {
		return
	}
	if v.n > 1 && l.typ == typeFile {
		v.fault(Malformed, "a first line in the middle of a file")
		return
	}
	if l.seq != v.at.seq+1 {
		v.outOfOrder(l, lines)
		return
	}
	if l.hash != v.at.next(l.body) {
		v.fault(Changed, "the line does not fit its chain")
		return
	}
	if l.typ == typeCheckpoint && !v.checkpoint(l) {
		return
	}
	v.accept(l)
}

// first checks the first line of a file and, in the first file, begins there.
func (v *verifier) first(l line) bool {
	f, err := parseFile(l)
	if err != nil {
		if errors.Is(err, errLine) {
			err = errors.New("the file does not begin with its first line")
		}
		v.fault(Dropped, "%v", err)
		return false
	}
	if v.Lines > 0 {
		if f.prev != v.at.hash || l.seq != v.at.seq+1 {
			v.fault(Dropped, "the file follows record %d, not record %d of the file before it", l.seq-1, v.at.seq)
			return false
		}
		return true
	}
	if l.seq == 0 || l.seq == 1 && f.prev != [sha256.Size]byte{} {
		v.fault(Malformed, "a log begins with record 1 after nothing")
		return false
	}
	v.at.seq, v.at.hash = l.seq-1, f.prev
	v.First, v.FirstTime = l.seq, l.time
	v.from = v.at.seq
	// The place before the file may be covered by its first checkpoint.
	v.tail = append(v.tail, uncovered{f.prev, true})
	return true
}

// outOfOrder names the reason why a line has another number than it should.
func (v *verifier) outOfOrder(l line, lines *lineReader) {
	want := v.at.seq + 1
	if v.isNext(l) {
		v.fault(Changed, "its number is %d", l.seq)
		return
	}
	if l.seq == v.at.seq && l.hash == v.at.hash {
		v.fault(Repeated, "record %d stands there twice", l.seq)
		return
	}
	if l.seq < want {
		v.fault(Reordered, "record %d stands after record %d", l.seq, v.at.seq)
		return
	}
	kind, msg := Dropped, fmt.Sprintf("records %d to %d are missing", want, l.seq-1)
	if b, _, _, err := lines.next(); err == nil {
		if after, err := parseLine(b); err == nil && after.seq >= want && after.seq < l.seq {
			kind, msg = Reordered, fmt.Sprintf("record %d stands before record %d", l.seq, after.seq)
		}
	}
	v.fault(kind, "%s", msg)
}

// isNext tells whether a line would be the next one but for its number.
func (v *verifier) isNext(l line) bool {
	body := strconv.AppendUint([]byte(`{"seq":`), v.at.seq+1, 10)
	return l.hash == v.at.next(append(body, l.rest...))
}

func (v *verifier) checkpoint(l line) bool {
	c, err := parseCheckpoint(l)
	if err != nil {
		v.fault(Malformed, "the checkpoint cannot be read")
		return false
	}
	i := c.Covers - v.from
	if c.Covers < v.from || i >= uint64(len(v.tail)) || v.tail[i].hash != c.head {
		v.fault(Rewritten, "the checkpoint covers a record %d that is not this log's; something between record %d and here was rewritten", c.Covers, v.Signed+1)
		return false
	}
	public, ok := v.keys[c.Key]
	if !ok {
		v.fault(UnknownKey, "the checkpoint is signed by the key %s", c.Key)
		return false
	}
	if !verifySignature(public, checkpointDigest(c.Covers, c.head), c.signature) {
		v.fault(BadSignature, "the checkpoint's signature is not that of the key %s", c.Key)
		return false
	}
	v.Checkpoints++
	v.Signed = c.Covers
	v.tail = v.tail[i+1:]
	v.from = c.Covers + 1
	return true
}

func (v *verifier) accept(l line) {
	v.at.seq, v.at.hash = l.seq, l.hash
	v.Lines++
	v.LastTime = l.time
	switch l.typ {
	case Request, Response:
		v.Records++
	case typeRepair:
		v.Repairs++
	case typeFile:
		if f, _ := parseFile(l); f.Restart {
			v.Restarts++
		}
	}
	if v.want != nil && v.want.Seq == l.seq && v.want.Hash == l.hash {
		v.met = true
	}
	if len(v.tail) == maxUncovered {
		v.tail = v.tail[1:]
		v.from++
	}
	v.tail = append(v.tail, uncovered{l.hash, l.typ == typeCheckpoint})
}

func (v *verifier) finish() {
	v.Last = Head{v.at.seq, v.at.hash}
	for _, t := range v.tail {
		if !t.own {
			v.Unsigned++
		}
	}
	if v.want != nil && !v.met {
		v.fault(Missing, "the log should hold record %d with the chain %x and does not", v.want.Seq, v.want.Hash)
	}
}
