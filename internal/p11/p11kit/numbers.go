package p11kit

import "github.com/claviger/claviger/internal/p11"

// Outcomes that only sessions have (PKCS#11 v2.40 Base, section 5.1).
const (
	ckrHostMemory              p11.Code = 0x002
	ckrNoEvent                 p11.Code = 0x008
	ckrAttributeSensitive      p11.Code = 0x011
	ckrAttributeTypeInvalid    p11.Code = 0x012
	ckrOperationActive         p11.Code = 0x090
	ckrOperationNotInitialized p11.Code = 0x091
	ckrPINLenRange             p11.Code = 0x0a2
	ckrSessionCount            p11.Code = 0x0b1
	ckrSessionHandleInvalid    p11.Code = 0x0b3
	ckrSessionParallel         p11.Code = 0x0b4
	ckrSessionReadOnly         p11.Code = 0x0b5
	ckrUserAlreadyLoggedIn     p11.Code = 0x100
	ckrUserTypeInvalid         p11.Code = 0x103
	ckrRandomSeedNotSupported  p11.Code = 0x120
	ckrBufferTooSmall          p11.Code = 0x150
	ckrNotInitialized          p11.Code = 0x190
	ckrAlreadyInitialized      p11.Code = 0x191
)

// Flags and constants of sessions, slots and tokens.
const (
	ckfTokenPresent    = 0x1
	ckfRNG             = 0x1
	ckfLoginRequired   = 0x4
	ckfUserPIN         = 0x8
	ckfTokenInit       = 0x400
	ckfDigest          = 0x400
	ckfRWSession       = 0x2
	ckfSerialSession   = 0x4
	ckfDontBlock       = 0x1
	ckfFindObjects     = 0x40
	ckuUser            = 1
	ckuContextSpecific = 2
	unavailable        = ^uint64(0) // CK_UNAVAILABLE_INFORMATION
	unlimited          = 0          // CK_EFFECTIVELY_INFINITE
)

// Mechanisms that later versions of the module let through, without an own name in
// package p11.
var digests = []uint64{p11.CKM_SHA_1, p11.CKM_SHA224, p11.CKM_SHA256, p11.CKM_SHA384, p11.CKM_SHA512}

// refusal is an outcome other than CKR_OK; what says why stands in the agent's log.
func refusal(code p11.Code, why string) *p11.Error { return &p11.Error{Code: code, Msg: why} }
