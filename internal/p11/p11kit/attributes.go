package p11kit

import (
	"encoding/binary"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/p11"
)

// How the value of an attribute travels: p11-kit has one form for each type, and
// takes those that it does not know for bytes.
const (
	asBytes = iota
	asByte
	asNumber
	asNumbers
	asTemplate
)

var forms = func() map[uint64]int {
	m := map[uint64]int{0x40000600: asNumbers} // CKA_ALLOWED_MECHANISMS
	for _, t := range []uint64{
		p11.CKA_TOKEN, p11.CKA_PRIVATE, p11.CKA_TRUSTED, p11.CKA_SENSITIVE, p11.CKA_ENCRYPT, p11.CKA_DECRYPT, p11.CKA_WRAP, p11.CKA_UNWRAP,
		p11.CKA_SIGN, p11.CKA_SIGN_RECOVER, p11.CKA_VERIFY, p11.CKA_VERIFY_RECOVER, p11.CKA_DERIVE, p11.CKA_EXTRACTABLE, p11.CKA_LOCAL,
		p11.CKA_NEVER_EXTRACTABLE, p11.CKA_ALWAYS_SENSITIVE, p11.CKA_MODIFIABLE, p11.CKA_COPYABLE, p11.CKA_ALWAYS_AUTHENTICATE,
		p11.CKA_WRAP_WITH_TRUSTED,
		0x200, 0x301, 0x302, 0x405, // CKA_SECONDARY_AUTH, CKA_RESET_ON_INIT, CKA_HAS_RESET, CKA_COLOR
	} {
		m[t] = asByte
	}
	for _, t := range []uint64{
		p11.CKA_CLASS, p11.CKA_CERTIFICATE_TYPE, p11.CKA_CERTIFICATE_CATEGORY, p11.CKA_KEY_TYPE, p11.CKA_MODULUS_BITS, p11.CKA_VALUE_LEN,
		p11.CKA_KEY_GEN_MECHANISM,
		0x088, 0x133, 0x134, 0x160, 0x201, // CKA_JAVA_MIDP_SECURITY_DOMAIN, CKA_PRIME_BITS, CKA_SUBPRIME_BITS, CKA_VALUE_BITS, CKA_AUTH_PIN_FLAGS
		0x300, 0x400, 0x401, 0x402, 0x403, 0x404, 0x406, 0x500, // CKA_HW_FEATURE_TYPE, displays, CKA_MECHANISM_TYPE
	} {
		m[t] = asNumber
	}
	for _, t := range []uint64{0x40000211, 0x40000212, 0x40000213} { // CKA_WRAP_TEMPLATE, CKA_UNWRAP_TEMPLATE, CKA_DERIVE_TEMPLATE
		m[t] = asTemplate
	}
	return m
}()

const (
	ulongSize = 8 // of the client's CK_ULONG, in bytes
	dateSize  = 8
)

// attributes takes an "aA": a template.
func (r *reader) attributes() p11.Attributes {
	n := r.U32()
	if n > p11.MaxAttributes {
		r.Fail("%d attributes are more than %d", n, p11.MaxAttributes)
	}
	if r.Err != nil {
		return nil
	}
	as := make(p11.Attributes, 0, min(int(n), 32))
	for range n {
		a := r.attribute()
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

// attribute takes an attribute with its value. One of no bytes is empty, whatever
// stands in its place.
func (r *reader) attribute() api.P11Attribute {
	a := api.P11Attribute{Type: uint64(r.U32()), Form: p11.FormBytes}
	if !r.Bool() {
		r.Fail("attribute 0x%x of a template has no value", a.Type)
		return a
	}
	length, want := r.U32(), uint32(0)
	switch forms[a.Type] {
	case asByte:
		want, a.Form, a.Value = 1, p11.FormBool, boolean(r.Take(1, "flag"))
	case asNumber:
		want, a.Form, a.Value = ulongSize, p11.FormNumber, r.Take(8, "number")
	case asNumbers:
		want, a.Form, a.Value = length, p11.FormNumbers, r.list(length)
	case asTemplate:
		r.refuse(ckrAttributeTypeInvalid, "templates inside of templates are not taken")
	default:
		a.Value = r.blob()
		want = uint32(len(a.Value))
		if p11.IsFlag(a.Type) && want == 1 {
			a.Form, a.Value = p11.FormBool, boolean(a.Value)
		}
	}
	if length == 0 {
		a.Form, a.Value, want = p11.FormBytes, nil, 0
	}
	if length != want {
		r.Fail("attribute 0x%x has %d bytes, not %d", a.Type, length, want)
	}
	return a
}

// refuse is Fail with another code.
func (r *reader) refuse(code p11.Code, why string) {
	if r.Err == nil {
		r.Err = refusal(code, why)
	}
}

func boolean(b []byte) []byte {
	if len(b) == 1 && b[0] != 0 {
		return []byte{1}
	}
	return b
}

// list takes numbers that are so many bytes with the client.
func (r *reader) list(length uint32) []byte {
	n := r.U32()
	if uint64(n)*ulongSize != uint64(length) || length > maxFrame {
		r.Fail("%d numbers are not %d bytes", n, length)
		return nil
	}
	return r.Take(int(length), "numbers")
}

// wanted is an attribute that is asked for, and how large the buffer for it is.
type wanted struct {
	t    uint64
	room uint32
}

// wanted takes an "fA".
func (r *reader) wanted() []wanted {
	n := r.U32()
	if n > p11.MaxAttributes {
		r.Fail("%d attributes are more than %d", n, p11.MaxAttributes)
	}
	if r.Err != nil {
		return nil
	}
	all := make([]wanted, 0, n)
	for range n {
		a := wanted{uint64(r.U32()), r.U32()}
		if forms[a.t] == asTemplate && a.room > 0 {
			r.refuse(ckrAttributeTypeInvalid, "no object has templates") // what follows has a form of each release
		}
		all = append(all, a)
	}
	return all
}

// nativeNumber is a CK_ULONG in the memory of a program of this machine.
func nativeNumber(b []byte) []byte {
	return binary.NativeEndian.AppendUint64(nil, binary.BigEndian.Uint64(b))
}

// value is an attribute as it travels, and its length with the client; false if the
// client could not read it.
func value(a *api.P11Attribute) (b []byte, length uint32, ok bool) {
	form := forms[a.Type]
	switch {
	case len(a.Value) == 0 && (a.Form == p11.FormBytes || a.Form == p11.FormNumbers):
		return empty(form), 0, form != asTemplate
	case a.Form == p11.FormBool && form == asByte, a.Form == p11.FormNumber && form == asNumber:
		return a.Value, uint32(len(a.Value)), true
	case a.Form == p11.FormNumbers && form == asNumbers:
		n := uint32(len(a.Value))
		return append(binary.BigEndian.AppendUint32(nil, n/ulongSize), a.Value...), n, true
	case a.Form == p11.FormNumber && form == asBytes:
		return str(nativeNumber(a.Value)), ulongSize, true
	case (a.Form == p11.FormBytes || a.Form == p11.FormBool) && form == asBytes && !badDate(a):
		return str(a.Value), uint32(len(a.Value)), true
	}
	return nil, 0, false
}

// badDate tells whether a date has another length than a CK_DATE, which the client
// does not take.
func badDate(a *api.P11Attribute) bool {
	return (a.Type == p11.CKA_START_DATE || a.Type == p11.CKA_END_DATE) && len(a.Value) != dateSize
}

func empty(form int) []byte {
	switch form {
	case asByte:
		return []byte{0}
	case asNumber:
		return make([]byte, 8)
	}
	return make([]byte, 4)
}

func str(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }

// answer puts an "aA" and the outcome that goes with it: attributes that an object
// lacks, that are secret or larger than the buffer have no value.
func (w *writer) answer(as p11.Attributes, want []wanted) {
	w.U32(uint32(len(want)))
	outcome := p11.CKR_OK
	for _, q := range want {
		w.U32(uint32(q.t))
		b, length, code := look(as, q)
		if code != p11.CKR_OK {
			w.U8(0)
			if outcome == p11.CKR_OK {
				outcome = code
			}
			continue
		}
		w.U8(1)
		w.U32(length)
		w.B = append(w.B, b...)
	}
	w.U64(uint64(outcome))
}

func look(as p11.Attributes, q wanted) (b []byte, length uint32, code p11.Code) {
	a := as.Find(q.t)
	if a == nil {
		return nil, 0, ckrAttributeTypeInvalid
	}
	if a.Form == p11.FormWithheld {
		return nil, 0, ckrAttributeSensitive
	}
	b, length, ok := value(a)
	switch {
	case !ok:
		return nil, 0, ckrAttributeTypeInvalid
	case q.room > 0 && length > q.room:
		return nil, 0, ckrBufferTooSmall
	}
	return b, length, p11.CKR_OK
}
