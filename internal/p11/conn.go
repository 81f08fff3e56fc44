package p11

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// Conn is a connection of a Server. It carries one request at a time.
type Conn struct {
	// Remote is who connected, for the audit log.
	Remote string

	conn    net.Conn
	r       *bufio.Reader
	server  *Server
	limited bool      // reading has a deadline
	until   time.Time // writing has this deadline
}

// Context ends when requests under way are cut off.
func (c *Conn) Context() context.Context { return c.server.ctx }

// Busy notes that a request is under way, or that it has its answer. It returns false
// if the connection is to end, without a request that begins.
func (c *Conn) Busy(under bool) bool { return c.server.Busy(c.conn, under) }

// Hello reads the first n bytes, for which the other side has little time.
func (c *Conn) Hello(n int) ([]byte, error) {
	c.limited = true
	if err := c.conn.SetReadDeadline(time.Now().Add(c.server.times.hello)); err != nil {
		return nil, err
	}
	return c.head(n)
}

// Head waits for the next frame, as long as it takes, and reads its first n bytes.
// From then on the rest of the frame has a limited time. They are valid until the
// next call.
func (c *Conn) Head(n int) ([]byte, error) {
	if c.server.Closing() {
		return nil, io.EOF
	}
	if c.limited {
		c.limited = false
		if err := c.conn.SetReadDeadline(time.Time{}); err != nil {
			return nil, err
		}
	}
	if _, err := c.r.Peek(1); err != nil {
		return nil, err
	}
	return c.head(n)
}

func (c *Conn) head(n int) ([]byte, error) {
	if err := c.limit(n); err != nil {
		return nil, err
	}
	head, err := c.r.Peek(n)
	if err != nil {
		return nil, err
	}
	_, err = c.r.Discard(n)
	return head, err
}

// limit sets a deadline for a frame of which n bytes are wanted. Most frames come
// whole: they need none, and a deadline of each would cost a timer.
func (c *Conn) limit(n int) error {
	if c.limited || c.r.Buffered() >= n {
		return nil
	}
	c.limited = true
	return c.conn.SetReadDeadline(time.Now().Add(c.server.times.frame))
}

// Body reads n bytes of the frame into b, or into larger memory. Memory is taken as
// they come: a length alone costs none.
func (c *Conn) Body(b []byte, n int) ([]byte, error) {
	if err := c.limit(n); err != nil {
		return nil, err
	}
	b = b[:0]
	for len(b) < n {
		step := min(n-len(b), max(64<<10, len(b)))
		at := len(b)
		b = slices.Grow(b, step)[:at+step]
		if _, err := io.ReadFull(c.r, b[at:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Write sends an answer. Who does not take it in time gets none. One deadline serves
// for all answers of a while.
func (c *Conn) Write(b []byte) error {
	if now := time.Now(); c.until.Sub(now) < c.server.times.write {
		c.until = now.Add(2 * c.server.times.write)
		if err := c.conn.SetWriteDeadline(c.until); err != nil {
			return err
		}
	}
	_, err := c.conn.Write(b)
	return err
}

// Keep returns b empty for the next frame; the memory of a large one is given back.
func Keep(b []byte) []byte {
	if cap(b) > smallFrame {
		return nil
	}
	return b[:0]
}

// talk is one connection.
func (s *Service) talk(c *Conn) {
	if !hello(c) {
		return
	}
	var in, out []byte
	var err error
	for {
		if in, err = frame(c, in); err != nil {
			return
		}
		if !c.Busy(true) {
			clear(in)
			return
		}
		out = binary.BigEndian.AppendUint32(out[:0], 0)
		out = s.Handle(c.Context(), c.Remote, in, out)
		clear(in)
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		err := c.Write(out)
		clear(out)
		if err != nil || !c.Busy(false) {
			return
		}
		in, out = Keep(in), Keep(out)
	}
}

// hello exchanges the first bytes.
func hello(c *Conn) bool {
	b, err := c.Hello(helloSize)
	if err != nil || string(b[:4]) != magic || binary.BigEndian.Uint16(b[6:]) != 0 {
		return false
	}
	version := binary.BigEndian.Uint16(b[4:])
	return c.Write(append([]byte(magic), 0, Version, 0, 0)) == nil && version == Version
}

// frame reads what follows the length of the next frame.
func frame(c *Conn, b []byte) ([]byte, error) {
	head, err := c.Head(4)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head)
	if n > MaxFrame {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	return c.Body(b, int(n))
}
