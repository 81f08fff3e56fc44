//go:build cgo

package pkcs11

/*
#cgo CFLAGS: -O2 -Wall
#cgo LDFLAGS: -ldl
#cgo noescape cl_batch
#cgo nocallback cl_batch
#cgo noescape cl_random
#cgo nocallback cl_random
#include <stdlib.h>
#include "pkcs11.h"
*/
import "C"

import (
	"fmt"
	"os"
	"unsafe"
)

const ulongSize = int(unsafe.Sizeof(C.CK_ULONG(0)))

// Module is a loaded PKCS#11 library. It stays in the process for ever: many
// libraries do not survive being unloaded.
type Module struct{ f *C.CK_FUNCTION_LIST }

// Open loads the shared library at path. It does not initialise it. The error
// says what is wrong with the file.
func Open(path string) (*Module, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("no PKCS#11 module at %s: %w", path, err)
	}
	if st.IsDir() {
		return nil, fmt.Errorf("%s is a directory, and the path of a PKCS#11 module (a shared library) is needed", path)
	}
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var msg [512]C.char
	f := C.cl_open(cpath, &msg[0], C.size_t(len(msg)))
	if f == nil {
		return nil, fmt.Errorf("%s is no PKCS#11 module: %s", path, C.GoString(&msg[0]))
	}
	return &Module{f}, nil
}

func check(fn string, rv C.CK_RV) error {
	if rv == 0 {
		return nil
	}
	return &Error{Func: fn, Code: CKR(rv)}
}

// Initialize calls C_Initialize with CKF_OS_LOCKING_OK.
func (m *Module) Initialize() error { return check("C_Initialize", C.cl_initialize(m.f)) }

// Finalize calls C_Finalize. No other call may be under way.
func (m *Module) Finalize() error { return check("C_Finalize", C.cl_finalize(m.f)) }

// Info calls C_GetInfo.
func (m *Module) Info() (LibraryInfo, error) {
	var i C.CK_INFO
	if err := check("C_GetInfo", C.cl_info(m.f, &i)); err != nil {
		return LibraryInfo{}, err
	}
	return LibraryInfo{
		Cryptoki:     version(i.cryptokiVersion),
		Manufacturer: text(unsafe.Pointer(&i.manufacturerID), 32),
		Description:  text(unsafe.Pointer(&i.libraryDescription), 32),
		Library:      version(i.libraryVersion),
	}, nil
}

func version(v C.CK_VERSION) Version { return Version{byte(v.major), byte(v.minor)} }

func text(p unsafe.Pointer, n int) string { return padded(unsafe.Slice((*byte)(p), n)) }

// Slots calls C_GetSlotList for slots with a token.
func (m *Module) Slots() ([]Slot, error) {
	var n C.CK_ULONG
	if err := check("C_GetSlotList", C.cl_slots(m.f, 1, nil, &n)); err != nil || n == 0 {
		return nil, err
	}
	n += 8 // a slot may have come meanwhile
	ids := make([]C.CK_ULONG, n)
	if err := check("C_GetSlotList", C.cl_slots(m.f, 1, &ids[0], &n)); err != nil {
		return nil, err
	}
	slots := make([]Slot, 0, n)
	for _, id := range ids[:min(int(n), len(ids))] {
		slots = append(slots, Slot(id))
	}
	return slots, nil
}

// SlotInfo calls C_GetSlotInfo.
func (m *Module) SlotInfo(s Slot) (SlotInfo, error) {
	var i C.CK_SLOT_INFO
	if err := check("C_GetSlotInfo", C.cl_slot_info(m.f, C.CK_ULONG(s), &i)); err != nil {
		return SlotInfo{}, err
	}
	return SlotInfo{
		Description:  text(unsafe.Pointer(&i.slotDescription), 64),
		Manufacturer: text(unsafe.Pointer(&i.manufacturerID), 32),
		Flags:        uint64(i.flags),
		Hardware:     version(i.hardwareVersion),
		Firmware:     version(i.firmwareVersion),
	}, nil
}

// TokenInfo calls C_GetTokenInfo.
func (m *Module) TokenInfo(s Slot) (TokenInfo, error) {
	var i C.CK_TOKEN_INFO
	if err := check("C_GetTokenInfo", C.cl_token_info(m.f, C.CK_ULONG(s), &i)); err != nil {
		return TokenInfo{}, err
	}
	return TokenInfo{
		Label:        text(unsafe.Pointer(&i.label), 32),
		Manufacturer: text(unsafe.Pointer(&i.manufacturerID), 32),
		Model:        text(unsafe.Pointer(&i.model), 16),
		Serial:       text(unsafe.Pointer(&i.serialNumber), 16),
		Flags:        uint64(i.flags),
		MinPIN:       int(i.ulMinPinLen),
		MaxPIN:       int(i.ulMaxPinLen),
		Hardware:     version(i.hardwareVersion),
		Firmware:     version(i.firmwareVersion),
		Usage: TokenUsage{
			MaxSessions: uint64(i.ulMaxSessionCount), Sessions: uint64(i.ulSessionCount),
			MaxRWSessions: uint64(i.ulMaxRwSessionCount), RWSessions: uint64(i.ulRwSessionCount),
			TotalPublic: uint64(i.ulTotalPublicMemory), FreePublic: uint64(i.ulFreePublicMemory),
			TotalPrivate: uint64(i.ulTotalPrivateMemory), FreePrivate: uint64(i.ulFreePrivateMemory),
			UTCTime: text(unsafe.Pointer(&i.utcTime), 16),
		},
	}, nil
}

// Mechanisms calls C_GetMechanismList and C_GetMechanismInfo for each; one
// whose information is refused is left out.
func (m *Module) Mechanisms(s Slot) ([]MechanismInfo, error) {
	var n C.CK_ULONG
	if err := check("C_GetMechanismList", C.cl_mechanisms(m.f, C.CK_ULONG(s), nil, &n)); err != nil || n == 0 {
		return nil, err
	}
	types := make([]C.CK_ULONG, n)
	if err := check("C_GetMechanismList", C.cl_mechanisms(m.f, C.CK_ULONG(s), &types[0], &n)); err != nil {
		return nil, err
	}
	var list []MechanismInfo
	for _, t := range types[:min(int(n), len(types))] {
		var i C.CK_MECHANISM_INFO
		if C.cl_mechanism_info(m.f, C.CK_ULONG(s), t, &i) == 0 {
			list = append(list, MechanismInfo{CKM(t), uint64(i.ulMinKeySize), uint64(i.ulMaxKeySize), uint64(i.flags)})
		}
	}
	return list, nil
}

// InitToken calls C_InitToken with a label of at most 32 bytes. It erases the token.
func (m *Module) InitToken(s Slot, soPIN []byte, label string) error {
	var l [32]byte
	for i := range l {
		l[i] = ' '
	}
	copy(l[:], label)
	return check("C_InitToken", C.cl_init_token(m.f, C.CK_ULONG(s), ptr(soPIN), C.CK_ULONG(len(soPIN)), unsafe.Pointer(&l[0])))
}

// OpenSession calls C_OpenSession for a serial read-write session.
func (m *Module) OpenSession(s Slot) (*Session, error) {
	var h C.CK_ULONG
	if err := check("C_OpenSession", C.cl_open_session(m.f, C.CK_ULONG(s), &h)); err != nil {
		return nil, err
	}
	return &Session{m.f, h}, nil
}

var nothing [1]byte

// ptr returns the address of b's bytes; never nil, since modules take a null
// pointer for a mistake even where the length is 0.
func ptr(b []byte) unsafe.Pointer {
	if len(b) == 0 {
		return unsafe.Pointer(&nothing[0])
	}
	return unsafe.Pointer(&b[0])
}
