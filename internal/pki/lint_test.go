package pki

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"testing"
	"time"

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

// TestLintsOfExtensions: lints that are asked only about certificates with an
// extension do not apply to those without it, whatever else these have.
func TestLintsOfExtensions(t *testing.T) {
	t.Parallel()
	_, key := newCSR(t, nil)
	full := pkix.Name{
		CommonName: "www.example.com", SerialNumber: "1", Country: []string{"DE"}, Organization: []string{"O"},
		OrganizationalUnit: []string{"U"}, Locality: []string{"L"}, Province: []string{"P"}, StreetAddress: []string{"S"}, PostalCode: []string{"1"},
	}
	total := 0
	for _, isCA := range []bool{false, true} {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: full, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), IsCA: isCA, BasicConstraintsValid: isCA}
		parent := &x509.Certificate{Subject: pkix.Name{CommonName: "Another"}}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), key)
		must(t, err)
		cert, err := zx509.ParseCertificate(der)
		must(t, err)
		for _, g := range lints().needing {
			if len(g.lints) == 0 {
				t.Errorf("no lint speaks of the extension %v", g.extension)
			}
			for _, l := range g.lints {
				if total++; l.Lint().CheckApplies(cert) {
					t.Errorf("%s applies to a certificate without the extension %v", l.Name, g.extension)
				}
			}
		}
	}
	if total < 2*35 || len(lints().always) < 45 {
		t.Errorf("%d lints need an extension, %d do not: some are lost", total/2, len(lints().always))
	}
}
