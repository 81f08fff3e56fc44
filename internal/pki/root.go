package pki

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/keys"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// caKeyUsage is what authorities' keys are for.
const caKeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign

// defaultNotBefore is how far a validity begins in the past if nothing is said.
const defaultNotBefore = 30 * time.Second

// generateRoot makes a self-signed authority.
func (s *Service) generateRoot(ctx context.Context, c *op.Call, r *api.PKIGenerateRoot) (*api.PKICertificate, error) {
	p, err := s.rootProfile(c, r)
	if err != nil {
		return nil, err
	}
	st, err := s.state(ctx, c.Mount)
	if err == nil {
		err = st.checkIssuerName(r.IssuerName, "")
	}
	if err != nil {
		return nil, err
	}
	pair, made, err := s.authorityKey(ctx, c, st, r.Kind, &r.PKINewKey)
	if err != nil {
		return nil, err
	}
	p.spki = pair.PKIX
	out, err := s.selfSign(ctx, c.Mount, st, p, pair, r)
	if err != nil && made {
		err = s.abandon(ctx, c.Mount, pair, err)
	}
	return out, err
}

// authorityKey makes the key of a new authority, or finds an existing one. made
// tells whether it is new.
func (s *Service) authorityKey(ctx context.Context, c *op.Call, st *state, kind string, r *api.PKINewKey) (pair *keys.Pair, made bool, err error) {
	if kind == "existing" {
		id, err := s.keyByRef(ctx, c.Mount, st, r.KeyRef)
		if err != nil {
			return nil, false, err
		}
		pair, err = s.keys.Pair(ctx, c.Mount, id)
		return pair, false, err
	}
	if err := refuseExported(kind); err != nil {
		return nil, false, err
	}
	if err := st.checkKeyName(r.KeyName, ""); err != nil {
		return nil, false, err
	}
	return s.keyOfKind(ctx, c, kind, r)
}

func (s *Service) rootProfile(c *op.Call, r *api.PKIGenerateRoot) (*profile, error) {
	if r.CommonName == "" {
		return nil, invalid("the common_name field is required")
	}
	name, err := caSubject(&r.PKINames, &r.PKISubject)
	if err != nil {
		return nil, err
	}
	p := &profile{isCA: true, maxPath: -1, keyUsage: caKeyUsage, signatureBits: r.SignatureBits, pss: r.UsePSS}
	if p.subject, err = subjectName(name); err != nil {
		return nil, err
	}
	if err := fillNames(&p.sans, &r.PKINames); err != nil {
		return nil, err
	}
	if !r.ExcludeCNFromSANs {
		addCommonName(&p.sans, r.CommonName)
	}
	if p.constraints, err = parseConstraints(&r.PKIConstraints); err != nil {
		return nil, err
	}
	if r.MaxPathLength != nil {
		p.maxPath = *r.MaxPathLength
	}
	p.notBefore, p.notAfter, err = validity(s.now(), &r.PKIValidity, limits{ttl: rootTTL, notBefore: beforeOf(r.NotBeforeDuration)}, c.Warn)
	return p, err
}

func beforeOf(d *api.Seconds) time.Duration {
	if d == nil {
		return defaultNotBefore
	}
	return d.Duration()
}

func (s *Service) selfSign(ctx context.Context, mount string, st *state, p *profile, pair *keys.Pair, r *api.PKIGenerateRoot) (*api.PKICertificate, error) {
	alg, err := chooseAlgorithm(pair.Public, p.signatureBits, p.pss)
	if err != nil {
		return nil, err
	}
	urls, err := st.urls(nil)
	if err != nil {
		return nil, err
	}
	signer, err := s.keys.Signer(ctx, mount, pair.Name)
	if err != nil {
		return nil, err
	}
	ready, err := prepare(p, nil, alg, urls)
	if err != nil {
		return nil, err
	}
	checked, err := ready.check()
	if err != nil {
		return nil, err
	}
	der, err := s.sign(ctx, mount, selfIssued, signer, checked)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	i, err := s.keepIssuer(ctx, mount, cert, r.IssuerName, pair.Name, r.KeyName)
	if err != nil {
		return nil, err
	}
	out := answerFor(cert, r.Format)
	out.IssuingCA = out.Certificate
	out.IssuerID, out.IssuerName, out.KeyID, out.KeyName = i.rec.ID, i.rec.Name, pair.Name, r.KeyName
	return out, nil
}

// selfIssued stands for the issuer in the record of a self-signed certificate.
const selfIssued = "self"

// keepIssuer stores a new issuer and the name of its key in one transaction.
func (s *Service) keepIssuer(ctx context.Context, mount string, cert *x509.Certificate, name, key, keyName string) (i *issuer, err error) {
	err = s.change(ctx, mount, func(next *state) (changes []store.Change, err error) {
		before := next.configVersion
		if keyName != "" || next.config.DefaultKey == "" {
			if err := next.checkKeyName(keyName, key); err != nil {
				return nil, err
			}
			if next.keyNames[key].value == "" {
				if changes, err = s.putKeyName(mount, next, key, keyName); err != nil {
					return nil, err
				}
			}
		}
		if next.config.DefaultKey == "" {
			next.config.DefaultKey = key
		}
		var more []store.Change
		if i, _, more, err = s.addIssuer(mount, next, cert, name, key); err != nil {
			return nil, err
		}
		changes = append(changes, more...)
		if next.configVersion == before && next.config.DefaultKey == key {
			put, err := s.putConfig(mount, next)
			return append(changes, put), err
		}
		return changes, nil
	})
	return i, err
}

// answerFor is what callers get of a new certificate.
func answerFor(cert *x509.Certificate, format string) *api.PKICertificate {
	return &api.PKICertificate{
		Certificate: formatted(cert.Raw, format), SerialNumber: serialText(cert.SerialNumber),
		Expiration: cert.NotAfter.Unix(), NotBefore: cert.NotBefore.Unix(),
	}
}

// formatted is a certificate in the format that was asked for.
func formatted(der []byte, format string) string {
	if format == "der" {
		return base64.StdEncoding.EncodeToString(der)
	}
	return pemOf(der)
}

// formatted is the issuer's certificate in the format that was asked for.
func (i *issuer) formatted(format string) string {
	if format == "der" {
		return formatted(i.rec.Certificate, format)
	}
	return i.pem
}

func checkFormat(format string) error {
	switch format {
	case "", "pem", "der", "pem_bundle":
		return nil
	}
	return invalid("the \"format\" parameter %q is unknown: it is pem, der or pem_bundle", format)
}

// generateIntermediate makes a key and a request that another authority signs.
func (s *Service) generateIntermediate(ctx context.Context, c *op.Call, r *api.PKIGenerateIntermediate) (*api.PKICSR, error) {
	if err := checkFormat(r.Format); err != nil {
		return nil, err
	}
	if r.CommonName == "" {
		return nil, invalid("the common_name field is required")
	}
	name, err := caSubject(&r.PKINames, &r.PKISubject)
	if err != nil {
		return nil, err
	}
	subject, err := subjectName(name)
	if err != nil {
		return nil, err
	}
	var names sans
	if err := fillNames(&names, &r.PKINames); err != nil {
		return nil, err
	}
	if !r.ExcludeCNFromSANs {
		addCommonName(&names, r.CommonName)
	}
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	pair, made, err := s.authorityKey(ctx, c, st, r.Kind, &r.PKINewKey)
	if err != nil {
		return nil, err
	}
	der, err := s.signRequest(ctx, c.Mount, pair, subject, &names, r)
	if err == nil && made {
		err = s.nameKey(ctx, c.Mount, pair.Name, r.KeyName)
	}
	if err != nil {
		if made {
			err = s.abandon(ctx, c.Mount, pair, err)
		}
		return nil, err
	}
	out := &api.PKICSR{KeyID: pair.Name, KeyName: r.KeyName}
	if r.Format == "der" {
		out.CSR = base64.StdEncoding.EncodeToString(der)
	} else {
		out.CSR = strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	}
	return out, nil
}

// signRequest makes a certificate request (PKCS #10, RFC 2986 section 4) that
// its own key signs.
func (s *Service) signRequest(ctx context.Context, mount string, pair *keys.Pair, subject []byte, names *sans, r *api.PKIGenerateIntermediate) ([]byte, error) {
	alg, err := chooseAlgorithm(pair.Public, r.SignatureBits, r.UsePSS)
	if err != nil {
		return nil, err
	}
	signer, err := s.keys.Signer(ctx, mount, pair.Name)
	if err != nil {
		return nil, err
	}
	var list []extension
	if !names.empty() {
		list = append(list, sanExtension(names, false))
	}
	if r.AddBasicConstraints {
		list = append(list, basicExtension(true, -1))
	}
	info := requestInfo(subject, pair.PKIX, list)
	signature, err := alg.sign(signer, info)
	if err != nil {
		return nil, signFault(err)
	}
	return signedObject(info, alg, signature), nil
}
