package tpm

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/claviger/claviger/internal/fault"
)

// Labels of the key derivations (TPM 2.0 part 1, 23.3 and annexes B and C). KDFa and
// OAEP add the zero byte that ends them.
const (
	labelDuplicate = "DUPLICATE"
	labelStorage   = "STORAGE"
	labelIntegrity = "INTEGRITY"
)

// Wrap wraps a private key that is in software, *rsa.PrivateKey or
// *ecdsa.PrivateKey, for the storage key to, without a TPM: only that one can
// import it. inner is the key of an inner wrapping or nil. Errors are *fault.Error
// of kind Invalid.
func Wrap(key crypto.PrivateKey, to *StorageKey, o KeyOptions, inner []byte) (*Duplicate, error) {
	area, secret, err := o.software(key)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	if err := checkInner(area, inner); err != nil {
		return nil, err
	}
	name, err := nameOf(area)
	if err != nil {
		return nil, err
	}
	parentKey, err := tpm2.ImportEncapsulationKey(to.area)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "wrap a key for a storage key")
	}
	seed, encrypted, err := parentKey.Encapsulate(rand.Reader, labelDuplicate)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "wrap a key for a storage key")
	}
	defer clear(seed)
	bits, err := symmetricBits(to.area)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "wrap a key for a storage key")
	}
	duplicate, err := outerWrap(seed, bits, name, innerWrap(inner, name, secret))
	if err != nil {
		return nil, err
	}
	x := &Duplicate{
		parentName: to.name, public: tpm2.Marshal(area), duplicate: duplicate, seed: encrypted,
		inner: inner != nil, password: len(o.Password) > 0,
	}
	return x, x.check()
}

// software returns the public area of a key and its TPM2B_SENSITIVE.
func (o *KeyOptions) software(key crypto.PrivateKey) (*tpm2.TPMTPublic, []byte, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return o.softwareRSA(k)
	case *ecdsa.PrivateKey:
		return o.softwareEC(k)
	}
	return nil, nil, fault.New(fault.Invalid, "a TPM is given keys of the types %s and %s, not %T", RSA2048, ECDSAP256, key)
}

func (o *KeyOptions) softwareRSA(k *rsa.PrivateKey) (*tpm2.TPMTPublic, []byte, error) {
	if k.N.BitLen() != 2048 || k.E != 65537 || len(k.Primes) != 2 || k.Primes[0].BitLen() != 1024 || k.Primes[1].BitLen() != 1024 {
		return nil, nil, fault.New(fault.Invalid, "a TPM takes RSA keys of 2048 bits with two primes of 1024 and the exponent 65537; this has %d bits, %d primes and %d",
			k.N.BitLen(), len(k.Primes), k.E)
	}
	area, err := o.softwareArea(RSA2048)
	if err != nil {
		return nil, nil, err
	}
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: k.N.FillBytes(make([]byte, 256))})
	prime := k.Primes[0].FillBytes(make([]byte, 128))
	defer clear(prime)
	return area, o.sensitive(tpm2.TPMAlgRSA, tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgRSA, &tpm2.TPM2BPrivateKeyRSA{Buffer: prime})), nil
}

func (o *KeyOptions) softwareEC(k *ecdsa.PrivateKey) (*tpm2.TPMTPublic, []byte, error) {
	if k.Curve != elliptic.P256() {
		return nil, nil, fault.New(fault.Invalid, "a TPM takes EC keys on the curve P-256; this is on %s", k.Curve.Params().Name)
	}
	area, err := o.softwareArea(ECDSAP256)
	if err != nil {
		return nil, nil, err
	}
	point, err := k.PublicKey.Bytes() // 4 ‖ x ‖ y
	if err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, err, "read the public half of the key")
	}
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]},
	})
	scalar, err := k.Bytes()
	if err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, err, "read the private half of the key")
	}
	defer clear(scalar)
	return area, o.sensitive(tpm2.TPMAlgECC, tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgECC, &tpm2.TPM2BECCParameter{Buffer: scalar})), nil
}

func (o *KeyOptions) softwareArea(keyType string) (*tpm2.TPMTPublic, error) {
	if err := o.check(keyType); err != nil {
		return nil, err
	}
	return o.area(keyType, false)
}

// sensitive returns a TPM2B_SENSITIVE (TPM 2.0 part 2, 12.3.2). The seed of a pair
// that is no storage key may be empty.
func (o *KeyOptions) sensitive(kind tpm2.TPMAlgID, secret tpm2.TPMUSensitiveComposite) []byte {
	area := tpm2.Marshal(tpm2.TPMTSensitive{SensitiveType: kind, AuthValue: tpm2.TPM2BAuth{Buffer: o.Password}, Sensitive: secret})
	defer clear(area)
	return sized(area)
}

// innerWrap encrypts a TPM2B_SENSITIVE and a digest over it and the object's name
// (TPM 2.0 part 1, 23.3.2.3), or returns it as it is without a key.
func innerWrap(key, name, sensitive []byte) []byte {
	if key == nil {
		return sensitive
	}
	h := sha256.New()
	h.Write(sensitive)
	h.Write(name)
	plain := append(sized(h.Sum(nil)), sensitive...)
	defer clear(plain)
	return encryptCFB(key, plain)
}

// outerWrap encrypts what innerWrap returned under keys that both sides derive from
// the seed (TPM 2.0 part 1, 23.3.2.4): TPM2B_DIGEST ‖ ciphertext. bits is the size of
// the storage key's AES key.
func outerWrap(seed []byte, bits int, name, content []byte) ([]byte, error) {
	if len(seed) != sha256.Size {
		return nil, fault.New(fault.Invalid, "the storage key uses another hash than SHA-256")
	}
	key := tpm2.KDFa(crypto.SHA256, seed, labelStorage, name, nil, bits)
	macKey := tpm2.KDFa(crypto.SHA256, seed, labelIntegrity, nil, nil, 8*sha256.Size)
	defer clear(key)
	defer clear(macKey)
	encrypted := encryptCFB(key, content)
	mac := hmac.New(sha256.New, macKey)
	mac.Write(encrypted)
	mac.Write(name)
	return append(sized(mac.Sum(nil)), encrypted...), nil
}

// encryptCFB encrypts with AES in mode CFB from a vector of zeros, as a TPM does;
// each key is used once.
func encryptCFB(key, plain []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // callers have keys of 16, 24 or 32 bytes
	}
	out := make([]byte, len(plain))
	//lint:ignore SA1019 the TPM 2.0 specification has CFB, and a MAC over it
	cipher.NewCFBEncrypter(block, make([]byte, aes.BlockSize)).XORKeyStream(out, plain)
	return out
}

// ParsePrivateKey reads one private key in PEM: PKCS #8 (RFC 5208), PKCS #1 (RFC
// 8017) or SEC 1 (RFC 5915, with or without its parameters before it), not
// encrypted. An error is a *fault.Error of kind Invalid.
func ParsePrivateKey(text []byte) (crypto.PrivateKey, error) {
	block, rest := pem.Decode(text)
	if block != nil && block.Type == "EC PARAMETERS" {
		block, rest = pem.Decode(rest)
	}
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fault.New(fault.Invalid, "this is not one private key in PEM")
	}
	defer clear(block.Bytes)
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, fault.New(fault.Invalid, "the private key is encrypted").
			WithHint("decrypt it on the way: openssl pkey -in FILE | claviger tpm duplicate --pem - …")
	}
	key, err := parseDER(block)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the private key can't be read: %v", err)
	}
	return key, nil
}

func parseDER(block *pem.Block) (crypto.PrivateKey, error) {
	switch block.Type {
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	}
	return nil, fmt.Errorf("it is a PEM of the type %q", block.Type)
}
