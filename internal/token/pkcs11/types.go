package pkcs11

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// CKR is a return value, CKM a mechanism, CKA an attribute type (PKCS#11 v2.40
// sections 5 and 6; the constants are in names.go and constants.go).
type (
	CKR uint32
	CKM uint32
	CKA uint32
)

// Slot, Handle are the module's numbers of a slot and of an object.
type (
	Slot   uint64
	Handle uint64
)

// Error is a call that the module answered with something else than CKR_OK.
type Error struct {
	Func string // "C_Login"
	Code CKR
}

// Error returns both names, such as "C_Login: CKR_PIN_INCORRECT".
func (e *Error) Error() string { return e.Func + ": " + e.Code.String() }

// CodeOf returns the CKR of the first *Error in err's chain, or OK.
func CodeOf(err error) CKR {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return OK
}

// Version is a CK_VERSION.
type Version struct{ Major, Minor byte }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// LibraryInfo is CK_INFO without its padding.
type LibraryInfo struct {
	Cryptoki     Version
	Manufacturer string
	Description  string
	Library      Version
}

// SlotInfo is CK_SLOT_INFO without its padding.
type SlotInfo struct {
	Description  string
	Manufacturer string
	Flags        uint64
	Hardware     Version
	Firmware     Version
}

// TokenInfo is CK_TOKEN_INFO without its padding.
type TokenInfo struct {
	Label, Manufacturer, Model, Serial string
	Flags                              uint64
	MinPIN, MaxPIN                     int // bytes
	Hardware, Firmware                 Version
	Usage                              TokenUsage
}

// TokenUsage is the rest of CK_TOKEN_INFO: sessions, memory in bytes (all ones:
// the module doesn't say), and the token's clock.
type TokenUsage struct {
	MaxSessions, Sessions, MaxRWSessions, RWSessions   uint64
	TotalPublic, FreePublic, TotalPrivate, FreePrivate uint64
	UTCTime                                            string
}

// MechanismInfo is a mechanism of a token; sizes are in bits or bytes, as the
// mechanism defines.
type MechanismInfo struct {
	Type     CKM
	Min, Max uint64
	Flags    uint64
}

// Template is a list of attributes in flat memory. The zero value is empty.
type Template struct {
	attrs []attr
	data  []byte
}

type attr struct {
	typ      uint64
	off, len uint32
}

// Bytes adds an attribute with a value of bytes and returns t.
func (t *Template) Bytes(a CKA, v []byte) *Template {
	// CK_ULONG values must lie on their natural boundary.
	for len(t.data)%8 != 0 {
		t.data = append(t.data, 0)
	}
	t.attrs = append(t.attrs, attr{uint64(a), uint32(len(t.data)), uint32(len(v))})
	t.data = append(t.data, v...)
	return t
}

// Bool adds CK_BBOOL attributes of one value and returns t.
func (t *Template) Bool(v bool, as ...CKA) *Template {
	b := []byte{0}
	if v {
		b[0] = 1
	}
	for _, a := range as {
		t.Bytes(a, b)
	}
	return t
}

// Ulong adds a CK_ULONG attribute and returns t.
func (t *Template) Ulong(a CKA, v uint64) *Template {
	return t.Bytes(a, binary.NativeEndian.AppendUint64(nil, v)[:ulongSize])
}

// Wipe overwrites the values, for a template that holds a secret.
func (t *Template) Wipe() { clear(t.data) }

// String adds an attribute with a value of text and returns t.
func (t *Template) String(a CKA, v string) *Template { return t.Bytes(a, []byte(v)) }

// Func is what a Batch does.
type Func uint32

// Functions and parameter kinds of an Op; the numbers are those of pkcs11.h.
const (
	Encrypt Func = 1
	Decrypt Func = 2
	Sign    Func = 3
	// Derive is C_DeriveKey with CK_ECDH1_DERIVE_PARAMS without a KDF: the input is
	// the other's public key, the output CKA_VALUE of a generic secret of Salt bytes,
	// a session object that is destroyed at once.
	Derive Func = 4
)

// Param says which CK_…_PARAMS an Op's mechanism takes.
type Param uint32

const (
	Plain Param = 0 // no parameter
	GCM   Param = 1 // CK_GCM_PARAMS with a 128-bit tag, nonce and AAD of the item
	PSS   Param = 2 // CK_RSA_PKCS_PSS_PARAMS
	OAEP  Param = 3 // CK_RSA_PKCS_OAEP_PARAMS, label = AAD of the item
	IV    Param = 4 // the nonce of the item is the initialisation vector
)

// Op is the operation of a Batch.
type Op struct {
	Func  Func
	Param Param
	Mech  CKM
	Hash  CKM    // of PSS and OAEP
	MGF   uint32 // of PSS and OAEP
	Salt  uint32 // bytes, of PSS; and of Derive
}

// Item is one unit of a Batch: offsets and lengths into its input and output
// memory, and the outcome.
type Item struct {
	Nonce, NonceLen, AAD, AADLen, In, InLen, Out, OutCap uint32

	OutLen uint32
	RV     CKR
	At     uint32 // AtInit or AtCall: which call RV is of
	Done   uint32 // 1 if it was tried
}

// Where an Item failed.
const (
	AtInit uint32 = 1
	AtCall uint32 = 2
)

// FuncName returns the C function that an item failed in.
func FuncName(f Func, at uint32) string {
	n := map[Func]string{Encrypt: "C_Encrypt", Decrypt: "C_Decrypt", Sign: "C_Sign", Derive: "C_DeriveKey"}[f]
	if at == AtInit && f != Derive {
		n += "Init"
	}
	return n
}

// padded returns the text of a blank-padded field. Some modules end it by NUL.
func padded(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return strings.TrimRight(s, " ")
}
