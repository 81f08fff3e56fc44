package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"math/big"

	"github.com/titanous/rocacheck"
)

const (
	minRSABits = 2048
	maxRSABits = 8192
	// fermatRounds is how many steps of Fermat's method a modulus must resist
	// (CA/Browser Forum Baseline Requirements section 6.1.1.3 asks for 100).
	fermatRounds = 100
)

// smallPrimes is the product of the odd primes below 1000.
var smallPrimes = func() *big.Int {
	product := big.NewInt(1)
	for n := int64(3); n < 1000; n += 2 {
		if p := big.NewInt(n); p.ProbablyPrime(0) {
			product.Mul(product, p)
		}
	}
	return product
}()

// checkPublic refuses keys that are no protection: small ones, and those whose
// private key can be found (factors that are small, close together, or of the
// ROCA generator, CVE-2017-15361).
func checkPublic(public crypto.PublicKey) error {
	switch public := public.(type) {
	case ed25519.PublicKey:
		return checkEd25519(public)
	case *ecdsa.PublicKey:
		if n := public.Curve.Params().BitSize; n < 256 {
			return invalid("the key is on a curve of %d bits; P-256, P-384 and P-521 are taken", n)
		}
		return nil
	case *rsa.PublicKey:
		return checkRSA(public)
	}
	return invalid("the key is of a kind that is not certified here: RSA, ECDSA and Ed25519 are")
}

func checkRSA(public *rsa.PublicKey) error {
	bits := public.N.BitLen()
	switch {
	case bits < minRSABits:
		return invalid("RSA keys < %d bits are unsafe and not supported: got %d", minRSABits, bits)
	case bits > maxRSABits:
		return invalid("the RSA key has %d bits; at most %d are taken", bits, maxRSABits)
	case bits%8 != 0:
		return invalid("the RSA key has %d bits, which is no multiple of 8", bits)
	case public.E < 3 || public.E&1 == 0:
		return invalid("the RSA key has the public exponent %d, with which it protects nothing; use 65537", public.E)
	case public.N.Bit(0) == 0 || new(big.Int).GCD(nil, nil, public.N, smallPrimes).Cmp(big.NewInt(1)) != 0:
		return invalid("the modulus of the RSA key has a small factor: the key is broken; make a new one")
	case rocacheck.IsWeak(public):
		return invalid("the RSA key was made by a faulty generator (ROCA, CVE-2017-15361): its private key can be found; make a new one")
	case factorsClose(public.N):
		return invalid("the factors of the RSA key are close together: its private key can be found; make a new one")
	}
	return nil
}

// factorsClose is Fermat's method: n = a² − b² with a little above √n.
func factorsClose(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	one := big.NewInt(1)
	if new(big.Int).Mul(a, a).Cmp(n) == 0 {
		return true
	}
	b := new(big.Int)
	for range fermatRounds {
		a.Add(a, one)
		b.Mul(a, a)
		b.Sub(b, n)
		root := new(big.Int).Sqrt(b)
		if new(big.Int).Mul(root, root).Cmp(b) == 0 {
			return true
		}
	}
	return false
}
