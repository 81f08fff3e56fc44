package pki

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

// estEnroll certifies the key of a request (RFC 7030 section 4.2.1).
func (s *Service) estEnroll(ctx context.Context, c *op.Call, r *api.ESTEnroll) (*api.ESTCertificates, error) {
	p, err := s.estPlace(ctx, c.Mount, r.Label)
	if err != nil {
		return nil, err
	}
	client, err := s.estCaller(ctx, c, p, r.Certificates, false)
	if err != nil {
		return nil, err
	}
	csr, err := p.request(r)
	if err != nil {
		return nil, err
	}
	return s.estCertify(ctx, c, p, csr, client)
}

// estReenroll renews the certificate that the client showed in TLS, for the same
// names (RFC 7030 section 4.2.2), with the same key or another one.
func (s *Service) estReenroll(ctx context.Context, c *op.Call, r *api.ESTEnroll) (*api.ESTCertificates, error) {
	p, err := s.estPlace(ctx, c.Mount, r.Label)
	if err != nil {
		return nil, err
	}
	client, err := s.estCaller(ctx, c, p, r.Certificates, true)
	if err != nil {
		return nil, err
	}
	csr, err := p.request(r)
	if err != nil {
		return nil, err
	}
	if err := p.mayRenew(client, csr); err != nil {
		return nil, err
	}
	if p.role == nil {
		// The request may ask for no more than the certificate has.
		csr.CertificateRequest.Extensions = client.cert.Extensions
	}
	return s.estCertify(ctx, c, p, csr, client)
}

// request reads a request, and checks that it came through this connection if it
// says or must say so.
func (p *estPlace) request(r *api.ESTEnroll) (*request, error) {
	csr, err := estRequest(r.CSR)
	if err != nil {
		return nil, err
	}
	said, ok, err := challengePassword(csr)
	switch {
	case err != nil:
		return nil, err
	case !ok && p.rules.RequireChannelBinding:
		return nil, invalid("the certificate request lacks challengePassword with the channel binding of its connection: tls-exporter (RFC 9266) in base64")
	case !ok:
		return csr, nil
	case len(r.ChannelBinding) == 0:
		return nil, invalid("the certificate request has a challengePassword, which is the channel binding of a TLS connection; this one has none")
	}
	want := base64.StdEncoding.EncodeToString(r.ChannelBinding)
	if subtle.ConstantTimeCompare([]byte(want), []byte(said)) != 1 {
		return nil, invalid("challengePassword of the certificate request is not the channel binding of this connection: tls-exporter (RFC 9266) in base64, or absent")
	}
	return csr, nil
}

// mayRenew tells whether a request is for what a certificate has: the same place,
// the same names.
func (p *estPlace) mayRenew(client *estShown, csr *request) error {
	if client.rec == nil {
		return refused(client.cert, "is not kept here (no_store), so that it can't be renewed; enroll anew")
	}
	if client.rec.Role != p.name {
		return invalid("the client certificate was issued by %s and this is the place of %s: renew it where it was issued", roleTitle(client.rec.Role), roleTitle(p.name))
	}
	if was, is := rdns(client.cert.Subject.Names), rdns(csr.Subject.Names); !slices.Equal(was, is) {
		return invalid("the request has the subject %q and the certificate that is to be renewed %q: they must be the same (RFC 7030 section 4.2.2)",
			strings.Join(is, ","), strings.Join(was, ","))
	}
	kept, err := sansOf(client.cert)
	if err != nil {
		return err
	}
	if was, is := kept.texts(), csr.sans.texts(); !slices.Equal(was, is) {
		return invalid("the request has the alternative names %q and the certificate that is to be renewed %q: they must be the same (RFC 7030 section 4.2.2)", is, was)
	}
	return nil
}

func roleTitle(name string) string {
	if name == "" {
		return estVerbatim
	}
	return "the role " + name
}

// rdns are the parts of a subject in a form that can be compared, whatever kinds
// of texts they are encoded as.
func rdns(names []pkix.AttributeTypeAndValue) []string {
	out := []string{}
	for _, n := range names {
		out = append(out, fmt.Sprintf("%v=%v", n.Type, n.Value))
	}
	return out
}

// sansOf are the alternative names of a certificate.
func sansOf(cert *x509.Certificate) (*sans, error) {
	for _, e := range cert.Extensions {
		if e.Id.Equal(oidSAN) {
			return parseSANs(e.Value)
		}
	}
	return new(sans), nil
}

// texts are the names in a form that can be compared; their order is no matter.
func (s *sans) texts() []string {
	out := []string{}
	for _, name := range s.dns {
		out = append(out, "DNS:"+strings.ToLower(name))
	}
	for _, name := range s.emails {
		out = append(out, "email:"+name)
	}
	for _, ip := range s.ips {
		out = append(out, "IP:"+ip.Unmap().String())
	}
	for _, uri := range s.uris {
		out = append(out, "URI:"+uri)
	}
	for _, o := range s.others {
		out = append(out, fmt.Sprintf("other:%s;%s", o.oid, o.value))
	}
	slices.Sort(out)
	return out
}

// estCertify makes the certificate and the answer, which has it alone (RFC 7030
// section 4.2.3).
func (s *Service) estCertify(ctx context.Context, c *op.Call, p *estPlace, csr *request, client *estShown) (*api.ESTCertificates, error) {
	profile, err := s.estProfile(c, p, csr)
	if err != nil {
		return nil, err
	}
	out, err := s.certify(ctx, c.Mount, p.st, p.issuerRef(), profile, api.PKIForm{Format: "der"}, true)
	if err != nil {
		return nil, err
	}
	der, err := base64.StdEncoding.DecodeString(out.Certificate)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	answer := &api.ESTCertificates{SerialNumber: out.SerialNumber, Subject: cert.Subject.String(), Body: base64Lines(certsOnly(der))}
	if client != nil {
		answer.ShownSerial, answer.ShownSubject = serialText(client.cert.SerialNumber), client.cert.Subject.String()
	}
	return answer, nil
}

// estProfile is what a place certifies of a request: what its role allows, or the
// request as it is.
func (s *Service) estProfile(c *op.Call, p *estPlace, csr *request) (*profile, error) {
	if p.role == nil {
		return s.verbatimProfile(c, verbatimRole(), csr, &api.PKIValidity{})
	}
	if err := checkRequestKey(p.role, csr.PublicKey); err != nil {
		return nil, err
	}
	// Serial numbers of devices stand in their subjects; a role that does not
	// allow one refuses it rather than leaving it out.
	out, err := s.roleProfile(c, p.role, &api.PKINames{SerialNumber: csr.Subject.SerialNumber}, csr, &api.PKIValidity{})
	if err != nil {
		return nil, err
	}
	out.role, out.spki = p.name, csr.RawSubjectPublicKeyInfo
	out.keyUsage &= possibleUsage(csr.PublicKey)
	return out, nil
}
