// Package lint holds what an authority signed against zlint's lints of the RFCs,
// as other programs see it: with its signature.
package lint

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
	"golang.org/x/crypto/ocsp"
)

// lints are those that an authority of its own house has to keep; the rules of
// browsers are not among them.
var lints = func() lint.Registry {
	r, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lint.SourceList{
		lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6962, lint.RFC8813,
	}})
	if err != nil {
		panic(err)
	}
	return r
}()

// Certificate returns what is wrong with a certificate in DER.
func Certificate(der []byte) []string {
	c, err := zx509.ParseCertificate(der)
	if err != nil {
		return []string{err.Error()}
	}
	return found(zlint.LintCertificateEx(c, lints))
}

// CRL returns what is wrong with a certificate revocation list in DER.
func CRL(der []byte) []string {
	c, err := zx509.ParseRevocationList(der)
	if err != nil {
		return []string{err.Error()}
	}
	return found(zlint.LintRevocationListEx(c, lints))
}

// OCSP returns what is wrong with an OCSP answer for one certificate in DER.
func OCSP(der []byte) []string {
	r, err := ocsp.ParseResponse(der, nil)
	if err != nil {
		return []string{err.Error()}
	}
	return found(zlint.LintOcspResponse(r))
}

func found(r *zlint.ResultSet) (complaints []string) {
	for name, result := range r.Results {
		if result.Status == lint.Error || result.Status == lint.Fatal {
			complaints = append(complaints, name+": "+result.Details)
		}
	}
	return complaints
}

// PEM returns what is wrong with the certificates and CRLs in a text.
func PEM(text []byte) (complaints []string) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			complaints = append(complaints, Certificate(block.Bytes)...)
		case "X509 CRL":
			complaints = append(complaints, CRL(block.Bytes)...)
		}
	}
	return complaints
}

// Get asks a server: method GET or LIST and a path below /v1/.
type Get func(method, path string) (status int, body []byte, err error)

// Authorities lints the certificates, the CRLs and an OCSP answer for each
// certificate of all authorities of a server, and returns how many there were of all.
// A server that can't be asked any more has none.
func Authorities(get Get) (linted int, complaints []string) {
	var mounts map[string]struct{ Type string }
	if read(get, "GET", "sys/mounts", &mounts) != nil {
		return 0, nil
	}
	for path, m := range mounts {
		if m.Type != "pki" {
			continue
		}
		a := authority{get: get, mount: path}
		a.lint()
		linted += a.linted
		complaints = append(complaints, a.complaints...)
	}
	return linted, complaints
}

type authority struct {
	get        Get
	mount      string
	linted     int
	complaints []string
}

func (a *authority) note(what string, complaints []string) {
	a.linted++
	for _, c := range complaints {
		a.complaints = append(a.complaints, fmt.Sprintf("%s%s breaks %s", a.mount, what, c))
	}
}

func (a *authority) lint() {
	issuers := map[string]*zx509.Certificate{} // by the DER of their subjects
	for _, id := range a.list("issuers") {
		der := a.certificate("issuer/" + id + "/json")
		if c, err := zx509.ParseCertificate(der); err == nil {
			issuers[string(c.RawSubject)] = c
		}
		for _, path := range []string{"/crl/der", "/crl/delta/der"} {
			if status, body, err := a.get("GET", a.mount+"issuer/"+id+path); err == nil && status == 200 {
				a.note("issuer/"+id+path, CRL(body))
			}
		}
	}
	for _, serial := range a.list("certs") {
		if der := a.certificate("cert/" + serial); der != nil {
			a.answer(serial, der, issuers)
		}
	}
}

// certificate lints the certificate that a path shows.
func (a *authority) certificate(path string) []byte {
	var shown struct{ Certificate string }
	if read(a.get, "GET", a.mount+path, &shown) != nil {
		return nil
	}
	block, _ := pem.Decode([]byte(shown.Certificate))
	if block == nil {
		a.note(path, []string{"the form of PEM"})
		return nil
	}
	a.note(path, Certificate(block.Bytes))
	return block.Bytes
}

// answer lints the OCSP answer for a certificate, if its issuer is of the mount
// and answers.
func (a *authority) answer(serial string, der []byte, issuers map[string]*zx509.Certificate) {
	cert, err := zx509.ParseCertificate(der)
	if err != nil {
		return
	}
	issuer := issuers[string(cert.RawIssuer)]
	if issuer == nil {
		return
	}
	request, err := ocspRequest(cert.Raw, issuer.Raw)
	if err != nil {
		a.note("cert/"+serial, []string{err.Error()})
		return
	}
	status, body, err := a.get("GET", a.mount+"ocsp/"+url.PathEscape(base64.StdEncoding.EncodeToString(request)))
	if err == nil && status == 200 && len(body) > len(ocsp.InternalErrorErrorResponse) {
		a.note("ocsp of "+serial, OCSP(body))
	}
}

func (a *authority) list(path string) []string {
	var keys struct{ Keys []string }
	if read(a.get, "LIST", a.mount+path, &keys) != nil {
		return nil
	}
	return keys.Keys
}

// read decodes the data of an answer.
func read(get Get, method, path string, data any) error {
	status, body, err := get(method, path)
	if err != nil {
		return err
	}
	if status != 200 {
		return fmt.Errorf("%s %s: status %d", method, path, status)
	}
	var answer struct{ Data json.RawMessage }
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	return json.Unmarshal(answer.Data, data)
}

// Text returns what is wrong with the certificates and CRLs that stand in PEM in
// an answer in JSON.
func Text(answer []byte) []string {
	return PEM([]byte(strings.NewReplacer(`\n`, "\n", `"`, "\n").Replace(string(answer))))
}

// ocspRequest asks for the state of a certificate; both are in DER.
func ocspRequest(cert, issuer []byte) ([]byte, error) {
	c, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, err
	}
	i, err := x509.ParseCertificate(issuer)
	if err != nil {
		return nil, err
	}
	return ocsp.CreateRequest(c, i, nil)
}
