package ca

import (
	"context"
	"crypto"

	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/pki"
)

// itemCertificate is the name of a certificate in the plan.
const itemCertificate = "certificate"

// certificate is what all acts share whose result is a certificate: the draft that
// was shown, and the key that signs it.
type certificate struct {
	draft *pki.Draft
	key   crypto.Signer
	path  string
}

// planned shows a draft.
func (c *certificate) planned(draft *pki.Draft, key crypto.Signer, by *issuer, g *signing) (*ceremony.Plan, error) {
	cert, err := draft.Unsigned()
	if err != nil {
		return nil, err
	}
	c.draft, c.key = draft, key
	text := describeCertificate(cert)
	if by != nil {
		text += describeIssuer(by.Certificate())
	}
	return &ceremony.Plan{Text: text, Items: []ceremony.Item{{Name: itemCertificate, Data: draft.TBS()}}, Exceptions: g.LintExceptions}, nil
}

// Sign implements ceremony.Act.
func (c *certificate) Sign(context.Context, *ceremony.Session) ([]ceremony.Output, error) {
	cert, err := c.draft.Sign(c.key)
	if err != nil {
		return nil, err
	}
	return []ceremony.Output{{Path: c.path, Item: itemCertificate, Data: []byte(pemOf("CERTIFICATE", cert.Raw))}}, nil
}

// rootPlan makes an authority that certifies itself.
type rootPlan struct {
	Subject   subject `yaml:"subject"`
	Key       newKey  `yaml:"key"`
	validity  `yaml:",inline"`
	authority `yaml:",inline"`
	locations `yaml:",inline"`
	signing   `yaml:",inline"`
	output    `yaml:",inline"`
}

func (p *rootPlan) check() error {
	return firstError(p.Subject.check, p.Key.check, p.validity.check, p.authority.check, p.output.check)
}

func (p *rootPlan) act(*ceremony.Document) ceremony.Act {
	return &rootAct{rootPlan: p, certificate: certificate{path: p.Certificate}}
}

type rootAct struct {
	*rootPlan
	certificate
}

// Prepare implements ceremony.Act.
func (a *rootAct) Prepare(ctx context.Context, s *ceremony.Session) (*ceremony.Plan, error) {
	o := offline(pki.ForAuthority, &a.Subject, &a.authority, &a.locations, &a.signing)
	var err error
	if o.NotBefore, o.NotAfter, err = a.span(s.Now); err != nil {
		return nil, err
	}
	key, err := a.Key.get(ctx, s)
	if err != nil {
		return nil, err
	}
	o.PublicKey = key.PKIX
	draft, err := pki.DraftRoot(o, s.Now)
	if err != nil {
		return nil, err
	}
	return a.planned(draft, key, nil, &a.signing)
}

// intermediatePlan certifies an authority. Its key is that of a certificate request,
// or is made in the same token.
type intermediatePlan struct {
	issuing   `yaml:",inline"`
	Subject   *subject `yaml:"subject"` // default: that of the request
	CSR       string   `yaml:"csr"`
	Key       *newKey  `yaml:"key"`
	validity  `yaml:",inline"`
	authority `yaml:",inline"`
	locations `yaml:",inline"`
	signing   `yaml:",inline"`
	output    `yaml:",inline"`
}

func (p *intermediatePlan) check() error {
	return firstError(p.issuing.check, p.checkKey, p.validity.check, p.authority.check, p.output.check)
}

func (p *intermediatePlan) checkKey() error {
	switch {
	case (p.CSR == "") == (p.Key == nil):
		return invalid("plan must have either csr (the path of a certificate request) or key (which is made in the HSM token)")
	case p.Key != nil && p.Subject == nil:
		return invalid("plan: subject is missing")
	case p.Subject != nil && p.Subject.check() != nil:
		return p.Subject.check()
	case p.Key != nil:
		return p.Key.check()
	}
	return nil
}

func (p *intermediatePlan) act(*ceremony.Document) ceremony.Act {
	return &intermediateAct{intermediatePlan: p, certificate: certificate{path: p.Certificate}}
}

type intermediateAct struct {
	*intermediatePlan
	certificate
}

// Prepare implements ceremony.Act.
func (a *intermediateAct) Prepare(ctx context.Context, s *ceremony.Session) (*ceremony.Plan, error) {
	o := offline(pki.ForAuthority, a.Subject, &a.authority, &a.locations, &a.signing)
	var err error
	if o.NotBefore, o.NotAfter, err = a.span(s.Now); err != nil {
		return nil, err
	}
	by, err := a.issuing.open(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := a.fill(ctx, s, o); err != nil {
		return nil, err
	}
	draft, err := pki.DraftIssued(o, by.OfflineIssuer, s.Now)
	if err != nil {
		return nil, err
	}
	return a.planned(draft, by.key, by, &a.signing)
}

// fill puts in the public key, and the subject of the request.
func (a *intermediateAct) fill(ctx context.Context, s *ceremony.Session, o *pki.Offline) error {
	if a.Key != nil {
		key, err := a.Key.get(ctx, s)
		if err == nil {
			o.PublicKey = key.PKIX
		}
		return err
	}
	csr, err := (&requested{a.CSR}).open(s)
	if err != nil {
		return err
	}
	o.PublicKey = csr.RawSubjectPublicKeyInfo
	if a.Subject == nil {
		o.RawSubject = csr.RawSubject
	}
	return nil
}

// crossPlan certifies an authority that certifies itself.
type crossPlan struct {
	issuing   `yaml:",inline"`
	Authority string `yaml:"authority"` // path of its certificate
	validity  `yaml:",inline"`
	locations `yaml:",inline"`
	signing   `yaml:",inline"`
	output    `yaml:",inline"`
}

func (p *crossPlan) check() error {
	return firstError(p.issuing.check, func() error {
		if p.Authority == "" {
			return invalid("plan: authority is missing; it is the path of the certificate of the other authority")
		}
		return nil
	}, p.validity.check, p.output.check)
}

func (p *crossPlan) act(*ceremony.Document) ceremony.Act {
	return &crossAct{crossPlan: p, certificate: certificate{path: p.Certificate}}
}

type crossAct struct {
	*crossPlan
	certificate
}

// Prepare implements ceremony.Act.
func (a *crossAct) Prepare(ctx context.Context, s *ceremony.Session) (*ceremony.Plan, error) {
	o := offline(pki.ForAuthority, nil, nil, &a.locations, &a.signing)
	var err error
	if o.NotBefore, o.NotAfter, err = a.span(s.Now); err != nil {
		return nil, err
	}
	by, err := a.issuing.open(ctx, s)
	if err != nil {
		return nil, err
	}
	other, err := s.Document.Read("plan: authority", a.Authority)
	if err != nil {
		return nil, err
	}
	draft, err := pki.DraftCross(o, string(other), by.OfflineIssuer, s.Now)
	if err != nil {
		return nil, err
	}
	return a.planned(draft, by.key, by, &a.signing)
}

// responderPlan certifies a responder that signs OCSP answers for the issuer.
type responderPlan struct {
	issuing   `yaml:",inline"`
	Subject   subject `yaml:"subject"`
	requested `yaml:",inline"`
	validity  `yaml:",inline"`
	signing   `yaml:",inline"`
	output    `yaml:",inline"`
}

func (p *responderPlan) check() error {
	return firstError(p.issuing.check, p.Subject.check, p.requested.check, p.validity.check, p.output.check)
}

func (p *responderPlan) act(*ceremony.Document) ceremony.Act {
	return &responderAct{responderPlan: p, certificate: certificate{path: p.Certificate}}
}

type responderAct struct {
	*responderPlan
	certificate
}

// Prepare implements ceremony.Act.
func (a *responderAct) Prepare(ctx context.Context, s *ceremony.Session) (*ceremony.Plan, error) {
	o := offline(pki.ForOCSP, &a.Subject, nil, nil, &a.signing)
	var err error
	if o.NotBefore, o.NotAfter, err = a.span(s.Now); err != nil {
		return nil, err
	}
	by, err := a.issuing.open(ctx, s)
	if err != nil {
		return nil, err
	}
	csr, err := a.requested.open(s)
	if err != nil {
		return nil, err
	}
	o.PublicKey = csr.RawSubjectPublicKeyInfo
	draft, err := pki.DraftIssued(o, by.OfflineIssuer, s.Now)
	if err != nil {
		return nil, err
	}
	return a.planned(draft, by.key, by, &a.signing)
}
