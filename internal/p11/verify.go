package p11

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"math/big"

	_ "crypto/sha1" // hashes register themselves
	_ "crypto/sha256"
	_ "crypto/sha512"
)

var errSignature = fail(CKR_SIGNATURE_INVALID, "the signature is not of this key and data")

// Verify checks a signature. Public keys verify here; an HMAC is made anew and
// compared in constant time.
func (s *Service) Verify(ctx context.Context, c *Caller, k Key, m *Mechanism, digested bool, data, signed []byte) error {
	sig, ok := signatures[m.Number]
	if !ok {
		return fail(CKR_MECHANISM_INVALID, "mechanism 0x%x does not verify here", m.Number)
	}
	if sig.pad == padHMAC {
		want, err := s.Sign(ctx, c, k, m, false, data)
		if err != nil {
			return err
		}
		defer clear(want)
		if len(signed) != len(want) {
			return fail(CKR_SIGNATURE_LEN_RANGE, "the HMAC has %d bytes, not %d", len(signed), len(want))
		}
		if subtle.ConstantTimeCompare(want, signed) != 1 {
			return errSignature
		}
		return nil
	}
	public, kind, err := s.public(ctx, c, k)
	if err != nil {
		return err
	}
	if kind.pad() != sig.pad && (kind.ckk != CKK_RSA || sig.pad != padPSS) {
		return fail(CKR_KEY_TYPE_INCONSISTENT, "mechanism 0x%x does not work with a key of type %s", m.Number, kind.name)
	}
	in, err := prepare(kind, sig, m, digested, data)
	if err != nil {
		return err
	}
	return in.verify(public, signed)
}

// public returns the public key behind a key of a request, with its kind.
func (s *Service) public(ctx context.Context, c *Caller, k Key) (any, *kind, error) {
	var public any
	var err error
	if k.Handle == 0 {
		if class, ok := k.Attributes.Number(CKA_CLASS); ok && class != CKO_PUBLIC_KEY {
			return nil, nil, fail(CKR_KEY_TYPE_INCONSISTENT, "the key must be a public one")
		}
		public, err = publicOf(k.Attributes)
	} else {
		public, err = s.publicThere(ctx, c, k.Handle)
	}
	if err != nil {
		return nil, nil, err
	}
	return public, kindOfPublic(public), nil
}

func (s *Service) publicThere(ctx context.Context, c *Caller, handle uint64) (any, error) {
	e, err := s.resolve(ctx, c, handle, CKR_KEY_HANDLE_INVALID)
	if err != nil {
		return nil, err
	}
	switch {
	case e.class == CKO_PUBLIC_KEY && e.object != nil:
		return publicOf(e.object.Attributes)
	case e.key == nil || len(e.version.Public) == 0 || e.class == CKO_CERTIFICATE:
		return nil, fail(CKR_KEY_TYPE_INCONSISTENT, "the key has no public half")
	}
	public, err := x509.ParsePKIXPublicKey(e.version.Public)
	if err != nil {
		return nil, fail(CKR_FUNCTION_FAILED, "the server's public key can't be read")
	}
	return public, nil
}

// kindOfPublic is the kind of a public key, also of sizes that are never made.
func kindOfPublic(public any) *kind {
	switch p := public.(type) {
	case *rsa.PublicKey:
		return &kind{name: "RSA", ckk: CKK_RSA, bits: p.N.BitLen()}
	case *ecdsa.PublicKey:
		for i := range kinds {
			if k := &kinds[i]; k.curve != nil && k.curve.nist == p.Curve {
				return k
			}
		}
	case ed25519.PublicKey:
		return kindOf("ed25519")
	}
	return &kind{name: "unknown"}
}

func (in *toSign) verify(public any, signed []byte) error {
	var ok bool
	switch p := public.(type) {
	case *rsa.PublicKey:
		if len(signed) != p.Size() {
			return fail(CKR_SIGNATURE_LEN_RANGE, "a signature of this key has %d bytes, not %d", p.Size(), len(signed))
		}
		if in.pad == padPSS {
			// A length of 0 accepts every salt: package rsa has no other way to say so.
			ok = rsa.VerifyPSS(p, in.hash, in.input, signed, &rsa.PSSOptions{SaltLength: in.salt, Hash: in.hash}) == nil
		} else {
			ok = rsa.VerifyPKCS1v15(p, in.hash, in.input, signed) == nil
		}
	case *ecdsa.PublicKey:
		size := (p.Curve.Params().BitSize + 7) / 8
		if len(signed) != 2*size {
			return fail(CKR_SIGNATURE_LEN_RANGE, "a signature of this key has %d bytes, not %d", 2*size, len(signed))
		}
		ok = ecdsa.Verify(p, in.input, new(big.Int).SetBytes(signed[:size]), new(big.Int).SetBytes(signed[size:]))
	case ed25519.PublicKey:
		if len(signed) != ed25519.SignatureSize {
			return fail(CKR_SIGNATURE_LEN_RANGE, "a signature of this key has %d bytes, not %d", ed25519.SignatureSize, len(signed))
		}
		ok = ed25519.Verify(p, in.input, signed)
	}
	if !ok {
		return errSignature
	}
	return nil
}

// signHere makes an HMAC with a secret key that only the caller has.
func signHere(as Attributes, sig signature, m *Mechanism, data []byte) ([]byte, error) {
	secret, err := secretOf(as)
	if err != nil {
		return nil, err
	}
	if sig.pad != padHMAC {
		return nil, fail(CKR_KEY_TYPE_INCONSISTENT, "mechanism 0x%x does not work with a secret key", m.Number)
	}
	size, err := macSize(sig, m)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sig.hash.New, secret)
	h.Write(data)
	return h.Sum(nil)[:size], nil
}

// secretOf is the value of an extractable secret key that the caller holds.
func secretOf(as Attributes) ([]byte, error) {
	if class, ok := as.Number(CKA_CLASS); !ok || class != CKO_SECRET_KEY {
		return nil, fail(CKR_KEY_TYPE_INCONSISTENT, "the key must be a secret one")
	}
	secret := as.Bytes(CKA_VALUE)
	if len(secret) == 0 {
		return nil, fail(CKR_TEMPLATE_INCOMPLETE, "the secret key has no CKA_VALUE")
	}
	return secret, nil
}
