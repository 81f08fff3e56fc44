package pki

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/pki/acme"
	"github.com/claviger/claviger/internal/store"
)

// acmeRevoke revokes a certificate for the account that ordered it, for one that
// controls all its names, or for the holder of its key (RFC 8555 section 7.6).
func (s *Service) acmeRevoke(ctx context.Context, c *acmeCall) (*api.ACMEAnswer, error) {
	var r struct {
		Certificate string `json:"certificate"`
		Reason      int    `json:"reason"`
	}
	if err := c.decode(&r); err != nil {
		return nil, err
	}
	der, err := base64.RawURLEncoding.DecodeString(r.Certificate)
	if err != nil {
		return nil, acme.New(acme.Malformed, "certificate is not base64url without padding")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, acme.New(acme.Malformed, "certificate is no certificate in DER")
	}
	// What only the authority can know is not the client's to say.
	if !slices.Contains([]int{0, 1, 3, 4, 5}, r.Reason) {
		return nil, acme.New(acme.BadRevocationReason, "the reason %d is not taken: 0, 1, 3, 4 and 5 are", r.Reason)
	}
	serial := hex.EncodeToString(cert.SerialNumber.Bytes())
	rec, _, err := s.certificate(ctx, c.mount, serial)
	if err != nil && fault.KindOf(err) != fault.NotFound {
		return nil, err
	}
	if rec == nil || string(rec.Certificate) != string(der) {
		return nil, acmeNotFound("this certificate was not issued here")
	}
	if err := s.mayRevoke(ctx, c, cert, serial); err != nil {
		return nil, err
	}
	if !rec.Revoked.IsZero() {
		return nil, acme.New(acme.AlreadyRevoked, "the certificate was revoked at %s", rec.Revoked.Format(time.RFC3339))
	}
	if _, err := s.revokeNamed(ctx, c.op, &api.PKIRevoke{SerialNumber: serial, Reason: r.Reason}, nil); err != nil {
		return nil, err
	}
	return &api.ACMEAnswer{Status: http.StatusOK}, nil
}

func (s *Service) mayRevoke(ctx context.Context, c *acmeCall, cert *x509.Certificate, serial string) error {
	refused := acme.New(acme.Unauthorized, "the request is signed neither by the certificate's key, nor by the account that ordered it, nor by one that controls its names")
	if c.account == nil {
		spki, err := x509.MarshalPKIXPublicKey(c.message.JWK.Key)
		if err != nil || string(spki) != string(cert.RawSubjectPublicKeyInfo) {
			return refused
		}
		return nil
	}
	var owner acmeCertOwner
	_, err := s.store.Get(ctx, tableACMECerts, c.mount+serial, &owner)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return storeFault(err, "find who ordered the certificate")
	}
	if owner.Account == c.account.ID {
		return nil
	}
	controls, err := s.controls(ctx, c, cert)
	if err == nil && !controls {
		err = refused
	}
	return err
}

// controls tells whether the account has valid authorizations for all names of
// a certificate.
func (s *Service) controls(ctx context.Context, c *acmeCall, cert *x509.Certificate) (bool, error) {
	names := map[string]bool{}
	for _, n := range cert.DNSNames {
		names[n] = true
	}
	for _, ip := range cert.IPAddresses {
		names[ip.String()] = true
	}
	if len(names) == 0 || len(cert.EmailAddresses)+len(cert.URIs) > 0 {
		return false, nil
	}
	err := s.each(ctx, tableACMEAuthz, c.mount+c.account.ID+"/", func(_ string, e store.Entry) error {
		var a acmeAuthz
		if err := e.Decode(&a); err != nil {
			return err
		}
		if a.status(s.now()) == statusValid {
			name := a.Identifier.Value
			if a.Wildcard {
				name = "*." + name
			}
			delete(names, name)
		}
		return nil
	})
	return err == nil && len(names) == 0, storeFault(err, "read the authorizations")
}

// renewalPoll is how often clients look for their renewal window, in seconds.
const renewalPoll = 6 * 60 * 60

// renewalInfo says when a certificate is best renewed (RFC 9773 section 4.2): in
// the last third of its life, at once if it was revoked.
func (s *Service) renewalInfo(ctx context.Context, d *acmeDir, id string) (*api.ACMEAnswer, error) {
	rec, cert, _, err := s.certByARI(ctx, d, id)
	if err != nil {
		return nil, err
	}
	life := cert.NotAfter.Sub(cert.NotBefore)
	start, end := cert.NotAfter.Add(-life/3), cert.NotAfter.Add(-life/6)
	if !rec.Revoked.IsZero() {
		start, end = rec.Revoked.Add(-time.Hour), rec.Revoked
	}
	type window struct {
		Start string `json:"start"`
		End   string `json:"end"`
	}
	answer, err := jsonAnswer(http.StatusOK, map[string]window{"suggestedWindow": {start.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339)}})
	answer.RetryAfter = renewalPoll
	return answer, err
}

// certByARI finds a certificate by its identifier of RFC 9773 section 4.1: the
// key identifier of its issuer, a dot, and its serial number as DER has it.
func (s *Service) certByARI(ctx context.Context, d *acmeDir, id string) (*certRecord, *x509.Certificate, string, error) {
	authority, number, ok := strings.Cut(id, ".")
	aki, err := base64.RawURLEncoding.DecodeString(authority)
	raw, err2 := base64.RawURLEncoding.DecodeString(number)
	if !ok || err != nil || err2 != nil || len(raw) == 0 || len(raw) > 64 {
		return nil, nil, "", acme.New(acme.Malformed, "%q is no identifier of a certificate: two parts in base64url with a dot between", id)
	}
	serial := hex.EncodeToString(new(big.Int).SetBytes(raw).Bytes())
	none := acmeNotFound("there is no such certificate")
	if serial == "" {
		return nil, nil, "", none
	}
	rec, _, err := s.certificate(ctx, d.mount, serial)
	if fault.KindOf(err) == fault.NotFound && err != nil || err == nil && rec.Certificate == nil {
		return nil, nil, "", none
	}
	if err != nil {
		return nil, nil, "", err
	}
	cert, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return nil, nil, "", fault.Wrap(fault.Internal, err, "can't read the certificate")
	}
	if string(cert.AuthorityKeyId) != string(aki) {
		return nil, nil, "", none
	}
	return rec, cert, serial, nil
}

// replaces marks the certificate that an order replaces (RFC 9773 section 5). One
// order replaces a certificate; another one may once that has become invalid.
func (s *Service) replaces(ctx context.Context, c *acmeCall, o *acmeOrder, id string) (store.Change, error) {
	_, cert, serial, err := s.certByARI(ctx, c.acmeDir, id)
	if err != nil {
		return store.Change{}, err
	}
	owner, version, err := getACME[acmeCertOwner](ctx, s, tableACMECerts, c.mount+serial, acmeNotFound("there is no such certificate"))
	if err != nil {
		return store.Change{}, err
	}
	if owner.Account != c.account.ID {
		return store.Change{}, acme.New(acme.Unauthorized, "the certificate that is to be replaced is of another account")
	}
	if !slices.ContainsFunc(o.Identifiers, func(i api.ACMEIdentifier) bool {
		return slices.Contains(cert.DNSNames, i.Value) || isIPOf(cert, i.Value)
	}) {
		return store.Change{}, acme.New(acme.Malformed, "the certificate that is to be replaced has none of the names of the order")
	}
	if owner.Replaced != "" {
		if taken, err := s.orderStands(ctx, c, owner.Replaced); err != nil || taken {
			return store.Change{}, cmp.Or(err, error(acme.New(acme.AlreadyReplaced, "another order replaces this certificate already")))
		}
	}
	o.Replaces = id
	owner.Replaced = o.ID
	put, err := s.store.Put(tableACMECerts, c.mount+serial, version, owner)
	return put, storeFault(err, "store what is replaced")
}

// orderStands tells whether there is an order that is not invalid.
func (s *Service) orderStands(ctx context.Context, c *acmeCall, id string) (bool, error) {
	o, err := s.orderByID(ctx, c, id)
	if fault.KindOf(err) == fault.NotFound && err != nil {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	status, err := s.orderStatus(ctx, c, o)
	return status != statusInvalid, err
}

func isIPOf(cert *x509.Certificate, text string) bool {
	for _, ip := range cert.IPAddresses {
		if ip.String() == text {
			return true
		}
	}
	return false
}
