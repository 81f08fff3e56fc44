package audit

import (
	"encoding/hex"
	"hash"
	"reflect"
	"strconv"
	"time"

	"github.com/claviger/claviger/internal/fault"
)

// Types of entries.
const (
	Request  = "request"
	Response = "response"
)

// Entry is what is recorded of an operation, once before and once after it.
type Entry struct {
	Type        string // Request or Response
	RequestID   string
	Operation   string // name of the operation: transit.encrypt
	Verb        string
	Path        string
	Remote      string
	Accessor    string
	DisplayName string
	Policies    []string
	// Data is nil or a pointer to an api struct; its tags say what is shown.
	Data any
	// Kind and Error are the outcome of a failed operation.
	Kind     fault.Kind
	Error    string
	Warnings []string
}

const hashPrefix = "hmac-sha256:"

// headroom is kept free before an entry for the line's beginning, whose length
// is only known when the line gets its number.
const headroom = 80

const timeLayout = "2006-01-02T15:04:05.000000000Z"

// renderer builds a line. It is used by one goroutine at a time and reused.
type renderer struct {
	buf  []byte // headroom, then the line from `,"type":` on
	mac  hash.Hash
	sum  [32]byte
	part [1024]byte // a piece of a secret on its way into mac
	head [headroom]byte
}

func (r *renderer) reset() {
	r.buf = append(r.buf[:0], make([]byte, headroom)...)
}

// entry renders all of e but the line's beginning and its chain.
func (r *renderer) entry(e *Entry) {
	r.reset()
	r.text(`,"type":`, e.Type)
	r.text(`,"request_id":`, e.RequestID)
	r.text(`,"operation":`, e.Operation)
	r.text(`,"verb":`, e.Verb)
	r.text(`,"path":`, e.Path)
	r.text(`,"remote":`, e.Remote)
	r.text(`,"accessor":`, e.Accessor)
	r.text(`,"display_name":`, e.DisplayName)
	r.texts(`,"policies":`, e.Policies)
	r.data(e.Data)
	if e.Error != "" {
		r.text(`,"kind":`, e.Kind.String())
		r.text(`,"error":`, e.Error)
	}
	r.texts(`,"warnings":`, e.Warnings)
}

func (r *renderer) text(name, value string) {
	if value != "" {
		r.buf = append(r.buf, name...)
		r.buf = appendString(r.buf, value)
	}
}

func (r *renderer) texts(name string, values []string) {
	if len(values) == 0 {
		return
	}
	r.buf = append(r.buf, name...)
	sep := byte('[')
	for _, v := range values {
		r.buf = appendString(append(r.buf, sep), v)
		sep = ','
	}
	r.buf = append(r.buf, ']')
}

func (r *renderer) number(name string, n uint64) {
	r.buf = append(r.buf, name...)
	r.buf = strconv.AppendUint(r.buf, n, 10)
}

// data renders what Entry.Data points to.
func (r *renderer) data(data any) {
	v := reflect.ValueOf(data)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if !v.IsValid() || v.Kind() == reflect.Pointer {
		return
	}
	r.buf = append(r.buf, `,"data":`...)
	planFor(v.Type(), hashed)(r, v)
}

// hashText appends the HMAC of a string. The string is copied in pieces that
// are wiped, because it is a secret.
func (r *renderer) hashText(s string) {
	r.mac.Reset()
	for i := 0; i < len(s); {
		n := copy(r.part[:], s[i:])
		r.mac.Write(r.part[:n])
		i += n
	}
	clear(r.part[:min(len(s), len(r.part))])
	r.appendSum()
}

// hashBytes appends the HMAC of bytes.
func (r *renderer) hashBytes(b []byte) {
	r.mac.Reset()
	r.mac.Write(b)
	r.appendSum()
}

func (r *renderer) appendSum() {
	r.buf = append(r.buf, '"')
	r.buf = append(r.buf, hashPrefix...)
	r.buf = hex.AppendEncode(r.buf, r.mac.Sum(r.sum[:0]))
	r.buf = append(r.buf, '"')
}

// seal completes the line: its beginning, and its end with the chain. It
// returns the line with its newline; it is valid until r is used again.
func (r *renderer) seal(c *chain, now time.Time) []byte {
	b := append(r.head[:0], `{"seq":`...)
	b = strconv.AppendUint(b, c.seq+1, 10)
	b = append(b, `,"time":"`...)
	b = now.UTC().AppendFormat(b, timeLayout)
	b = append(b, '"')
	start := headroom - len(b)
	copy(r.buf[start:], b)
	c.add(r.buf[start:])
	r.buf = append(r.buf, chainField...)
	r.buf = hex.AppendEncode(r.buf, c.hash[:])
	r.buf = append(r.buf, '"', '}', '\n')
	return r.buf[start:]
}
