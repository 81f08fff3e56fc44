package worker

import (
	"crypto"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"hash"
)

// Paddings of RFC 8017 for modules that only have the raw RSA operation with a
// hash. All are about values outside the key: the secret stays in the token.

var errPadTooShort = errors.New("the RSA key is too short for this hash and salt")

// mgf1XOR XORs the mask of seed into out (RFC 8017 appendix B.2.1).
func mgf1XOR(out []byte, h hash.Hash, seed []byte) {
	var counter [4]byte
	var digest []byte
	for i := uint32(0); len(out) > 0; i++ {
		binary.BigEndian.PutUint32(counter[:], i)
		h.Reset()
		h.Write(seed)
		h.Write(counter[:])
		digest = h.Sum(digest[:0])
		n := subtle.XORBytes(out, out, digest)
		out = out[n:]
	}
}

// emsaPSS returns the encoded message of a digest (RFC 8017 section 9.1.1) for
// a modulus of bits, in as many bytes as the modulus has.
func emsaPSS(digest, salt []byte, bits int, hash crypto.Hash) ([]byte, error) {
	h := hash.New()
	emBits := bits - 1
	emLen := (emBits + 7) / 8
	if emLen < h.Size()+len(salt)+2 {
		return nil, errPadTooShort
	}
	out := make([]byte, (bits+7)/8)
	em := out[len(out)-emLen:]
	db, mac := em[:emLen-h.Size()-1], em[emLen-h.Size()-1:emLen-1]
	h.Write(make([]byte, 8))
	h.Write(digest)
	h.Write(salt)
	h.Sum(mac[:0])
	db[len(db)-len(salt)-1] = 1
	copy(db[len(db)-len(salt):], salt)
	mgf1XOR(db, h, mac)
	db[0] &= 0xFF >> (8*emLen - emBits)
	em[emLen-1] = 0xBC
	return out, nil
}

// emeOAEP takes the padding off em (RFC 8017 section 7.1.2 step 3), which has as
// many bytes as the modulus, and appends the message to out. Which of the checks
// fails shows neither in the answer nor in the time; em is overwritten. ok is
// false if the padding is wrong.
func emeOAEP(out, em, label []byte, hash crypto.Hash) (_ []byte, ok bool) {
	h := hash.New()
	n := h.Size()
	if len(em) < 2*n+2 {
		return out, false
	}
	h.Write(label)
	want := h.Sum(nil)
	seed, db := em[1:1+n], em[1+n:]
	mgf1XOR(seed, h, db)
	mgf1XOR(db, h, seed)

	valid := subtle.ConstantTimeByteEq(em[0], 0) & subtle.ConstantTimeCompare(db[:n], want)
	// Look for the 1 that ends the zeros, through the whole block in any case.
	looking, index := 1, 0
	for i, b := range db[n:] {
		one := subtle.ConstantTimeByteEq(b, 1)
		zero := subtle.ConstantTimeByteEq(b, 0)
		index = subtle.ConstantTimeSelect(looking&one, i, index)
		looking = subtle.ConstantTimeSelect(one, 0, looking)
		valid = subtle.ConstantTimeSelect(looking&(zero^1), 0, valid)
	}
	if valid&(looking^1) != 1 {
		return out, false
	}
	return append(out, db[n+index+1:]...), true
}

// digestInfoOID are the last bytes of the object identifiers of hashes under
// 2.16.840.1.101.3.4.2 (NIST's arc).
var digestInfoOID = map[crypto.Hash]byte{
	crypto.SHA256: 1, crypto.SHA384: 2, crypto.SHA512: 3, crypto.SHA224: 4, crypto.SHA512_224: 5, crypto.SHA512_256: 6,
	crypto.SHA3_224: 7, crypto.SHA3_256: 8, crypto.SHA3_384: 9, crypto.SHA3_512: 10,
}

// digestInfo returns the DER of DigestInfo (RFC 8017 section 9.2) around a
// digest, or nil if there is none for the hash. digest has the hash's size.
func digestInfo(hash crypto.Hash, digest []byte) []byte {
	n := byte(len(digest))
	if hash == crypto.SHA1 {
		b := []byte{0x30, 13 + n, 0x30, 9, 6, 5, 0x2B, 14, 3, 2, 26, 5, 0, 4, n}
		return append(b, digest...)
	}
	last, ok := digestInfoOID[hash]
	if !ok {
		return nil
	}
	b := []byte{0x30, 17 + n, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, last, 5, 0, 4, n}
	return append(b, digest...)
}
