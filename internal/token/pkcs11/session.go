//go:build cgo

package pkcs11

/*
#include "pkcs11.h"
*/
import "C"

import (
	"unsafe"
)

// Session is a session of a token, for one goroutine at a time.
type Session struct {
	f *C.CK_FUNCTION_LIST
	h C.CK_ULONG
}

// Close calls C_CloseSession. Session objects that were made in it are gone then.
func (s *Session) Close() error { return check("C_CloseSession", C.cl_close_session(s.f, s.h)) }

// State calls C_GetSessionInfo and returns the state, such as StateRWUser.
func (s *Session) State() (uint64, error) {
	var i C.CK_SESSION_INFO
	err := check("C_GetSessionInfo", C.cl_session_info(s.f, s.h, &i))
	return uint64(i.state), err
}

// Login calls C_Login as UserSO or UserNormal.
func (s *Session) Login(user uint64, pin []byte) error {
	return check("C_Login", C.cl_login(s.f, s.h, C.CK_ULONG(user), ptr(pin), C.CK_ULONG(len(pin))))
}

// InitPIN calls C_InitPIN in an SO session.
func (s *Session) InitPIN(pin []byte) error {
	return check("C_InitPIN", C.cl_init_pin(s.f, s.h, ptr(pin), C.CK_ULONG(len(pin))))
}

// SetPIN calls C_SetPIN: of who is logged in, or of the user if nobody is.
func (s *Session) SetPIN(old, pin []byte) error {
	return check("C_SetPIN", C.cl_set_pin(s.f, s.h, ptr(old), C.CK_ULONG(len(old)), ptr(pin), C.CK_ULONG(len(pin))))
}

func (t *Template) c() (*C.cl_attr, C.CK_ULONG, unsafe.Pointer) {
	if len(t.attrs) == 0 {
		return nil, 0, ptr(nil)
	}
	return (*C.cl_attr)(unsafe.Pointer(&t.attrs[0])), C.CK_ULONG(len(t.attrs)), ptr(t.data)
}

// Find returns at most limit objects that match t (C_FindObjects).
func (s *Session) Find(t *Template, limit int) ([]Handle, error) {
	found := make([]C.CK_ULONG, limit)
	n := C.CK_ULONG(limit)
	a, na, data := t.c()
	if err := check("C_FindObjects", C.cl_find(s.f, s.h, a, na, data, &found[0], &n)); err != nil {
		return nil, err
	}
	hs := make([]Handle, 0, n)
	for _, h := range found[:n] {
		hs = append(hs, Handle(h))
	}
	return hs, nil
}

const maxAttribute = 8192

// Attribute returns the value of an attribute of at most 8192 bytes.
func (s *Session) Attribute(o Handle, a CKA) ([]byte, error) {
	buf := make([]byte, maxAttribute)
	n := C.CK_ULONG(len(buf))
	err := check("C_GetAttributeValue", C.cl_get(s.f, s.h, C.CK_ULONG(o), C.CK_ULONG(a), ptr(buf), &n))
	if err == nil && n > maxAttribute {
		err = &Error{"C_GetAttributeValue", AttributeTypeInvalid}
	}
	if err != nil {
		return nil, err
	}
	return buf[:n:n], nil
}

// SetAttribute changes an attribute (C_SetAttributeValue).
func (s *Session) SetAttribute(o Handle, a CKA, v []byte) error {
	return check("C_SetAttributeValue", C.cl_set(s.f, s.h, C.CK_ULONG(o), C.CK_ULONG(a), ptr(v), C.CK_ULONG(len(v))))
}

// Destroy calls C_DestroyObject.
func (s *Session) Destroy(o Handle) error {
	return check("C_DestroyObject", C.cl_destroy(s.f, s.h, C.CK_ULONG(o)))
}

// GenerateKey makes a secret key.
func (s *Session) GenerateKey(m CKM, t *Template) (Handle, error) {
	var o C.CK_ULONG
	a, n, data := t.c()
	err := check("C_GenerateKey", C.cl_generate(s.f, s.h, C.CK_ULONG(m), a, n, data, &o))
	return Handle(o), err
}

// GenerateKeyPair makes a key pair.
func (s *Session) GenerateKeyPair(m CKM, public, private *Template) (pub, prv Handle, err error) {
	var opub, oprv C.CK_ULONG
	a, na, da := public.c()
	b, nb, db := private.c()
	rv := C.cl_generate_pair(s.f, s.h, C.CK_ULONG(m), a, na, da, b, nb, db, &opub, &oprv)
	return Handle(opub), Handle(oprv), check("C_GenerateKeyPair", rv)
}

// Wrap returns key wrapped under kek (C_WrapKey), at most 8192 bytes.
func (s *Session) Wrap(m CKM, kek, key Handle) ([]byte, error) {
	buf := make([]byte, maxAttribute)
	n := C.CK_ULONG(len(buf))
	rv := C.cl_wrap(s.f, s.h, C.CK_ULONG(m), C.CK_ULONG(kek), C.CK_ULONG(key), ptr(buf), &n)
	if err := check("C_WrapKey", rv); err != nil {
		return nil, err
	}
	return buf[:n:n], nil
}

// WrapOAEP returns key wrapped under a public RSA key with CKM_RSA_PKCS_OAEP. hash and
// mgf are those of OAEP; its label is empty.
func (s *Session) WrapOAEP(hash CKM, mgf uint32, kek, key Handle) ([]byte, error) {
	buf := make([]byte, maxAttribute)
	n := C.CK_ULONG(len(buf))
	rv := C.cl_wrap_oaep(s.f, s.h, C.CK_ULONG(hash), C.CK_ULONG(mgf), C.CK_ULONG(kek), C.CK_ULONG(key), ptr(buf), &n)
	if err := check("C_WrapKey", rv); err != nil {
		return nil, err
	}
	return buf[:n:n], nil
}

// Unwrap makes an object of a blob (C_UnwrapKey).
func (s *Session) Unwrap(m CKM, kek Handle, blob []byte, t *Template) (Handle, error) {
	var o C.CK_ULONG
	a, n, data := t.c()
	rv := C.cl_unwrap(s.f, s.h, C.CK_ULONG(m), C.CK_ULONG(kek), ptr(blob), C.CK_ULONG(len(blob)), a, n, data, &o)
	return Handle(o), check("C_UnwrapKey", rv)
}

// UnwrapOAEP makes an object of a blob that was wrapped under an RSA key: with
// CKM_RSA_PKCS_OAEP, or with CKM_RSA_AES_KEY_WRAP if aesBits, the size of the AES
// key between, is not 0. hash and mgf are those of OAEP; its label is empty.
func (s *Session) UnwrapOAEP(m, hash CKM, mgf uint32, aesBits int, kek Handle, blob []byte, t *Template) (Handle, error) {
	var o C.CK_ULONG
	a, n, data := t.c()
	rv := C.cl_unwrap_oaep(s.f, s.h, C.CK_ULONG(m), C.CK_ULONG(hash), C.CK_ULONG(mgf), C.CK_ULONG(aesBits), C.CK_ULONG(kek),
		ptr(blob), C.CK_ULONG(len(blob)), a, n, data, &o)
	return Handle(o), check("C_UnwrapKey", rv)
}

// Create makes an object of a template with its value (C_CreateObject).
func (s *Session) Create(t *Template) (Handle, error) {
	var o C.CK_ULONG
	a, n, data := t.c()
	err := check("C_CreateObject", C.cl_create(s.f, s.h, a, n, data, &o))
	return Handle(o), err
}

// Random fills p (C_GenerateRandom).
func (s *Session) Random(p []byte) error {
	return check("C_GenerateRandom", C.cl_random(s.f, s.h, ptr(p), C.CK_ULONG(len(p))))
}

// Batch performs op with key on every item, in one call of C. The items' offsets
// must lie inside in and out. It stops at the first item whose failure is not
// its own alone (a failed Init call, a session or device error); those behind it
// have Done 0.
func (s *Session) Batch(op Op, key Handle, in, out []byte, items []Item) {
	if len(items) == 0 {
		return
	}
	C.cl_batch(s.f, s.h, C.CK_ULONG(key), (*C.cl_op)(unsafe.Pointer(&op)), (*C.uint8_t)(ptr(in)),
		(*C.uint8_t)(ptr(out)), (*C.cl_item)(unsafe.Pointer(&items[0])), C.uint32_t(len(items)))
}
