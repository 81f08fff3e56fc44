package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// Purpose is what a certificate that is made offline is for.
type Purpose uint8

const (
	ForAuthority Purpose = iota + 1
	ForOCSP              // signs OCSP answers for its issuer (RFC 6960 section 4.2.2.2)
)

// Offline is what is to be certified without a server and its records. Every
// part of the certificate is in it, or follows from the issuer.
type Offline struct {
	Purpose Purpose
	Names   api.PKINames
	Subject api.PKISubject
	// RawSubject is a Name in DER, of a request; it counts instead of the subject in
	// Names and Subject.
	RawSubject []byte
	PublicKey  []byte // PKIX DER

	NotBefore, NotAfter time.Time
	Constraints         api.PKIConstraints // of an authority; without a MaxPathLength there is no limit
	URLs                api.PKIURLs        // as they are: there are no templates
	Policies            []string           // dotted object identifiers

	SignatureBits int // 0 is the usual of the issuer's key
	PSS           bool
	// LintExceptions are names of lints that the certificate may break.
	LintExceptions []string
}

// OfflineIssuer is an authority of which only the certificate is here, with those
// above it.
type OfflineIssuer struct {
	issuer *issuer
	chain  []*x509.Certificate // its own first
}

// Certificate is the issuer's own.
func (i *OfflineIssuer) Certificate() *x509.Certificate { return i.chain[0] }

// KeyType is the type of an authority's public key.
func KeyType(public crypto.PublicKey) (token.Type, error) { return typeOf(public) }

// ParseIssuer reads the certificate of an authority in PEM. Certificates behind it
// are those above it, each of which certifies the one before.
func ParseIssuer(text string) (*OfflineIssuer, error) {
	b, err := parseBundle(text)
	if err != nil {
		return nil, err
	}
	defer b.wipe()
	if len(b.keys) > 0 {
		return nil, invalid("a private key is among the certificates of the issuer; its key is in the HSM token")
	}
	if err := checkAuthorities(b); err != nil {
		return nil, err
	}
	for n, above := range b.certs[1:] {
		if err := b.certs[n].CheckSignatureFrom(above); err != nil {
			return nil, invalid("certificate %d of the chain is not signed by certificate %d: %v", n+1, n+2, err)
		}
	}
	i, err := newIssuer(issuerRecord{ID: b.certs[0].Subject.String(), Certificate: b.certs[0].Raw}, 0)
	if err != nil {
		return nil, invalid("the certificate of the issuer can't be read: %v", err)
	}
	return &OfflineIssuer{i, b.certs}, nil
}

// Draft is a certificate that was prepared and in which the linter found nothing
// wrong; it lacks its signature only. The functions of this file alone make one.
type Draft struct {
	l     linted
	chain []*x509.Certificate // of the issuer; empty if it is self-signed
}

// DraftRoot prepares a certificate that its own key will sign. now is the time at
// which it must not have ended yet.
func DraftRoot(o *Offline, now time.Time) (*Draft, error) {
	return draft(o, nil, now)
}

// DraftIssued prepares a certificate by an issuer, within what that may certify.
func DraftIssued(o *Offline, by *OfflineIssuer, now time.Time) (*Draft, error) {
	return draft(o, by, now)
}

// DraftCross prepares a certificate of an authority that certifies itself: subject,
// key, path length and name constraints are those of cert, in PEM. Of o count the
// validity, which must lie within that of cert, the URLs, the policies and how it is signed.
func DraftCross(o *Offline, cert string, by *OfflineIssuer, now time.Time) (*Draft, error) {
	c, err := parseSelfIssued(cert)
	if err != nil {
		return nil, err
	}
	if o.NotBefore.Before(c.NotBefore) || o.NotAfter.After(c.NotAfter) {
		return nil, invalid("the certificate of %q is valid from %s to %s, and what certifies it must lie within that",
			c.Subject, c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
	}
	p := &profile{
		isCA: true, maxPath: pathLength(c), keyUsage: caKeyUsage, subject: c.RawSubject, spki: c.RawSubjectPublicKeyInfo,
		constraints: constraintsOf(c),
	}
	return finish(p, o, by, now)
}

// pathLength is that of an authority's certificate, -1 without one.
func pathLength(c *x509.Certificate) int {
	if c.MaxPathLen > 0 || c.MaxPathLenZero {
		return c.MaxPathLen
	}
	return -1
}

func draft(o *Offline, by *OfflineIssuer, now time.Time) (*Draft, error) {
	p := &profile{spki: o.PublicKey, maxPath: -1}
	var err error
	if p.subject, err = o.subject(); err != nil {
		return nil, err
	}
	if err := fillNames(&p.sans, &o.Names); err != nil {
		return nil, err
	}
	if err := p.giveUse(o); err != nil {
		return nil, err
	}
	return finish(p, o, by, now)
}

// subject is the subject in DER.
func (o *Offline) subject() ([]byte, error) {
	if o.RawSubject == nil {
		if o.Names.CommonName == "" {
			return nil, invalid("the subject has no common name")
		}
		name, err := caSubject(&o.Names, &o.Subject)
		if err != nil {
			return nil, err
		}
		return subjectName(name)
	}
	var parts pkix.RDNSequence
	if rest, err := asn1.Unmarshal(o.RawSubject, &parts); err != nil || len(rest) > 0 {
		return nil, invalid("the subject of the request can't be read")
	}
	var name pkix.Name
	name.FillFromRDNSequence(&parts)
	if name.CommonName == "" {
		return nil, invalid("the request has no common name; say what the subject is")
	}
	for _, a := range name.Names {
		if text, ok := a.Value.(string); !ok || checkTextual("the subject's", text) != nil {
			return nil, invalid("the subject of the request has a part %v that is no line of text", a.Type)
		}
	}
	return o.RawSubject, nil
}

// oidNoCheck says that the certificate of an OCSP responder is not itself looked up
// (RFC 6960 section 4.2.2.2.1); its value is NULL.
var oidNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

func (p *profile) giveUse(o *Offline) (err error) {
	switch o.Purpose {
	case ForAuthority:
		p.isCA, p.keyUsage = true, caKeyUsage
		if o.Constraints.MaxPathLength != nil {
			p.maxPath = *o.Constraints.MaxPathLength
		}
		p.constraints, err = parseConstraints(&o.Constraints)
	case ForOCSP:
		p.basic, p.keyUsage, p.ekus = true, x509.KeyUsageDigitalSignature, []asn1.ObjectIdentifier{ekuOCSP}
		p.more = []extension{{oidNoCheck, false, asn1.NullBytes}}
	default:
		err = fault.New(fault.Internal, "a certificate for nothing")
	}
	return err
}

// finish adds to a profile what all kinds have, and takes it through prepare and check.
func finish(p *profile, o *Offline, by *OfflineIssuer, now time.Time) (*Draft, error) {
	p.notBefore, p.notAfter = o.NotBefore.UTC().Truncate(time.Second), o.NotAfter.UTC().Truncate(time.Second)
	if !p.notAfter.After(p.notBefore) || !p.notAfter.After(now) {
		return nil, invalid("the certificate would end at %s, before it begins or in the past", p.notAfter.Format(time.RFC3339))
	}
	if err := checkExceptions(o.LintExceptions); err != nil {
		return nil, err
	}
	p.lintExceptions = o.LintExceptions
	var err error
	if p.policies, err = parsePolicies(o.Policies); err != nil {
		return nil, err
	}
	urls, err := fixedURLs(&o.URLs)
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(p.spki)
	if err != nil {
		return nil, invalid("the public key can't be read: %v", err)
	}
	if err := checkPublic(public); err != nil {
		return nil, err
	}
	d := new(Draft)
	var i *issuer
	if by != nil {
		i, d.chain, public = by.issuer, by.chain, by.issuer.cert.PublicKey
		if err := within(i, p, now); err != nil {
			return nil, err
		}
	}
	alg, err := chooseAlgorithm(public, o.SignatureBits, o.PSS)
	if err != nil {
		return nil, err
	}
	ready, err := prepare(p, i, alg, urls)
	if err != nil {
		return nil, err
	}
	d.l, err = ready.check()
	return d, err
}

// within applies what the issuer's certificate says.
func within(i *issuer, p *profile, now time.Time) error {
	if _, err := i.withinIssuer(p.notAfter, now); err != nil {
		return err
	}
	if p.notBefore.Before(i.cert.NotBefore) {
		return invalid("the certificate would begin at %s, before that of its issuer at %s",
			p.notBefore.Format(time.RFC3339), i.cert.NotBefore.Format(time.RFC3339))
	}
	if bytes.Equal(p.subject, i.cert.RawSubject) && !bytes.Equal(p.spki, i.cert.RawSubjectPublicKeyInfo) {
		return invalid("the subject is that of the issuer, %s; two authorities of one name can't be told apart", i.cert.Subject)
	}
	return i.mayCertify(p)
}

func fixedURLs(u *api.PKIURLs) (resolvedURLs, error) {
	for _, text := range slices.Concat(u.IssuingCertificates, u.CRLDistributionPoints, u.DeltaCRLDistributionPoints, u.OCSPServers) {
		if err := checkURL(text); err != nil {
			return resolvedURLs{}, err
		}
	}
	return resolvedURLs{issuers: u.IssuingCertificates, crls: u.CRLDistributionPoints, deltas: u.DeltaCRLDistributionPoints, ocsp: u.OCSPServers}, nil
}

// TBS is what will be signed: TBSCertificate in DER (RFC 5280 section 4.1).
func (d *Draft) TBS() []byte { return bytes.Clone(d.l.tbs) }

// Unsigned is the certificate with a placeholder for its signature, to be looked at.
func (d *Draft) Unsigned() (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(d.l.seal(placeholder(d.l.signerPublic())))
	if err != nil {
		return nil, invalid("the certificate would not be readable: %v", err)
	}
	return cert, nil
}

// Sign makes the certificate with the issuer's key, which must be the right one, and
// verifies it as strictly as relying parties may: see Strictly.
func (d *Draft) Sign(key crypto.Signer) (*x509.Certificate, error) {
	if err := sameKey(key, d.l.signerPublic()); err != nil {
		return nil, err
	}
	signature, err := d.l.alg.sign(key, d.l.tbs)
	if err != nil {
		return nil, signFault(err)
	}
	cert, err := x509.ParseCertificate(d.l.seal(signature))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the certificate can't be read")
	}
	return cert, Strictly(cert, d.chain)
}

// sameKey compares a key with the public key that its signatures are verified by.
func sameKey(key crypto.Signer, public crypto.PublicKey) error {
	have, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fault.Wrap(fault.Internal, err, "encode the public key of the HSM token")
	}
	want, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "encode the public key of the issuer")
	}
	if !bytes.Equal(have, want) {
		return invalid("the key in the HSM token is not that of the issuer's certificate")
	}
	return nil
}

// RequestFacts reads a certificate request in PEM, whose key must be fit for use and
// whose signature its own: its subject and its public key (PKIX DER).
func RequestFacts(text string) (*x509.CertificateRequest, error) {
	r, err := parseRequest(text)
	if err != nil {
		return nil, err
	}
	return r.CertificateRequest, nil
}

// RequestDraft is a certificate request that lacks its signature only.
type RequestDraft struct {
	alg    algorithm
	public crypto.PublicKey
	info   []byte // CertificationRequestInfo
}

// DraftRequest prepares a certificate request (PKCS #10, RFC 2986) of an authority
// or an OCSP responder for another authority to sign. Of o count subject, names, key
// and how it is signed.
func DraftRequest(o *Offline) (*RequestDraft, error) {
	subject, err := o.subject()
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(o.PublicKey)
	if err != nil {
		return nil, invalid("the public key can't be read: %v", err)
	}
	alg, err := chooseAlgorithm(public, o.SignatureBits, o.PSS)
	if err != nil {
		return nil, err
	}
	return &RequestDraft{alg, public, requestInfo(subject, o.PublicKey, []extension{basicExtension(o.Purpose == ForAuthority, -1)})}, nil
}

// TBS is what will be signed: CertificationRequestInfo in DER.
func (d *RequestDraft) TBS() []byte { return bytes.Clone(d.info) }

// Unsigned is the request with a placeholder for its signature, to be looked at.
func (d *RequestDraft) Unsigned() (*x509.CertificateRequest, error) {
	csr, err := x509.ParseCertificateRequest(signedObject(d.info, d.alg, placeholder(d.public)))
	if err != nil {
		return nil, invalid("the request would not be readable: %v", err)
	}
	return csr, nil
}

// Sign makes the request with its own key, in DER.
func (d *RequestDraft) Sign(key crypto.Signer) ([]byte, error) {
	if err := sameKey(key, d.public); err != nil {
		return nil, err
	}
	signature, err := d.alg.sign(key, d.info)
	if err != nil {
		return nil, signFault(err)
	}
	der := signedObject(d.info, d.alg, signature)
	_, err = parseRequestDER(der)
	return der, err
}
