package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// below makes an intermediate authority below the default issuer, and returns its id.
func (e *env) below(name string) string {
	e.t.Helper()
	r := &api.PKIGenerateIntermediate{Kind: "internal"}
	r.CommonName, r.KeyType = name, "ec"
	csr, err := e.generateIntermediate(bg, call(), r)
	must(e.t, err)
	sign := &api.PKISignIntermediate{CSR: csr.CSR}
	sign.CommonName = name
	out, err := e.signIntermediate(bg, call(), sign)
	must(e.t, err)
	in, err := e.setSigned(bg, call(), &api.PKIBundle{Certificate: out.Certificate, IssuerName: name})
	must(e.t, err)
	return in.ImportedIssuers[0]
}

// A revoked issuer certifies nothing any more, whatever its usage is set to, and
// stands on the CRL of the one above.
func TestRevokeIssuer(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 0)
	id := e.below("lower")
	e.makeRole("web", func(r *api.SetPKIRole) { r.IssuerRef = new("lower") })
	leaf := e.signed("web")
	for range 2 {
		out, err := e.revokeIssuer(bg, call(), &api.PKIIssuerRef{Issuer: "lower"})
		if must(t, err); !out.Revoked || out.RevocationTime == 0 || strings.Contains(out.Usage, "issuing") {
			t.Errorf("%+v", out)
		}
	}
	st, err := e.state(bg, "pki/")
	must(t, err)
	if l := e.crl(); len(l.RevokedCertificateEntries) != 1 || l.RevokedCertificateEntries[0].SerialNumber.Cmp(st.issuers[id].cert.SerialNumber) != 0 {
		t.Errorf("CRL %+v", l.RevokedCertificateEntries)
	}
	csr, _ := newCSR(t, nil)
	_, err = e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: csr})
	wantFault(t, err, fault.Invalid, "does not allow issuing-certificates")
	_, err = e.patchIssuer(bg, call(), &api.SetPKIIssuer{Issuer: "lower", Usage: &[]string{"issuing-certificates"}})
	wantFault(t, err, fault.Invalid, "This issuer was revoked")
	out, err := e.setIssuer(bg, call(), &api.SetPKIIssuer{Issuer: "lower"})
	if err != nil || out.Usage != "crl-signing,ocsp-signing,read-only" {
		t.Error(err, out.Usage)
	}
	_, err = e.revoke(bg, call(), &api.PKIRevoke{SerialNumber: serialText(leaf.SerialNumber)}) // it still keeps its CRL
	must(t, err)
}

func TestDeleteAll(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 0)
	e.below("lower")
	e.makeRole("web", nil)
	leaf := e.signed("web")
	out, err := e.deleteAll(bg, call(), nil)
	if err != nil || len(out.DeletedIssuers) != 2 || len(out.DeletedKeys) != 2 {
		t.Fatal(err, out)
	}
	e.restart()
	if ids, err := e.keys.Pairs(bg, "pki/"); err != nil || len(ids) != 0 || e.count(tableIssuers) != 0 {
		t.Error(err, ids)
	}
	_, err = e.readCert(bg, call(), &api.PKISerial{Serial: serialText(leaf.SerialNumber)})
	must(t, err)
	csr, _ := newCSR(t, nil)
	_, err = e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: csr})
	wantFault(t, err, fault.NotFound, "no default issuer")
	e.root("ec", 0)
	e.signed("web")
}

func TestSelfIssued(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	root := parsePEM(t, e.root("ec", 0).Certificate)
	other := newEnv(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := *parsePEM(t, other.root("rsa", 2048).Certificate)
	template.PublicKey, template.SignatureAlgorithm, template.NotAfter = nil, 0, time.Now().Add(24*time.Hour)
	template.PermittedDNSDomains, template.MaxPathLen = []string{"example.com"}, 1
	make := func(edit func(*x509.Certificate)) string {
		c := template
		edit(&c)
		parent := c
		der, err := x509.CreateCertificate(rand.Reader, &c, &parent, key.Public(), key)
		must(t, err)
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	good := make(func(*x509.Certificate) {})
	out, err := e.signSelfIssued(bg, call(), &api.PKISelfIssued{Certificate: good, RequireMatchingCertificateAlgorithms: true})
	must(t, err)
	cert := parsePEM(t, out.Certificate)
	if err := cert.CheckSignatureFrom(root); err != nil || cert.Subject.String() != template.Subject.String() || cert.MaxPathLen != 1 ||
		len(cert.PermittedDNSDomains) != 1 || !cert.NotAfter.Equal(template.NotAfter.UTC().Truncate(time.Second)) || !key.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("%v %+v", err, cert)
	}
	for want, text := range map[string]string{
		"PEM-decoded":          "none",
		"not a CA certificate": make(func(c *x509.Certificate) { c.IsCA, c.MaxPathLen = false, 0 }),
		"not self-issued":      string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})),
		"e-mail":               make(func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"example.com"} }),
		"expired": make(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
		}),
	} {
		before := e.count(tableCerts)
		_, err := e.signSelfIssued(bg, call(), &api.PKISelfIssued{Certificate: text})
		wantFault(t, err, fault.Invalid, want)
		if e.count(tableCerts) != before || e.count(tableIntents) != 0 {
			t.Errorf("%s left a record", want)
		}
	}
}

// await waits until the tidying of the mount has ended.
func (e *env) await() *api.PKITidyStatus {
	e.t.Helper()
	if t, ok := e.tidies.Load("pki/"); ok {
		select {
		case <-t.(*tidying).done:
		case <-time.After(time.Minute):
			e.t.Fatal("tidying does not end")
		}
	}
	status, err := e.tidyStatus(bg, call(), nil)
	must(e.t, err)
	return status
}

func TestTidy(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 0)
	e.makeRole("web", func(r *api.SetPKIRole) { r.TTL = new(api.Seconds(3600)) })
	e.makeRole("long", func(r *api.SetPKIRole) { r.TTL = new(api.Seconds(30 * 24 * 3600)) })
	if got := e.await(); got.State != "Inactive" {
		t.Error(got)
	}
	e.signed("web")
	revoked, kept := e.signed("web"), e.signed("long")
	_, err := e.revoke(bg, call(), &api.PKIRevoke{SerialNumber: serialText(revoked.SerialNumber)})
	must(t, err)
	all := &api.PKITidy{TidyCertStore: true, TidyRevokedCerts: true, TidyExpiredIssuers: true}
	_, err = e.tidyNow(bg, call(), all)
	must(t, err)
	if got := e.await(); got.State != "Finished" || got.CertStoreDeletedCount+got.RevokedCertDeletedCount != 0 || got.SafetyBuffer != 72*3600 {
		t.Error(got)
	}
	e.clock.Store(5 * 24 * 3600)
	_, err = e.tidyNow(bg, call(), all)
	must(t, err)
	if got := e.await(); got.State != "Finished" || got.CertStoreDeletedCount != 1 || got.RevokedCertDeletedCount != 1 {
		t.Error(got)
	}
	if e.count(tableRevoked) != 0 || e.count(tableCerts) != 2 { // the root and the long one
		t.Errorf("%d revocations, %d certificates", e.count(tableRevoked), e.count(tableCerts))
	}
	_, err = e.readCert(bg, call(), &api.PKISerial{Serial: serialText(kept.SerialNumber)})
	must(t, err)
	for _, bad := range []api.PKITidy{{SafetyBuffer: new(api.Seconds(0))}, {IssuerSafetyBuffer: new(api.Seconds(-1))}, {PauseDuration: -1}} {
		_, err := e.tidyNow(bg, call(), &bad)
		wantFault(t, err, fault.Invalid, "zero")
	}
	c := call()
	if _, err := e.tidyCancel(bg, c, nil); err != nil || len(c.Warnings) != 1 {
		t.Error(err, c.Warnings)
	}
}

// Tidying that pauses can be cancelled, and ends when the server is sealed.
func TestTidyEnds(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, end := range []func(){func() { _, err := e.tidyCancel(bg, call(), nil); must(t, err) }, e.Reset} {
		hold := make(chan struct{})
		old := &tidying{status: api.PKITidyStatus{State: tidyRunning}, done: make(chan struct{})}
		var ctx context.Context
		ctx, old.cancel = context.WithCancel(bg)
		go func() { <-ctx.Done(); close(hold); close(old.done) }()
		e.tidies.Store("pki/", old)
		c := call()
		if _, err := e.tidyNow(bg, c, &api.PKITidy{TidyCertStore: true}); err != nil || !strings.Contains(c.Warnings[0], "already in progress") {
			t.Error(err, c.Warnings)
		}
		end()
		<-hold
	}
	if _, ok := e.tidies.Load("pki/"); ok {
		t.Error("the tidying outlived the seal")
	}
}

func TestAutoTidy(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, err := e.setAutoTidy(bg, call(), &api.SetPKIAutoTidy{Enabled: new(true)})
	wantFault(t, err, fault.Invalid, "no tidy operations were requested")
	got, err := e.setAutoTidy(bg, call(), &api.SetPKIAutoTidy{Enabled: new(true), TidyCertStore: new(true)})
	if err != nil || got.IntervalDuration != 12*3600 || got.PauseDuration != "0s" || got.SafetyBuffer != 72*3600 {
		t.Error(err, got)
	}
	mounts := map[string]string{"pki/": "pki/"}
	started := func() string { must(t, e.Tend(bg, mounts, runNow)); return e.await().TimeStarted }
	first := started()
	if first == "" || started() != first {
		t.Error("it runs once an interval")
	}
	e.restart()
	if started() != "" {
		t.Error("it ran again after a restart")
	}
	e.clock.Store(13 * 3600)
	if started() == "" || e.await().LastAutoTidyFinished == "" {
		t.Error("it did not run again")
	}
}

func TestCertificateList(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 0)
	e.makeRole("web", nil)
	e.makeRole("other", func(r *api.SetPKIRole) { r.TTL = new(api.Seconds(3600)) })
	one, two, three := e.signed("web"), e.signed("other"), e.signed("web")
	_, err := e.revoke(bg, call(), &api.PKIRevoke{SerialNumber: serialText(three.SerialNumber)})
	must(t, err)
	serials := func(certs ...*x509.Certificate) map[string]bool {
		m := map[string]bool{}
		for _, c := range certs {
			m[serialText(c.SerialNumber)] = true
		}
		return m
	}
	for _, c := range []struct {
		q    api.PKICertsQuery
		want map[string]bool
	}{
		{api.PKICertsQuery{Role: "web"}, serials(one, three)},
		{api.PKICertsQuery{Role: "web", Revoked: new(false)}, serials(one)},
		{api.PKICertsQuery{Revoked: new(true)}, serials(three)},
		{api.PKICertsQuery{ExpiresWithin: 7200}, serials(two)},
		{api.PKICertsQuery{Name: "*.example.com", Issuer: "default"}, serials(one, two, three)},
		{api.PKICertsQuery{Name: "nothing"}, serials()},
	} {
		got, err := e.listDetailed(bg, call(), &c.q)
		must(t, err)
		if len(got.Keys) != len(c.want) || len(got.KeyInfo) != len(c.want) {
			t.Errorf("%+v: %v", c.q, got.Keys)
		}
		for _, k := range got.Keys {
			if !c.want[k] || got.KeyInfo[k].CommonName != "www.example.com" || got.KeyInfo[k].Expiration == 0 {
				t.Errorf("%+v: %s %+v", c.q, k, got.KeyInfo[k])
			}
		}
	}
	var walked []string
	for after := ""; ; {
		page, err := e.listCerts(bg, call(), &api.PKICertsQuery{After: after, Limit: 1})
		must(t, err)
		if page.IsEmpty() {
			break
		}
		after = page.Keys[0]
		walked = append(walked, after)
	}
	if len(walked) != 4 { // the root is among them
		t.Errorf("walked %v", walked)
	}
	_, err = e.listCerts(bg, call(), &api.PKICertsQuery{Limit: -1})
	wantFault(t, err, fault.Invalid, "limit")
	_, err = e.listCerts(bg, call(), &api.PKICertsQuery{After: "zz"})
	wantFault(t, err, fault.Invalid, "serial number")
	_, err = e.listCerts(bg, call(), &api.PKICertsQuery{Issuer: "none"})
	wantFault(t, err, fault.NotFound, "none")
}
