package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/pki"
)

// itemCRL is the name of a CRL in the plan.
const itemCRL = "CRL"

// crlPlan makes a complete CRL.
type crlPlan struct {
	issuing  `yaml:",inline"`
	Number   int64        `yaml:"number"`   // default: one more than that of previous, or 1
	Previous string       `yaml:"previous"` // path of the CRL before, all of whose entries stay
	Revoked  []revocation `yaml:"revoked"`
	validity `yaml:",inline"`
	signing  `yaml:",inline"`
	CRL      string `yaml:"crl"`
}

// revocation is a certificate that comes onto the CRL.
type revocation struct {
	Serial      string `yaml:"serial"`      // hexadecimal, or
	Certificate string `yaml:"certificate"` // path
	Time        string `yaml:"time"`        // RFC 3339; default: the begin of the CRL
	Reason      string `yaml:"reason"`      // default: unspecified
}

// reasons are those of RFC 5280 section 5.3.1. removeFromCRL is for delta CRLs only.
var reasons = []string{
	"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation",
	"certificateHold", "", "", "privilegeWithdrawn", "aACompromise",
}

func (p *crlPlan) check() error {
	if err := firstError(p.issuing.check, p.validity.check); err != nil {
		return err
	}
	if p.CRL == "" {
		return invalid("plan: crl is missing; it is the path of the file that is made")
	}
	if p.Number < 0 {
		return invalid("plan: number is %d; the numbers of CRLs are from 1", p.Number)
	}
	for i := range p.Revoked {
		if err := p.Revoked[i].check(); err != nil {
			return err
		}
	}
	return nil
}

func (r *revocation) check() error {
	if (r.Serial == "") == (r.Certificate == "") {
		return invalid("plan: each entry of revoked must have either serial or certificate")
	}
	if r.Reason != "" && !slices.Contains(reasons, r.Reason) {
		known := slices.DeleteFunc(slices.Clone(reasons), func(s string) bool { return s == "" })
		return invalid("plan: revoked has the reason %q: it is one of %s", r.Reason, strings.Join(known, ", "))
	}
	if r.Time != "" {
		if _, err := moment("time of revoked", r.Time); err != nil {
			return err
		}
	}
	if r.Serial == "" {
		return nil
	}
	_, err := parseSerial(r.Serial)
	return err
}

func parseSerial(text string) (*big.Int, error) {
	digits := strings.NewReplacer(":", "", "-", "").Replace(text)
	n, ok := new(big.Int).SetString(digits, 16)
	if !ok || n.Sign() <= 0 || strings.ContainsAny(digits, "+_") {
		return nil, invalid("plan: the serial %q is no serial number; one is written 4a:0f:12", text)
	}
	return n, nil
}

func (p *crlPlan) act(*ceremony.Document) ceremony.Act { return &crlAct{crlPlan: p} }

type crlAct struct {
	*crlPlan
	draft *pki.CRLDraft
	key   crypto.Signer
}

// Outputs implements ceremony.Act.
func (a *crlAct) Outputs() []string { return []string{a.CRL} }

// Prepare implements ceremony.Act.
func (a *crlAct) Prepare(ctx context.Context, s *ceremony.Session) (*ceremony.Plan, error) {
	o := &pki.OfflineCRL{Number: a.Number, SignatureBits: a.SignatureBits, PSS: a.UsePSS, LintExceptions: a.LintExceptions}
	var err error
	if o.ThisUpdate, o.NextUpdate, err = a.span(s.Now); err != nil {
		return nil, err
	}
	by, err := a.issuing.open(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := a.keep(s, by, o); err != nil {
		return nil, err
	}
	if err := a.revoke(s, by, o); err != nil {
		return nil, err
	}
	if a.draft, err = pki.DraftCRL(o, by.OfflineIssuer, s.Now); err != nil {
		return nil, err
	}
	a.key = by.key
	list, err := a.draft.Unsigned()
	if err != nil {
		return nil, err
	}
	text := describeCRL(list) + describeIssuer(by.Certificate())
	return &ceremony.Plan{Text: text, Items: []ceremony.Item{{Name: itemCRL, Data: a.draft.TBS()}}, Exceptions: a.LintExceptions}, nil
}

// keep takes over what was revoked before, and numbers the CRL.
func (a *crlAct) keep(s *ceremony.Session, by *issuer, o *pki.OfflineCRL) error {
	if a.Previous == "" {
		if o.Number == 0 {
			o.Number = 1
		}
		return nil
	}
	text, err := s.Document.Read("plan: previous", a.Previous)
	if err != nil {
		return err
	}
	list, err := pki.ParseCRL(text, by.real)
	if err != nil {
		return of("plan: previous", err)
	}
	before := int64(0)
	if list.Number != nil {
		if !list.Number.IsInt64() || list.Number.Int64() == math.MaxInt64 {
			return invalid("plan: previous has the number %v, after which none is left", list.Number)
		}
		before = list.Number.Int64()
	}
	switch {
	case o.Number == 0:
		o.Number = before + 1
	case o.Number <= before:
		return invalid("plan: number is %d, and the CRL before has %d; numbers grow", o.Number, before)
	}
	if o.ThisUpdate.Before(list.ThisUpdate) {
		return invalid("plan: the CRL would begin at %s, before the one before it at %s",
			o.ThisUpdate.Format(time.RFC3339), list.ThisUpdate.Format(time.RFC3339))
	}
	for _, e := range list.RevokedCertificateEntries {
		o.Revoked = append(o.Revoked, pki.OfflineRevocation{Serial: e.SerialNumber, Time: e.RevocationTime, Reason: e.ReasonCode})
	}
	return nil
}

// revoke adds the entries of the document.
func (a *crlAct) revoke(s *ceremony.Session, by *issuer, o *pki.OfflineCRL) error {
	for _, r := range a.Revoked {
		serial, err := r.serial(s, by)
		if err != nil {
			return err
		}
		at := o.ThisUpdate
		if r.Time != "" {
			if at, err = moment("time of revoked", r.Time); err != nil {
				return err
			}
		}
		reason := 0
		if r.Reason != "" {
			reason = slices.Index(reasons, r.Reason)
		}
		o.Revoked = append(o.Revoked, pki.OfflineRevocation{Serial: serial, Time: at, Reason: reason})
	}
	return nil
}

// serial is the serial number of a certificate, which must be one of the issuer.
func (r *revocation) serial(s *ceremony.Session, by *issuer) (*big.Int, error) {
	if r.Serial != "" {
		return parseSerial(r.Serial)
	}
	text, err := s.Document.Read("plan: revoked", r.Certificate)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, invalid("plan: revoked: %s is no certificate in PEM", r.Certificate)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, invalid("plan: revoked: %s can't be read: %v", r.Certificate, err)
	}
	if !bytes.Equal(cert.RawIssuer, by.real.Certificate().RawSubject) || cert.CheckSignatureFrom(by.real.Certificate()) != nil {
		return nil, invalid("plan: revoked: the certificate %s is not one of this issuer", r.Certificate)
	}
	return cert.SerialNumber, nil
}

// Sign implements ceremony.Act.
func (a *crlAct) Sign(context.Context, *ceremony.Session) ([]ceremony.Output, error) {
	der, err := a.draft.Sign(a.key)
	if err != nil {
		return nil, err
	}
	return []ceremony.Output{{Path: a.CRL, Item: itemCRL, Data: []byte(pemOf("X509 CRL", der))}}, nil
}
