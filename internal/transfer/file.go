package transfer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Reader reads the lines of a ring one after another and checks each: its form, its
// signature, its number.
type Reader struct {
	Header *Header
	// HeaderLine is the first line.
	HeaderLine []byte
	// Good is how many bytes were read that are whole and right.
	Good int64
	// Next is the number of the line that comes next.
	Next int

	r *bufio.Reader
}

// ErrCut: the ring ends before its last line, or within one.
var ErrCut = errors.New("the ring is cut off")

// NewReader reads the header of a ring.
func NewReader(r io.Reader) (*Reader, error) {
	f := &Reader{r: bufio.NewReaderSize(r, 1<<16), Next: 1}
	line, err := f.line()
	if err != nil {
		return nil, err
	}
	if f.Header, err = ParseHeader(line); err != nil {
		return nil, err
	}
	f.HeaderLine, f.Good = line, int64(len(line))
	return f, nil
}

func (f *Reader) line() ([]byte, error) {
	var line []byte
	for {
		part, err := f.r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, ErrCut
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("reading the ring: %w", err)
		case len(line) > MaxLine:
			return nil, invalid("a line of the ring has more than %d bytes", MaxLine)
		}
	}
}

// Line returns the next line; io.EOF after the last one, ErrCut before that.
func (f *Reader) Line() ([]byte, error) {
	if f.Next > f.Header.Chunks {
		if _, err := f.r.ReadByte(); !errors.Is(err, io.EOF) {
			return nil, invalid("there is more behind the ring's last line")
		}
		return nil, io.EOF
	}
	line, err := f.line()
	if err != nil {
		return nil, err
	}
	number, err := f.Header.CheckChunk(line)
	if err != nil {
		return nil, err
	}
	if number != f.Next {
		return nil, invalid("line %d of the ring stands in the place of line %d", number, f.Next)
	}
	f.Next++
	f.Good += int64(len(line))
	return line, nil
}
