package pki

import (
	"slices"
	"strings"
	"sync"

	zx509 "github.com/zmap/zcrypto/x509"
	_ "github.com/zmap/zlint/v3" // brings its lints
	"github.com/zmap/zlint/v3/lint"

	"github.com/claviger/claviger/internal/fault"
)

// lints are those of the RFCs about certificates. Rules of browsers for public
// authorities are left out: this one is private.
var lints = sync.OnceValue(func() []*lint.CertificateLint {
	all := lint.GlobalRegistry()
	chosen, err := all.Filter(lint.FilterOptions{IncludeSources: lint.SourceList{
		lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6962, lint.RFC8813,
	}})
	if err != nil {
		chosen = all
	}
	return chosen.CertificateLints().Lints()
})

// linted is a prepared certificate in which the linter found nothing wrong.
type linted struct{ *prepared }

// check lints the certificate with a placeholder for its signature.
func (p *prepared) check() (linted, error) {
	public := p.signerPublic()
	cert, err := zx509.ParseCertificate(p.seal(placeholder(public)))
	if err != nil {
		return linted{}, invalid("the certificate would not be readable: %v", err)
	}
	var broken []string
	config := lint.NewEmptyConfig()
	for _, l := range lints() {
		r := l.Execute(cert, config)
		if (r.Status == lint.Error || r.Status == lint.Fatal) && !slices.Contains(p.profile.lintExceptions, l.Name) {
			broken = append(broken, l.Name)
		}
	}
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
