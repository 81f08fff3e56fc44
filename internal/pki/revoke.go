package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

func (s *Service) revokeOperations() []*op.Operation {
	return []*op.Operation{
		op.Define(meta("revoke", "revoke", op.Write, "Revoke a certificate."), s.revoke),
		op.Define(meta("revoke.key", "revoke-with-key", op.Write, "Revoke a certificate by proof of its private key."), s.revokeWithKey),
	}
}

func (s *Service) revoke(ctx context.Context, c *op.Call, r *api.PKIRevoke) (*api.PKIRevocation, error) {
	if r.PrivateKey != "" {
		return nil, invalid("private_key is for revoke-with-key; the policy of revoke is proof enough")
	}
	return s.revokeNamed(ctx, c, r, nil)
}

func (s *Service) revokeWithKey(ctx context.Context, c *op.Call, r *api.PKIRevoke) (*api.PKIRevocation, error) {
	block, rest := pem.Decode([]byte(r.PrivateKey))
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, invalid("private_key is no private key in PEM")
	}
	defer clear(block.Bytes)
	k, err := parsePrivate(block)
	if err != nil {
		return nil, invalid("private_key is no private key that can be read: RSA, EC or Ed25519 in PKCS #1, SEC 1 or PKCS #8")
	}
	clear(k.pkcs8)
	return s.revokeNamed(ctx, c, r, k.public)
}

// revokeNamed revokes a certificate; proof, if not nil, must be its public key.
func (s *Service) revokeNamed(ctx context.Context, c *op.Call, r *api.PKIRevoke, proof []byte) (*api.PKIRevocation, error) {
	if r.Reason < 0 || r.Reason > 10 || r.Reason == 7 || r.Reason == 6 || r.Reason == 8 {
		return nil, invalid("reason %d is none of RFC 5280 section 5.3.1: 0 to 5, 9 or 10", r.Reason)
	}
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	target, err := s.revocationTarget(ctx, c.Mount, st, r)
	if err != nil {
		return nil, err
	}
	if proof != nil && !bytes.Equal(proof, target.cert.RawSubjectPublicKeyInfo) {
		return nil, invalid("the given private key does not match the certificate")
	}
	if !target.rec.Revoked.IsZero() {
		return revocation(target.rec.Revoked), nil
	}
	for _, i := range st.issuers {
		if bytes.Equal(i.cert.Raw, target.cert.Raw) && i.selfSigned() {
			return nil, invalid("adding issuer (id: %s) to its own CRL is not allowed", i.rec.ID)
		}
	}
	now := s.now().UTC().Truncate(time.Second)
	if now.After(target.cert.NotAfter) && !st.config.CRL.AllowExpired {
		c.Warn("certificate with serial %s already expired; refusing to add to CRL", serialText(target.cert.SerialNumber))
		return nil, nil
	}
	if err := s.recordRevocation(ctx, c.Mount, target, now, r.Reason); err != nil {
		return nil, err
	}
	s.ocspForget(c.Mount)
	if err := s.publish(ctx, c.Mount, st, target.rec.IssuerID, target.cert.SerialNumber.Bytes()); err != nil {
		s.log.Error("a certificate was revoked, but the CRL can't be made", "mount", c.Mount, "error", err)
		c.Warn("the certificate is revoked, but the CRL can't be made now: %s", fault.Message(err))
	}
	return revocation(now), nil
}

func revocation(t time.Time) *api.PKIRevocation {
	return &api.PKIRevocation{RevocationTime: t.Unix(), RevocationTimeRFC3339: t.Format(time.RFC3339Nano), State: "revoked"}
}

// target is a certificate that is to be revoked.
type target struct {
	digits  string // of its serial number
	rec     *certRecord
	version int64 // of the record, 0 if there is none: it was issued with no_store
	cert    *x509.Certificate
}

func (s *Service) revocationTarget(ctx context.Context, mount string, st *state, r *api.PKIRevoke) (*target, error) {
	switch {
	case r.SerialNumber == "" && r.Certificate == "":
		return nil, invalid("the serial number or certificate to revoke must be provided")
	case r.SerialNumber != "" && r.Certificate != "":
		return nil, invalid("must provide either the certificate or the serial to revoke; not both")
	case r.Certificate != "":
		return s.targetByCertificate(ctx, mount, st, r.Certificate)
	}
	digits, err := serialRecord(r.SerialNumber)
	if err != nil {
		return nil, err
	}
	rec, version, err := s.certificate(ctx, mount, r.SerialNumber)
	if fault.KindOf(err) == fault.NotFound || err == nil && rec.Certificate == nil {
		return nil, invalid("certificate with serial %s not found", r.SerialNumber)
	}
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "can't read the certificate")
	}
	return &target{digits, rec, version, cert}, nil
}

// targetByCertificate takes a certificate that one of the issuers here signed,
// with or without a record.
func (s *Service) targetByCertificate(ctx context.Context, mount string, st *state, text string) (*target, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != pemCertificate || len(bytes.TrimSpace(rest)) > 0 {
		return nil, invalid("certificate contains no data or is no certificate in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, invalid("certificate can't be read: %v", err)
	}
	digits := hex.EncodeToString(cert.SerialNumber.Bytes())
	rec, version, err := s.certificate(ctx, mount, digits)
	if err == nil && bytes.Equal(rec.Certificate, cert.Raw) {
		return &target{digits, rec, version, cert}, nil
	}
	if err != nil && fault.KindOf(err) != fault.NotFound {
		return nil, err
	}
	for _, i := range st.issuers {
		if bytes.Equal(i.cert.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(i.cert) == nil {
			return &target{digits, &certRecord{IssuerID: i.rec.ID, Certificate: cert.Raw, NotAfter: cert.NotAfter}, 0, cert}, nil
		}
	}
	return nil, invalid("certificate was not issued by an issuer of this mount")
}

func (s *Service) recordRevocation(ctx context.Context, mount string, t *target, now time.Time, reason int) error {
	rec := *t.rec
	rec.Revoked = now
	cert, err := s.store.Put(tableCerts, mount+t.digits, t.version, rec)
	if err != nil {
		return storeFault(err, "record the revocation")
	}
	entry, err := s.store.Put(tableRevoked, mount+rec.IssuerID+"/"+t.digits, 0, revokedRecord{Time: now, Reason: reason, NotAfter: rec.NotAfter})
	if err != nil {
		return storeFault(err, "record the revocation")
	}
	return storeFault(s.store.Apply(ctx, cert, entry), "record the revocation")
}

// revokedEntries calls f with every revoked certificate of an issuer.
func (s *Service) revokedEntries(ctx context.Context, mount, issuerID string, f func(serial []byte, r *revokedRecord) error) error {
	return s.each(ctx, tableRevoked, mount+issuerID+"/", func(digits string, e store.Entry) error {
		var r revokedRecord
		if err := e.Decode(&r); err != nil {
			return err
		}
		serial, err := hex.DecodeString(digits)
		if err != nil {
			return err
		}
		return f(serial, &r)
	})
}

// signerOf returns the key of an issuer that may be used for u.
func (s *Service) signerOf(ctx context.Context, mount string, i *issuer, u usage) (crypto.Signer, algorithm, error) {
	if i.rec.KeyID == "" || i.rec.Usage&u == 0 {
		return nil, algorithm{}, invalid("the issuer %s has no key here, or its usage does not allow %s", i.title(), strings.TrimPrefix(u.String(), "read-only,"))
	}
	alg, err := algorithmByName(i.cert.PublicKey, i.rec.RevocationAlgorithm)
	if err != nil {
		return nil, alg, err
	}
	key, err := s.keys.Signer(ctx, mount, i.rec.KeyID)
	if err != nil {
		return nil, alg, signFault(err)
	}
	return key, alg, nil
}
