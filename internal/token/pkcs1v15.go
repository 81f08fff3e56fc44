package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"math/bits"
)

// OpenPKCS1v15 takes the padding of an RSA decryption off (RFC 8017 section
// 7.2.2) and appends the message to out. em is the result of the raw operation, k
// bytes as the modulus has; it is overwritten.
//
// Wrong padding is no error: the message is then one that looks random, with a
// length that does too, and that is the same whenever the same ciphertext comes
// with the same secret ("implicit rejection", draft-irtf-cfrg-rsa-guidance
// section 7.2). So there is no answer that a Bleichenbacher attack could ask for.
// secret is 32 bytes that belong to the private key and are known to nobody.
// Which of the two messages is returned shows in no branch and no address.
func OpenPKCS1v15(out, em, secret, ciphertext []byte) []byte {
	k := len(em)
	mac := hmac.New(sha256.New, secret)
	mac.Write(make([]byte, k-len(ciphertext)))
	mac.Write(ciphertext)
	kdk := mac.Sum(nil)
	random := rejection(kdk, "message", k)
	randomLen := rejectionLen(rejection(kdk, "length", 256), k-10)

	good := subtle.ConstantTimeByteEq(em[0], 0) & subtle.ConstantTimeByteEq(em[1], 2)
	looking, at := 1, 0
	for i := 2; i < k; i++ {
		zero := subtle.ConstantTimeByteEq(em[i], 0)
		at = subtle.ConstantTimeSelect(looking&zero, i, at)
		looking &= zero ^ 1
	}
	good &= looking ^ 1
	good &= subtle.ConstantTimeLessOrEq(10, at) // at least 8 bytes of padding
	size := subtle.ConstantTimeSelect(good, k-1-at, randomLen)
	subtle.ConstantTimeCopy(good^1, em, random)
	out = append(out, em[k-size:]...)
	clear(em)
	clear(random)
	clear(kdk)
	return out
}

// rejection is the draft's IRPRF: n bytes, at most 8191, that kdk and label determine.
func rejection(kdk []byte, label string, n int) []byte {
	out := make([]byte, 0, n+sha256.Size)
	for i := uint16(0); len(out) < n; i++ {
		mac := hmac.New(sha256.New, kdk)
		var b [2]byte
		binary.BigEndian.PutUint16(b[:], i)
		mac.Write(b[:])
		mac.Write([]byte(label))
		binary.BigEndian.PutUint16(b[:], uint16(8*n))
		mac.Write(b[:])
		out = mac.Sum(out)
	}
	return out[:n]
}

// rejectionLen chooses a length below limit: the last of the candidates that is,
// each masked to the bits that limit has.
func rejectionLen(candidates []byte, limit int) (size int) {
	mask := 1<<bits.Len(uint(limit)) - 1
	for i := 0; i < len(candidates); i += 2 {
		c := int(binary.BigEndian.Uint16(candidates[i:])) & mask
		size = subtle.ConstantTimeSelect(subtle.ConstantTimeLessOrEq(c, limit-1), c, size)
	}
	return size
}
