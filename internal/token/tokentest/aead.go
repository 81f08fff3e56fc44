package tokentest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"slices"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/claviger/claviger/internal/token"
)

var sealOp, openOp = token.Op{Kind: token.Seal}, token.Op{Kind: token.Open}

func (k subject) useAEAD(t *testing.T) {
	t.Helper()
	for _, n := range []int{0, 1, 15, 16, 17, 64, 1000, 70000} {
		for _, aad := range [][]byte{nil, {}, []byte("x"), randomBytes(300)} {
			k.roundTrip(t, randomBytes(n), aad)
		}
	}
	k.tamper(t)
	k.wrongNonces(t)
}

// roundTrip seals and opens, and checks what the seam says about the buffers.
func (k subject) roundTrip(t *testing.T, plain, aad []byte) {
	t.Helper()
	nonce := randomBytes(k.typ.NonceSize())
	it := token.Item{Nonce: bytes.Clone(nonce), AAD: bytes.Clone(aad), In: bytes.Clone(plain)}
	it.Out = append(make([]byte, 0, 64), "prefix"...)
	sealed := k.one(t, sealOp, it)
	if !bytes.HasPrefix(sealed, []byte("prefix")) || len(sealed) != 6+len(plain)+16 {
		t.Fatalf("%s: sealing %d bytes behind a prefix of 6 gave %d bytes", k.typ, len(plain), len(sealed))
	}
	wantEqual(t, "nonce after use", it.Nonce, nonce)
	wantEqual(t, "associated data after use", it.AAD, aad)
	wantEqual(t, "plaintext after use", it.In, plain)
	back := k.one(t, openOp, token.Item{Nonce: nonce, AAD: aad, In: sealed[6:], Out: []byte("before")})
	wantEqual(t, "opened", back, append([]byte("before"), plain...))
}

// tamper: every bit of everything counts, and all failures are one.
func (k subject) tamper(t *testing.T) {
	t.Helper()
	good := token.Item{Nonce: randomBytes(k.typ.NonceSize()), AAD: []byte("associated"), In: []byte("some plaintext")}
	good.In = k.one(t, sealOp, good)
	var bad []token.Item
	flip := func(field func(*token.Item) *[]byte) {
		for bit := range len(*field(&good)) * 8 {
			it := good
			b := bytes.Clone(*field(&good))
			b[bit/8] ^= 1 << (bit % 8)
			*field(&it) = b
			bad = append(bad, it)
		}
	}
	flip(func(it *token.Item) *[]byte { return &it.In })
	flip(func(it *token.Item) *[]byte { return &it.AAD })
	flip(func(it *token.Item) *[]byte { return &it.Nonce })
	for n := range good.In {
		it := good
		it.In = good.In[:n]
		bad = append(bad, it)
	}
	longer, none := good, good
	longer.In, none.AAD = append(bytes.Clone(good.In), 0), nil
	bad = append(bad, longer, none)
	for _, it := range k.do(t, openOp, bad...) {
		wantErr(t, k.typ.String()+": altered ciphertext", it.Err, token.ErrOpen)
		if len(it.Out) != 0 {
			t.Fatalf("%s: plaintext of an altered ciphertext was given away", k.typ)
		}
	}
	wantEqual(t, "opened after failures", k.one(t, openOp, good), []byte("some plaintext"))
}

func (k subject) wrongNonces(t *testing.T) {
	t.Helper()
	n := k.typ.NonceSize()
	for _, size := range slices.DeleteFunc([]int{0, 1, 8, 11, 12, 13, 16, 24, 32}, func(x int) bool { return x == n }) {
		it := token.Item{Nonce: make([]byte, size), In: make([]byte, 32)}
		k.refused(t, "wrong nonce size", sealOp, it)
		k.refused(t, "wrong nonce size", openOp, it)
	}
}

// checkSecret compares a symmetric key with the standard library's result.
func (k subject) checkSecret(t *testing.T, secret []byte) {
	t.Helper()
	if k.typ.Class() != token.ClassAEAD {
		return
	}
	var aead cipher.AEAD
	var err error
	switch k.typ {
	case token.ChaCha20:
		aead, err = chacha20poly1305.New(secret)
	case token.XChaCha20:
		aead, err = chacha20poly1305.NewX(secret)
	default:
		var block cipher.Block
		block, err = aes.NewCipher(secret)
		must(t, err)
		aead, err = cipher.NewGCM(block)
	}
	must(t, err)
	it := token.Item{Nonce: randomBytes(k.typ.NonceSize()), AAD: []byte("aad"), In: []byte("plain")}
	wantEqual(t, "sealed", k.one(t, sealOp, it), aead.Seal(nil, it.Nonce, it.In, it.AAD))
}
