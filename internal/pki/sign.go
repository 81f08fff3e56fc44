package pki

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

// signerPublic is the public key that verifies the certificate.
func (p *prepared) signerPublic() crypto.PublicKey {
	if p.issuer != nil {
		return p.issuer.cert.PublicKey
	}
	public, err := x509.ParsePKIXPublicKey(p.profile.spki)
	if err != nil {
		return nil
	}
	return public
}

// sign makes a certificate of what was linted. Unless its role says no_store
// there is a record of the intent before the key is used, and one of the
// certificate before it is returned; issuerID is whose certificate it is for
// these records.
func (s *Service) sign(ctx context.Context, mount, issuerID string, key crypto.Signer, l linted) (der []byte, err error) {
	n := mount + hex.EncodeToString(l.serial[:])
	if !l.profile.noStore {
		if err := s.recordIntent(ctx, n, issuerID, l); err != nil {
			return nil, err
		}
	}
	signature, err := l.alg.sign(key, l.tbs)
	if err != nil {
		if !l.profile.noStore {
			err = errors.Join(err, s.dropIntent(ctx, n))
		}
		return nil, signFault(err)
	}
	der = l.seal(signature)
	if l.profile.noStore {
		return der, nil
	}
	return der, s.recordCertificate(ctx, n, issuerID, l, der)
}

// signFault keeps what the key's service said to the caller. A key that is gone,
// or does not work for a reason of the HSM token's own, is no mistake of the caller.
func signFault(err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind != fault.Internal {
		return f
	}
	return &fault.Error{Kind: fault.Unavailable, Err: err, Hint: fault.HintOf(err),
		Msg: "the issuer's key can't sign now; certificates, CRLs and OCSP answers that were made before are still served"}
}

func (s *Service) recordIntent(ctx context.Context, n, issuerID string, l linted) error {
	put, err := s.store.Put(tableIntents, n, 0, intentRecord{
		IssuerID: issuerID, TBS: l.tbs, NotAfter: l.profile.notAfter, Role: l.profile.role, Time: s.now().UTC(),
	})
	if err == nil {
		// The second change only demands that the serial number is new.
		err = s.store.Apply(ctx, put, store.Change{Table: tableCerts, Key: n})
	}
	return storeFault(err, "record the intent to sign")
}

// dropIntent forgets an intent that gave no certificate: whatever signature the
// HSM token may have made, nobody has it.
func (s *Service) dropIntent(ctx context.Context, n string) error {
	return storeFault(s.store.Apply(context.WithoutCancel(ctx), s.store.Remove(tableIntents, n, 1)), "forget the intent to sign")
}

func (s *Service) recordCertificate(ctx context.Context, n, issuerID string, l linted, der []byte) error {
	put, err := s.store.Put(tableCerts, n, 0, certRecord{
		IssuerID: issuerID, Certificate: der, NotAfter: l.profile.notAfter, Role: l.profile.role,
	})
	if err == nil {
		err = s.store.Apply(context.WithoutCancel(ctx), put, s.store.Remove(tableIntents, n, 1))
	}
	return storeFault(err, "record the certificate")
}
