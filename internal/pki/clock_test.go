package pki

import (
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// TestClockJumps: while the clock is ahead what is signed belongs to that time;
// when it is set right nothing of it is served that others would not take, numbers
// of CRLs go on rising, and issuing goes on.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	root := parsePEM(t, e.root("ec", 256).Certificate)
	e.makeRole("web", nil)
	leaf := e.signed("web")
	number := func() *big.Int {
		t.Helper()
		l := e.crl()
		if now := e.time(); l.ThisUpdate.After(now) || l.NextUpdate.Before(now) {
			t.Errorf("at %v a CRL from %v to %v", now, l.ThisUpdate, l.NextUpdate)
		}
		return l.Number
	}
	state := func() *ocsp.Response {
		t.Helper()
		der, err := ocsp.CreateRequest(leaf, root, nil)
		must(t, err)
		out, err := e.answerOCSP(bg, call(), &api.PKIOCSP{DER: der})
		must(t, err)
		resp, err := ocsp.ParseResponseForCert(out.der, leaf, root)
		must(t, err)
		if now := e.time(); resp.ThisUpdate.After(now) || resp.NextUpdate.Before(now) {
			t.Errorf("at %v an answer from %v to %v", now, resp.ThisUpdate, resp.NextUpdate)
		}
		return resp
	}
	first := number()
	state()
	jump := func(d time.Duration) { e.clock.Store(int64(d / time.Second)) }
	jump(100 * 24 * time.Hour)
	second := number()
	state()
	ahead := e.signed("web")
	jump(0)
	third := number()
	if first.Cmp(second) >= 0 || second.Cmp(third) >= 0 {
		t.Errorf("numbers %v, %v, %v", first, second, third)
	}
	if state().Status != ocsp.Good {
		t.Error("the certificate is not good any more")
	}
	if !ahead.NotBefore.After(e.time()) || e.signed("web").NotBefore.After(e.time()) {
		t.Error("the certificate of the future is not of the future, or that of now is")
	}
	_, err := e.revoke(bg, call(), &api.PKIRevoke{SerialNumber: serialText(ahead.SerialNumber)})
	must(t, err)
	before := e.snapshot()
	jump(-48 * time.Hour)
	csr, _ := newCSR(t, nil)
	_, err = e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: csr})
	wantFault(t, err, fault.Invalid, "is not valid before")
	if n := len(e.snapshot()); n != len(before) {
		t.Errorf("%d records, %d before", n, len(before))
	}
}
