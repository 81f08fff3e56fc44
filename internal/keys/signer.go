package keys

import (
	"context"
	"crypto"
	"crypto/rsa"
	"io"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// signer is a key version as a crypto.Signer, for one call: it signs where the
// secret is.
type signer struct {
	ctx context.Context
	typ token.Type
	v   *version
}

// Public returns the public key.
func (s signer) Public() crypto.PublicKey { return s.v.public }

// Sign signs a digest, or with Ed25519 the message itself (opts without a
// hash). RSA keys sign with PKCS #1 v1.5 unless opts is *rsa.PSSOptions. An
// ECDSA signature is DER. The random numbers are the HSM token's.
func (s signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sch := scheme{typ: s.typ, hash: opts.HashFunc()}
	class := s.typ.Class()
	switch class {
	case token.ClassRSA:
		sch.rsa = token.PKCS1v15
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			sch.rsa, sch.salt = token.PSS, pss.SaltLength
		}
	case token.ClassECDSA:
		digest = truncate(s.typ, digest)
	case token.ClassEd25519:
		if opts.HashFunc() != noHash {
			return nil, fault.New(fault.Internal, "Ed25519 signs messages, not digests")
		}
	}
	items := []token.Item{{In: digest}}
	err := s.v.main.Do(s.ctx, sch.op(), items)
	if err == nil {
		err = items[0].Err
	}
	if err != nil {
		return nil, tokenFault(err, "sign")
	}
	if class != token.ClassECDSA {
		return items[0].Out, nil
	}
	if len(items[0].Out) != 2*scalarSize(s.typ) {
		return nil, fault.New(fault.Internal, "the HSM token made an ECDSA signature of %d bytes", len(items[0].Out))
	}
	return ecdsaDER(items[0].Out)
}
