package pkcs11

// Attribute types.
const (
	AttrClass           CKA = 0x000
	AttrToken           CKA = 0x001
	AttrPrivate         CKA = 0x002
	AttrLabel           CKA = 0x003
	AttrTrusted         CKA = 0x086
	AttrKeyType         CKA = 0x100
	AttrSubject         CKA = 0x101
	AttrID              CKA = 0x102
	AttrSensitive       CKA = 0x103
	AttrEncrypt         CKA = 0x104
	AttrDecrypt         CKA = 0x105
	AttrWrap            CKA = 0x106
	AttrUnwrap          CKA = 0x107
	AttrSign            CKA = 0x108
	AttrSignRecover     CKA = 0x109
	AttrVerify          CKA = 0x10A
	AttrDerive          CKA = 0x10C
	AttrModulus         CKA = 0x120
	AttrModulusBits     CKA = 0x121
	AttrPublicExponent  CKA = 0x122
	AttrPublicKeyInfo   CKA = 0x129
	AttrValue           CKA = 0x011
	AttrValueLen        CKA = 0x161
	AttrExtractable     CKA = 0x162
	AttrNeverExtract    CKA = 0x164
	AttrAlwaysSensitive CKA = 0x165
	AttrModifiable      CKA = 0x170
	AttrAlwaysAuth      CKA = 0x202
	AttrECParams        CKA = 0x180
	AttrECPoint         CKA = 0x181
	AttrWrapWithTrusted CKA = 0x210
)

// Object classes (CKA_CLASS).
const (
	ClassPublic  uint64 = 2
	ClassPrivate uint64 = 3
	ClassSecret  uint64 = 4
)

// Key types (CKA_KEY_TYPE).
const (
	KeyRSA        uint64 = 0x00
	KeyEC         uint64 = 0x03
	KeyGeneric    uint64 = 0x10
	KeySHA256HMAC uint64 = 0x2B
	KeySHA384HMAC uint64 = 0x2C
	KeySHA512HMAC uint64 = 0x2D
	KeyAES        uint64 = 0x1F
	KeyEdwards    uint64 = 0x40
)

// User types (C_Login) and session state CKS_RW_USER_FUNCTIONS.
const (
	UserSO      uint64 = 0
	UserNormal  uint64 = 1
	StateRWUser uint64 = 3
)

// Token flags (CK_TOKEN_INFO) and the slot flag for hardware.
const (
	FlagUserPINSet  uint64 = 0x8
	FlagProtected   uint64 = 0x100 // the PIN is entered at the device
	FlagInitialized uint64 = 0x400
	FlagPINLocked   uint64 = 0x40000
	FlagHWSlot      uint64 = 0x4
)

// Mechanism flags (CK_MECHANISM_INFO).
const (
	FlagHW      uint64 = 0x1
	FlagEncrypt uint64 = 0x100
	FlagDecrypt uint64 = 0x200
	FlagSign    uint64 = 0x800
	FlagGen     uint64 = 0x8000
	FlagGenPair uint64 = 0x10000
	FlagWrap    uint64 = 0x20000
	FlagUnwrap  uint64 = 0x40000
	FlagDerive  uint64 = 0x80000
)

// Mask generation functions of PSS and OAEP.
const (
	MGFSHA1   uint32 = 1
	MGFSHA256 uint32 = 2
	MGFSHA384 uint32 = 3
	MGFSHA512 uint32 = 4
	MGFSHA224 uint32 = 5
)
