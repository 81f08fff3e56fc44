package pki

import (
	"slices"
	"strings"
	"sync"

	"github.com/zmap/zcrypto/encoding/asn1"
	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zcrypto/x509/pkix"
	_ "github.com/zmap/zlint/v3" // brings its lints
	"github.com/zmap/zlint/v3/lint"
	"github.com/zmap/zlint/v3/util"

	"github.com/claviger/claviger/internal/fault"
)

// lintSet are the lints that can refuse a certificate: those of the RFCs about
// certificates that find errors. Rules of browsers for public authorities are
// left out: this one is private. So are lints that only warn: nobody would read it.
type lintSet struct {
	always  []*lint.CertificateLint
	needing []needing
	config  lint.Configuration // the lints' defaults
}

// needing are lints that do not apply to a certificate without an extension.
// Asking them costs more than most lints that do apply.
type needing struct {
	extension asn1.ObjectIdentifier
	lints     []*lint.CertificateLint
}

// lintNeeds says of which extension the names of lints speak.
var lintNeeds = []struct {
	extension asn1.ObjectIdentifier
	prefixes  []string
}{
	{util.IssuerAlternateNameOID, []string{"e_ext_ian_"}},
	{util.NameConstOID, []string{"e_name_constraint_", "e_ext_name_constraints_"}},
	{util.PolicyConstOID, []string{"e_ext_policy_constraints_"}},
	{util.PolicyMapOID, []string{"e_ext_policy_map_"}},
	{util.CertPolicyOID, []string{"e_ext_cert_policy_"}},
	{util.InhibitAnyPolicyOID, []string{"e_inhibit_any_policy_"}},
	{util.FreshCRLOID, []string{"e_ext_freshest_crl_"}},
	{util.CrlDistOID, []string{"e_distribution_point_"}},
	{util.AiaOID, []string{"e_ext_aia_"}},
	{util.SubjectDirAttrOID, []string{"e_ext_subject_directory_attr_"}},
	{util.SubjectInfoAccessOID, []string{"e_subject_info_access_"}},
	{util.CtPoisonOID, []string{"e_precert_"}},
	{util.SubjectAlternateNameOID, []string{"e_ext_san_", "e_international_dns_name_"}},
}

var lints = sync.OnceValue(func() *lintSet {
	all := lint.GlobalRegistry()
	chosen, err := all.Filter(lint.FilterOptions{IncludeSources: lint.SourceList{
		lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6962, lint.RFC8813,
	}})
	if err != nil {
		chosen = all
	}
	out := &lintSet{needing: make([]needing, len(lintNeeds)), config: lint.NewEmptyConfig()}
	for n := range lintNeeds {
		out.needing[n].extension = lintNeeds[n].extension
	}
	for _, l := range chosen.CertificateLints().Lints() {
		// "e" is that of errors; a lint of another name never finds one.
		if strings.HasPrefix(l.Name, "e_") {
			out.add(l)
		}
	}
	return out
})

func (s *lintSet) add(l *lint.CertificateLint) {
	to := &s.always
	for n := range lintNeeds {
		if slices.ContainsFunc(lintNeeds[n].prefixes, func(p string) bool { return strings.HasPrefix(l.Name, p) }) {
			to = &s.needing[n].lints
		}
	}
	*to = append(*to, l)
}

// broken are the names of the lints that a certificate breaks.
func (s *lintSet) broken(cert *zx509.Certificate) []string {
	var names []string
	run := func(lints []*lint.CertificateLint) {
		for _, l := range lints {
			if r := l.Execute(cert, s.config); r.Status == lint.Error || r.Status == lint.Fatal {
				names = append(names, l.Name)
			}
		}
	}
	run(s.always)
	for _, g := range s.needing {
		if slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(g.extension) }) {
			run(g.lints)
		}
	}
	return names
}

// linted is a prepared certificate in which the linter found nothing wrong.
type linted struct{ *prepared }

// check lints the certificate with a placeholder for its signature.
func (p *prepared) check() (linted, error) {
	public := p.signerPublic()
	cert, err := zx509.ParseCertificate(p.seal(placeholder(public)))
	if err != nil {
		return linted{}, invalid("the certificate would not be readable: %v", err)
	}
	broken := slices.DeleteFunc(lints().broken(cert), func(name string) bool {
		return slices.Contains(p.profile.lintExceptions, name)
	})
	if len(broken) == 0 {
		return linted{p}, nil
	}
	slices.Sort(broken)
	return linted{}, lintFault(broken)
}

func lintFault(broken []string) error {
	var reasons []string
	for _, name := range broken {
		if l := lint.GlobalRegistry().CertificateLints().ByName(name); l != nil {
			reasons = append(reasons, name+" ("+l.Description+")")
		} else {
			reasons = append(reasons, name)
		}
	}
	return fault.New(fault.Invalid, "the certificate would break the rules for certificates: %s", strings.Join(reasons, "; ")).
		WithHint("ask for something else; where the rule must be broken, name it in lint_exceptions of the role")
}
