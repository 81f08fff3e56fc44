package soft

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/claviger/claviger/internal/token"
)

// Engine makes and uses keys in memory. It implements token.Software; the zero
// value is ready, holds nothing and is safe for concurrent use.
type Engine struct{}

var _ token.Software = Engine{}

const minHMAC, maxHMAC = 32, 512 // bytes; token.Spec

// Generate makes a secret of spec.Type (spec.Size bytes for HMAC; Place, ID and
// Label do not matter). secret is raw for symmetric and HMAC keys and PKCS #8
// DER for asymmetric ones, whose PKIX DER is public. The caller owns and wipes
// secret.
func (Engine) Generate(spec token.Spec) (secret, public []byte, err error) {
	if err := checkSpec(spec); err != nil {
		return nil, nil, err
	}
	var signer crypto.Signer
	switch spec.Type.Class() {
	case token.ClassAEAD:
		return randomBytes(spec.Type.Bits() / 8), nil, nil
	case token.ClassHMAC:
		return randomBytes(spec.Size), nil, nil
	case token.ClassEd25519:
		_, signer, err = ed25519.GenerateKey(rand.Reader)
	case token.ClassECDSA:
		signer, err = ecdsa.GenerateKey(curve(spec.Type), rand.Reader)
	case token.ClassRSA:
		signer, err = rsa.GenerateKey(rand.Reader, spec.Type.Bits())
	}
	if err != nil {
		return nil, nil, fmt.Errorf("generate a key of type %s: %w", spec.Type, err)
	}
	return marshal(signer)
}

func checkSpec(spec token.Spec) error {
	switch {
	case !spec.Type.Made():
		return fmt.Errorf("%w: no keys of type %s are made", token.ErrUnsupported, spec.Type)
	case spec.Type == token.HMAC && (spec.Size < minHMAC || spec.Size > maxHMAC):
		return fmt.Errorf("%w: an HMAC key of %d bytes; it can have %d to %d",
			token.ErrUnsupported, spec.Size, minHMAC, maxHMAC)
	case spec.Type != token.HMAC && spec.Size != 0:
		return fmt.Errorf("%w: a key of type %s has no size to choose", token.ErrUnsupported, spec.Type)
	}
	return nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand ends the process instead
	return b
}

func curve(t token.Type) elliptic.Curve {
	switch t {
	case token.P256:
		return elliptic.P256()
	case token.P384:
		return elliptic.P384()
	}
	return elliptic.P521()
}

func marshal(signer crypto.Signer) (secret, public []byte, err error) {
	if public, err = x509.MarshalPKIXPublicKey(signer.Public()); err != nil {
		return nil, nil, fmt.Errorf("encode a public key: %w", err)
	}
	if secret, err = x509.MarshalPKCS8PrivateKey(signer); err != nil {
		return nil, nil, fmt.Errorf("encode a private key: %w", err)
	}
	return secret, public, nil
}

// Open makes a secret, in the form that Generate returns, ready for use. The
// secret is not kept: the caller may wipe it at once. An error means that it is
// no secret of type t.
func (Engine) Open(t token.Type, secret []byte) (token.Key, error) {
	switch t.Class() {
	case token.ClassAEAD:
		return openAEAD(t, secret)
	case token.ClassHMAC:
		return openHMAC(secret)
	case token.ClassEd25519, token.ClassECDSA, token.ClassRSA:
		key, _, err := openPrivate(t, secret)
		return key, err
	}
	return nil, fmt.Errorf("%w: %s is no key type", token.ErrUnsupported, t)
}

// openPrivate parses a PKCS #8 secret of type t and returns its public key too.
func openPrivate(t token.Type, secret []byte) (token.Key, crypto.PublicKey, error) {
	rest := cryptobyte.String(secret)
	alone := rest.SkipASN1(asn1.SEQUENCE) && rest.Empty() // crypto/x509 passes over what follows
	parsed, err := x509.ParsePKCS8PrivateKey(secret)
	if err != nil || !alone {
		return nil, nil, fmt.Errorf("the secret of a key of type %s is no PKCS #8 private key", t)
	}
	switch priv := parsed.(type) {
	case ed25519.PrivateKey:
		if t == token.Ed25519 {
			return ed25519Key{priv}, priv.Public(), nil
		}
	case *ecdsa.PrivateKey:
		if t.Class() == token.ClassECDSA && priv.Curve == curve(t) {
			return &ecdsaKey{priv, t}, priv.Public(), nil
		}
	case *rsa.PrivateKey:
		if t.Class() == token.ClassRSA && priv.N.BitLen() == t.Bits() {
			return newRSAKey(priv, t), priv.Public(), nil
		}
	}
	return nil, nil, fmt.Errorf("the secret is not of type %s", t)
}

// alive returns an error once the caller's context is over.
func alive(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", token.ErrUnavailable, err)
	}
	return nil
}

// wrongKind is the answer to an operation that keys of type t do not have.
func wrongKind(t token.Type, k token.Kind) error {
	name := "operation " + fmt.Sprint(uint8(k))
	switch k {
	case token.Seal, token.EncryptCBC:
		name = "encryption"
	case token.Open, token.Decrypt, token.DecryptCBC:
		name = "decryption"
	case token.Sign:
		name = "signing"
	case token.Agree:
		name = "key agreement"
	case token.MAC:
		name = "message authentication codes"
	}
	return fmt.Errorf("%w: %s with a key of type %s", token.ErrUnsupported, name, t)
}

// hashOK tells whether h is one of the hashes that operations take: SHA-1, SHA-2, SHA-3.
func hashOK(h crypto.Hash) bool {
	switch h {
	case crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512,
		crypto.SHA512_224, crypto.SHA512_256,
		crypto.SHA3_224, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512:
		return true
	}
	return false
}

func wrongHash(h crypto.Hash) error {
	return fmt.Errorf("%w: hash %s; it can be SHA-1, SHA-2 or SHA-3", token.ErrUnsupported, h)
}

var errEmptyDigest = errors.New("the digest to sign is empty")
