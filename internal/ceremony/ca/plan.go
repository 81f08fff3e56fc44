package ca

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/pki"
	"github.com/claviger/claviger/internal/token"
)

// subject is the name of what is certified.
type subject struct {
	CommonName    string   `yaml:"common_name"`
	Organization  []string `yaml:"organization"`
	OU            []string `yaml:"ou"`
	Country       []string `yaml:"country"`
	Province      []string `yaml:"province"`
	Locality      []string `yaml:"locality"`
	StreetAddress []string `yaml:"street_address"`
	PostalCode    []string `yaml:"postal_code"`
	SerialNumber  string   `yaml:"serial_number"`
}

func (s *subject) check() error {
	if s.CommonName == "" {
		return invalid("plan: subject has no common_name")
	}
	return nil
}

// validity says for how long something is valid.
type validity struct {
	NotBefore string `yaml:"not_before"` // RFC 3339; default: now
	NotAfter  string `yaml:"not_after"`  // RFC 3339, or
	ValidFor  string `yaml:"valid_for"`  // "20y", "90d", "36h"
}

func (v *validity) check() error {
	if (v.NotAfter == "") == (v.ValidFor == "") {
		return invalid("plan must have either not_after or valid_for")
	}
	_, _, err := v.span(time.Now())
	return err
}

// span is the validity as seen from now.
func (v *validity) span(now time.Time) (from, until time.Time, err error) {
	from = now.UTC().Truncate(time.Second)
	if v.NotBefore != "" {
		if from, err = moment("not_before", v.NotBefore); err != nil {
			return from, until, err
		}
	}
	if v.NotAfter != "" {
		until, err = moment("not_after", v.NotAfter)
		return from, until, err
	}
	until, err = later(from, v.ValidFor)
	return from, until, err
}

func moment(field, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, invalid("plan: %s %q is no time; one is written 2046-01-31T12:00:00Z", field, text)
	}
	return t.UTC(), nil
}

// later adds years, days or hours.
func later(from time.Time, text string) (time.Time, error) {
	if text == "" {
		return from, invalid("plan: valid_for is missing")
	}
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 20)
	if err == nil && n > 0 {
		switch text[len(text)-1] {
		case 'y':
			if n <= 1000 {
				return from.AddDate(int(n), 0, 0), nil
			}
		case 'd':
			return from.AddDate(0, 0, int(n)), nil
		case 'h':
			return from.Add(time.Duration(n) * time.Hour), nil
		}
	}
	return from, invalid("plan: valid_for %q is no duration; one is written 20y, 90d or 36h", text)
}

// authority is what only certificates of authorities have.
type authority struct {
	MaxPathLength       *int     `yaml:"max_path_length"`
	PermittedDNSDomains []string `yaml:"permitted_dns_domains"`
	ExcludedDNSDomains  []string `yaml:"excluded_dns_domains"`
	PermittedIPRanges   []string `yaml:"permitted_ip_ranges"`
	ExcludedIPRanges    []string `yaml:"excluded_ip_ranges"`
}

func (a *authority) check() error {
	if a.MaxPathLength != nil && (*a.MaxPathLength < 0 || *a.MaxPathLength > 100) {
		return invalid("plan: max_path_length is %d; it is how many authorities may stand below, from 0, or absent: any number", *a.MaxPathLength)
	}
	return nil
}

// locations are the URLs that a certificate carries.
type locations struct {
	IssuerURLs []string `yaml:"issuer_urls"`
	CRLURLs    []string `yaml:"crl_urls"`
	OCSPURLs   []string `yaml:"ocsp_urls"`
	Policies   []string `yaml:"policies"` // dotted object identifiers
}

// signing is how something is signed, and what rules it may break.
type signing struct {
	SignatureBits  int      `yaml:"signature_bits"`
	UsePSS         bool     `yaml:"use_pss"`
	LintExceptions []string `yaml:"lint_exceptions"`
}

// newKey is the key that a ceremony makes, or that is there already.
type newKey struct {
	Label    string `yaml:"label"`
	Type     string `yaml:"type"`
	Existing bool   `yaml:"existing"`
}

func (k *newKey) check() error {
	if k.Label == "" {
		return invalid("plan: key has no label; it is that of the key in the HSM token")
	}
	if k.Label != strings.TrimSpace(k.Label) || len(k.Label) > token.MaxObjectLabel {
		return invalid("plan: the label of key has blanks around it or is longer than %d bytes", token.MaxObjectLabel)
	}
	_, err := k.typ()
	return err
}

func (k *newKey) typ() (token.Type, error) {
	t, err := token.ParseType(k.Type)
	if err == nil {
		switch t.Class() {
		case token.ClassRSA, token.ClassECDSA, token.ClassEd25519:
			return t, nil
		}
	}
	return 0, invalid("plan: key has the type %q: it is rsa-2048, rsa-3072, rsa-4096, ecdsa-p256, ecdsa-p384, ecdsa-p521 or ed25519", k.Type)
}

// get makes the key, or finds it.
func (k *newKey) get(ctx context.Context, s *ceremony.Session) (*ceremony.Key, error) {
	t, err := k.typ()
	if err != nil {
		return nil, err
	}
	if !k.Existing {
		return s.NewKey(ctx, k.Label, t)
	}
	key, err := s.FindKey(ctx, k.Label, nil, t)
	if err != nil {
		return nil, err
	}
	if have, err := pki.KeyType(key.Public()); err != nil || have != t {
		return nil, invalid("plan: the key %q in the HSM token is not of the type %s", k.Label, t)
	}
	return key, nil
}

// issuing says who signs.
type issuing struct {
	Issuer    string `yaml:"issuer"` // path of its certificate, with those above it
	IssuerKey struct {
		Label string `yaml:"label"`
		ID    string `yaml:"id"` // CKA_ID in hexadecimal
	} `yaml:"issuer_key"`
}

func (i *issuing) check() error {
	if i.Issuer == "" {
		return invalid("plan: issuer is missing; it is the path of the issuer's certificate in PEM")
	}
	if i.IssuerKey.Label == "" && i.IssuerKey.ID == "" {
		return invalid("plan: issuer_key must have label or id; it is the issuer's key in the HSM token")
	}
	_, err := i.id()
	return err
}

func (i *issuing) id() ([]byte, error) {
	id, err := hex.DecodeString(strings.ReplaceAll(i.IssuerKey.ID, ":", ""))
	if err != nil || len(id) > token.MaxObjectID {
		return nil, invalid("plan: the id of issuer_key, %q, is no CKA_ID in hexadecimal", i.IssuerKey.ID)
	}
	return id, nil
}

// issuer is the one who signs, with its key. real is what its file holds; in a
// rehearsal a certificate with the same contents and a scratch key stands in for it.
type issuer struct {
	*pki.OfflineIssuer
	real *pki.OfflineIssuer
	key  *ceremony.Key
}

func (i *issuing) open(ctx context.Context, s *ceremony.Session) (*issuer, error) {
	text, err := s.Document.Read("plan: issuer", i.Issuer)
	if err != nil {
		return nil, err
	}
	out := new(issuer)
	if out.real, err = pki.ParseIssuer(string(text)); err != nil {
		return nil, of("plan: issuer", err)
	}
	t, err := pki.KeyType(out.real.Certificate().PublicKey)
	if err != nil {
		return nil, err
	}
	id, err := i.id()
	if err != nil {
		return nil, err
	}
	if out.key, err = s.FindKey(ctx, i.IssuerKey.Label, id, t); err != nil {
		return nil, err
	}
	if s.Rehearsal {
		out.OfflineIssuer, err = standIn(out.real.Certificate(), out.key)
		return out, err
	}
	out.OfflineIssuer = out.real
	if !bytes.Equal(out.key.PKIX, out.real.Certificate().RawSubjectPublicKeyInfo) {
		return nil, invalid("the key %q in the HSM token is not that of the issuer's certificate", i.IssuerKey.Label+i.IssuerKey.ID)
	}
	return out, nil
}

// standIn certifies itself with a scratch key, and says all else that cert says.
func standIn(cert *x509.Certificate, key *ceremony.Key) (*pki.OfflineIssuer, error) {
	template := *cert
	template.SignatureAlgorithm = x509.UnknownSignatureAlgorithm
	template.SubjectKeyId, template.AuthorityKeyId = nil, nil
	template.Issuer, template.RawIssuer, template.PublicKey = cert.Subject, cert.RawSubject, key.Public()
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the issuer can't be rehearsed")
	}
	return pki.ParseIssuer(pemOf("CERTIFICATE", der))
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// requested is the key of somebody else that is certified.
type requested struct {
	CSR string `yaml:"csr"` // path of the certificate request
}

func (r *requested) check() error {
	if r.CSR == "" {
		return invalid("plan: csr is missing; it is the path of the certificate request in PEM")
	}
	return nil
}

func (r *requested) open(s *ceremony.Session) (*x509.CertificateRequest, error) {
	text, err := s.Document.Read("plan: csr", r.CSR)
	if err != nil {
		return nil, err
	}
	csr, err := pki.RequestFacts(string(text))
	return csr, of("plan: csr", err)
}

// output is the file that is made.
type output struct {
	Certificate string `yaml:"certificate"`
}

func (o *output) check() error {
	if o.Certificate == "" {
		return invalid("plan: certificate is missing; it is the path of the file that is made")
	}
	return nil
}

// Outputs implements ceremony.Act.
func (o *output) Outputs() []string { return []string{o.Certificate} }

// offline puts the parts together.
func offline(purpose pki.Purpose, sub *subject, a *authority, l *locations, g *signing) *pki.Offline {
	o := &pki.Offline{Purpose: purpose, SignatureBits: g.SignatureBits, PSS: g.UsePSS, LintExceptions: g.LintExceptions}
	if sub != nil {
		o.Names = api.PKINames{CommonName: sub.CommonName, SerialNumber: sub.SerialNumber, ExcludeCNFromSANs: true}
		o.Subject = api.PKISubject{
			Organization: sub.Organization, OU: sub.OU, Country: sub.Country, Province: sub.Province,
			Locality: sub.Locality, StreetAddress: sub.StreetAddress, PostalCode: sub.PostalCode,
		}
	}
	if a != nil {
		o.Constraints = api.PKIConstraints{
			MaxPathLength: a.MaxPathLength, PermittedDNSDomains: a.PermittedDNSDomains, ExcludedDNSDomains: a.ExcludedDNSDomains,
			PermittedIPRanges: a.PermittedIPRanges, ExcludedIPRanges: a.ExcludedIPRanges,
		}
	}
	if l != nil {
		o.URLs = api.PKIURLs{IssuingCertificates: l.IssuerURLs, CRLDistributionPoints: l.CRLURLs, OCSPServers: l.OCSPURLs}
		o.Policies = l.Policies
	}
	return o
}

// of says in an error which field of the document it is about.
func of(field string, err error) error {
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return err
	}
	e := *f
	e.Msg = field + ": " + e.Msg
	return &e
}

// firstError runs checks until one fails.
func firstError(checks ...func() error) error {
	for _, c := range checks {
		if err := c(); err != nil {
			return err
		}
	}
	return nil
}
