package pki

import (
	"context"
	"encoding/asn1"
	"strconv"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func (s *Service) estOperations() []*op.Operation {
	ops := []*op.Operation{
		op.Define(meta("est.config.read", "config/est", op.Read, "Show the rules of the EST server."), s.readESTConfig),
		op.Define(meta("est.config.set", "config/est", op.Write, "Change the rules of the EST server; it is off until enabled."), s.setESTConfig),
	}
	for _, p := range []struct{ name, path string }{{"", "est/"}, {".label", "est/{label}/"}} {
		certs := meta("est.cacerts"+p.name, p.path+"cacerts", op.Read, "EST (RFC 7030): the certificates of the authority.")
		attrs := meta("est.csrattrs"+p.name, p.path+"csrattrs", op.Read, "EST (RFC 7030): what certificate requests should have.")
		certs.Public, attrs.Public = true, true
		ops = append(ops, op.Define(certs, s.estCACerts), op.Define(attrs, s.estCSRAttrs),
			op.Define(meta("est.enroll"+p.name, p.path+"simpleenroll", op.Write, "EST (RFC 7030): certify the key of a request."), s.estEnroll),
			op.Define(meta("est.reenroll"+p.name, p.path+"simplereenroll", op.Write, "EST (RFC 7030): renew the certificate that the client shows in TLS."), s.estReenroll))
	}
	return ops
}

// estPlace is where a client enrolls, and what it gets there.
type estPlace struct {
	rules *api.PKIEST
	st    *state
	role  *api.PKIRole // nil: requests are certified as they are
	name  string       // of the role
}

// estPlace finds the place of a label, "" for none.
func (s *Service) estPlace(ctx context.Context, mount, label string) (*estPlace, error) {
	rules, _, err := s.estRules(ctx, mount)
	if err != nil {
		return nil, err
	}
	if !rules.Enabled {
		return nil, fault.New(fault.NotFound, "the EST server is off: config/est enables it")
	}
	policy := rules.DefaultPathPolicy
	if label != "" {
		policy = rules.LabelToPathPolicy[label]
	}
	if policy == "" {
		return nil, fault.New(fault.NotFound, "there is no EST server with the label %q here", label)
	}
	st, err := s.state(ctx, mount)
	if err != nil {
		return nil, err
	}
	p := &estPlace{rules: rules, st: st}
	if policy == estVerbatim {
		return p, nil
	}
	p.name = strings.TrimPrefix(policy, estRolePolicy)
	if p.role, err = st.role(p.name); err != nil {
		return nil, fault.New(fault.NotFound, "the role %s, which config/est names, is not there any more", p.name)
	}
	return p, nil
}

// issuerRef names the issuer of the place.
func (p *estPlace) issuerRef() string {
	if p.role == nil {
		return defaultRef
	}
	return refOf(p.role.IssuerRef, defaultRef)
}

// estCACerts answers with the certificates from the issuer of a place up to its
// root (RFC 7030 section 4.1.3).
func (s *Service) estCACerts(ctx context.Context, c *op.Call, r *api.ESTGet) (*api.ESTCertificates, error) {
	p, err := s.estPlace(ctx, c.Mount, r.Label)
	if err != nil {
		return nil, err
	}
	i, err := p.st.issuer(p.issuerRef())
	if err != nil {
		return nil, err
	}
	var certs [][]byte
	for _, above := range p.st.chain(i) {
		certs = append(certs, above.rec.Certificate)
	}
	return &api.ESTCertificates{Body: base64Lines(certsOnly(certs...))}, nil
}

// estCSRAttrs answers with what requests should have (RFC 7030 section 4.5.2); 204
// if that is nothing.
func (s *Service) estCSRAttrs(ctx context.Context, c *op.Call, r *api.ESTGet) (*api.ESTAttributes, error) {
	p, err := s.estPlace(ctx, c.Mount, r.Label)
	if err != nil {
		return nil, err
	}
	der, err := csrAttributes(p.attributes())
	if err != nil {
		return nil, err
	}
	return &api.ESTAttributes{Body: base64Lines(der)}, nil
}

// curves are the named curves of roles by the size of their keys (RFC 5480
// section 2.1.1.1).
var curves = map[int]asn1.ObjectIdentifier{
	0: {1, 2, 840, 10045, 3, 1, 7}, 256: {1, 2, 840, 10045, 3, 1, 7}, 384: {1, 3, 132, 0, 34}, 521: {1, 3, 132, 0, 35},
}

// attributes are those of the configuration, or what follows from the role: the
// kind of its keys, and the channel binding if it must be there.
func (p *estPlace) attributes() []string {
	if len(p.rules.CSRAttributes) > 0 {
		return p.rules.CSRAttributes
	}
	var out []string
	if p.rules.RequireChannelBinding {
		out = append(out, oidChallengePassword.String())
	}
	if p.role == nil {
		return out
	}
	switch p.role.KeyType {
	case "ec":
		out = append(out, oidECKey.String()+"="+curves[p.role.KeyBits].String())
	case "rsa":
		out = append(out, oidRSAKey.String()+"="+strconv.Itoa(max(p.role.KeyBits, minRSABits)))
	case "ed25519":
		out = append(out, oidEd25519.String())
	}
	return out
}
