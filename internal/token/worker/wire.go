package worker

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// The wire: frames over a stream socket pair, as package pkcs11 defines them (its
// Lane answers frameDo). An answer carries the number of its request and its kind
// with the high bit set; its payload begins with a status byte. Load and unload are
// not answered: an operation on a slot that could not be loaded reports why.
const (
	headerSize = pkcs11.FrameHeader
	maxFrame   = pkcs11.MaxFrame

	frameSetup     = 1 // control, before serving
	frameLogin     = 2
	frameCreate    = 3
	frameLoad      = 4 // hot lane
	frameUnload    = 5
	frameDo        = pkcs11.FrameDo
	frameRandom    = 7
	frameGenerate  = 8 // slow lane
	frameDestroy   = 9
	frameProvision = 10
	frameSystem    = 11
	frameTry       = 12
	frameImport    = 13
	frameObjects   = 14
	frameAdopt     = 15
	frameErase     = 16
	frameIntake    = 17
	frameMove      = 18
	frameSetPIN    = 19 // control
	frameTryPIN    = 20
	frameFatal     = 0x7F // worker to server, unasked: it ends
	frameAnswer    = pkcs11.FrameAnswer
)

// Status byte of an answer.
const (
	statusOK   = 0
	statusFail = 1
)

var errFrame = pkcs11.ErrFrame

// beginFrame appends a header whose length endFrame fills in.
func beginFrame(b []byte, kind byte, seq uint32) []byte {
	b = append(b, 0, 0, 0, 0, kind)
	return binary.LittleEndian.AppendUint32(b, seq)
}

// endFrame completes the frame that began at start.
func endFrame(b []byte, start int) []byte {
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

type frame struct {
	kind    byte
	seq     uint32
	payload []byte // aliases the input
}

// parseFrame returns the first frame of b and how many bytes it takes, or 0 if
// it is not complete yet; need is then the number of bytes that it will take.
func parseFrame(b []byte) (f frame, used, need int, err error) {
	if len(b) < headerSize {
		return frame{}, 0, headerSize, nil
	}
	n := int(binary.LittleEndian.Uint32(b))
	if n < headerSize-4 || n > maxFrame {
		return frame{}, 0, 0, fmt.Errorf("%w: length %d", errFrame, n)
	}
	if len(b) < n+4 {
		return frame{}, 0, n + 4, nil
	}
	return frame{b[4], binary.LittleEndian.Uint32(b[5:]), b[headerSize : n+4]}, n + 4, 0, nil
}

// reader takes fields off a payload. After the first that is not there, bad is
// set and all others are zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if v := r.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if v := r.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

// bytes returns a length-prefixed field, which aliases the payload.
func (r *reader) bytes() []byte { return r.take(int(r.u32())) }

func (r *reader) str() string { return string(r.bytes()) }

func (r *reader) strs() []string {
	var list []string
	for n := r.u32(); n > 0 && !r.bad; n-- {
		list = append(list, r.str())
	}
	return list
}

// end returns an error unless every byte was taken and none was missing.
func (r *reader) end() error {
	if r.bad || len(r.b) != 0 {
		return errFrame
	}
	return nil
}

func appendU32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }
func appendU64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

func appendBytes[T ~[]byte | ~string](b []byte, v T) []byte {
	return append(appendU32(b, uint32(len(v))), v...)
}

func appendStrs(b []byte, list []string) []byte {
	b = appendU32(b, uint32(len(list)))
	for _, s := range list {
		b = appendBytes(b, s)
	}
	return b
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// reason says what kind of failure a failure is, beside its CKR.
type reason byte

const (
	reasonCall     reason = iota // a PKCS#11 call failed
	reasonFind                   // no such token object
	reasonKEK                    // there is no KEK
	reasonUnwrap                 // the module refused the wrapped key
	reasonAbsent                 // no such token in the module
	reasonModule                 // the module can't be loaded
	reasonExists                 // Create: the token is there
	reasonHold                   // the token can't hold such a key
	reasonFrame                  // the request was malformed
	reasonSession                // the login or the device is gone; the worker ends
	reasonNotReady               // hot frame for an empty slot
	reasonGone                   // the token shows none of its system keys (any more)
	reasonOpen                   // a wrapped secret is not authentic, or of another type
	reasonRefused                // the module has no such way; the server knows another
	reasonMany                   // more than one object fits a name
)

// failure is an error that crossed the wire.
type failure struct {
	reason reason
	fn     string
	code   pkcs11.CKR
	msg    string
}

func (f *failure) Error() string {
	s := f.msg
	if f.fn != "" {
		if s != "" {
			s += ": "
		}
		s += f.fn + ": " + f.code.String()
	}
	return s
}

// Unwrap returns the PKCS#11 error in it, if there is one.
func (f *failure) Unwrap() error {
	if f.fn == "" {
		return nil
	}
	return &pkcs11.Error{Func: f.fn, Code: f.code}
}

func failf(r reason, err error, format string, args ...any) *failure {
	f := &failure{reason: r, msg: fmt.Sprintf(format, args...)}
	if e, ok := errors.AsType[*pkcs11.Error](err); ok {
		f.fn, f.code = e.Func, e.Code
	} else if err != nil {
		if f.msg != "" {
			f.msg += ": "
		}
		f.msg += err.Error()
	}
	return f
}

func asFailure(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	return failf(reasonCall, err, "")
}

func appendFailure(b []byte, f *failure) []byte {
	b = append(b, statusFail, byte(f.reason))
	b = appendU32(b, uint32(f.code))
	b = appendBytes(b, f.fn)
	return appendBytes(b, f.msg)
}

// parseStatus takes the status off an answer: nil, or the failure.
func parseStatus(r *reader) error {
	if r.u8() == statusOK {
		if r.bad {
			return errFrame
		}
		return nil
	}
	f := &failure{reason: reason(r.u8()), code: pkcs11.CKR(r.u32()), fn: r.str(), msg: r.str()}
	if err := r.end(); err != nil {
		return err
	}
	return f
}

// source says where a loaded key comes from.
type source byte

const (
	fromObject    source = 1 // token object by CKA_ID
	fromBlob      source = 2 // unwrapped by the KEK
	fromLabel     source = 3 // system key by CKA_LABEL
	fromEphemeral source = 4 // made for this worker, for trials and measurements
	fromName      source = 5 // token object by CKA_LABEL and, in the place of the blob, CKA_ID
)

// loadRequest asks to put a key into a slot of the worker's table.
type loadRequest struct {
	slot  uint32
	from  source
	typ   token.Type
	id    token.ID
	size  uint32
	label string
	blob  []byte
	agree bool // a wrapped key that is for key agreement too
}

func (l *loadRequest) append(b []byte) []byte {
	start := len(b)
	b = beginFrame(b, frameLoad, 0)
	b = appendU32(b, l.slot)
	b = append(b, byte(l.from), byte(l.typ))
	b = append(b, l.id[:]...)
	b = appendU32(b, l.size)
	b = appendBytes(b, l.label)
	b = appendBytes(b, l.blob)
	b = appendBool(b, l.agree)
	return endFrame(b, start)
}

func parseLoad(p []byte) (loadRequest, error) {
	r := reader{b: p}
	l := loadRequest{slot: r.u32(), from: source(r.u8()), typ: token.Type(r.u8())}
	copy(l.id[:], r.take(len(l.id)))
	l.size, l.label, l.blob = r.u32(), r.str(), r.bytes()
	l.agree = r.u8() != 0
	return l, r.end()
}

func appendUnload(b []byte, slot uint32) []byte {
	start := len(b)
	return endFrame(appendU32(beginFrame(b, frameUnload, 0), slot), start)
}
