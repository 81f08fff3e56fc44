package p11

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"math/big"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// importKey makes a named key of a secret that the caller shows: it goes to the HSM
// token under the mount's wrapping key, as every import does.
func (s *Service) importKey(ctx context.Context, c *Caller, mount string, class uint64, template Attributes) (*Object, error) {
	k, secret, err := material(class, template)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	return s.importMaterial(ctx, c, mount, class, template, k, secret)
}

// importMaterial imports a secret of a kind: PKCS #8 DER, or raw bytes.
func (s *Service) importMaterial(ctx context.Context, c *Caller, mount string, class uint64, template Attributes, k *kind, secret []byte) (*Object, error) {
	w, err := wishOf(class, template.keyType(k.ckk), template)
	if err != nil {
		return nil, err
	}
	wrapped, err := s.wrapFor(ctx, c, mount, secret)
	if err != nil {
		return nil, err
	}
	q := &api.ImportKey{Type: k.name, Ciphertext: wrapped, PKCS11: k.ckk == CKK_AES}
	for _, name := range nameFor(w.label, w.id, false) {
		err = s.call(ctx, c, Call{Verb: Write, Path: mount + "keys/" + name + "/import"}, q, nil)
		if err == nil {
			return s.imported(ctx, c, mount, name, class, w)
		}
		if !taken(err) {
			break
		}
	}
	return nil, s.explain(ctx, c, err, CKR_ATTRIBUTE_VALUE_INVALID)
}

// imported gives an imported key what its template says besides.
func (s *Service) imported(ctx context.Context, c *Caller, mount, name string, class uint64, w *wish) (*Object, error) {
	q := &api.P11Settings{}
	if w.label != "" && w.label != name {
		q.Label = &w.label
	}
	if w.id != nil {
		q.ID = &w.id
	}
	if w.subject != nil {
		q.Subject = &w.subject
	}
	if w.deletable {
		yes := true
		err := s.call(ctx, c, Call{Verb: Write, Path: mount + "keys/" + name + "/config", Repeatable: true}, &api.ConfigKey{DeletionAllowed: &yes}, nil)
		if err != nil && fault.KindOf(err) != fault.Denied {
			return nil, s.explain(ctx, c, err, CKR_FUNCTION_FAILED)
		}
	}
	key := &api.P11Key{}
	err := s.call(ctx, c, Call{Verb: Write, Path: mount + "pkcs11/" + name + "/settings", Repeatable: true}, q, key)
	if err != nil {
		return nil, s.explain(ctx, c, err, CKR_ATTRIBUTE_VALUE_INVALID)
	}
	for _, e := range s.view(c).keep(entriesOf(mount, key, 0)) {
		if e.class == class {
			return e.show(), nil
		}
	}
	return nil, fail(CKR_FUNCTION_FAILED, "the server imported a key of type %q, which is not known here", key.Type)
}

// material is the secret of a template as an import has it: PKCS #8 DER, or raw
// bytes.
func material(class uint64, template Attributes) (*kind, []byte, error) {
	ckk, ok := template.Number(CKA_KEY_TYPE)
	if !ok {
		return nil, nil, fail(CKR_TEMPLATE_INCOMPLETE, "a key needs CKA_KEY_TYPE")
	}
	if class == CKO_SECRET_KEY {
		return secretMaterial(ckk, template.Bytes(CKA_VALUE))
	}
	var private any
	var k *kind
	var err error
	switch ckk {
	case CKK_RSA:
		private, k, err = rsaMaterial(template)
	case CKK_EC, CKK_EC_EDWARDS:
		private, k, err = ecMaterial(template)
	default:
		err = fail(CKR_ATTRIBUTE_VALUE_INVALID, "private keys of type 0x%x are not kept: use RSA, EC or EC_EDWARDS", ckk)
	}
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fail(CKR_ATTRIBUTE_VALUE_INVALID, "the private key can't be encoded")
	}
	return k, der, nil
}

func secretMaterial(ckk uint64, value []byte) (*kind, []byte, error) {
	var k *kind
	switch ckk {
	case CKK_AES:
		k = kindFor(CKM_AES_KEY_GEN, 8*len(value), nil)
	case CKK_GENERIC_SECRET, CKK_SHA_1_HMAC, CKK_SHA224_HMAC, CKK_SHA256_HMAC, CKK_SHA384_HMAC, CKK_SHA512_HMAC:
		k = kindOf("hmac")
	default:
		return nil, nil, fail(CKR_ATTRIBUTE_VALUE_INVALID, "secret keys of type 0x%x are not kept: use AES or GENERIC_SECRET", ckk)
	}
	if k == nil || len(value) == 0 {
		return nil, nil, fail(CKR_KEY_SIZE_RANGE, "a key of type 0x%x can't have %d bytes", ckk, len(value))
	}
	return k, append([]byte{}, value...), nil
}

func rsaMaterial(as Attributes) (any, *kind, error) {
	n := func(t uint64) *big.Int { return new(big.Int).SetBytes(as.Bytes(t)) }
	public, err := rsaPublicOf(as)
	if err != nil {
		return nil, nil, err
	}
	p := &rsa.PrivateKey{PublicKey: *public.(*rsa.PublicKey), D: n(CKA_PRIVATE_EXPONENT), Primes: []*big.Int{n(CKA_PRIME_1), n(CKA_PRIME_2)}}
	if p.D.Sign() == 0 || p.Primes[0].Sign() == 0 || p.Primes[1].Sign() == 0 {
		return nil, nil, fail(CKR_TEMPLATE_INCOMPLETE, "an RSA key needs CKA_PRIVATE_EXPONENT, CKA_PRIME_1 and CKA_PRIME_2")
	}
	bits := p.N.BitLen()
	var k *kind
	if bits >= 2048 && bits <= 4096 {
		k = kindFor(CKM_RSA_PKCS_KEY_PAIR_GEN, bits, nil)
	}
	if k == nil {
		return nil, nil, fail(CKR_KEY_SIZE_RANGE, "RSA keys of %d bits are not imported: use 2048, 3072 or 4096", bits)
	}
	if err := p.Validate(); err != nil {
		return nil, nil, fail(CKR_ATTRIBUTE_VALUE_INVALID, "the parts of the RSA key do not fit together")
	}
	p.Precompute()
	return p, k, nil
}

func ecMaterial(as Attributes) (any, *kind, error) {
	c, err := curveOf(as.Bytes(CKA_EC_PARAMS))
	if err != nil {
		return nil, nil, err
	}
	value := as.Bytes(CKA_VALUE)
	bad := fail(CKR_ATTRIBUTE_VALUE_INVALID, "CKA_VALUE is no private key of the curve")
	if c == edwards {
		if len(value) != ed25519.SeedSize {
			return nil, nil, bad
		}
		return ed25519.NewKeyFromSeed(value), kindOf("ed25519"), nil
	}
	size := (c.nist.Params().BitSize + 7) / 8
	if len(value) > size {
		value = new(big.Int).SetBytes(value).Bytes() // with zeros in front
	}
	if len(value) == 0 || len(value) > size {
		return nil, nil, bad
	}
	padded := append(make([]byte, size-len(value)), value...)
	defer clear(padded)
	private, err := ecdsa.ParseRawPrivateKey(c.nist, padded)
	if err != nil {
		return nil, nil, bad
	}
	return private, kindOfPublic(&private.PublicKey), nil
}

// wrapFor encrypts a secret for an import into a mount: RSA-OAEP of an AES key, and
// AES-KWP of the secret (api.ImportKey).
func (s *Service) wrapFor(ctx context.Context, c *Caller, mount string, secret []byte) ([]byte, error) {
	var w api.WrappingKey
	err := s.call(ctx, c, Call{Verb: Read, Path: mount + "wrapping_key", Repeatable: true}, nil, &w)
	if err != nil {
		return nil, s.explain(ctx, c, err, CKR_FUNCTION_FAILED)
	}
	block, _ := pem.Decode([]byte(w.PublicKey))
	if block == nil {
		return nil, fail(CKR_FUNCTION_FAILED, "the server's wrapping key can't be read")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	p, ok := public.(*rsa.PublicKey)
	if err != nil || !ok {
		return nil, fail(CKR_FUNCTION_FAILED, "the server's wrapping key can't be read")
	}
	kek := make([]byte, 32)
	defer clear(kek)
	rand.Read(kek)
	first, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, p, kek, nil)
	if err != nil {
		return nil, refused(err)
	}
	kw, err := aes.NewCipher(kek)
	if err != nil {
		return nil, refused(err)
	}
	return append(first, wrapPadded(kw, secret)...), nil
}

// wrapPadded is AES-KWP (RFC 5649 section 4.1) of a secret of one byte or more.
func wrapPadded(kek cipher.Block, secret []byte) []byte {
	out := binary.BigEndian.AppendUint64(nil, 0xa65959a6<<32|uint64(len(secret)))
	out = append(out, secret...)
	out = append(out, make([]byte, -len(secret)&7)...)
	if len(out) == 16 {
		kek.Encrypt(out, out)
		return out
	}
	n := uint64(len(out)/8 - 1)
	var b [16]byte
	for t := range 6 * n {
		at := 8 + 8*(t%n)
		copy(b[:8], out)
		copy(b[8:], out[at:at+8])
		kek.Encrypt(b[:], b[:])
		binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(b[:8])^(t+1))
		copy(out[at:], b[8:])
	}
	return out
}
