package p11kit

import (
	"github.com/claviger/claviger/internal/p11"
)

const (
	// maxFrame bounds a message, in bytes, and maxOptions what stands before it: the
	// name of the module that the client asks for.
	maxFrame   = p11.MaxFrame
	maxOptions = 4096
	headSize   = 12
	// noBytes stands for a NULL pointer where a byte string could be.
	noBytes = 0xffffffff
	// callError is the number of the answer that says only how a call failed.
	callError = 0
)

// reader takes the values of a call. It knows the version of the protocol that both
// sides agreed on, on which the form of mechanisms depends.
type reader struct {
	*p11.Reader
	version uint8
}

// blob takes a length and as many bytes; nil for a NULL pointer.
func (r *reader) blob() []byte {
	n := r.U32()
	if n == noBytes {
		return nil
	}
	if n > maxFrame {
		r.Fail("a string of %d bytes is longer than any frame", n)
		return nil
	}
	return r.Take(int(n), "string")
}

// bytes takes an "ay": whether there are bytes, and they or only how many.
func (r *reader) bytes() []byte {
	if r.Bool() {
		return r.blob()
	}
	r.U32()
	return nil
}

// number takes a "u": a CK_ULONG.
func (r *reader) number() uint64 { return r.U64() }

// room takes an "fy" or "fu": how much the caller's buffer holds, 0 without one.
func (r *reader) room() uint32 { return r.U32() }

// writer puts the values of an answer.
type writer struct{ p11.Writer }

// begin puts the number of the call and the signature of what follows.
func (w *writer) begin(call uint32, signature string) {
	w.U32(call)
	w.Text(signature)
}

// bytes puts an "ay" that is there.
func (w *writer) bytes(b []byte) {
	w.U8(1)
	w.Bytes(b)
}

// size puts an "ay" or "au" that is not there, but so long.
func (w *writer) size(n int) {
	w.U8(0)
	w.U32(uint32(n))
}

// numbers puts an "au": to a caller with too small a buffer only how many there are.
func (w *writer) numbers(v []uint64, room uint32) {
	if len(v) > int(room) {
		w.size(len(v))
		return
	}
	w.U8(1)
	w.U32(uint32(len(v)))
	for _, n := range v {
		w.U64(n)
	}
}

// text puts an "s": a text of n bytes, filled up with blanks.
func (w *writer) text(s string, n int) {
	b := make([]byte, n)
	for i := copy(b, s); i < n; i++ {
		b[i] = ' '
	}
	w.Bytes(b)
}

// release puts a "v": a CK_VERSION.
func (w *writer) release(major, minor uint8) {
	w.U8(major)
	w.U8(minor)
}
