package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

var start = time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return k
}

func spki(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	return der
}

// offlineCA is what an authority is made of, valid for years.
func offlineCA(t testing.TB, name string, key crypto.Signer, years int) *Offline {
	return &Offline{
		Purpose: ForAuthority, Names: api.PKINames{CommonName: name}, PublicKey: spki(t, key),
		NotBefore: start, NotAfter: start.AddDate(years, 0, 0),
	}
}

func pemCert(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}))
}

// offlineRoot makes a root, and the issuer that it is.
func offlineRoot(t testing.TB, key crypto.Signer, edit func(*Offline)) *OfflineIssuer {
	t.Helper()
	o := offlineCA(t, "Offline Root", key, 20)
	if edit != nil {
		edit(o)
	}
	d, err := DraftRoot(o, start)
	must(t, err)
	cert, err := d.Sign(key)
	must(t, err)
	lintDER(t, cert.Raw)
	i, err := ParseIssuer(pemCert(cert.Raw))
	must(t, err)
	return i
}

// lintDER holds a certificate against all lints of the RFCs.
func lintDER(t testing.TB, der []byte) {
	t.Helper()
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lint.SourceList{lint.RFC5280, lint.RFC5480, lint.RFC8813}})
	must(t, err)
	c, err := zx509.ParseCertificate(der)
	must(t, err)
	for name, r := range zlint.LintCertificateEx(c, registry).Results {
		if r.Status >= lint.Error {
			t.Errorf("the certificate breaks %s", name)
		}
	}
}

// Roots and intermediates of all kinds of keys are what was shown before.
func TestOfflineCertificates(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	for _, c := range []struct {
		key  crypto.Signer
		pss  bool
		want x509.SignatureAlgorithm
	}{
		{ecKey(t), false, x509.ECDSAWithSHA256}, {rsaKey, false, x509.SHA256WithRSA}, {rsaKey, true, x509.SHA256WithRSAPSS}, {edwards, false, x509.PureEd25519},
	} {
		root := offlineRoot(t, c.key, func(o *Offline) { o.PSS = c.pss; o.Constraints.MaxPathLength = new(1) })
		if got := root.Certificate().SignatureAlgorithm; got != c.want {
			t.Errorf("signed with %v, want %v", got, c.want)
		}
		lower := ecKey(t)
		o := offlineCA(t, "Lower", lower, 5)
		o.PSS, o.Constraints.MaxPathLength, o.Constraints.PermittedDNSDomains = c.pss, new(0), []string{"example.com"}
		o.URLs.CRLDistributionPoints, o.URLs.OCSPServers = []string{"http://a.example/r.crl"}, []string{"http://a.example/ocsp"}
		o.Policies = []string{"1.2.3.4"}
		d, err := DraftIssued(o, root, start)
		must(t, err)
		shown, err := d.Unsigned()
		must(t, err)
		cert, err := d.Sign(c.key)
		must(t, err)
		lintDER(t, cert.Raw)
		if !bytes.Equal(shown.RawTBSCertificate, cert.RawTBSCertificate) || !bytes.Equal(d.TBS(), cert.RawTBSCertificate) {
			t.Error("what was shown is not what was signed")
		}
		if !cert.MaxPathLenZero || cert.PermittedDNSDomains[0] != "example.com" || cert.CRLDistributionPoints[0] != "http://a.example/r.crl" || len(cert.Policies) != 1 {
			t.Errorf("the certificate lacks something: %+v", cert)
		}
		if _, err := d.Sign(lower); fault.KindOf(err) != fault.Invalid {
			t.Errorf("signed with another key: %v", err)
		}
	}
}

func TestOfflineRefusals(t *testing.T) {
	t.Parallel()
	key := ecKey(t)
	root := offlineRoot(t, key, func(o *Offline) { o.Constraints.MaxPathLength = new(1) })
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	for _, c := range []struct {
		want string
		edit func(*Offline)
	}{
		{"no common name", func(o *Offline) { o.Names.CommonName = "" }},
		{"control character", func(o *Offline) { o.Names.CommonName = "a\nb" }},
		{"e_subject_common_name_max_length", func(o *Offline) { o.Names.CommonName = strings.Repeat("a", 65) }},
		{"before it begins", func(o *Offline) { o.NotAfter = o.NotBefore }},
		{"in the past", func(o *Offline) { o.NotBefore, o.NotAfter = start.AddDate(-2, 0, 0), start.AddDate(-1, 0, 0) }},
		{"beyond the expiration", func(o *Offline) { o.NotAfter = start.AddDate(21, 0, 0) }},
		{"before that of its issuer", func(o *Offline) { o.NotBefore = start.AddDate(0, 0, -1) }},
		{"max_path_length", func(o *Offline) { o.Constraints.MaxPathLength = new(1) }},
		{"max_path_length", func(o *Offline) { o.Constraints.MaxPathLength = nil }},
		{"that of the issuer", func(o *Offline) { o.Names.CommonName = "Offline Root" }},
		{"no domain", func(o *Offline) { o.Constraints.PermittedDNSDomains = []string{"a b"} }},
		{"no network", func(o *Offline) { o.Constraints.PermittedIPRanges = []string{"10.0.0.0"} }},
		{"URL", func(o *Offline) { o.URLs.CRLDistributionPoints = []string{"root.crl"} }},
		{"no such lint", func(o *Offline) { o.LintExceptions = []string{"e_nothing"} }},
		{"object identifier", func(o *Offline) { o.Policies = []string{"9.9"} }},
		{"signature_bits", func(o *Offline) { o.SignatureBits = 100 }},
		{"public key", func(o *Offline) { o.PublicKey = []byte{0x30, 0} }},
		{"2048 bits", func(o *Offline) { o.PublicKey = spki(t, small) }},
		{"no common name", func(o *Offline) { o.RawSubject = emptyName }},
		{"can't be read", func(o *Offline) { o.RawSubject = []byte("x") }},
	} {
		o := offlineCA(t, "Lower", ecKey(t), 5)
		o.Constraints.MaxPathLength = new(0)
		c.edit(o)
		_, err := DraftIssued(o, root, start)
		wantFault(t, err, fault.Invalid, c.want)
	}
}

// An issuer that may not certify authorities, and files that are no issuers.
func TestOfflineIssuers(t *testing.T) {
	t.Parallel()
	key, lowerKey := ecKey(t), ecKey(t)
	root := offlineRoot(t, key, nil)
	o := offlineCA(t, "Lower", lowerKey, 5)
	o.Constraints.MaxPathLength = new(0)
	d, err := DraftIssued(o, root, start)
	must(t, err)
	lower, err := d.Sign(key)
	must(t, err)
	rootPEM := pemCert(root.Certificate().Raw)
	chain, err := ParseIssuer(pemCert(lower.Raw) + rootPEM)
	must(t, err)
	third := offlineCA(t, "Third", ecKey(t), 1)
	third.Constraints.MaxPathLength = new(0)
	_, err = DraftIssued(third, chain, start)
	wantFault(t, err, fault.Invalid, "path length of 0")
	_, err = DraftIssued(offlineCA(t, "Third", ecKey(t), 1), root, start.AddDate(30, 0, 0))
	wantFault(t, err, fault.Invalid, "in the past")

	// Below an intermediate: the responder's chain has three certificates.
	responder := &Offline{Purpose: ForOCSP, Names: api.PKINames{CommonName: "Responder"}, PublicKey: spki(t, ecKey(t)), NotBefore: start, NotAfter: start.AddDate(0, 3, 0)}
	d, err = DraftIssued(responder, chain, start)
	must(t, err)
	cert, err := d.Sign(lowerKey)
	must(t, err)
	lintDER(t, cert.Raw)
	if cert.IsCA || cert.ExtKeyUsage[0] != x509.ExtKeyUsageOCSPSigning || !slicesHas(cert.Extensions, oidNoCheck.String()) {
		t.Errorf("the responder's certificate: %+v", cert)
	}
	keyPEM, err := x509.MarshalPKCS8PrivateKey(ecKey(t))
	must(t, err)
	for want, text := range map[string]string{
		"not PEM": "x", "empty": "", "not signed by": rootPEM + pemCert(lower.Raw), "CA:TRUE": pemCert(cert.Raw),
		"private key": rootPEM + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyPEM})),
	} {
		_, err := ParseIssuer(text)
		wantFault(t, err, fault.Invalid, want)
	}
}

func slicesHas(list []pkix.Extension, oid string) bool {
	for _, e := range list {
		if e.Id.String() == oid {
			return true
		}
	}
	return false
}

func TestOfflineCross(t *testing.T) {
	t.Parallel()
	oldKey, newKey := ecKey(t), ecKey(t)
	old := offlineRoot(t, oldKey, nil)
	other := offlineRoot(t, newKey, func(o *Offline) { o.Names.CommonName = "New Root"; o.Constraints.MaxPathLength = new(2) })
	text := pemCert(other.Certificate().Raw)
	o := &Offline{NotBefore: start, NotAfter: start.AddDate(2, 0, 0)}
	d, err := DraftCross(o, text, old, start)
	must(t, err)
	cert, err := d.Sign(oldKey)
	must(t, err)
	lintDER(t, cert.Raw)
	if cert.MaxPathLen != 2 || !bytes.Equal(cert.RawSubjectPublicKeyInfo, other.Certificate().RawSubjectPublicKeyInfo) || cert.Subject.CommonName != "New Root" {
		t.Errorf("the certificate says something else than the authority: %+v", cert)
	}
	_, err = DraftCross(&Offline{NotBefore: start, NotAfter: start.AddDate(21, 0, 0)}, text, old, start)
	wantFault(t, err, fault.Invalid, "within that")
	_, err = DraftCross(o, pemCert(cert.Raw), old, start)
	wantFault(t, err, fault.Invalid, "self-issued")
}

func TestOfflineCRL(t *testing.T) {
	t.Parallel()
	key := ecKey(t)
	root := offlineRoot(t, key, nil)
	good := func() *OfflineCRL {
		return &OfflineCRL{Number: 7, ThisUpdate: start, NextUpdate: start.AddDate(0, 6, 0), Revoked: []OfflineRevocation{
			{big.NewInt(300), start.AddDate(0, 0, -1), 4}, {big.NewInt(5), start, 0},
		}}
	}
	d, err := DraftCRL(good(), root, start)
	must(t, err)
	der, err := d.Sign(key)
	must(t, err)
	list, err := ParseCRL(der, root)
	must(t, err)
	if again, err := ParseCRL([]byte(pemCRL(der)), root); err != nil || !bytes.Equal(again.Raw, der) {
		t.Errorf("in PEM: %v", err)
	}
	shown, err := d.Unsigned()
	must(t, err)
	if !bytes.Equal(shown.RawTBSRevocationList, list.RawTBSRevocationList) || !bytes.Equal(d.TBS(), list.RawTBSRevocationList) {
		t.Error("what was shown is not what was signed")
	}
	e := list.RevokedCertificateEntries
	if list.Number.Int64() != 7 || len(e) != 2 || e[0].ReasonCode != 4 || e[0].SerialNumber.Int64() != 300 || !bytes.Equal(list.AuthorityKeyId, root.Certificate().SubjectKeyId) {
		t.Errorf("the CRL: %+v", list)
	}
	if _, err := d.Sign(ecKey(t)); err == nil {
		t.Error("signed with another key")
	}
	_, err = ParseCRL(der, offlineRoot(t, ecKey(t), nil))
	wantFault(t, err, fault.Invalid, "not signed by")
	_, err = ParseCRL([]byte(pemCert(root.Certificate().Raw)), root)
	wantFault(t, err, fault.Invalid, "no CRL")
	for _, c := range []struct {
		want string
		edit func(*OfflineCRL)
	}{
		{"number", func(o *OfflineCRL) { o.Number = 0 }},
		{"before it begins", func(o *OfflineCRL) { o.NextUpdate = start }},
		{"in the past", func(o *OfflineCRL) { o.ThisUpdate, o.NextUpdate = start.AddDate(-2, 0, 0), start.AddDate(-1, 0, 0) }},
		{"twice", func(o *OfflineCRL) { o.Revoked[1].Serial = big.NewInt(300) }},
		{"positive", func(o *OfflineCRL) { o.Revoked[1].Serial = big.NewInt(0) }},
		{"at most 20 bytes", func(o *OfflineCRL) { o.Revoked[1].Serial = new(big.Int).Lsh(big.NewInt(1), 161) }},
		{"reason 7", func(o *OfflineCRL) { o.Revoked[1].Reason = 7 }},
		{"after the CRL begins", func(o *OfflineCRL) { o.Revoked[1].Time = start.Add(time.Hour) }},
		{"no such lint", func(o *OfflineCRL) { o.LintExceptions = []string{"x"} }},
		{"signature_bits", func(o *OfflineCRL) { o.SignatureBits = 1 }},
	} {
		o := good()
		c.edit(o)
		_, err := DraftCRL(o, root, start)
		wantFault(t, err, fault.Invalid, c.want)
	}
}

func TestOfflineRequest(t *testing.T) {
	t.Parallel()
	key := ecKey(t)
	d, err := DraftRequest(offlineCA(t, "Partner", key, 1))
	must(t, err)
	der, err := d.Sign(key)
	must(t, err)
	csr, err := RequestFacts(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	must(t, err)
	if csr.Subject.CommonName != "Partner" || !bytes.Equal(csr.RawTBSCertificateRequest, d.TBS()) {
		t.Errorf("the request: %+v", csr)
	}
	if _, err := d.Sign(ecKey(t)); err == nil {
		t.Error("signed with another key")
	}
	_, err = RequestFacts("x")
	wantFault(t, err, fault.Invalid, "no certificate request")
}

// Strictly refuses what openssl verify -x509_strict refuses.
func TestStrictly(t *testing.T) {
	t.Parallel()
	key := ecKey(t)
	make := func(edit func(*x509.Certificate)) *x509.Certificate {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: start, NotAfter: start.AddDate(1, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: caKeyUsage, SubjectKeyId: []byte{1},
		}
		edit(template)
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		must(t, err)
		cert, err := x509.ParseCertificate(der)
		must(t, err)
		return cert
	}
	must(t, Strictly(make(func(*x509.Certificate) {}), nil))
	raw := func(oid []int, critical bool, value []byte) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oid, Critical: critical, Value: value})
		}
	}
	for want, edit := range map[string]func(*x509.Certificate){
		"not critical":          raw(oidBasicConstraints, false, []byte{0x30, 3, 1, 1, 0xff}),
		"without a key usage":   func(c *x509.Certificate) { c.KeyUsage = 0 },
		"is no authority":       func(c *x509.Certificate) { c.IsCA = false; c.KeyUsage = x509.KeyUsageCertSign },
		"no name":               func(c *x509.Certificate) { c.Subject = pkix.Name{} },
		"signs certificates":    func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign; c.MaxPathLen = 1 },
		"would not be accepted": raw([]int{1, 2, 3, 4}, true, []byte{5, 0}),
	} {
		err := Strictly(make(edit), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	if err := Strictly(make(func(*x509.Certificate) {}), []*x509.Certificate{offlineRoot(t, ecKey(t), nil).Certificate()}); err == nil {
		t.Error("a certificate of another issuer is accepted")
	}
}
