package ca

import (
	"embed"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/fault"
)

// kind is a kind of ceremony.
type kind struct {
	name string
	help string
	read func(text []byte, path string) (*ceremony.Document, ceremony.Act, error)
}

var kinds = []kind{
	{"root", "make a root authority: its key in the HSM token, and its certificate", reader[rootPlan]},
	{"intermediate", "certify an authority, of its certificate request", reader[intermediatePlan]},
	{"cross-sign", "certify an authority that certifies itself", reader[crossPlan]},
	{"crl", "make a CRL", reader[crlPlan]},
	{"ocsp-responder", "certify a responder that signs OCSP answers", reader[responderPlan]},
	{"request", "make a key in the HSM token, and a certificate request for another authority", reader[requestPlan]},
}

// Kinds are the names of all kinds with what they do.
func Kinds() (names, help []string) {
	for _, k := range kinds {
		names, help = append(names, k.name), append(help, k.help)
	}
	return names, help
}

// plan is the plan of a kind.
type plan[P any] interface {
	*P
	check() error // what can be said without a token and other files
	act(d *ceremony.Document) ceremony.Act
}

func reader[P any, A plan[P]](text []byte, path string) (*ceremony.Document, ceremony.Act, error) {
	d, p, err := ceremony.Parse[P](text, path)
	if err != nil {
		return nil, nil, err
	}
	if err := A(p).check(); err != nil {
		return nil, nil, err
	}
	return d, A(p).act(d), nil
}

// Parse reads the document of any kind. path is where it is from: files that it
// names are relative to it.
func Parse(text []byte, path string) (*ceremony.Document, ceremony.Act, error) {
	name, err := ceremony.KindOf(text)
	if err != nil {
		return nil, nil, err
	}
	names, _ := Kinds()
	i := slices.Index(names, name)
	if i < 0 {
		return nil, nil, noKind(name)
	}
	d, act, err := kinds[i].read(text, path)
	if err == nil && d.Server.Address != "" {
		return nil, nil, invalid("the ceremony %q is held with an HSM token: it has token, not server", name)
	}
	return d, act, err
}

//go:embed examples/*.yaml
var examples embed.FS

// Example is a document of a kind, with remarks.
func Example(name string) (string, error) {
	b, err := examples.ReadFile("examples/" + name + ".yaml")
	if err != nil {
		return "", noKind(name)
	}
	return string(b), nil
}

func noKind(name string) error {
	names, _ := Kinds()
	return invalid("there is no ceremony %q: it is one of %s", name, strings.Join(names, ", "))
}

func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...)
}
