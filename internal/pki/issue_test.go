package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

// Every kind of authority issues certificates that crypto/x509 verifies.
func TestIssueAndVerify(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		kind string
		bits int
		pss  bool
		alg  x509.SignatureAlgorithm
	}{
		{"rsa", 2048, false, x509.SHA256WithRSA}, {"rsa", 3072, true, x509.SHA256WithRSAPSS}, {"ec", 256, false, x509.ECDSAWithSHA256},
		{"ec", 384, false, x509.ECDSAWithSHA384}, {"ec", 521, false, x509.ECDSAWithSHA512}, {"ed25519", 0, false, x509.PureEd25519},
	} {
		t.Run(tc.kind+" "+tc.alg.String(), func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			root := parsePEM(t, e.root(tc.kind, tc.bits).Certificate)
			e.makeRole("web", func(r *api.SetPKIRole) { r.KeyType, r.UsePSS = new("ec"), &tc.pss })
			r := &api.PKIIssue{Role: "web"}
			r.CommonName, r.AltNames, r.IPSANs, r.TTL = "www.example.com", []string{"*.sub.example.com"}, []string{"10.0.0.1", "::1"}, 3600
			out, err := e.issue(bg, call(), r)
			must(t, err)
			leaf := parsePEM(t, out.Certificate)
			pool := x509.NewCertPool()
			pool.AddCert(root)
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "a.sub.example.com"}); err != nil {
				t.Error(err)
			}
			if leaf.SignatureAlgorithm != tc.alg {
				t.Errorf("signed with %v", leaf.SignatureAlgorithm)
			}
			if want := []string{"*.sub.example.com", "www.example.com"}; !slices.Equal(slices.Sorted(slices.Values(leaf.DNSNames)), want) {
				t.Errorf("names %v", leaf.DNSNames)
			}
			if len(leaf.IPAddresses) != 2 || leaf.SerialNumber.BitLen() != 159 || serialText(leaf.SerialNumber) != out.SerialNumber {
				t.Errorf("addresses %v, serial %v", leaf.IPAddresses, out.SerialNumber)
			}
			if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement || len(leaf.ExtKeyUsage) != 2 {
				t.Errorf("usages %v %v", leaf.KeyUsage, leaf.ExtKeyUsage)
			}
			if got := leaf.NotAfter.Sub(leaf.NotBefore); got != time.Hour+30*time.Second {
				t.Errorf("valid for %v", got)
			}
			block, _ := pem.Decode([]byte(out.PrivateKey))
			key, err := x509.ParseECPrivateKey(block.Bytes)
			must(t, err)
			if !key.PublicKey.Equal(leaf.PublicKey) || out.PrivateKeyType != "ec" {
				t.Error("the private key is not the certificate's")
			}
			kept, err := e.readCert(bg, call(), &api.PKISerial{Serial: strings.ReplaceAll(out.SerialNumber, ":", "-")})
			must(t, err)
			if parsePEM(t, kept.Certificate).SerialNumber.Cmp(leaf.SerialNumber) != 0 || kept.RevocationTime != 0 {
				t.Errorf("kept %+v", kept)
			}
		})
	}
}

func TestSignRequest(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	uri, _ := url.Parse("spiffe://example.com/x")
	e.makeRole("web", func(r *api.SetPKIRole) { r.AllowedURISANs = &[]string{"spiffe://example.com/*"} })
	text, key := newCSR(t, func(c *x509.CertificateRequest) {
		c.DNSNames, c.IPAddresses, c.URIs = []string{"a.example.com"}, []net.IP{net.IPv4(10, 0, 0, 1)}, []*url.URL{uri}
		c.Subject.Organization = []string{"Ignored"}
	})
	r := &api.PKISign{Role: "web", CSR: text}
	r.CommonName = "other.example.com"
	out, err := e.signRole(bg, call(), r)
	must(t, err)
	leaf := parsePEM(t, out.Certificate)
	if !key.Public().(*ecdsa.PublicKey).Equal(leaf.PublicKey) || out.PrivateKey != "" {
		t.Error("not the request's key")
	}
	if leaf.Subject.CommonName != "www.example.com" || len(leaf.Subject.Organization) != 0 {
		t.Errorf("subject %v", leaf.Subject)
	}
	if !slices.Equal(leaf.DNSNames, []string{"a.example.com", "www.example.com"}) || len(leaf.IPAddresses) != 1 || len(leaf.URIs) != 1 {
		t.Errorf("names %v %v %v", leaf.DNSNames, leaf.IPAddresses, leaf.URIs)
	}
}

func TestSignVerbatim(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	ext := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 1}, Value: []byte{5, 0}}
	text, _ := newCSR(t, func(c *x509.CertificateRequest) {
		c.Subject = pkix.Name{CommonName: "Anything at all", Organization: []string{"Kept"}}
		c.DNSNames, c.ExtraExtensions = []string{"host.elsewhere.org"}, []pkix.Extension{ext}
	})
	out, err := e.signVerbatim(bg, call(), &api.PKISign{CSR: text})
	must(t, err)
	leaf := parsePEM(t, out.Certificate)
	if leaf.Subject.Organization[0] != "Kept" || leaf.DNSNames[0] != "host.elsewhere.org" {
		t.Errorf("%v %v", leaf.Subject, leaf.DNSNames)
	}
	if !slices.ContainsFunc(leaf.Extensions, func(x pkix.Extension) bool { return x.Id.Equal(ext.Id) }) {
		t.Error("the extension is lost")
	}
	basic, err := asn1.Marshal(struct{ CA bool }{true})
	must(t, err)
	text, _ = newCSR(t, func(c *x509.CertificateRequest) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidBasicConstraints, Critical: true, Value: basic}}
	})
	_, err = e.signVerbatim(bg, call(), &api.PKISign{CSR: text})
	wantFault(t, err, fault.Invalid, "certificate of an authority")
}

// An intermediate: request here, signature of another mount, chain, leaf.
func TestIntermediate(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	root := e.root("ec", 384)
	inner := call()
	inner.Mount = "inner/"
	g := &api.PKIGenerateIntermediate{Kind: "internal"}
	g.CommonName, g.KeyType, g.KeyName = "Intermediate", "rsa", "ik"
	csr, err := e.generateIntermediate(bg, inner, g)
	must(t, err)
	sign := &api.PKISignIntermediate{CSR: csr.CSR, PKIConstraints: api.PKIConstraints{MaxPathLength: new(0), PermittedDNSDomains: []string{"example.com"}}}
	sign.CommonName = "Intermediate"
	out, err := e.signIntermediate(bg, call(), sign)
	must(t, err)
	got, err := e.setSigned(bg, inner, &api.PKIBundle{Certificate: out.Certificate + "\n" + root.Certificate})
	must(t, err)
	if len(got.ImportedIssuers) != 2 || got.Mapping[got.ImportedIssuers[0]] != csr.KeyID || got.Mapping[got.ImportedIssuers[1]] != "" {
		t.Fatalf("%+v", got)
	}
	role := &api.SetPKIRole{Name: "web", AllowAnyName: new(true), KeyType: new("ec")}
	_, err = e.setRole(bg, inner, role)
	must(t, err)
	r := &api.PKIIssue{Role: "web"}
	r.CommonName = "www.example.com"
	leaf, err := e.issue(bg, inner, r)
	must(t, err)
	if len(leaf.CAChain) != 2 {
		t.Fatalf("chain of %d", len(leaf.CAChain))
	}
	roots, middle := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(parsePEM(t, root.Certificate))
	middle.AddCert(parsePEM(t, out.Certificate))
	if _, err := parsePEM(t, leaf.Certificate).Verify(x509.VerifyOptions{Roots: roots, Intermediates: middle, DNSName: "www.example.com"}); err != nil {
		t.Error(err)
	}
	r.RemoveRootsFromChain = true
	if leaf, err = e.issue(bg, inner, r); err != nil || len(leaf.CAChain) != 1 {
		t.Error(err, len(leaf.CAChain))
	}
	r.CommonName = "www.example.org"
	_, err = e.issue(bg, inner, r)
	wantFault(t, err, fault.Invalid, "name constraints")
	sign.CSR, _ = newCSR(t, nil)
	sign.TTL = 3600 // within its issuer, however slow the test is
	_, err = e.signIntermediate(bg, inner, sign)
	wantFault(t, err, fault.Invalid, "path length of 0")
}

func TestImportBundle(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Imported"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * 365 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: caKeyUsage,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	secret := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	e := newEnv(t)
	out, err := e.importBundle(bg, call(), &api.PKIBundle{PEMBundle: cert + secret})
	must(t, err)
	if len(out.ImportedIssuers) != 1 || len(out.ImportedKeys) != 1 || out.Mapping[out.ImportedIssuers[0]] != out.ImportedKeys[0] {
		t.Fatalf("%+v", out)
	}
	again, err := e.importBundle(bg, call(), &api.PKIBundle{PEMBundle: secret + cert})
	must(t, err)
	if len(again.ImportedIssuers)+len(again.ImportedKeys) != 0 || again.ExistingIssuers[0] != out.ImportedIssuers[0] || again.ExistingKeys[0] != out.ImportedKeys[0] {
		t.Errorf("%+v", again)
	}
	e.makeRole("web", nil)
	text, _ := newCSR(t, nil)
	signed, err := e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: text})
	must(t, err)
	if err := parsePEM(t, signed.Certificate).CheckSignatureFrom(parsePEM(t, cert)); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"":                 "empty",
		"garbage":          "not PEM",
		cert + "garbage":   "not PEM",
		signed.Certificate: "not that of an authority",
		strings.Replace(secret, "RSA PRIVATE", "ENCRYPTED PRIVATE", 2): "encrypted",
		strings.Replace(secret, "RSA PRIVATE", "EC PRIVATE", 2):        "can't be read",
	} {
		before := e.count(tableIssuers)
		_, err := e.importBundle(bg, call(), &api.PKIBundle{PEMBundle: text})
		wantFault(t, err, fault.Invalid, want)
		if e.count(tableIssuers) != before {
			t.Error("something was stored")
		}
	}
}

// What is wrong with a request is said, and nothing is signed or stored.
func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("web", nil)
	e.makeRole("rsa", func(r *api.SetPKIRole) { r.KeyType = new("rsa") })
	good, _ := newCSR(t, nil)
	block, _ := pem.Decode([]byte(good))
	forged := slices.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	must(t, err)
	name := func(n string) string {
		text, _ := newCSR(t, func(c *x509.CertificateRequest) { c.Subject.CommonName = n })
		return text
	}
	sans := func(names ...string) string {
		text, _ := newCSR(t, func(c *x509.CertificateRequest) { c.DNSNames = names })
		return text
	}
	before := e.count(tableCerts)
	for _, tc := range []struct{ role, csr, want string }{
		{"none", good, "unknown role: none"},
		{"web", "", "empty"},
		{"web", "x", "no certificate request"},
		{"web", good + good, "no certificate request"},
		{"web", strings.Repeat("A", 1<<20), "at most"},
		{"web", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: forged})), "signature invalid"},
		{"web", csrWith(t, small, nil), "< 2048 bits"},
		{"web", csrWith(t, p224, nil), "curve of 224 bits"},
		{"rsa", good, "role requires keys of type rsa"},
		{"web", name("www.example.org"), "common name www.example.org not allowed by this role"},
		{"web", name("example.com"), "not allowed"},
		{"web", name("a\x00.example.com"), "control character"},
		{"web", name("a\n.example.com"), "control character"},
		{"web", name("*.*.example.com"), "not allowed"},
		{"web", name("-a.example.com"), "not allowed"},
		{"web", name(strings.Repeat("a", 64) + ".example.com"), "not allowed"},
		{"web", sans("evil.org"), "subject alternate name evil.org not allowed by this role"},
		{"web", sans("www.example.com", "badexample.com"), "badexample.com"},
	} {
		_, err := e.signRole(bg, call(), &api.PKISign{Role: tc.role, CSR: tc.csr})
		wantFault(t, err, fault.Invalid, tc.want)
	}
	r := &api.PKISign{Role: "web", CSR: good}
	r.TTL = 11 * 365 * 24 * 3600
	_, err = e.signRole(bg, call(), r)
	wantFault(t, err, fault.Invalid, "cannot satisfy request, as TTL would result in notAfter")
	r = &api.PKISign{Role: "web", CSR: good}
	r.NotAfter = "2001-01-01T00:00:00Z"
	_, err = e.signRole(bg, call(), r)
	wantFault(t, err, fault.Invalid, "in the past")
	if n := e.count(tableCerts) + e.count(tableIntents); n != before {
		t.Errorf("%d records", n-before)
	}
}

// A crash at any write leaves a record of everything that may have been signed.
func TestInterruptedSigning(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("web", nil)
	csr, _ := newCSR(t, nil)
	boom := errors.New("boom")
	certs := func() int { return e.count(tableCerts) }

	// The intent can't be written: nothing is signed.
	fail := func(table string) *func([]store.Change) error {
		f := func(changes []store.Change) error {
			if changes[0].Table == table && changes[0].Data != nil {
				return boom
			}
			return nil
		}
		return &f
	}
	before := certs()
	e.db.before.Store(fail(tableIntents))
	if _, err := e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: csr}); err == nil {
		t.Fatal("signed without an intent")
	}
	if certs() != before || e.count(tableIntents) != 0 {
		t.Error("records of nothing")
	}
	// The record can't be written: no answer, and after a restart the
	// certificate is known and revoked.
	e.db.before.Store(fail(tableCerts))
	if _, err := e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: csr}); err == nil {
		t.Fatal("a certificate without a record left")
	}
	e.db.before.Store(nil)
	if e.count(tableIntents) != 1 {
		t.Fatal("no intent")
	}
	e.restart()
	if e.count(tableIntents) != 0 || certs() != before+1 || e.count(tableRevoked) != 1 {
		t.Errorf("%d intents, %d certificates, %d revoked", e.count(tableIntents), certs()-before, e.count(tableRevoked))
	}
	// no_store: no record is asked for, none is made.
	e.makeRole("free", func(r *api.SetPKIRole) { r.NoStore = new(true) })
	if _, err := e.signRole(bg, call(), &api.PKISign{Role: "free", CSR: csr}); err != nil || certs() != before+1 {
		t.Error(err, certs()-before)
	}
}

// After a restart everything is as before.
func TestRestart(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	root := e.root("ec", 256)
	e.makeRole("web", nil)
	e.restart()
	csr, _ := newCSR(t, nil)
	out, err := e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: csr})
	must(t, err)
	if out.IssuingCA != root.Certificate {
		t.Error("another issuer")
	}
	must(t, e.Unmount(bg, "pki/"))
	for _, table := range []string{tableConfig, tableIssuers, tableKeys, tableRoles, tableCerts, tableIntents, tableRevoked} {
		if n := e.count(table); n != 0 {
			t.Errorf("%d records of %s are left", n, table)
		}
	}
}

func TestExpiredIssuer(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("web", nil)
	csr, _ := newCSR(t, nil)
	e.clock.Store(11 * 365 * 24 * 3600)
	_, err := e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: csr})
	wantFault(t, err, fault.Invalid, "expired at")
	e.clock.Store(-24 * 3600)
	_, err = e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: csr})
	wantFault(t, err, fault.Invalid, "not valid before")
}
