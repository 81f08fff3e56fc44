package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
)

// verify checks one signature or HMAC, or a batch of either. A well-formed
// signature that is wrong is an answer; a malformed one is an error.
func (s *Service) verify(ctx context.Context, c *op.Call, r *api.Verify) (*api.Verified, error) {
	items := r.BatchInput
	if items == nil {
		items = []api.VerifyItem{{Input: r.Input, Signature: r.Signature, HMAC: r.HMAC, Context: r.Context}}
	}
	byMAC, err := kindOf(items)
	if err != nil {
		return nil, err
	}
	missing := msgNoVerifyKey
	if byMAC {
		missing = msgNoEncryptionKey
	}
	k, err := s.find(ctx, c.Mount, r.Name, missing)
	if err != nil {
		return nil, err
	}
	results := make([]api.VerifiedResult, len(items))
	errs := make([]error, len(items))
	if byMAC {
		err = s.verifyMACs(ctx, k, r, items, results, errs)
	} else {
		err = s.verifySignatures(ctx, k, r, items, results, errs)
	}
	if err != nil {
		return nil, err
	}
	if r.BatchInput == nil {
		if errs[0] != nil {
			return nil, errs[0]
		}
		return &api.Verified{Valid: &results[0].Valid}, nil
	}
	for i := range results {
		results[i].Reference = items[i].Reference
		if errs[i] != nil {
			results[i].Error = itemText(errs[i])
		}
	}
	return &api.Verified{BatchResults: results}, nil
}

// kindOf tells whether all items are to be verified by HMAC, or all by
// signature; a mixture is refused.
func kindOf(items []api.VerifyItem) (byMAC bool, err error) {
	if len(items) == 0 {
		return false, invalid(msgEmptyBatch)
	}
	for i := range items {
		hasSig, hasMAC := items[i].Signature != "", items[i].HMAC != ""
		switch {
		case hasSig && hasMAC:
			return false, invalid("provide one of 'signature' or 'hmac', not both")
		case !hasSig && !hasMAC:
			return false, invalid("neither a 'signature' nor an 'hmac' was given to verify")
		case i > 0 && hasMAC != byMAC:
			return false, invalid("all elements of batch_input must have 'signature', or all must have 'hmac'")
		}
		byMAC = hasMAC
	}
	return byMAC, nil
}

func (s *Service) verifySignatures(ctx context.Context, k *key, r *api.Verify, items []api.VerifyItem, results []api.VerifiedResult, errs []error) error {
	if !canSign(k.meta.Type) {
		return invalid("key type %v does not support verification", k.meta.Type)
	}
	sch, err := parseScheme(k.meta.Type, schemeFields{
		urlHash: r.URLHash, hash: r.HashAlgorithm, algorithm: r.Algorithm, prehashed: r.Prehashed,
		signature: r.SignatureAlgorithm, marshaling: r.MarshalingAlgorithm, saltLength: r.SaltLength,
	})
	if err == nil && sch.salt == saltNone {
		err = invalid("salt_length none is for signing: auto verifies such signatures too")
	}
	if err != nil {
		return err
	}
	for i := range items {
		if errs[i] = unreadable(&items[i].BatchItem); errs[i] == nil {
			results[i].Valid, errs[i] = s.verifyOne(ctx, k, &sch, &items[i])
		}
		if ofWhole(errs[i]) {
			return errs[i]
		}
	}
	return nil
}

// verifyOne checks one signature with the public key, which needs no token.
func (s *Service) verifyOne(ctx context.Context, k *key, sch *scheme, item *api.VerifyItem) (bool, error) {
	n, payload, err := parseText(item.Signature, "signature")
	if err != nil {
		return false, err
	}
	if err := k.forOld(n, "signature"); err != nil {
		return false, err
	}
	if err := k.checkContext(item.Context); err != nil {
		return false, err
	}
	signed, err := sch.toSign(item.Input)
	if err != nil {
		return false, err
	}
	enc := strictBase64
	if sch.jws {
		enc = strictJWS
	}
	sig, ok := decodeBase64(enc, nil, payload)
	if !ok {
		return false, invalid("invalid base64 signature value")
	}
	v, err := s.version(ctx, k, n)
	if err != nil {
		return false, err
	}
	public, err := s.publicFor(ctx, k.name, v, item.Context)
	if err != nil {
		return false, err
	}
	return sch.check(public, signed, sig)
}

func (sch *scheme) check(public crypto.PublicKey, signed, sig []byte) (bool, error) {
	switch pub := public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(pub, signed, sig), nil
	case *ecdsa.PublicKey:
		return sch.checkECDSA(pub, signed, sig)
	case *rsa.PublicKey:
		if sch.rsa == token.PKCS1v15 {
			return rsa.VerifyPKCS1v15(pub, sch.hash, signed, sig) == nil, nil
		}
		return rsa.VerifyPSS(pub, sch.hash, signed, sig, &rsa.PSSOptions{SaltLength: sch.salt}) == nil, nil
	}
	return false, fault.New(fault.Internal, "a key of type %v has a public key of type %T", sch.typ, public)
}

func (sch *scheme) checkECDSA(pub *ecdsa.PublicKey, signed, sig []byte) (bool, error) {
	if sch.jws {
		if len(sig) != 2*scalarSize(sch.typ) {
			return false, invalid("the signature has %d bytes, a jws signature of a key of type %v has %d", len(sig), sch.typ, 2*scalarSize(sch.typ))
		}
		der, err := ecdsaDER(sig)
		if err != nil {
			return false, invalid("the signature is not valid: %v", err)
		}
		sig = der
	} else if !wellFormedDER(sig) {
		return false, invalid("supplied signature is invalid: it is no ECDSA signature in ASN.1 DER")
	}
	return ecdsa.VerifyASN1(pub, signed, sig), nil
}
