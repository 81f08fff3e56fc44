package pki

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/pki/acme"
)

// finalize makes the certificate of an order (RFC 8555 section 7.4).
func (s *Service) finalize(ctx context.Context, c *acmeCall) (*api.ACMEAnswer, error) {
	o, err := s.orderByID(ctx, c, c.parts[1])
	if err != nil {
		return nil, err
	}
	status, err := s.orderStatus(ctx, c, o)
	if err != nil {
		return nil, err
	}
	if status != statusReady {
		return nil, acme.New(acme.OrderNotReady, "the order is %s; it must be ready", status)
	}
	if err := c.useProfile(o.Profile); err != nil {
		return nil, err
	}
	p, err := s.orderProfile(c, o)
	if err != nil {
		return nil, err
	}
	// Whoever comes second finds another version of the order.
	o.Status, o.Began = statusProcessing, s.now().UTC()
	if err := s.putOrder(ctx, c.mount, o); err != nil {
		if fault.KindOf(err) == fault.Conflict {
			return nil, acme.New(acme.OrderNotReady, "the order is being finalized")
		}
		return nil, err
	}
	if err := s.issueOrder(ctx, c, o, p); err != nil {
		return nil, s.backToReady(ctx, c, o, err)
	}
	return s.showOrder(ctx, c, o, http.StatusOK)
}

// backToReady lets a client try again what failed.
func (s *Service) backToReady(ctx context.Context, c *acmeCall, o *acmeOrder, failed error) error {
	o.Status = ""
	if err := s.putOrder(context.WithoutCancel(ctx), c.mount, o); err != nil {
		s.log.Error("an order stays in processing for a while", "mount", c.mount, "order", o.ID, "error", err)
	}
	if fault.KindOf(failed) == fault.Invalid {
		return acme.New(acme.BadCSR, "%s", fault.Message(failed))
	}
	return failed
}

// issueOrder makes the certificate, and records whose it is.
func (s *Service) issueOrder(ctx context.Context, c *acmeCall, o *acmeOrder, p *profile) error {
	out, err := s.certify(ctx, c.mount, c.st, refOf(c.role.IssuerRef, defaultRef), p, api.PKIForm{}, true)
	if err != nil {
		return err
	}
	if o.Serial, err = serialRecord(out.SerialNumber); err != nil {
		return err
	}
	o.Status, o.CertEnds = statusValid, p.notAfter
	owner, err := s.store.Put(tableACMECerts, c.mount+o.Serial, 0, acmeCertOwner{Account: o.Account})
	if err != nil {
		return storeFault(err, "store the owner of the certificate")
	}
	return s.putOrder(ctx, c.mount, o, owner)
}

// orderProfile is what an order certifies: the names of the order and the key of
// the request; of the rest of the request nothing.
func (s *Service) orderProfile(c *acmeCall, o *acmeOrder) (*profile, error) {
	var r struct {
		CSR string `json:"csr"`
	}
	if err := c.decode(&r); err != nil {
		return nil, err
	}
	der, err := base64.RawURLEncoding.DecodeString(r.CSR)
	if err != nil || len(der) == 0 {
		return nil, acme.New(acme.Malformed, "csr is no certificate request in DER, in base64url without padding")
	}
	p, err := s.profileOf(c, o, der)
	if _, ok := errors.AsType[*api.ACMEProblem](err); !ok && fault.KindOf(err) == fault.Invalid && err != nil {
		return nil, acme.New(acme.BadCSR, "%s", fault.Message(err))
	}
	return p, err
}

func (s *Service) profileOf(c *acmeCall, o *acmeOrder, der []byte) (*profile, error) {
	csr, err := parseRequestDER(der)
	if err != nil {
		return nil, err
	}
	names, err := orderNames(o, csr)
	if err != nil {
		return nil, err
	}
	if err := checkRequestKey(c.role, csr.PublicKey); err != nil {
		return nil, err
	}
	if same, err := c.isAccountKey(csr); err != nil || same {
		return nil, acme.New(acme.BadCSR, "the key of the request is that of the account; a certificate needs a key of its own")
	}
	role := *c.role
	if names.CommonName == "" && role.RequireCN {
		role.RequireCN = false
		if len(names.AltNames) > 0 && len(names.AltNames[0]) <= maxCommonName && !strings.HasPrefix(names.AltNames[0], "*") {
			names.CommonName = names.AltNames[0]
		}
	}
	p, err := s.roleProfile(c.op, &role, names, nil, &api.PKIValidity{NotAfter: o.NotAfter})
	if err != nil {
		return nil, err
	}
	p.role, p.spki = c.name, csr.RawSubjectPublicKeyInfo
	p.keyUsage &= possibleUsage(csr.PublicKey)
	return p, nil
}

// maxCommonName is ub-common-name of RFC 5280 appendix A.
const maxCommonName = 64

func (c *acmeCall) isAccountKey(csr *request) (bool, error) {
	key, err := c.account.key()
	if err != nil {
		return false, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Key)
	return err == nil && string(spki) == string(csr.RawSubjectPublicKeyInfo), err
}

// orderNames compares the names of a request with those of its order: they must
// be the same, whether as common name or as alternative names.
func orderNames(o *acmeOrder, csr *request) (*api.PKINames, error) {
	if len(csr.sans.emails)+len(csr.sans.uris)+len(csr.sans.others) > 0 {
		return nil, acme.New(acme.BadCSR, "the request has alternative names that are neither host names nor addresses")
	}
	asked := map[string]bool{}
	for _, name := range csr.sans.dns {
		asked[strings.ToLower(name)] = true
	}
	for _, a := range csr.sans.ips {
		asked[a.String()] = true
	}
	cn := strings.ToLower(csr.Subject.CommonName)
	if cn != "" {
		asked[cn] = true
	}
	names := &api.PKINames{CommonName: cn}
	for _, id := range o.Identifiers {
		if !asked[id.Value] {
			return nil, acme.New(acme.BadCSR, "the request lacks %s, which the order has", id.Value)
		}
		delete(asked, id.Value)
		if id.Type == "ip" {
			names.IPSANs = append(names.IPSANs, id.Value)
			continue
		}
		names.AltNames = append(names.AltNames, id.Value)
	}
	for name := range asked {
		return nil, acme.New(acme.BadCSR, "the request has %q, which the order lacks", name)
	}
	// An address is no host name: it stands among the alternative names only.
	if _, err := netip.ParseAddr(cn); err == nil {
		names.CommonName = ""
	}
	slices.Sort(names.AltNames)
	return names, nil
}

// acmeCert answers with the certificate of an order, and those above it (RFC
// 8555 section 7.4.2), but for a root: that is sent only if it is the issuer
// itself, for clients that want at least two certificates.
func (s *Service) acmeCert(ctx context.Context, c *acmeCall) (*api.ACMEAnswer, error) {
	o, err := s.orderByID(ctx, c, c.parts[1])
	if err != nil {
		return nil, err
	}
	if o.Status != statusValid {
		return nil, acme.New(acme.OrderNotReady, "the order has no certificate")
	}
	rec, _, err := s.certificate(ctx, c.mount, o.Serial)
	if err != nil {
		return nil, err
	}
	text := pemText(rec.Certificate)
	if i := c.st.issuers[rec.IssuerID]; i != nil {
		for _, above := range c.st.chain(i) {
			if !above.selfSigned() || above == i {
				text += pemText(above.rec.Certificate)
			}
		}
	}
	return &api.ACMEAnswer{Status: http.StatusOK, ContentType: "application/pem-certificate-chain", Body: text}, nil
}

// pemText is a certificate in PEM with its final line end (RFC 8555 section 9.1).
func pemText(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}))
}
