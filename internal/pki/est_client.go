package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// estShown is the certificate that a client showed in TLS.
type estShown struct {
	cert *x509.Certificate
	rec  *certRecord // nil if it was not issued here, or is not kept
}

// estCaller finds out whether who calls may enroll: by a client token, whose
// policies the guard has asked, or by a certificate. It returns that certificate,
// nil if there is none.
//
// Without a token, a certificate of the mount's own is good for its renewal only,
// so that whoever has one gets no other names; enrolling takes a certificate of
// the authorities that config/est names.
func (s *Service) estCaller(ctx context.Context, c *op.Call, p *estPlace, chain [][]byte, renews bool) (*estShown, error) {
	_, tokens := p.rules.Authenticators[estToken]
	_, certs := p.rules.Authenticators[estCert]
	byToken := c.TokenID != ""
	if byToken && !tokens {
		return nil, denied("config/est does not allow client tokens: show a client certificate in TLS")
	}
	if !byToken && !certs {
		return nil, denied("config/est does not allow client certificates: use HTTP Basic with a client token as password")
	}
	if len(chain) == 0 {
		if renews {
			return nil, invalid("the client showed no certificate in TLS; renewing needs the one that is to be renewed, at the listener of [front.est]")
		}
		if !byToken {
			return nil, denied("the client showed no certificate in TLS")
		}
		return nil, nil
	}
	if byToken && !renews {
		return nil, nil
	}
	list, err := parseChain(chain)
	if err != nil {
		return nil, err
	}
	own, err := s.ownCertificate(ctx, c.Mount, p.st, list[0])
	if err != nil {
		return nil, err
	}
	if renews {
		if own == nil {
			return nil, refused(list[0], "was not issued by an authority of this mount: only what was can be renewed here")
		}
		return own, nil
	}
	if err := s.fromOutside(p.rules, list); err != nil {
		return nil, err
	}
	if own == nil {
		own = &estShown{cert: list[0]}
	}
	return own, nil
}

func denied(format string, args ...any) error { return fault.New(fault.Denied, format, args...) }

// refused says why a certificate that a client showed is not accepted.
func refused(cert *x509.Certificate, format string, args ...any) error {
	e := fault.New(fault.Denied, format, args...)
	e.Msg = "the client certificate " + serialText(cert.SerialNumber) + " of " + quoted(cert) + " " + e.Msg
	return e
}

// quoted is a subject for messages: it comes from outside.
func quoted(cert *x509.Certificate) string {
	const long = 200
	name := cert.Subject.String()
	if len(name) > long {
		name = strings.ToValidUTF8(name[:long], "") + "…"
	}
	return strconv.Quote(name)
}

func parseChain(chain [][]byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for _, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, denied("a client certificate can't be read: %v", err)
		}
		list = append(list, cert)
	}
	return list, nil
}

// ownCertificate checks a certificate that an issuer here signed: the issuer, the
// times, the purpose, and whether it was revoked. It returns nil if no issuer did.
func (s *Service) ownCertificate(ctx context.Context, mount string, st *state, cert *x509.Certificate) (*estShown, error) {
	i := st.signerOf(cert)
	if i == nil {
		return nil, nil
	}
	now := s.now()
	switch {
	case !i.rec.Revoked.IsZero():
		return nil, refused(cert, "is that of the issuer %s, which is revoked", i.title())
	case now.After(i.cert.NotAfter):
		return nil, refused(cert, "is that of the issuer %s, which expired at %s", i.title(), i.cert.NotAfter.Format(time.RFC3339))
	case now.After(cert.NotAfter):
		return nil, refused(cert, "expired at %s", cert.NotAfter.Format(time.RFC3339))
	case now.Before(cert.NotBefore):
		return nil, refused(cert, "is not valid before %s", cert.NotBefore.Format(time.RFC3339))
	case cert.IsCA:
		return nil, refused(cert, "is that of an authority")
	case !isForClients(cert):
		return nil, refused(cert, "is not for clients: its extended key usages lack clientAuth")
	}
	rec, _, err := s.certificate(ctx, mount, hex.EncodeToString(cert.SerialNumber.Bytes()))
	if fault.KindOf(err) == fault.NotFound {
		return &estShown{cert: cert}, nil
	}
	if err != nil {
		return nil, err
	}
	if !rec.Revoked.IsZero() {
		return nil, refused(cert, "was revoked at %s", rec.Revoked.Format(time.RFC3339))
	}
	if !bytes.Equal(rec.Certificate, cert.Raw) {
		return nil, refused(cert, "has the serial number of another one")
	}
	return &estShown{cert, rec}, nil
}

// signerOf finds the issuer that signed a certificate, nil if none did.
func (st *state) signerOf(cert *x509.Certificate) *issuer {
	for _, i := range st.issuers {
		if bytes.Equal(i.cert.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(i.cert) == nil {
			return i
		}
	}
	return nil
}

// isForClients applies the extended key usages (RFC 5280 section 4.2.1.12).
func isForClients(cert *x509.Certificate) bool {
	return len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 ||
		slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// fromOutside checks a chain against the authorities that config/est names.
func (s *Service) fromOutside(rules *api.PKIEST, list []*x509.Certificate) error {
	roots, err := estAuthorities(rules)
	if err != nil {
		return err
	}
	if roots == nil {
		return refused(list[0], "can't enroll: simplereenroll renews what this mount issued; for anything else use HTTP Basic with a client token as password, or have config/est name the authority in authenticators.cert.ca")
	}
	between := x509.NewCertPool()
	for _, cert := range list[1:] {
		between.AddCert(cert)
	}
	_, err = list[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: s.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return refused(list[0], "is not accepted by authenticators.cert.ca of config/est: %v", err)
	}
	return nil
}
