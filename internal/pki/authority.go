package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// authorityOperations are about whole authorities, and those of others.
func (s *Service) authorityOperations() []*op.Operation {
	sudo := func(name, path string, verb op.Verb, help string) op.Meta {
		m := meta(name, path, verb, help)
		m.Sudo = true
		return m
	}
	return []*op.Operation{
		op.Define(meta("issuers.revoke", "issuer/{issuer}/revoke", op.Write, "Revoke an issuer: it signs no certificates any more."), s.revokeIssuer),
		op.Define(sudo("root.delete", "root", op.Delete, "Delete all issuers and destroy all keys of the mount."), s.deleteAll),
		op.Define(sudo("sign.self", "root/sign-self-issued", op.Write, "Certify another authority that certifies itself."), s.signSelfIssued),
		op.Define(sudo("sign.self.issuer", "issuer/{issuer}/sign-self-issued", op.Write, "Certify another authority that certifies itself, by a given issuer."), s.signSelfIssued),
	}
}

// revokeIssuer marks an issuer as revoked. Where the issuer above it is here too,
// its certificate goes onto that one's CRL.
func (s *Service) revokeIssuer(ctx context.Context, c *op.Call, r *api.PKIIssuerRef) (*api.PKIIssuer, error) {
	now := s.now().UTC().Truncate(time.Second)
	var out *api.PKIIssuer
	var above *issuer
	var cert *x509.Certificate
	err := s.change(ctx, c.Mount, func(next *state) ([]store.Change, error) {
		i, err := next.issuer(r.Issuer)
		if err != nil {
			return nil, err
		}
		cert = i.cert
		if !i.selfSigned() {
			above = next.parent(i)
		}
		if !i.rec.Revoked.IsZero() {
			out = next.describe(i)
			return nil, nil
		}
		rec := i.rec
		rec.Revoked, rec.Usage = now, rec.Usage&^usageIssue
		put, err := s.putIssuer(c.Mount, next, rec)
		if err != nil {
			return nil, err
		}
		out = next.describe(next.issuers[rec.ID])
		return []store.Change{put}, nil
	})
	if err != nil {
		return nil, err
	}
	s.ocspForget(c.Mount)
	if above == nil || above.rec.KeyID == "" {
		c.Warn("the issuer above is not here: have the certificate revoked there too")
		return out, nil
	}
	return out, s.revokeBelow(ctx, c, above, cert)
}

// revokeBelow puts the certificate of an issuer onto the CRL of the one above.
func (s *Service) revokeBelow(ctx context.Context, c *op.Call, above *issuer, cert *x509.Certificate) error {
	r := &api.PKIRevoke{Certificate: string(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: cert.Raw}))}
	if _, err := s.revokeNamed(ctx, c, r, nil); err != nil {
		return fault.Wrap(fault.KindOf(err), err, "the issuer is revoked here, but not on the CRL of %s: %s", above.title(), fault.Message(err))
	}
	return nil
}

// deleteAll deletes the issuers in one transaction, then their keys. The records
// of certificates stay, as do roles and configuration.
func (s *Service) deleteAll(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PKIDeleted, error) {
	out := &api.PKIDeleted{DeletedIssuers: []string{}, DeletedKeys: []string{}}
	err := s.change(ctx, c.Mount, func(next *state) ([]store.Change, error) {
		out.DeletedIssuers = slices.Sorted(maps.Keys(next.issuers))
		var changes []store.Change
		for id, i := range next.issuers {
			changes = append(changes, s.store.Remove(tableIssuers, c.Mount+id, i.version))
			delete(next.issuers, id)
		}
		for id, n := range next.keyNames {
			changes = append(changes, s.store.Remove(tableKeys, c.Mount+id, n.version))
			delete(next.keyNames, id)
		}
		next.config.DefaultIssuer, next.config.DefaultKey = "", ""
		put, err := s.putConfig(c.Mount, next)
		return append(changes, put), err
	})
	if err != nil {
		return nil, err
	}
	ids, err := s.keys.Pairs(ctx, c.Mount)
	for _, id := range ids {
		if err == nil {
			err = s.keys.RemovePair(ctx, c.Mount, id)
		}
		if err == nil {
			out.DeletedKeys = append(out.DeletedKeys, id)
		}
	}
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "the issuers are deleted, but not all keys; call it again: %s", fault.Message(err))
	}
	return out, nil
}

// signSelfIssued certifies the subject and the key of a self-issued certificate of
// an authority, within its validity.
func (s *Service) signSelfIssued(ctx context.Context, c *op.Call, r *api.PKISelfIssued) (*api.PKICertificate, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	form, err := checkForms(&r.PKIForm)
	if err != nil {
		return nil, err
	}
	cert, err := parseSelfIssued(r.Certificate)
	if err != nil {
		return nil, err
	}
	i, err := st.usable(refOf(r.IssuerRef, defaultRef), usageIssue)
	if err != nil {
		return nil, err
	}
	if r.RequireMatchingCertificateAlgorithms && cert.PublicKeyAlgorithm != i.cert.PublicKeyAlgorithm {
		return nil, invalid("the key of the certificate is %v, that of the issuer %s is %v, and require_matching_certificate_algorithms is set",
			cert.PublicKeyAlgorithm, i.title(), i.cert.PublicKeyAlgorithm)
	}
	p := &profile{
		isCA: true, maxPath: -1, keyUsage: caKeyUsage, subject: cert.RawSubject, spki: cert.RawSubjectPublicKeyInfo,
		notBefore: cert.NotBefore, notAfter: cert.NotAfter, constraints: constraintsOf(cert),
	}
	if cert.MaxPathLen > 0 || cert.MaxPathLenZero {
		p.maxPath = cert.MaxPathLen
	}
	if s.now().After(p.notAfter) {
		return nil, invalid("the certificate expired at %s", p.notAfter.Format(time.RFC3339))
	}
	return s.certify(ctx, c.Mount, st, i.rec.ID, p, form, false)
}

func parseSelfIssued(text string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != pemCertificate || len(bytes.TrimSpace(rest)) > 0 {
		return nil, invalid("certificate could not be PEM-decoded: it is one certificate, which begins with -----BEGIN CERTIFICATE-----")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	switch {
	case err != nil:
		return nil, invalid("certificate can't be read: %v", err)
	case !cert.IsCA:
		return nil, invalid("given certificate is not a CA certificate")
	case !bytes.Equal(cert.RawSubject, cert.RawIssuer):
		return nil, invalid("given certificate is not self-issued")
	case len(cert.PermittedEmailAddresses)+len(cert.ExcludedEmailAddresses)+len(cert.PermittedURIDomains)+len(cert.ExcludedURIDomains) > 0:
		return nil, invalid("given certificate has name constraints on e-mail addresses or URIs, which this authority would not repeat")
	case cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil:
		return nil, invalid("given certificate is not signed with its own key, so who sent it need not have that key")
	}
	return cert, checkPublic(cert.PublicKey)
}

func constraintsOf(cert *x509.Certificate) constraints {
	return constraints{
		permittedDNS: cert.PermittedDNSDomains, excludedDNS: cert.ExcludedDNSDomains,
		permittedIP: cert.PermittedIPRanges, excludedIP: cert.ExcludedIPRanges,
	}
}
