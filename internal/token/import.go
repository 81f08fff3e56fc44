package token

import "crypto"

// ImportAES is the size in bytes of the AES key in a Package, ImportMin that of
// the shortest part behind it (RFC 5649 section 4.1).
const (
	ImportAES = 32
	ImportMin = 16
)

// Package is a secret on its way into a token, as PKCS #11 v2.40 section 2.1.21
// (CKM_RSA_AES_KEY_WRAP) has it: RSA-OAEP of an AES-256 key with an empty label
// (RFC 8017 section 7.1), as long as the modulus, followed by the secret under
// AES key wrap with padding (RFC 5649) with that key. The secret is raw bytes of
// a symmetric or HMAC key, and PKCS #8 DER of any other.
type Package struct {
	Key  Stored      // the wrapping key: an RSA key of the same token
	Hash crypto.Hash // of OAEP and of its MGF1
	Blob []byte
}
