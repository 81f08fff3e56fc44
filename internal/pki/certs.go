package pki

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

func (s *Service) certOperations() []*op.Operation {
	public := func(m op.Meta) op.Meta {
		m.Public = true
		return m
	}
	return []*op.Operation{
		op.Define(public(meta("cert.read", "cert/{serial}", op.Read, "Show a certificate; or with ca, ca_chain, crl or delta-crl what is of the default issuer.")), s.readCert),
		op.Define(public(meta("cert.raw", "cert/{serial}/raw", op.Read, "A certificate in DER.")), s.rawCert),
		op.Define(public(meta("cert.raw.pem", "cert/{serial}/raw/pem", op.Read, "A certificate in PEM.")), s.rawCertPEM),
		op.Define(public(meta("ca", "ca", op.Read, "The certificate of the default issuer in DER.")), s.rawCA),
		op.Define(public(meta("ca.pem", "ca/pem", op.Read, "The certificate of the default issuer in PEM.")), s.rawCAPEM),
		op.Define(public(meta("ca.chain", "ca_chain", op.Read, "The certificates from the default issuer up, in PEM.")), s.rawChain),
		op.Define(public(meta("issuers.json", "issuer/{issuer}/json", op.Read, "The certificate of an issuer, and its chain.")), s.issuerJSON),
		op.Define(public(meta("issuers.der", "issuer/{issuer}/der", op.Read, "The certificate of an issuer in DER.")), s.issuerDER),
		op.Define(public(meta("issuers.pem", "issuer/{issuer}/pem", op.Read, "The certificate of an issuer in PEM.")), s.issuerPEM),
	}
}

// certificate finds a certificate that was issued here.
func (s *Service) certificate(ctx context.Context, mount, text string) (*certRecord, int64, error) {
	digits, err := serialRecord(text)
	if err != nil {
		return nil, 0, err
	}
	rec := new(certRecord)
	version, err := s.store.Get(ctx, tableCerts, mount+digits, rec)
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, fault.New(fault.NotFound, "")
	}
	return rec, version, storeFault(err, "read the certificate")
}

func (s *Service) readCert(ctx context.Context, c *op.Call, r *api.PKISerial) (*api.PKIKept, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	switch r.Serial {
	case "ca", "ca_chain":
		i, err := st.issuer(defaultRef)
		if err != nil {
			return nil, err
		}
		return st.kept(i, r.Serial == "ca_chain"), nil
	case "crl", "delta-crl":
		list, _, err := s.currentCRL(ctx, c.Mount, defaultRef, r.Serial == "delta-crl")
		if err != nil {
			return nil, err
		}
		return &api.PKIKept{Certificate: pemCRL(list.DER)}, nil
	}
	rec, _, err := s.certificate(ctx, c.Mount, r.Serial)
	if err != nil {
		return nil, err
	}
	if rec.Certificate == nil {
		return nil, fault.New(fault.NotFound, "")
	}
	out := &api.PKIKept{Certificate: pemOf(rec.Certificate) + "\n"}
	if rec.IssuerID != selfIssued {
		out.IssuerID = rec.IssuerID
	}
	if !rec.Revoked.IsZero() {
		out.RevocationTime, out.RevocationTimeRFC3339 = rec.Revoked.Unix(), rec.Revoked.Format(time.RFC3339Nano)
	}
	return out, nil
}

func (st *state) kept(i *issuer, chain bool) *api.PKIKept {
	out := &api.PKIKept{Certificate: i.pem + "\n", IssuerID: i.rec.ID}
	if chain {
		out.CAChain = strings.Join(st.chainPEM(i), "\n")
		out.Certificate = out.CAChain
	}
	return out
}

func (s *Service) rawCert(ctx context.Context, c *op.Call, r *api.PKISerial) (*derFile, error) {
	rec, _, err := s.certificate(ctx, c.Mount, r.Serial)
	if err != nil {
		return nil, err
	}
	return &derFile{rec.Certificate, freshness{}}, nil
}

func (s *Service) rawCertPEM(ctx context.Context, c *op.Call, r *api.PKISerial) (*pemFile, error) {
	rec, _, err := s.certificate(ctx, c.Mount, r.Serial)
	if err != nil {
		return nil, err
	}
	return &pemFile{[]byte(pemOf(rec.Certificate)), freshness{}}, nil
}

// byRef finds an issuer of a mount.
func (s *Service) byRef(ctx context.Context, mount, ref string) (*state, *issuer, error) {
	st, err := s.state(ctx, mount)
	if err != nil {
		return nil, nil, err
	}
	i, err := st.issuer(ref)
	return st, i, err
}

func (s *Service) rawCA(ctx context.Context, c *op.Call, _ *api.Empty) (*derFile, error) {
	return s.issuerDER(ctx, c, &api.PKIIssuerRef{Issuer: defaultRef})
}

func (s *Service) rawCAPEM(ctx context.Context, c *op.Call, _ *api.Empty) (*pemFile, error) {
	return s.issuerPEM(ctx, c, &api.PKIIssuerRef{Issuer: defaultRef})
}

func (s *Service) rawChain(ctx context.Context, c *op.Call, _ *api.Empty) (*pemFile, error) {
	st, i, err := s.byRef(ctx, c.Mount, defaultRef)
	if err != nil {
		return nil, err
	}
	return &pemFile{[]byte(strings.Join(st.chainPEM(i), "\n")), i.fresh()}, nil
}

func (s *Service) issuerDER(ctx context.Context, c *op.Call, r *api.PKIIssuerRef) (*derFile, error) {
	_, i, err := s.byRef(ctx, c.Mount, r.Issuer)
	if err != nil {
		return nil, err
	}
	return &derFile{i.rec.Certificate, i.fresh()}, nil
}

func (s *Service) issuerPEM(ctx context.Context, c *op.Call, r *api.PKIIssuerRef) (*pemFile, error) {
	_, i, err := s.byRef(ctx, c.Mount, r.Issuer)
	if err != nil {
		return nil, err
	}
	return &pemFile{[]byte(i.pem), i.fresh()}, nil
}

func (s *Service) issuerJSON(ctx context.Context, c *op.Call, r *api.PKIIssuerRef) (*api.PKIIssuerPublic, error) {
	st, i, err := s.byRef(ctx, c.Mount, r.Issuer)
	if err != nil {
		return nil, err
	}
	return &api.PKIIssuerPublic{
		IssuerID: i.rec.ID, IssuerName: i.rec.Name, Certificate: i.pem + "\n", CAChain: st.chainPEM(i),
	}, nil
}
