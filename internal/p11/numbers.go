package p11

// Classes of objects (PKCS#11 v2.40 Base, section 4.2).
const (
	CKO_DATA        = 0
	CKO_CERTIFICATE = 1
	CKO_PUBLIC_KEY  = 2
	CKO_PRIVATE_KEY = 3
	CKO_SECRET_KEY  = 4
)

// Types of keys.
const (
	CKK_RSA            = 0x00
	CKK_EC             = 0x03
	CKK_GENERIC_SECRET = 0x10
	CKK_AES            = 0x1f
	CKK_SHA_1_HMAC     = 0x28
	CKK_SHA256_HMAC    = 0x2b
	CKK_SHA384_HMAC    = 0x2c
	CKK_SHA512_HMAC    = 0x2d
	CKK_SHA224_HMAC    = 0x2e
	CKK_EC_EDWARDS     = 0x40
)

// Attributes.
const (
	CKA_CLASS                = 0x000
	CKA_TOKEN                = 0x001
	CKA_PRIVATE              = 0x002
	CKA_LABEL                = 0x003
	CKA_UNIQUE_ID            = 0x004
	CKA_VALUE                = 0x011
	CKA_CERTIFICATE_TYPE     = 0x080
	CKA_ISSUER               = 0x081
	CKA_SERIAL_NUMBER        = 0x082
	CKA_TRUSTED              = 0x086
	CKA_CERTIFICATE_CATEGORY = 0x087
	CKA_CHECK_VALUE          = 0x090
	CKA_KEY_TYPE             = 0x100
	CKA_SUBJECT              = 0x101
	CKA_ID                   = 0x102
	CKA_SENSITIVE            = 0x103
	CKA_ENCRYPT              = 0x104
	CKA_DECRYPT              = 0x105
	CKA_WRAP                 = 0x106
	CKA_UNWRAP               = 0x107
	CKA_SIGN                 = 0x108
	CKA_SIGN_RECOVER         = 0x109
	CKA_VERIFY               = 0x10a
	CKA_VERIFY_RECOVER       = 0x10b
	CKA_DERIVE               = 0x10c
	CKA_START_DATE           = 0x110
	CKA_END_DATE             = 0x111
	CKA_MODULUS              = 0x120
	CKA_MODULUS_BITS         = 0x121
	CKA_PUBLIC_EXPONENT      = 0x122
	CKA_PRIVATE_EXPONENT     = 0x123
	CKA_PRIME_1              = 0x124
	CKA_PRIME_2              = 0x125
	CKA_EXPONENT_1           = 0x126
	CKA_EXPONENT_2           = 0x127
	CKA_COEFFICIENT          = 0x128
	CKA_PUBLIC_KEY_INFO      = 0x129
	CKA_VALUE_LEN            = 0x161
	CKA_EXTRACTABLE          = 0x162
	CKA_LOCAL                = 0x163
	CKA_NEVER_EXTRACTABLE    = 0x164
	CKA_ALWAYS_SENSITIVE     = 0x165
	CKA_KEY_GEN_MECHANISM    = 0x166
	CKA_MODIFIABLE           = 0x170
	CKA_COPYABLE             = 0x171
	CKA_DESTROYABLE          = 0x172
	CKA_EC_PARAMS            = 0x180
	CKA_EC_POINT             = 0x181
	CKA_ALWAYS_AUTHENTICATE  = 0x202
	CKA_WRAP_WITH_TRUSTED    = 0x210
	CKA_ALLOWED_MECHANISMS   = 0x40000600
)

// Mechanisms, and the parts of their parameters.
const (
	CKM_RSA_PKCS_KEY_PAIR_GEN   = 0x0000
	CKM_RSA_PKCS                = 0x0001
	CKM_SHA1_RSA_PKCS           = 0x0006
	CKM_RSA_PKCS_OAEP           = 0x0009
	CKM_RSA_PKCS_PSS            = 0x000d
	CKM_SHA1_RSA_PKCS_PSS       = 0x000e
	CKM_SHA256_RSA_PKCS         = 0x0040
	CKM_SHA384_RSA_PKCS         = 0x0041
	CKM_SHA512_RSA_PKCS         = 0x0042
	CKM_SHA256_RSA_PKCS_PSS     = 0x0043
	CKM_SHA384_RSA_PKCS_PSS     = 0x0044
	CKM_SHA512_RSA_PKCS_PSS     = 0x0045
	CKM_SHA224_RSA_PKCS         = 0x0046
	CKM_SHA224_RSA_PKCS_PSS     = 0x0047
	CKM_SHA_1                   = 0x0220
	CKM_SHA_1_HMAC              = 0x0221
	CKM_SHA_1_HMAC_GENERAL      = 0x0222
	CKM_SHA256                  = 0x0250
	CKM_SHA256_HMAC             = 0x0251
	CKM_SHA256_HMAC_GENERAL     = 0x0252
	CKM_SHA224                  = 0x0255
	CKM_SHA224_HMAC             = 0x0256
	CKM_SHA224_HMAC_GENERAL     = 0x0257
	CKM_SHA384                  = 0x0260
	CKM_SHA384_HMAC             = 0x0261
	CKM_SHA384_HMAC_GENERAL     = 0x0262
	CKM_SHA512                  = 0x0270
	CKM_SHA512_HMAC             = 0x0271
	CKM_SHA512_HMAC_GENERAL     = 0x0272
	CKM_GENERIC_SECRET_KEY_GEN  = 0x0350
	CKM_EC_KEY_PAIR_GEN         = 0x1040
	CKM_ECDSA                   = 0x1041
	CKM_ECDSA_SHA1              = 0x1042
	CKM_ECDSA_SHA224            = 0x1043
	CKM_ECDSA_SHA256            = 0x1044
	CKM_ECDSA_SHA384            = 0x1045
	CKM_ECDSA_SHA512            = 0x1046
	CKM_ECDH1_DERIVE            = 0x1050
	CKM_EC_EDWARDS_KEY_PAIR_GEN = 0x1055
	CKM_EDDSA                   = 0x1057
	CKM_AES_KEY_GEN             = 0x1080
	CKM_AES_CBC                 = 0x1082
	CKM_AES_CBC_PAD             = 0x1085
	CKM_AES_GCM                 = 0x1087
	CKM_UNAVAILABLE_INFORMATION = ^uint64(0)

	CKG_MGF1_SHA1   = 1
	CKG_MGF1_SHA256 = 2
	CKG_MGF1_SHA384 = 3
	CKG_MGF1_SHA512 = 4
	CKG_MGF1_SHA224 = 5

	CKZ_DATA_SPECIFIED = 1

	CKD_NULL       = 1
	CKD_SHA1_KDF   = 2
	CKD_SHA224_KDF = 5
	CKD_SHA256_KDF = 6
	CKD_SHA384_KDF = 7
	CKD_SHA512_KDF = 8
)

// Flags of mechanisms.
const (
	CKF_ENCRYPT           = 0x00000100
	CKF_DECRYPT           = 0x00000200
	CKF_SIGN              = 0x00000800
	CKF_VERIFY            = 0x00002000
	CKF_GENERATE          = 0x00008000
	CKF_GENERATE_KEY_PAIR = 0x00010000
	CKF_UNWRAP            = 0x00040000
	CKF_DERIVE            = 0x00080000
	CKF_EC_F_P            = 0x00100000
	CKF_EC_NAMEDCURVE     = 0x00800000
	CKF_EC_UNCOMPRESS     = 0x01000000
)

// Code is the outcome of a request: CKR_….
type Code uint32

// Outcomes.
const (
	CKR_OK                         Code = 0x000
	CKR_SLOT_ID_INVALID            Code = 0x003
	CKR_GENERAL_ERROR              Code = 0x005
	CKR_FUNCTION_FAILED            Code = 0x006
	CKR_ARGUMENTS_BAD              Code = 0x007
	CKR_ATTRIBUTE_READ_ONLY        Code = 0x010
	CKR_ATTRIBUTE_VALUE_INVALID    Code = 0x013
	CKR_ACTION_PROHIBITED          Code = 0x01b
	CKR_DATA_INVALID               Code = 0x020
	CKR_DATA_LEN_RANGE             Code = 0x021
	CKR_DEVICE_ERROR               Code = 0x030
	CKR_ENCRYPTED_DATA_INVALID     Code = 0x040
	CKR_ENCRYPTED_DATA_LEN_RANGE   Code = 0x041
	CKR_FUNCTION_NOT_SUPPORTED     Code = 0x054
	CKR_KEY_HANDLE_INVALID         Code = 0x060
	CKR_KEY_SIZE_RANGE             Code = 0x062
	CKR_KEY_TYPE_INCONSISTENT      Code = 0x063
	CKR_KEY_FUNCTION_NOT_PERMITTED Code = 0x068
	CKR_KEY_UNEXTRACTABLE          Code = 0x06a
	CKR_MECHANISM_INVALID          Code = 0x070
	CKR_MECHANISM_PARAM_INVALID    Code = 0x071
	CKR_OBJECT_HANDLE_INVALID      Code = 0x082
	CKR_PIN_INCORRECT              Code = 0x0a0
	CKR_SIGNATURE_INVALID          Code = 0x0c0
	CKR_SIGNATURE_LEN_RANGE        Code = 0x0c1
	CKR_TEMPLATE_INCOMPLETE        Code = 0x0d0
	CKR_TEMPLATE_INCONSISTENT      Code = 0x0d1
	CKR_USER_NOT_LOGGED_IN         Code = 0x101
	CKR_WRAPPED_KEY_INVALID        Code = 0x110
	CKR_CURVE_NOT_SUPPORTED        Code = 0x140
	CKR_FUNCTION_REJECTED          Code = 0x200
)
