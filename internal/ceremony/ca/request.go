package ca

import (
	"context"
	"crypto"

	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/pki"
)

// itemRequest is the name of a certificate request in the plan.
const itemRequest = "certificate request"

// requestPlan makes a key, and a request that another authority signs.
type requestPlan struct {
	Subject       subject `yaml:"subject"`
	Key           newKey  `yaml:"key"`
	SignatureBits int     `yaml:"signature_bits"`
	UsePSS        bool    `yaml:"use_pss"`
	CSR           string  `yaml:"csr"`
}

func (p *requestPlan) check() error {
	return firstError(p.Subject.check, p.Key.check, (&requested{p.CSR}).check)
}

func (p *requestPlan) act(*ceremony.Document) ceremony.Act { return &requestAct{requestPlan: p} }

type requestAct struct {
	*requestPlan
	draft *pki.RequestDraft
	key   crypto.Signer
}

// Outputs implements ceremony.Act.
func (a *requestAct) Outputs() []string { return []string{a.CSR} }

// Prepare implements ceremony.Act.
func (a *requestAct) Prepare(ctx context.Context, s *ceremony.Session) (*ceremony.Plan, error) {
	o := offline(pki.ForAuthority, &a.Subject, nil, nil, &signing{SignatureBits: a.SignatureBits, UsePSS: a.UsePSS})
	key, err := a.Key.get(ctx, s)
	if err != nil {
		return nil, err
	}
	o.PublicKey, a.key = key.PKIX, key
	if a.draft, err = pki.DraftRequest(o); err != nil {
		return nil, err
	}
	csr, err := a.draft.Unsigned()
	if err != nil {
		return nil, err
	}
	return &ceremony.Plan{Text: describeRequest(csr), Items: []ceremony.Item{{Name: itemRequest, Data: a.draft.TBS()}}}, nil
}

// Sign implements ceremony.Act.
func (a *requestAct) Sign(context.Context, *ceremony.Session) ([]ceremony.Output, error) {
	der, err := a.draft.Sign(a.key)
	if err != nil {
		return nil, err
	}
	return []ceremony.Output{{Path: a.CSR, Item: itemRequest, Data: []byte(pemOf("CERTIFICATE REQUEST", der))}}, nil
}
