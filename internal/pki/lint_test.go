package pki

import (
	"crypto/x509"
	"slices"
	"testing"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

// lintAll holds every certificate and CRL that a test made against the lints of
// the RFCs, as other programs see them: with their signatures.
func (e *env) lintAll() {
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lint.SourceList{
		lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6962, lint.RFC8813,
	}})
	if err != nil {
		e.t.Fatal(err)
	}
	complain := func(what string, r *zlint.ResultSet) {
		for name, result := range r.Results {
			if (result.Status == lint.Error || result.Status == lint.Fatal) && !slices.Contains(e.excepted, name) {
				e.t.Errorf("%s breaks %s: %s", what, name, result.Details)
			}
		}
	}
	err = e.each(bg, tableCerts, "", func(key string, entry store.Entry) error {
		var rec certRecord
		if err := entry.Decode(&rec); err != nil || rec.Certificate == nil {
			return err
		}
		c, err := zx509.ParseCertificate(rec.Certificate)
		if err == nil {
			complain("the certificate "+key, zlint.LintCertificateEx(c, registry))
		}
		return err
	})
	if err != nil {
		e.t.Error(err)
	}
	err = e.each(bg, tableCRLs, "", func(key string, entry store.Entry) error {
		var rec crlRecord
		if err := entry.Decode(&rec); err != nil {
			return err
		}
		for _, l := range []signedList{rec.Full, rec.Delta} {
			if l.DER == nil {
				continue
			}
			c, err := zx509.ParseRevocationList(l.DER)
			if err != nil {
				return err
			}
			complain("the CRL of "+key, zlint.LintRevocationListEx(c, registry))
		}
		return nil
	})
	if err != nil {
		e.t.Error(err)
	}
}

// What a lint forbids is not signed, unless the role names the lint.
func TestLintStopsAndExceptions(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	const broken = "e_subject_common_name_max_length"
	e.excepted = []string{broken}
	long := "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.example.com"
	csr, _ := newCSR(t, func(c *x509.CertificateRequest) { c.Subject.CommonName = long })
	e.makeRole("strict", nil)
	_, err := e.signRole(bg, call(), &api.PKISign{Role: "strict", CSR: csr})
	wantFault(t, err, fault.Invalid, broken)
	if e.count(tableIntents) != 0 || e.count(tableCerts) != 1 {
		t.Error("a refused certificate left a record")
	}
	e.makeRole("lax", func(r *api.SetPKIRole) { r.LintExceptions = &[]string{broken} })
	_, err = e.signRole(bg, call(), &api.PKISign{Role: "lax", CSR: csr})
	must(t, err)
}
