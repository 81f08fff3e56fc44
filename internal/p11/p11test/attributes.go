package p11test

import (
	"encoding/binary"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/p11"
)

// Bytes adds an attribute of bytes.
func Bytes(as p11.Attributes, t uint64, v []byte) p11.Attributes {
	return append(as, api.P11Attribute{Type: t, Form: p11.FormBytes, Value: v})
}

// Flag adds a CK_BBOOL.
func Flag(as p11.Attributes, t uint64, v bool) p11.Attributes {
	b := []byte{0}
	if v {
		b[0] = 1
	}
	return append(as, api.P11Attribute{Type: t, Form: p11.FormBool, Value: b})
}

// Number adds a CK_ULONG.
func Number(as p11.Attributes, t, v uint64) p11.Attributes {
	return append(as, api.P11Attribute{Type: t, Form: p11.FormNumber, Value: binary.BigEndian.AppendUint64(nil, v)})
}

// Value returns an attribute's value and form; ok is false if the object has it not.
func Value(o *p11.Object, t uint64) (value []byte, form uint8, ok bool) {
	for i := range o.Attributes {
		if a := &o.Attributes[i]; a.Type == t {
			return a.Value, a.Form, true
		}
	}
	return nil, 0, false
}
