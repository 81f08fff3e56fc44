package tokentest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

var signOp = token.Op{Kind: token.Sign}

// publicKey parses the public half, which must be of type P.
func publicKey[P *ecdsa.PublicKey | *rsa.PublicKey | ed25519.PublicKey](t *testing.T, k subject) P {
	t.Helper()
	parsed, err := x509.ParsePKIXPublicKey(k.public)
	must(t, err)
	pub, ok := parsed.(P)
	if !ok {
		t.Fatalf("the public key of %s is a %T", k.typ, parsed)
	}
	return pub
}

func (k subject) useEd25519(t *testing.T) {
	t.Helper()
	pub := publicKey[ed25519.PublicKey](t, k)
	for _, n := range []int{0, 1, 32, 64, 5000} {
		msg := randomBytes(n)
		sig := k.one(t, signOp, token.Item{In: msg, Out: []byte("ab")})
		if !bytes.HasPrefix(sig, []byte("ab")) || !ed25519.Verify(pub, msg, sig[2:]) {
			t.Errorf("ed25519: the signature of %d bytes is wrong", n)
		}
		wantEqual(t, "deterministic signature", k.one(t, signOp, token.Item{In: msg}), sig[2:])
	}
}

func (k subject) useECDSA(t *testing.T) {
	t.Helper()
	if bits := publicKey[*ecdsa.PublicKey](t, k).Curve.Params().BitSize; bits != k.typ.Bits() {
		t.Fatalf("%s: the public key has %d bits", k.typ, bits)
	}
	// SHA-1 to SHA-512, longer and shorter than the curve's order.
	for _, n := range []int{20, 28, 32, 48, 64} {
		for range 4 { // r or s is short once in 128 times
			digest := randomBytes(n)
			sig := k.one(t, signOp, token.Item{In: digest, Out: []byte("ab")})
			wantEqual(t, "prefix", sig[:2], []byte("ab"))
			k.verifyECDSA(t, digest, sig[2:])
		}
	}
	k.refused(t, "empty digest", signOp, token.Item{})
}

func (k subject) verifyECDSA(t *testing.T, digest, sig []byte) {
	t.Helper()
	size := (k.typ.Bits() + 7) / 8
	if len(sig) != 2*size {
		t.Fatalf("%s: a signature of %d bytes, not %d", k.typ, len(sig), 2*size)
	}
	r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
	if !ecdsa.Verify(publicKey[*ecdsa.PublicKey](t, k), digest, r, s) {
		t.Errorf("%s: the signature of a digest of %d bytes is wrong", k.typ, len(digest))
	}
}
