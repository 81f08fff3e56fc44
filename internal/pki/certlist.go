package pki

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

func (s *Service) certListOperations() []*op.Operation {
	return []*op.Operation{
		op.Define(meta("certs.list", "certs", op.List, "List the serial numbers of certificates."), s.listCerts),
		op.Define(meta("certs.detailed", "certs/detailed", op.List, "List certificates with their names and times."), s.listDetailed),
		op.Define(meta("certs.revoked", "certs/revoked", op.List, "List the serial numbers of revoked certificates."), s.listRevoked),
	}
}

func (s *Service) listCerts(ctx context.Context, c *op.Call, r *api.PKICertsQuery) (*api.Keys, error) {
	if *r == (api.PKICertsQuery{After: r.After, Limit: r.Limit}) {
		after, err := listAfter(c.Mount, r)
		if err != nil {
			return nil, err
		}
		return s.listSerials(ctx, tableCerts, c.Mount, after, r.Limit)
	}
	l, err := s.listDetailed(ctx, c, r)
	if err != nil {
		return nil, err
	}
	return &api.Keys{Keys: l.Keys}, nil
}

// listAfter is the key of a record behind which a list begins, "" for the first.
func listAfter(mount string, r *api.PKICertsQuery) (string, error) {
	if r.Limit < 0 {
		return "", invalid("limit is negative; it is how many certificates are listed, 0 for all")
	}
	if r.After == "" {
		return "", nil
	}
	digits, err := serialRecord(r.After)
	return mount + digits, err
}

// listSerials does not read the records: of a list of all certificates only
// their serial numbers are in memory.
func (s *Service) listSerials(ctx context.Context, table, mount, after string, limit int) (*api.Keys, error) {
	names, err := s.store.Names(ctx, table, mount, after, limit)
	if err != nil {
		return nil, storeFault(err, "list the certificates")
	}
	out := &api.Keys{Keys: make([]string, 0, len(names))}
	for _, n := range names {
		out.Keys = append(out.Keys, recordSerial(n))
	}
	return out, nil
}

// recordSerial is the serial number at the end of a record's key.
func recordSerial(key string) string {
	serial, err := hex.DecodeString(key[strings.LastIndex(key, "/")+1:])
	if err != nil {
		return "" // no record has such a key
	}
	return colons(serial)
}

func (s *Service) listRevoked(ctx context.Context, c *op.Call, _ *api.Empty) (*api.Keys, error) {
	return s.listSerials(ctx, tableRevoked, c.Mount, "", 0)
}

func (s *Service) listDetailed(ctx context.Context, c *op.Call, r *api.PKICertsQuery) (*api.PKICertList, error) {
	q := *r
	after, err := listAfter(c.Mount, r)
	if err != nil {
		return nil, err
	}
	if q.Issuer != "" {
		_, i, err := s.byRef(ctx, c.Mount, q.Issuer)
		if err != nil {
			return nil, err
		}
		q.Issuer = i.rec.ID
	}
	out := &api.PKICertList{Keys: []string{}, KeyInfo: map[string]api.PKICertInfo{}}
	for {
		page, err := s.store.List(ctx, tableCerts, c.Mount, after, listPage)
		if err != nil {
			return nil, storeFault(err, "list the certificates")
		}
		for _, e := range page {
			after = e.Key
			if err := s.listOne(&q, &e, out); err != nil {
				return nil, storeFault(err, "list the certificates")
			}
			if q.Limit > 0 && len(out.Keys) == q.Limit {
				return out, nil
			}
		}
		if len(page) < listPage {
			return out, ctx.Err()
		}
	}
}

// listOne adds a certificate to the list if it is asked for.
func (s *Service) listOne(q *api.PKICertsQuery, e *store.Entry, out *api.PKICertList) error {
	var rec certRecord
	if err := e.Decode(&rec); err != nil {
		return err
	}
	now := s.now()
	if rec.Certificate == nil || q.Role != "" && q.Role != rec.Role || q.Issuer != "" && q.Issuer != rec.IssuerID ||
		q.Revoked != nil && *q.Revoked == rec.Revoked.IsZero() ||
		q.ExpiresWithin != 0 && (rec.NotAfter.Before(now) || rec.NotAfter.After(now.Add(q.ExpiresWithin.Duration()))) {
		return nil
	}
	cert, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return err
	}
	info := api.PKICertInfo{
		CommonName: cert.Subject.CommonName, Names: namesOf(cert), IssuerID: rec.IssuerID, Role: rec.Role,
		NotBefore: cert.NotBefore.Unix(), Expiration: cert.NotAfter.Unix(), RevocationTime: unix(rec.Revoked),
	}
	fits := func(name string) bool { return glob(q.Name, name) }
	if q.Name != "" && !fits(info.CommonName) && !slices.ContainsFunc(info.Names, fits) {
		return nil
	}
	if info.IssuerID == selfIssued {
		info.IssuerID = ""
	}
	serial := recordSerial(e.Key)
	out.Keys = append(out.Keys, serial)
	out.KeyInfo[serial] = info
	return nil
}

// namesOf are the alternative names of a certificate.
func namesOf(cert *x509.Certificate) []string {
	names := slices.Concat([]string{}, cert.DNSNames, cert.EmailAddresses)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	for _, u := range cert.URIs {
		names = append(names, u.String())
	}
	return names
}

// unix is a Unix time, 0 for none.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
