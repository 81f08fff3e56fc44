package p11

import (
	"encoding/binary"
	"fmt"

	"github.com/claviger/claviger/api"
)

// Limits of the protocol.
const (
	// MaxFrame bounds what follows the length of a frame, in bytes.
	MaxFrame = 4<<20 + 64<<10
	// MaxToken bounds a client token, in bytes.
	MaxToken = 4096
	// MaxAttributes bounds a template.
	MaxAttributes = 256
	// MaxRandom bounds a request for random bytes.
	MaxRandom = 1 << 20
	// Version of the protocol.
	Version = 1
	// helloSize is that of the first bytes of each side.
	helloSize = 8
)

// Error is an outcome other than CKR_OK. Msg is for the caller's log.
type Error struct {
	Code Code
	Msg  string
}

// Error returns the explanation.
func (e *Error) Error() string { return e.Msg }

func fail(code Code, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// Reader takes the fields of a body one after another. The first that is not
// there sets Err; all further ones are zero then.
type Reader struct {
	b   []byte
	Err *Error
}

// NewReader reads b. Byte strings that it returns are parts of b.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Fail makes all that follows zero, if nothing went wrong before.
func (r *Reader) Fail(format string, args ...any) {
	if r.Err == nil {
		r.Err = fail(CKR_DATA_INVALID, format, args...)
	}
}

// Take takes n bytes; what they are stands in the error.
func (r *Reader) Take(n int, what string) []byte {
	if r.Err == nil && len(r.b) < n {
		r.Fail("the frame ends before its %s of %d bytes", what, n)
	}
	if r.Err != nil {
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// U8 takes an integer of 8 bits.
func (r *Reader) U8() uint8 {
	if b := r.Take(1, "u8"); b != nil {
		return b[0]
	}
	return 0
}

// U16 takes an integer of 16 bits.
func (r *Reader) U16() uint16 {
	if b := r.Take(2, "u16"); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// U32 takes an integer of 32 bits.
func (r *Reader) U32() uint32 {
	if b := r.Take(4, "u32"); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// U64 takes an integer of 64 bits.
func (r *Reader) U64() uint64 {
	if b := r.Take(8, "u64"); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Bool takes a byte that is 0 or 1.
func (r *Reader) Bool() bool {
	v := r.U8()
	if v > 1 {
		r.Fail("a flag is %d, neither 0 nor 1", v)
	}
	return v == 1
}

// Bytes takes a length and as many bytes; never nil unless Err is set.
func (r *Reader) Bytes() []byte {
	n := r.U32()
	if r.Err == nil && uint64(n) > uint64(len(r.b)) {
		r.Fail("a string of %d bytes has %d", n, len(r.b))
	}
	return r.Take(int(n), "string")
}

// Rest takes all that is left.
func (r *Reader) Rest() []byte { return r.Take(len(r.b), "rest") }

// End returns Err, or an error if something is left over.
func (r *Reader) End() error {
	if len(r.b) > 0 {
		r.Fail("%d bytes are left over after the last field", len(r.b))
	}
	if r.Err != nil {
		return r.Err
	}
	return nil
}

// Writer puts fields one after another.
type Writer struct{ B []byte }

// U8 puts an integer of 8 bits.
func (w *Writer) U8(v uint8) { w.B = append(w.B, v) }

// U16 puts an integer of 16 bits.
func (w *Writer) U16(v uint16) { w.B = binary.BigEndian.AppendUint16(w.B, v) }

// U32 puts an integer of 32 bits.
func (w *Writer) U32(v uint32) { w.B = binary.BigEndian.AppendUint32(w.B, v) }

// U64 puts an integer of 64 bits.
func (w *Writer) U64(v uint64) { w.B = binary.BigEndian.AppendUint64(w.B, v) }

// Bytes puts a length and the bytes.
func (w *Writer) Bytes(b []byte) {
	w.U32(uint32(len(b)))
	w.B = append(w.B, b...)
}

// Text puts a string as Bytes does.
func (w *Writer) Text(s string) {
	w.U32(uint32(len(s)))
	w.B = append(w.B, s...)
}

// Forms of the value of an attribute.
const (
	FormBytes    = 0
	FormBool     = 1
	FormNumber   = 2
	FormNumbers  = 3
	FormWithheld = 4
	FormTemplate = 5
)

// Attributes takes attributes. Values are parts of what is read; a template
// inside of one is left encoded, after it was checked.
func (r *Reader) Attributes() Attributes { return r.attributes(false) }

func (r *Reader) attributes(nested bool) Attributes {
	n := r.U32()
	if n > MaxAttributes {
		r.Fail("%d attributes are more than %d", n, MaxAttributes)
	}
	if r.Err != nil {
		return nil
	}
	as := make(Attributes, 0, min(int(n), 32))
	for range n {
		a := r.attribute(nested)
		if r.Err != nil {
			return nil
		}
		if as.Find(a.Type) != nil {
			r.Fail("attribute 0x%x comes twice", a.Type)
			return nil
		}
		as = append(as, a)
	}
	return as
}

func (r *Reader) attribute(nested bool) api.P11Attribute {
	a := api.P11Attribute{Type: r.U64(), Form: r.U8()}
	switch a.Form {
	case FormBytes:
		a.Value = r.Bytes()
	case FormBool:
		a.Value = r.Take(1, "flag")
		if len(a.Value) == 1 && a.Value[0] > 1 {
			r.Fail("attribute 0x%x is %d, neither 0 nor 1", a.Type, a.Value[0])
		}
	case FormNumber:
		a.Value = r.Take(8, "number")
	case FormNumbers:
		if a.Value = r.Bytes(); len(a.Value)%8 != 0 {
			r.Fail("attribute 0x%x is an array of numbers of %d bytes", a.Type, len(a.Value))
		}
	case FormTemplate:
		if a.Value = r.Bytes(); nested {
			r.Fail("attribute 0x%x is a template inside of a template", a.Type)
		}
		inner := &Reader{b: a.Value, Err: r.Err}
		inner.attributes(true)
		if err := inner.End(); err != nil {
			r.Fail("attribute 0x%x: %v", a.Type, err)
		}
	default:
		r.Fail("attribute 0x%x has the form %d, which is none", a.Type, a.Form)
	}
	normalise(&a)
	return a
}

// normalise gives a flag that came as bytes the form of one.
func normalise(a *api.P11Attribute) {
	if a.Form == FormBytes && len(a.Value) == 1 && IsFlag(a.Type) {
		a.Form = FormBool
		if a.Value[0] != 0 {
			a.Value = []byte{1}
		}
	}
}

// Attributes puts attributes.
func (w *Writer) Attributes(as Attributes) {
	w.U32(uint32(len(as)))
	for i := range as {
		a := &as[i]
		w.U64(a.Type)
		w.U8(a.Form)
		switch a.Form {
		case FormBytes, FormNumbers, FormTemplate:
			w.Bytes(a.Value)
		case FormBool, FormNumber:
			w.B = append(w.B, a.Value...)
		}
	}
}

// Object puts an object.
func (w *Writer) Object(o *Object) {
	w.U64(o.Handle)
	w.Attributes(o.Attributes)
}

// Key names what an operation works with.
type Key struct {
	Handle uint64
	// Attributes are those of a key that only the caller has, if Handle is 0.
	Attributes Attributes
}

// Key takes a key.
func (r *Reader) Key() Key {
	k := Key{Handle: r.U64()}
	if k.Handle == 0 {
		k.Attributes = r.Attributes()
	}
	return k
}
