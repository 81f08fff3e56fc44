package pki

import (
	"bytes"
	"context"
	"crypto/sha1"
	"slices"
	"sync"

	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

// answers are the OCSP answers of a test.
type answers struct {
	sync.Mutex
	list [][]byte
}

// answerOCSP is the service's, and notes the answer for lintAll.
func (e *env) answerOCSP(ctx context.Context, c *op.Call, r *api.PKIOCSP) (*ocspAnswer, error) {
	a, err := e.Service.answerOCSP(ctx, c, r)
	if err == nil {
		e.answered.Lock()
		defer e.answered.Unlock()
		e.answered.list = append(e.answered.list, a.der)
	}
	return a, err
}

// lintOCSP holds every OCSP answer of the test against zlint's lints, where
// x/crypto/ocsp reads it, and against RFC 6960 section 4.2.
func (e *env) lintOCSP() {
	e.answered.Lock()
	defer e.answered.Unlock()
	for _, der := range e.answered.list {
		if len(der) == len(ocspError(0)) {
			continue // an error has no more than its number
		}
		for _, complaint := range e.complaints(der) {
			e.t.Errorf("an OCSP answer breaks %s", complaint)
		}
	}
}

func (e *env) complaints(der []byte) (list []string) {
	resp, err := ocsp.ParseResponse(der, nil)
	if err != nil {
		return e.several(der, err)
	}
	for name, r := range zlint.LintOcspResponse(resp).Results {
		if r.Status == lint.Error || r.Status == lint.Fatal {
			list = append(list, name+": "+r.Details)
		}
	}
	st, err := e.state(bg, "pki/")
	if err != nil {
		return append(list, err.Error())
	}
	known := slices.ContainsFunc(stateIssuers(st), func(i *issuer) bool {
		sum := sha1.Sum(publicBits(i.cert.RawSubjectPublicKeyInfo))
		return bytes.Equal(sum[:], resp.ResponderKeyHash)
	})
	switch {
	case len(st.issuers) > 0 && !known:
		list = append(list, "responderID: no issuer has this key")
	case !resp.NextUpdate.IsZero() && !resp.NextUpdate.After(resp.ThisUpdate):
		list = append(list, "nextUpdate: it is not after thisUpdate")
	case resp.Status == ocsp.Revoked && resp.RevokedAt.After(resp.ProducedAt):
		list = append(list, "revocationTime: it is in the future")
	}
	return list
}

func stateIssuers(st *state) (list []*issuer) {
	for _, i := range st.issuers {
		list = append(list, i)
	}
	return list
}

// several accepts an answer for several certificates, which x/crypto/ocsp does
// not read, if it has the form of one.
func (e *env) several(der []byte, err error) []string {
	var outer cryptobyte.String
	input := cryptobyte.String(der)
	var status int
	if !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !input.Empty() || !outer.ReadASN1Enum(&status) || status != int(ocspSuccessful) {
		return []string{"the form of an answer: " + err.Error()}
	}
	return nil
}
