package soft

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/claviger/claviger/internal/token"
)

// AES key wrap with padding, RFC 5649 (PKCS#11: CKM_AES_KEY_WRAP_KWP): the
// same form in which an HSM would wrap its keys.

const (
	kwpIV  = 0xa65959a6 // RFC 5649 section 3
	kwpMax = 1 << 16    // bytes; far beyond any private key
)

var errKWP = errors.New("the wrapped secret is not authentic")

// wrapKWP wraps 1 to 65536 bytes under kek. The result is the secret's length
// rounded up to 8, and 8 more.
func wrapKWP(kek cipher.Block, secret []byte) ([]byte, error) {
	if len(secret) == 0 || len(secret) > kwpMax {
		return nil, fmt.Errorf("wrap %d bytes: it can be 1 to %d", len(secret), kwpMax)
	}
	out := make([]byte, 8+(len(secret)+7)/8*8)
	binary.BigEndian.PutUint32(out, kwpIV)
	binary.BigEndian.PutUint32(out[4:], uint32(len(secret)))
	copy(out[8:], secret)
	if len(out) == aes.BlockSize {
		kek.Encrypt(out, out)
		return out, nil
	}
	var b [aes.BlockSize]byte
	defer clear(b[:])
	n := len(out)/8 - 1
	copy(b[:8], out[:8])
	for t := range uint64(6 * n) { // RFC 3394 section 2.2.1
		r := out[8+8*(t%uint64(n)):][:8]
		copy(b[8:], r)
		kek.Encrypt(b[:], b[:])
		xorCounter(b[:8], t+1)
		copy(r, b[8:])
	}
	copy(out[:8], b[:8])
	return out, nil
}

// unwrapKWP is the reverse of wrapKWP. It checks the constant, the length and
// the padding at once and tells only whether all are right.
func unwrapKWP(kek cipher.Block, wrapped []byte) ([]byte, error) {
	if len(wrapped)%8 != 0 || len(wrapped) < aes.BlockSize || len(wrapped) > kwpMax+8 {
		return nil, errKWP
	}
	out := make([]byte, len(wrapped))
	copy(out, wrapped)
	if len(out) == aes.BlockSize {
		kek.Decrypt(out, out)
	} else {
		unwrapRounds(kek, out)
	}
	body := out[8:]
	ok := subtle.ConstantTimeEq(int32(binary.BigEndian.Uint32(out)^kwpIV), 0)
	length := binary.BigEndian.Uint32(out[4:])
	ok &= subtle.ConstantTimeEq(int32(length>>31), 0)
	size := int(length &^ (1 << 31)) // ConstantTimeLessOrEq takes 31 bits
	ok &= subtle.ConstantTimeLessOrEq(size, len(body)) & subtle.ConstantTimeLessOrEq(len(body)-7, size)
	var padding byte
	for i := range 8 {
		at := len(body) - 8 + i
		beyond := subtle.ConstantTimeLessOrEq(size, at)
		padding |= body[at] & byte(-beyond)
	}
	ok &= subtle.ConstantTimeByteEq(padding, 0)
	if ok != 1 {
		clear(out)
		return nil, errKWP
	}
	return body[:size:size], nil
}

// Unwrap implements token.Software.
func (Engine) Unwrap(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, fmt.Errorf("unwrap a secret: %w", err)
	}
	secret, err := unwrapKWP(block, wrapped)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", token.ErrOpen, err)
	}
	return secret, nil
}

// unwrapRounds is RFC 3394 section 2.2.2 on the whole of out.
func unwrapRounds(kek cipher.Block, out []byte) {
	var b [aes.BlockSize]byte
	defer clear(b[:])
	n := len(out)/8 - 1
	copy(b[:8], out[:8])
	for t := uint64(6 * n); t > 0; t-- {
		r := out[8+8*((t-1)%uint64(n)):][:8]
		xorCounter(b[:8], t)
		copy(b[8:], r)
		kek.Decrypt(b[:], b[:])
		copy(r, b[8:])
	}
	copy(out[:8], b[:8])
}

func xorCounter(a []byte, t uint64) {
	binary.BigEndian.PutUint64(a, binary.BigEndian.Uint64(a)^t)
}

// Wrap implements token.Software.
func (Engine) Wrap(kek, secret []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, fmt.Errorf("wrap a secret: %w", err)
	}
	return wrapKWP(block, secret)
}
