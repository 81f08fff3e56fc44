package vault

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"

	"github.com/claviger/claviger/internal/fault"
)

const (
	firstRead = 4 << 10 // the size of a new buffer
	keepBelow = 1 << 20 // larger buffers are not kept for reuse
	// believed is how many bytes are allocated because a header announces them;
	// beyond it the buffer grows only as fast as the bytes come.
	believed = 64 << 10
)

// readBody reads the request's body into buf, which is empty, or a larger one.
// It fails at the request's deadline, so that a slow sender holds nothing for
// ever.
func (c *call) readBody(buf []byte) ([]byte, error) {
	announced := c.r.ContentLength
	if announced > c.h.MaxBody {
		return nil, c.tooLarge()
	}
	// The server lifts the deadline itself when the body has been read. Writers
	// without a connection, as in tests, know no deadlines: they don't block either.
	_ = http.NewResponseController(c.w).SetReadDeadline(c.deadline)
	if want := int(min(announced+1, believed)); cap(buf) < want {
		buf = make([]byte, 0, want)
	}
	for {
		n, err := c.r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > c.h.MaxBody:
			return nil, c.tooLarge()
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, c.bodyError(err)
		}
		buf = grow(buf, announced)
	}
}

// grow makes room for more of the body if there is none: what was announced once
// a good part of it came, else the double.
func grow(buf []byte, announced int64) []byte {
	if len(buf) < cap(buf) {
		return buf
	}
	want := 2 * cap(buf)
	if rest := announced + 1; rest > int64(len(buf)) && rest <= 16*int64(len(buf)) {
		want = int(rest)
	}
	larger := make([]byte, len(buf), want)
	copy(larger, buf)
	clear(buf)
	return larger
}

// tooLarge refuses a body and lets the connection end, as the rest of the body
// stands in the way of the next request.
func (c *call) tooLarge() error {
	c.w.Header().Set("Connection", "close")
	return fault.New(fault.TooLarge, "the body is larger than %d bytes", c.h.MaxBody)
}

// errSlow is the cause of an answer 408.
var errSlow = errors.New("the body came too slowly")

func (c *call) bodyError(err error) error {
	c.w.Header().Set("Connection", "close")
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return c.tooLarge()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &fault.Error{Kind: fault.Invalid, Err: errSlow, Msg: "the body did not arrive within " + c.h.RequestTimeout.String()}
	}
	return &fault.Error{Kind: fault.Invalid, Err: err, Msg: "the body ended early or is not framed as HTTP demands"}
}

// pool keeps buffers. They hold plaintexts, so they are wiped before they wait
// for the next request.
type pool struct{ sync.Pool }

var buffers pool

func (p *pool) get() *[]byte {
	if b, ok := p.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, firstRead)
	return &b
}

// put wipes a buffer and takes it back. Nobody may refer to it any more.
func (p *pool) put(b *[]byte) {
	clear(*b)
	if cap(*b) > keepBelow {
		return
	}
	*b = (*b)[:0]
	p.Put(b)
}
