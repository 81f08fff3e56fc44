package p11

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"math/big"
	"slices"
)

// kind is a key type of the API in the words of PKCS#11.
type kind struct {
	name  string // of the API
	ckk   uint64
	bits  int    // of the modulus, the curve or the key; 0: any
	curve *curve // of ckk EC and EC_EDWARDS
	gen   uint64 // mechanism that makes such keys
}

// curve is a curve by its names in CKA_EC_PARAMS, the first of which is shown.
type curve struct {
	params [][]byte
	nist   elliptic.Curve
	ecdh   ecdh.Curve
}

// The curves: OBJECT IDENTIFIERs (RFC 5480), and for Edwards curves the
// PrintableString of PKCS#11 v3.0 section 2.3.10 too.
var (
	p256    = &curve{[][]byte{{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}}, elliptic.P256(), ecdh.P256()}
	p384    = &curve{[][]byte{{6, 5, 0x2b, 0x81, 4, 0, 0x22}}, elliptic.P384(), ecdh.P384()}
	p521    = &curve{[][]byte{{6, 5, 0x2b, 0x81, 4, 0, 0x23}}, elliptic.P521(), ecdh.P521()}
	edwards = &curve{params: [][]byte{append([]byte{0x13, 12}, "edwards25519"...), {6, 3, 0x2b, 0x65, 0x70},
		append([]byte{0x13, 7}, "Ed25519"...)}}
)

var kinds = []kind{
	{"rsa-2048", CKK_RSA, 2048, nil, CKM_RSA_PKCS_KEY_PAIR_GEN},
	{"rsa-3072", CKK_RSA, 3072, nil, CKM_RSA_PKCS_KEY_PAIR_GEN},
	{"rsa-4096", CKK_RSA, 4096, nil, CKM_RSA_PKCS_KEY_PAIR_GEN},
	{"ecdsa-p256", CKK_EC, 256, p256, CKM_EC_KEY_PAIR_GEN},
	{"ecdsa-p384", CKK_EC, 384, p384, CKM_EC_KEY_PAIR_GEN},
	{"ecdsa-p521", CKK_EC, 521, p521, CKM_EC_KEY_PAIR_GEN},
	{"ed25519", CKK_EC_EDWARDS, 256, edwards, CKM_EC_EDWARDS_KEY_PAIR_GEN},
	{"aes128-gcm96", CKK_AES, 128, nil, CKM_AES_KEY_GEN},
	{"aes256-gcm96", CKK_AES, 256, nil, CKM_AES_KEY_GEN},
	{"hmac", CKK_GENERIC_SECRET, 0, nil, CKM_GENERIC_SECRET_KEY_GEN},
	// Keys of these sizes are adopted, never made.
	{"rsa-1024", CKK_RSA, 1024, nil, 0}, {"rsa-1280", CKK_RSA, 1280, nil, 0}, {"rsa-1536", CKK_RSA, 1536, nil, 0},
	{"rsa-1792", CKK_RSA, 1792, nil, 0}, {"rsa-2560", CKK_RSA, 2560, nil, 0}, {"rsa-5120", CKK_RSA, 5120, nil, 0},
	{"rsa-6144", CKK_RSA, 6144, nil, 0}, {"rsa-7168", CKK_RSA, 7168, nil, 0}, {"rsa-8192", CKK_RSA, 8192, nil, 0},
}

// kindOf returns the kind of a key type, nil if PKCS#11 has no words for it.
func kindOf(name string) *kind {
	for i := range kinds {
		if kinds[i].name == name {
			return &kinds[i]
		}
	}
	return nil
}

// kindFor returns the kind that a mechanism makes with so many bits.
func kindFor(gen uint64, bits int, of *curve) *kind {
	for i := range kinds {
		if k := &kinds[i]; k.gen == gen && (k.bits == bits || k.bits == 0) && k.curve == of {
			return k
		}
	}
	return nil
}

// curveOf reads CKA_EC_PARAMS.
func curveOf(params []byte) (*curve, error) {
	for _, c := range []*curve{p256, p384, p521, edwards} {
		if slices.ContainsFunc(c.params, func(p []byte) bool { return string(p) == string(params) }) {
			return c, nil
		}
	}
	return nil, fail(CKR_CURVE_NOT_SUPPORTED, "CKA_EC_PARAMS names none of the curves P-256, P-384, P-521 and edwards25519")
}

// octetString is the DER of an OCTET STRING.
func octetString(b []byte) []byte {
	der, err := asn1.Marshal(b)
	if err != nil {
		panic(err) // a []byte always can be encoded
	}
	return der
}

// point reads an EC point: the DER of an OCTET STRING, as CKA_EC_POINT has it, or
// the bytes themselves, as many programs send them.
func point(b []byte) []byte {
	var inner []byte
	if rest, err := asn1.Unmarshal(b, &inner); err == nil && len(rest) == 0 {
		return inner
	}
	return b
}

// publicOf makes a public key of the attributes of an object.
func publicOf(as Attributes) (any, error) {
	ckk, ok := as.Number(CKA_KEY_TYPE)
	if !ok {
		return nil, fail(CKR_TEMPLATE_INCOMPLETE, "a public key needs CKA_KEY_TYPE")
	}
	switch ckk {
	case CKK_RSA:
		return rsaPublicOf(as)
	case CKK_EC, CKK_EC_EDWARDS:
		c, err := curveOf(as.Bytes(CKA_EC_PARAMS))
		if err != nil {
			return nil, err
		}
		return c.public(point(as.Bytes(CKA_EC_POINT)))
	}
	return nil, fail(CKR_KEY_TYPE_INCONSISTENT, "public keys of type 0x%x are not offered: use RSA, EC or EC_EDWARDS", ckk)
}

func rsaPublicOf(as Attributes) (any, error) {
	n, e := new(big.Int).SetBytes(as.Bytes(CKA_MODULUS)), new(big.Int).SetBytes(as.Bytes(CKA_PUBLIC_EXPONENT))
	if n.BitLen() < 1024 || n.BitLen() > 16384 || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 || e.Bit(0) == 0 || n.Bit(0) == 0 {
		return nil, fail(CKR_ATTRIBUTE_VALUE_INVALID, "the RSA key needs a CKA_MODULUS of 1024 to 16384 bits and an odd CKA_PUBLIC_EXPONENT of 3 to 2^31-1")
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

func (c *curve) public(p []byte) (any, error) {
	if c == edwards {
		if len(p) != ed25519.PublicKeySize {
			return nil, fail(CKR_ATTRIBUTE_VALUE_INVALID, "CKA_EC_POINT has %d bytes, a key of edwards25519 32", len(p))
		}
		return ed25519.PublicKey(p), nil
	}
	k, err := ecdsa.ParseUncompressedPublicKey(c.nist, p)
	if err != nil {
		return nil, fail(CKR_ATTRIBUTE_VALUE_INVALID, "CKA_EC_POINT is no uncompressed point of the curve")
	}
	return k, nil
}
