//go:build cgo

package pkcs11

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"syscall"
	"testing"
)

// pair returns a lane and the other end of its socket.
func pair(t testing.TB) (*Lane, int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLane(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		syscall.Close(fds[0])
	})
	return l, fds[1]
}

// send writes pieces from another goroutine and closes the socket.
func send(fd int, pieces ...[]byte) {
	go func() {
		defer syscall.Close(fd)
		for _, p := range pieces {
			put(fd, p)
		}
	}()
}

// put writes all of b, unless the test has ended.
func put(fd int, b []byte) {
	for len(b) > 0 {
		n, err := syscall.Write(fd, b)
		if err != nil {
			return
		}
		b = b[n:]
	}
}

func framed(kind byte, seq uint32, payload []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(5+len(payload)))
	return append(binary.LittleEndian.AppendUint32(append(b, kind), seq), payload...)
}

func numbers(b []byte, list ...uint32) []byte {
	for _, n := range list {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// operation is the payload of an operation on slot 3, with n for its items.
func operation(fn, param byte, n uint32, items ...byte) []byte {
	b := append(numbers(nil, 3), fn, param)
	return append(numbers(b, 1, 2, 3, 4, n), items...)
}

// item is one without a nonce, of sizes that may be wrong.
func item(nonce, aad, in, room uint32, data string) []byte {
	return append(numbers(nil, nonce, aad, in, room), data...)
}

func TestLaneFrames(t *testing.T) {
	t.Parallel()
	large := bytes.Repeat([]byte("large"), 200<<10)
	stream := bytes.Join([][]byte{framed(1, 7, []byte("one")), framed(2, 8, large), framed(200, math.MaxUint32, nil)}, nil)
	for _, step := range []int{1 << 30, 100 << 10, 4096, 13} {
		var pieces [][]byte
		for rest := stream; len(rest) > 0; {
			n := min(step, len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		l, fd := pair(t)
		send(fd, pieces...)
		for i, want := range []Frame{{Kind: 1, Seq: 7, Payload: []byte("one")}, {Kind: 2, Seq: 8, Payload: large}, {Kind: 200, Seq: math.MaxUint32}} {
			f, err := l.Next(nil, false)
			if err != nil || f.Kind != want.Kind || f.Seq != want.Seq || !bytes.Equal(f.Payload, want.Payload) || f.Reason != Other {
				t.Fatalf("pieces of %d, frame %d: %d %d %.20q %d, %v", step, i, f.Kind, f.Seq, f.Payload, f.Reason, err)
			}
		}
		if _, err := l.Next(nil, false); err != io.EOF {
			t.Errorf("pieces of %d: the end shows as %v", step, err)
		}
	}
}

func TestLaneAgain(t *testing.T) {
	t.Parallel()
	l, fd := pair(t)
	send(fd, framed(1, 1, []byte("x")), framed(1, 2, nil))
	for i, again := range []bool{false, true, true, false} {
		want := uint32(1)
		if i == 3 {
			want = 2
		}
		if f, err := l.Next(nil, again); err != nil || f.Seq != want {
			t.Fatalf("%d: frame %d, %v", i, f.Seq, err)
		}
	}
}

func TestLaneRefuses(t *testing.T) {
	t.Parallel()
	whole := item(1, 2, 3, 16, "naainp")
	for name, tt := range map[string]struct {
		payload []byte
		want    Reason
	}{
		"nothing":             {nil, Malformed},
		"short":               {operation(1, 0, 0)[:25], Malformed},
		"no item":             {operation(1, 0, 0), Empty},
		"one":                 {operation(1, 1, 1, whole...), Empty},
		"two":                 {operation(4, 4, 2, append(whole, whole...)...), Empty},
		"function 0":          {operation(0, 0, 1, whole...), Malformed},
		"function 5":          {operation(5, 0, 1, whole...), Malformed},
		"parameter 5":         {operation(1, 5, 1, whole...), Malformed},
		"one too few":         {operation(1, 0, 2, whole...), Malformed},
		"more than can be":    {operation(1, 0, math.MaxUint32, whole...), Malformed},
		"one too many":        {operation(1, 0, 1, append(whole, whole...)...), Malformed},
		"a byte behind":       {operation(1, 0, 1, append(whole, 0)...), Malformed},
		"a byte too few":      {operation(1, 0, 1, whole[:len(whole)-1]...), Malformed},
		"nonce too long":      {operation(1, 0, 1, item(7, 0, 0, 0, "naainp")...), Malformed},
		"lengths that wrap":   {operation(1, 0, 1, item(math.MaxUint32, 7, 0, 0, "naainp")...), Malformed},
		"and one behind":      {operation(1, 0, 2, append(item(math.MaxUint32, 7, 0, 0, "naainp"), whole...)...), Malformed},
		"input of 4 GiB":      {operation(1, 0, 1, item(0, 0, math.MaxUint32, 0, "")...), Malformed},
		"room of 4 GiB":       {operation(1, 0, 1, item(0, 0, 0, math.MaxUint32, "")...), Malformed},
		"room in all too big": {operation(1, 0, 2, append(item(0, 0, 0, 30<<20, ""), item(0, 0, 0, 30<<20, "")...)...), Malformed},
	} {
		l, fd := pair(t)
		send(fd, framed(FrameDo, 5, tt.payload))
		f, err := l.Next(nil, false)
		if err != nil || f.Reason != tt.want || f.Seq != 5 || f.Reason == Empty && f.Slot != 3 {
			t.Errorf("%s: reason %d, slot %d, %v", name, f.Reason, f.Slot, err)
		}
	}
	for _, n := range []uint32{0, 4, MaxFrame + 1, math.MaxUint32} {
		l, fd := pair(t)
		send(fd, append(numbers(nil, n), 0, 0, 0, 0, 0))
		if _, err := l.Next(nil, false); !errors.Is(err, ErrFrame) {
			t.Errorf("length %d: %v", n, err)
		}
	}
}

// FuzzLane gives a lane without keys any stream: it must return only what is there.
func FuzzLane(f *testing.F) {
	f.Add(framed(FrameDo, 1, operation(1, 1, 1, item(1, 2, 3, 16, "naainp")...)))
	f.Add(append(framed(1, 2, []byte("x")), framed(FrameDo, 3, nil)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 64<<10 {
			return // what a socket takes at once
		}
		l, fd := pair(t)
		if _, err := syscall.Write(fd, b); err != nil {
			t.Fatal(err)
		}
		syscall.Close(fd)
		for {
			got, err := l.Next(nil, false)
			if err != nil {
				break
			}
			want := framed(got.Kind, got.Seq, got.Payload)
			if !bytes.HasPrefix(b, want) {
				t.Fatalf("%x is not at the front of %x", want, b)
			}
			if (got.Kind == FrameDo) != (got.Reason != Other) || got.Reason == Stopped {
				t.Fatalf("kind %d for reason %d", got.Kind, got.Reason)
			}
			b = b[len(want):]
		}
	})
}
