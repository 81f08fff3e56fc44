package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
)

// maxLine is the length of the longest line in bytes, newline included.
const maxLine = 64 << 20

// The end of every line is chainField, 64 hex digits, and `"}`.
const (
	chainField = `,"chain":"`
	tailLen    = len(chainField) + 2*sha256.Size + len(`"}`)
)

// Types of the lines that the log writes about itself.
const (
	typeFile       = "file"
	typeRepair     = "repair"
	typeCheckpoint = "checkpoint"
)

// chain is a place in a log: number and hash of its last line.
type chain struct {
	seq  uint64
	hash [sha256.Size]byte
	sha  hash.Hash // used again for every line
}

// add moves the place to the next line, whose text without its chain is body.
func (c *chain) add(body []byte) {
	if c.sha == nil {
		c.sha = sha256.New()
	}
	c.sha.Reset()
	c.sha.Write(c.hash[:])
	c.sha.Write(body)
	c.sha.Sum(c.hash[:0])
	c.seq++
}

// next is the hash that a line with this body must have after c.
func (c *chain) next(body []byte) [sha256.Size]byte {
	n := *c
	n.add(body)
	c.sha = n.sha
	return n.hash
}

// line is a line as it was read, without its newline.
type line struct {
	seq  uint64
	time string
	typ  string
	body []byte // all before the chain field
	rest []byte // body after the number
	hash [sha256.Size]byte
}

var errLine = errors.New("not a line of an audit log")

// parseLine reads the fixed parts of a line.
func parseLine(b []byte) (line, error) {
	var l line
	if len(b) < tailLen {
		return l, errLine
	}
	body, tail := b[:len(b)-tailLen], b[len(b)-tailLen:]
	tail, ok1 := bytes.CutPrefix(tail, []byte(chainField))
	tail, ok2 := bytes.CutSuffix(tail, []byte(`"}`))
	if !ok1 || !ok2 || !decodeHash(&l.hash, tail) {
		return l, errLine
	}
	rest, ok := bytes.CutPrefix(body, []byte(`{"seq":`))
	digits, _, ok2 := bytes.Cut(rest, []byte(","))
	seq, err := strconv.ParseUint(string(digits), 10, 64)
	if !ok || !ok2 || err != nil || strconv.FormatUint(seq, 10) != string(digits) {
		return l, errLine
	}
	l.seq, l.body, l.rest = seq, body, rest[len(digits):]
	if l.time, rest, ok = cutQuoted(l.rest, `,"time":"`); !ok || len(l.time) != len(timeLayout) {
		return l, errLine
	}
	if l.typ, _, ok = cutQuoted(rest, `,"type":"`); !ok || !json.Valid(b) {
		return l, errLine
	}
	return l, nil
}

func cutQuoted(b []byte, prefix string) (value string, rest []byte, ok bool) {
	b, ok = bytes.CutPrefix(b, []byte(prefix))
	v, rest, closed := bytes.Cut(b, []byte(`"`))
	return string(v), rest, ok && closed
}

// decodeHash reads 64 lower-case hex digits.
func decodeHash(h *[sha256.Size]byte, digits []byte) bool {
	if len(digits) != 2*len(h) || bytes.ContainsAny(digits, "ABCDEF") {
		return false
	}
	_, err := hex.Decode(h[:], digits)
	return err == nil
}

// fileLine is what the first line of a file says.
type fileLine struct {
	Format  int    `json:"format"`
	Prev    string `json:"prev"`
	Key     string `json:"key"`
	Restart bool   `json:"restart"`
	prev    [sha256.Size]byte
}

func (r *renderer) file(prev [sha256.Size]byte, key string, restart bool) {
	r.reset()
	r.text(`,"type":`, typeFile)
	r.number(`,"format":`, 1)
	r.text(`,"prev":`, hex.EncodeToString(prev[:]))
	r.text(`,"key":`, key)
	if restart {
		r.buf = append(r.buf, `,"restart":true`...)
	}
}

// parseFile reads the line of type file; it is taken only in the exact form in
// which it is written.
func parseFile(l line) (fileLine, error) {
	var f fileLine
	if l.typ != typeFile || json.Unmarshal(append(bytes.Clone(l.body), '}'), &f) != nil ||
		!decodeHash(&f.prev, []byte(f.Prev)) {
		return f, errLine
	}
	if f.Format != 1 {
		return f, fmt.Errorf("the audit log has format %d, this release knows 1", f.Format)
	}
	var again renderer
	again.file(f.prev, f.Key, f.Restart)
	return f, sameForm(l, &again)
}

// checkpointLine is what a checkpoint says.
type checkpointLine struct {
	Covers    uint64 `json:"covers"`
	Head      string `json:"head"`
	Key       string `json:"key"`
	Signature string `json:"signature"`
	head      [sha256.Size]byte
	signature []byte
}

func (r *renderer) checkpoint(covers uint64, head [sha256.Size]byte, key string, signature []byte) {
	r.reset()
	r.text(`,"type":`, typeCheckpoint)
	r.number(`,"covers":`, covers)
	r.text(`,"head":`, hex.EncodeToString(head[:]))
	r.text(`,"key":`, key)
	r.text(`,"signature":`, hex.EncodeToString(signature))
}

func parseCheckpoint(l line) (checkpointLine, error) {
	var c checkpointLine
	if l.typ != typeCheckpoint || json.Unmarshal(append(bytes.Clone(l.body), '}'), &c) != nil ||
		!decodeHash(&c.head, []byte(c.Head)) {
		return c, errLine
	}
	var err error
	if c.signature, err = hex.DecodeString(c.Signature); err != nil {
		return c, errLine
	}
	var again renderer
	again.checkpoint(c.Covers, c.head, c.Key, c.signature)
	return c, sameForm(l, &again)
}

func (r *renderer) repair(cut int64) {
	r.reset()
	r.text(`,"type":`, typeRepair)
	r.number(`,"cut":`, uint64(cut))
}

// sameForm compares a line, from its type on, with its own rendering.
func sameForm(l line, again *renderer) error {
	if !bytes.HasSuffix(l.body, again.buf[headroom:]) ||
		len(l.rest) != len(`,"time":""`)+len(timeLayout)+len(again.buf)-headroom {
		return errLine
	}
	return nil
}

// checkpointDigest is what a checkpoint signs.
func checkpointDigest(covers uint64, head [sha256.Size]byte) [32]byte {
	b := []byte("claviger audit checkpoint 1\n")
	b = binary.BigEndian.AppendUint64(b, covers)
	return sha256.Sum256(append(b, head[:]...))
}

// lineReader reads lines and knows where they begin.
type lineReader struct {
	r      *bufio.Reader
	buf    []byte
	offset int64 // of the line that comes next
}

func newLineReader(r io.Reader, offset int64) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10), offset: offset}
}

// next returns a line without its newline, valid until the following call, and
// where it begins. whole is false for a last line that has no newline, and for
// what is longer than a line may be. io.EOF says that there is none.
func (l *lineReader) next() (b []byte, start int64, whole bool, err error) {
	l.buf = l.buf[:0]
	start = l.offset
	for {
		part, err := l.r.ReadSlice('\n')
		l.buf = append(l.buf, part...)
		l.offset += int64(len(part))
		switch {
		case err == nil:
			return l.buf[:len(l.buf)-1], start, true, nil
		case len(l.buf) > maxLine, errors.Is(err, io.EOF) && len(l.buf) > 0:
			return l.buf, start, false, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, start, false, err
		}
	}
}
