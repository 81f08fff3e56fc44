package p11

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/claviger/claviger/api"
)

// Attributes are those of an object or a template. A flag's value has one byte, a
// number's eight, big-endian.
type Attributes []api.P11Attribute

// Object is an object with all attributes that are not secret. Handle 0 is one
// that the caller has to keep.
type Object struct {
	Handle     uint64
	Attributes Attributes
}

func (as Attributes) Find(t uint64) *api.P11Attribute {
	for i := range as {
		if as[i].Type == t {
			return &as[i]
		}
	}
	return nil
}

// Bytes returns a value, nil if it is absent or empty.
func (as Attributes) Bytes(t uint64) []byte {
	if a := as.Find(t); a != nil && a.Form == FormBytes && len(a.Value) > 0 {
		return a.Value
	}
	return nil
}

// Flag returns a flag, or def if it is absent.
func (as Attributes) Flag(t uint64, def bool) bool {
	if a := as.Find(t); a != nil && a.Form == FormBool && len(a.Value) == 1 {
		return a.Value[0] != 0
	}
	return def
}

// Number returns a number, and whether it is there.
func (as Attributes) Number(t uint64) (uint64, bool) {
	if a := as.Find(t); a != nil && a.Form == FormNumber && len(a.Value) == 8 {
		return binary.BigEndian.Uint64(a.Value), true
	}
	return 0, false
}

func (as *Attributes) addBytes(t uint64, v []byte) {
	*as = append(*as, api.P11Attribute{Type: t, Form: FormBytes, Value: v})
}

var flagValues = [2][]byte{{0}, {1}}

func (as *Attributes) addFlag(t uint64, v bool) {
	value := flagValues[0]
	if v {
		value = flagValues[1]
	}
	*as = append(*as, api.P11Attribute{Type: t, Form: FormBool, Value: value})
}

func (as *Attributes) addNumber(t, v uint64) {
	*as = append(*as, api.P11Attribute{Type: t, Form: FormNumber, Value: binary.BigEndian.AppendUint64(nil, v)})
}

func (as *Attributes) addNumbers(t uint64, vs []uint64) {
	b := make([]byte, 0, 8*len(vs))
	for _, v := range vs {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	*as = append(*as, api.P11Attribute{Type: t, Form: FormNumbers, Value: b})
}

func (as *Attributes) addWithheld(ts ...uint64) {
	for _, t := range ts {
		*as = append(*as, api.P11Attribute{Type: t, Form: FormWithheld})
	}
}

// Set replaces or adds an attribute.
func (as *Attributes) Set(a api.P11Attribute) {
	if old := as.Find(a.Type); old != nil {
		*old = a
		return
	}
	*as = append(*as, a)
}

// Matches tells whether the object has all attributes of a template, with equal
// values. Secret ones equal nothing.
func (as Attributes) Matches(template Attributes) bool {
	for i := range template {
		t := &template[i]
		a := as.Find(t.Type)
		if a == nil || a.Form == FormWithheld || a.Form != t.Form || !bytes.Equal(a.Value, t.Value) {
			return false
		}
	}
	return true
}

// flags are the attributes that are CK_BBOOL.
var flags = []uint64{
	CKA_TOKEN, CKA_PRIVATE, CKA_TRUSTED, CKA_SENSITIVE, CKA_ENCRYPT, CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP, CKA_SIGN, CKA_SIGN_RECOVER,
	CKA_VERIFY, CKA_VERIFY_RECOVER, CKA_DERIVE, CKA_EXTRACTABLE, CKA_LOCAL, CKA_NEVER_EXTRACTABLE, CKA_ALWAYS_SENSITIVE, CKA_MODIFIABLE,
	CKA_COPYABLE, CKA_DESTROYABLE, CKA_ALWAYS_AUTHENTICATE, CKA_WRAP_WITH_TRUSTED,
}

// IsFlag tells whether an attribute is a CK_BBOOL.
func IsFlag(t uint64) bool { return slices.Contains(flags, t) }
