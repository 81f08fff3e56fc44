package pki

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// signed is a new certificate of the role.
func (e *env) signed(role string) *x509.Certificate {
	e.t.Helper()
	csr, _ := newCSR(e.t, nil)
	out, err := e.signRole(bg, call(), &api.PKISign{Role: role, CSR: csr})
	must(e.t, err)
	return parsePEM(e.t, out.Certificate)
}

func (e *env) crl() *x509.RevocationList {
	e.t.Helper()
	f, err := crlOf(e.Service, false, asDER)(bg, call(), nil)
	must(e.t, err)
	l, err := x509.ParseRevocationList(f.body)
	must(e.t, err)
	return l
}

func TestRevocationAndCRL(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"rsa", "ec", "ed25519"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			root := parsePEM(t, e.root(kind, 0).Certificate)
			e.makeRole("web", nil)
			leaf, other := e.signed("web"), e.signed("web")
			empty := e.crl()
			if err := empty.CheckSignatureFrom(root); err != nil || len(empty.RevokedCertificateEntries) != 0 {
				t.Fatal(err, len(empty.RevokedCertificateEntries))
			}
			rev, err := e.revoke(bg, call(), &api.PKIRevoke{SerialNumber: serialText(leaf.SerialNumber), Reason: 1})
			must(t, err)
			l := e.crl()
			if err := l.CheckSignatureFrom(root); err != nil {
				t.Fatal(err)
			}
			if len(l.RevokedCertificateEntries) != 1 || l.RevokedCertificateEntries[0].SerialNumber.Cmp(leaf.SerialNumber) != 0 ||
				l.RevokedCertificateEntries[0].ReasonCode != 1 || l.Number.Cmp(empty.Number) <= 0 || l.NextUpdate.Sub(l.ThisUpdate) != 72*time.Hour {
				t.Errorf("%+v", l)
			}
			again, err := e.revoke(bg, call(), &api.PKIRevoke{SerialNumber: serialText(leaf.SerialNumber)})
			if err != nil || *again != *rev || rev.State != "revoked" {
				t.Error(err, again, rev)
			}
			kept, err := e.readCert(bg, call(), &api.PKISerial{Serial: serialText(leaf.SerialNumber)})
			if err != nil || kept.RevocationTime != rev.RevocationTime {
				t.Error(err, kept)
			}
			for cert, want := range map[*x509.Certificate]int{leaf: ocsp.Revoked, other: ocsp.Good} {
				if got := e.ask(cert, root, crypto.SHA1); got.Status != want {
					t.Errorf("OCSP says %d, want %d", got.Status, want)
				}
				e.ask(cert, root, crypto.SHA256)
			}
			unknown := *other
			unknown.SerialNumber = big.NewInt(4711)
			if got := e.ask(&unknown, root, crypto.SHA1); got.Status != ocsp.Unknown {
				t.Errorf("OCSP says %d of a certificate that never was", got.Status)
			}
		})
	}
}

// ask asks by OCSP and checks the signature of the answer.
func (e *env) ask(cert, issuer *x509.Certificate, h crypto.Hash) *ocsp.Response {
	e.t.Helper()
	der, err := ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: h})
	must(e.t, err)
	post, err := e.answerOCSP(bg, call(), &api.PKIOCSP{DER: der})
	must(e.t, err)
	get, err := e.answerOCSP(bg, call(), &api.PKIOCSP{Request: base64.StdEncoding.EncodeToString(der)})
	must(e.t, err)
	if !bytes.Equal(post.der, get.der) {
		e.t.Error("GET and POST differ: the answer was not cached")
	}
	key, isEd := issuer.PublicKey.(ed25519.PublicKey)
	if !isEd {
		resp, err := ocsp.ParseResponseForCert(post.der, cert, issuer)
		must(e.t, err)
		return resp
	}
	// x/crypto/ocsp reads such an answer but knows no Ed25519.
	resp, err := ocsp.ParseResponseForCert(post.der, cert, nil)
	must(e.t, err)
	if !ed25519.Verify(key, resp.TBSResponseData, resp.Signature) {
		e.t.Error("the signature does not verify")
	}
	return resp
}

func TestOCSPOfSeveralAndNonce(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	root := parsePEM(t, e.root("ec", 256).Certificate)
	e.makeRole("web", nil)
	nonce := []byte{4, 2, 1, 2}
	der := sequence(func(b *builder) {
		b.AddASN1(0x30, func(b *builder) {
			b.AddASN1(0x30, func(b *builder) {
				for range 3 {
					one, err := ocsp.CreateRequest(e.signed("web"), root, nil)
					must(t, err)
					req, err := parseOCSP(one)
					must(t, err)
					b.AddASN1(0x30, func(b *builder) { b.AddBytes(req.ids[0].raw) })
				}
			})
			b.AddASN1(constructed(2), func(b *builder) {
				b.AddASN1(0x30, func(b *builder) { extension{oidOCSPNonce, false, nonce}.add(b) })
			})
		})
	})
	out, err := e.answerOCSP(bg, call(), &api.PKIOCSP{DER: der})
	must(t, err)
	if !bytes.Contains(out.der, append([]byte{4, byte(len(nonce))}, nonce...)) {
		t.Error("no nonce in the answer")
	}
	// x/crypto/ocsp reads answers for one certificate only, and says so.
	if _, err := ocsp.ParseResponse(out.der, root); err == nil || !strings.Contains(err.Error(), "number of responses") {
		t.Errorf("reading the answer: %v", err)
	}
	for _, bad := range [][]byte{nil, {0x30, 0}, der[:len(der)-1], append(bytes.Clone(der), 0)} {
		out, err := e.answerOCSP(bg, call(), &api.PKIOCSP{DER: bad})
		must(t, err)
		if !bytes.Equal(out.der, ocspError(ocspMalformed)) {
			t.Errorf("% x is answered by % x", bad, out.der)
		}
	}
}

func TestRevokeRefused(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	root := e.root("ec", 256)
	e.makeRole("web", nil)
	e.makeRole("free", func(r *api.SetPKIRole) { r.NoStore = new(true) })
	leaf := e.signed("web")
	for _, tc := range []struct {
		r    api.PKIRevoke
		want string
	}{
		{api.PKIRevoke{}, "must be provided"},
		{api.PKIRevoke{SerialNumber: "zz"}, "no serial number"},
		{api.PKIRevoke{SerialNumber: "4a:0f"}, "certificate with serial 4a:0f not found"},
		{api.PKIRevoke{SerialNumber: "4a", Certificate: "x"}, "not both"},
		{api.PKIRevoke{Certificate: "x"}, "no certificate in PEM"},
		{api.PKIRevoke{SerialNumber: serialText(leaf.SerialNumber), Reason: 7}, "reason 7"},
		{api.PKIRevoke{SerialNumber: root.SerialNumber}, "to its own CRL is not allowed"},
	} {
		_, err := e.revoke(bg, call(), &tc.r)
		wantFault(t, err, fault.Invalid, tc.want)
	}
	if e.count(tableRevoked) != 0 {
		t.Error("something was revoked")
	}
	// A certificate without a record is revoked by showing it.
	free := e.signed("free")
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: free.Raw}))
	if _, err := e.revoke(bg, call(), &api.PKIRevoke{Certificate: text}); err != nil {
		t.Fatal(err)
	}
	if l := e.crl(); len(l.RevokedCertificateEntries) != 1 {
		t.Errorf("%d entries", len(l.RevokedCertificateEntries))
	}
	foreign := newEnv(t)
	foreign.root("ec", 256)
	_, err := foreign.revoke(bg, call(), &api.PKIRevoke{Certificate: text})
	wantFault(t, err, fault.Invalid, "not issued by an issuer of this mount")
}

func TestDeltaAndAutoRebuild(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("web", nil)
	_, err := e.setCRLConfig(bg, call(), &api.SetPKICRLConfig{EnableDelta: new(true)})
	wantFault(t, err, fault.Invalid, "auto rebuilding is disabled")
	_, err = e.setCRLConfig(bg, call(), &api.SetPKICRLConfig{EnableDelta: new(true), AutoRebuild: new(true)})
	must(t, err)
	must(t, e.Tend(bg, map[string]string{"pki/": "pki/"}, runNow))
	base := e.crl()
	e.clock.Add(3600)
	_, err = e.revoke(bg, call(), &api.PKIRevoke{SerialNumber: serialText(e.signed("web").SerialNumber)})
	must(t, err)
	if e.crl().Number.Cmp(base.Number) != 0 {
		t.Error("the CRL was made at once")
	}
	must(t, e.Tend(bg, map[string]string{"pki/": "pki/"}, runNow))
	f, err := crlOf(e.Service, true, asDER)(bg, call(), nil)
	must(t, err)
	delta, err := x509.ParseRevocationList(f.body)
	must(t, err)
	if len(delta.RevokedCertificateEntries) != 1 || delta.Number.Cmp(base.Number) <= 0 {
		t.Errorf("%+v", delta)
	}
	e.clock.Add(3 * 24 * 3600)
	must(t, e.Tend(bg, map[string]string{"pki/": "pki/"}, runNow))
	if full := e.crl(); len(full.RevokedCertificateEntries) != 1 || full.Number.Cmp(delta.Number) <= 0 {
		t.Errorf("%+v", full)
	}
}

func FuzzParseOCSP(f *testing.F) {
	f.Add([]byte{0x30, 0})
	f.Add(sequence(func(b *builder) {
		b.AddASN1(0x30, func(b *builder) { b.AddASN1(0x30, func(*builder) {}) })
	}))
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := parseOCSP(der)
		if err == nil && len(r.ids) == 0 {
			t.Error("a request for nothing")
		}
	})
}

func FuzzParseSANs(f *testing.F) {
	f.Add(sanExtension(&sans{dns: []string{"a.example.com"}, uris: []string{"spiffe://x/y"}, others: []otherName{{"1.2.3", "x"}}}, false).value)
	f.Fuzz(func(t *testing.T, der []byte) {
		s, err := parseSANs(der)
		if err != nil {
			return
		}
		again, err := parseSANs(sanExtension(s, false).value)
		if err != nil {
			t.Fatalf("what was read can't be read again: %v", err)
		}
		if len(again.dns) != len(s.dns) || len(again.ips) != len(s.ips) {
			t.Errorf("%+v became %+v", s, again)
		}
	})
}

func FuzzParseBundle(f *testing.F) {
	f.Add("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
	f.Fuzz(func(_ *testing.T, text string) {
		if b, err := parseBundle(text); err == nil {
			b.wipe()
		}
	})
}

// TestRevocationsShareCRLs: revocations at the same time are all on the CRL when
// they are answered, and do not each make one.
func TestRevocationsShareCRLs(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("web", nil)
	const n = 24
	var serials []string
	for range n {
		csr, _ := newCSR(t, nil)
		out, err := e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: csr})
		must(t, err)
		serials = append(serials, out.SerialNumber)
	}
	id := e.mountState(t).config.DefaultIssuer
	var wg sync.WaitGroup
	missing := make(chan string, n)
	e.crls.Lock() // as if a CRL were being made
	for _, serial := range serials {
		wg.Go(func() {
			if _, err := e.revoke(bg, call(), &api.PKIRevoke{SerialNumber: serial}); err != nil {
				missing <- err.Error()
				return
			}
			made, _, err := e.currentCRL(bg, call().Mount, id, false)
			if err == nil {
				var crl *x509.RevocationList
				if crl, err = x509.ParseRevocationList(made.DER); err == nil && !slices.ContainsFunc(crl.RevokedCertificateEntries, func(r x509.RevocationListEntry) bool {
					return serialText(r.SerialNumber) == serial
				}) {
					missing <- serial + " is not on the CRL"
				}
			}
			if err != nil {
				missing <- err.Error()
			}
		})
	}
	for begin := time.Now(); time.Since(begin) < 30*time.Second; time.Sleep(time.Millisecond) {
		if q, ok := e.crlQueues.Load(call().Mount + id); ok && q.(*crlQueue).asked.Load() == n {
			break
		}
	}
	e.crls.Unlock()
	wg.Wait()
	close(missing)
	for m := range missing {
		t.Error(m)
	}
	rec, _, err := e.readCRL(bg, call().Mount, id)
	must(t, err)
	if rec.Number != 1 {
		t.Errorf("%d revocations at a time made %d CRLs", n, rec.Number)
	}
}

// TestCRLIsKept: the CRL in memory is the one in the store, and another instance
// on the same store serves it too.
func TestCRLIsKept(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	id := e.mountState(t).config.DefaultIssuer
	must(t, e.makeCRL(bg, call().Mount, id, false))
	kept, version, err := e.readCRL(bg, call().Mount, id)
	must(t, err)
	stored := new(crlRecord)
	v, err := e.store.Get(bg, tableCRLs, call().Mount+id, stored)
	must(t, err)
	if v != version || !bytes.Equal(stored.Full.DER, kept.Full.DER) || e.keptCRL(call().Mount+id) == nil {
		t.Errorf("version %d is kept, %d is stored", version, v)
	}
	e.restart()
	again, _, err := e.readCRL(bg, call().Mount, id)
	must(t, err)
	if !bytes.Equal(again.Full.DER, kept.Full.DER) {
		t.Error("another CRL after a restart")
	}
	must(t, e.Unmount(bg, call().Mount))
	if e.keptCRL(call().Mount+id) != nil {
		t.Error("the CRL of an authority that is gone is kept")
	}
}
