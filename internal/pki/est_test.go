package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// estEnv is an authority with a role "web" and an EST server: "web" without a
// label, "verbatim" under that label.
func estEnv(t *testing.T, edit func(*api.SetPKIRole)) *env {
	t.Helper()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("web", func(r *api.SetPKIRole) {
		r.TTL = new(api.Seconds(3600))
		if edit != nil {
			edit(r)
		}
	})
	e.makeRole("other", nil)
	e.setEST(&api.SetPKIEST{
		Enabled: new(true), DefaultMount: new(true), DefaultPathPolicy: new("role:web"),
		LabelToPathPolicy: &map[string]string{"verbatim": "sign-verbatim", "other": "role:other"},
	})
	return e
}

func (e *env) setEST(r *api.SetPKIEST) *api.PKIEST {
	e.t.Helper()
	out, err := e.setESTConfig(bg, call(), r)
	must(e.t, err)
	return out
}

// byToken is a call of somebody with a client token.
func byToken() *op.Call { return &op.Call{Mount: "pki/", MayUpdate: true, TokenID: "id"} }

// device is somebody who has a key and, after enrolling, a certificate.
type device struct {
	e    *env
	key  crypto.Signer
	cert *x509.Certificate
}

func (e *env) device() *device {
	e.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(e.t, err)
	return &device{e: e, key: key}
}

// csr is a request in base64, with line breaks.
func (d *device) csr(edit func(*x509.CertificateRequest)) string {
	d.e.t.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "www.example.com"}, DNSNames: []string{"www.example.com"}}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, d.key)
	must(d.e.t, err)
	return base64Lines(der)
}

// shows is the chain that the device shows in TLS.
func (d *device) shows() [][]byte { return [][]byte{d.cert.Raw} }

// take keeps the certificate of an answer.
func (d *device) take(a *api.ESTCertificates, err error) *api.ESTCertificates {
	d.e.t.Helper()
	must(d.e.t, err)
	certs := fromCMS(d.e.t, a.Body)
	if len(certs) != 1 {
		d.e.t.Fatalf("%d certificates", len(certs))
	}
	d.cert = certs[0]
	return a
}

// enrolled is a device with a certificate from a label.
func (e *env) enrolled(label string, edit func(*x509.CertificateRequest)) *device {
	e.t.Helper()
	d := e.device()
	d.take(e.estEnroll(bg, byToken(), &api.ESTEnroll{Label: label, CSR: d.csr(edit)}))
	return d
}

// fromCMS reads a certs-only message by itself, not by what wrote it.
func fromCMS(t testing.TB, text string) []*x509.Certificate {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(text)
	must(t, err)
	var outer struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"explicit,tag:0"`
	}
	rest, err := asn1.Unmarshal(der, &outer)
	must(t, err)
	var signed struct {
		Version    int
		Algorithms asn1.RawValue `asn1:"set"`
		Content    struct{ Type asn1.ObjectIdentifier }
		Certs      asn1.RawValue `asn1:"optional,tag:0"`
		Signers    asn1.RawValue `asn1:"set"`
	}
	more, err := asn1.Unmarshal(outer.Content.Bytes, &signed)
	must(t, err)
	if len(rest)+len(more) > 0 || signed.Version != 1 || len(signed.Algorithms.Bytes)+len(signed.Signers.Bytes) > 0 ||
		!outer.Type.Equal(oidSignedData) || !signed.Content.Type.Equal(oidData) {
		t.Fatalf("not certs-only: %+v %+v", outer, signed)
	}
	certs, err := x509.ParseCertificates(signed.Certs.Bytes)
	must(t, err)
	return certs
}

// TestESTAttributes: what follows from a role, until the configuration says.
func TestESTAttributes(t *testing.T) {
	t.Parallel()
	e := estEnv(t, func(r *api.SetPKIRole) { r.KeyType, r.KeyBits = new("ec"), new(384) })
	ask := func(label string) string {
		t.Helper()
		a, err := e.estCSRAttrs(bg, call(), &api.ESTGet{Label: label})
		must(t, err)
		if (a.Body == "") != (a.HTTPStatus() == 204) {
			t.Errorf("status %d of %q", a.HTTPStatus(), a.Body)
		}
		der, err := base64.StdEncoding.DecodeString(a.Body)
		must(t, err)
		return string(der)
	}
	der := func(texts ...string) string {
		b, err := csrAttributes(texts)
		must(t, err)
		return string(b)
	}
	if ask("") != der("1.2.840.10045.2.1=1.3.132.0.34") || ask("verbatim") != "" {
		t.Error("not what follows from the role")
	}
	e.makeRole("web", func(r *api.SetPKIRole) { r.KeyType = new("rsa") })
	e.setEST(&api.SetPKIEST{RequireChannelBinding: new(true)})
	if ask("") != der("1.2.840.113549.1.9.7", "1.2.840.113549.1.1.1=2048") || ask("verbatim") != der("1.2.840.113549.1.9.7") {
		t.Error("not what follows from an RSA role with channel binding")
	}
	e.makeRole("web", func(r *api.SetPKIRole) { r.KeyType = new("ed25519") })
	e.setEST(&api.SetPKIEST{RequireChannelBinding: new(false)})
	if ask("") != der("1.3.101.112") {
		t.Error("not what follows from an Ed25519 role")
	}
	e.setEST(&api.SetPKIEST{CSRAttributes: &[]string{"2.5.4.5"}})
	if ask("") != der("2.5.4.5") {
		t.Error("not what the configuration says")
	}
}

// TestESTLife: a device enrolls by a token and renews by its certificate, with
// the same key and with another one.
func TestESTLife(t *testing.T) {
	t.Parallel()
	e := estEnv(t, func(r *api.SetPKIRole) { r.Organization = &[]string{"Example"} })
	d := e.enrolled("", nil)
	if d.cert.Subject.String() != "CN=www.example.com,O=Example" || !strings.Contains(strings.Join(d.cert.DNSNames, " "), "www.example.com") {
		t.Errorf("certificate %v %v", d.cert.Subject, d.cert.DNSNames)
	}
	same := func(r *x509.CertificateRequest) { r.RawSubject = d.cert.RawSubject }
	first := d.cert
	a := d.take(e.estReenroll(bg, call(), &api.ESTEnroll{CSR: d.csr(same), Certificates: d.shows()}))
	if a.ShownSerial != serialText(first.SerialNumber) || a.SerialNumber != serialText(d.cert.SerialNumber) || a.SerialNumber == a.ShownSerial {
		t.Errorf("%+v", a)
	}
	shows := d.shows()
	d.key = e.device().key
	d.take(e.estReenroll(bg, byToken(), &api.ESTEnroll{CSR: d.csr(same), Certificates: shows}))
	if !bytes.Equal(d.cert.RawSubject, first.RawSubject) || bytes.Equal(d.cert.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) {
		t.Error("not the same name with another key")
	}
	ca, err := e.estCACerts(bg, call(), &api.ESTGet{})
	must(t, err)
	certs := fromCMS(t, ca.Body)
	if len(certs) != 1 || d.cert.CheckSignatureFrom(certs[0]) != nil {
		t.Errorf("cacerts: %d certificates", len(certs))
	}
	if kind, _ := ca.Raw(); kind != "application/pkcs7-mime" {
		t.Errorf("cacerts is %s", kind)
	}
	if kind, _ := a.Raw(); kind != "application/pkcs7-mime; smime-type=certs-only" {
		t.Errorf("simplereenroll answers %s", kind)
	}
}

// TestESTVerbatim: what is renewed keeps its extensions, whatever is asked for.
func TestESTVerbatim(t *testing.T) {
	t.Parallel()
	e := estEnv(t, nil)
	ekus := func(oids ...asn1.ObjectIdentifier) func(*x509.CertificateRequest) {
		return func(r *x509.CertificateRequest) {
			ext := ekuExtension(oids)
			r.ExtraExtensions = []pkix.Extension{{Id: ext.oid, Value: ext.value}}
		}
	}
	d := e.enrolled("verbatim", ekus(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}))
	if len(d.cert.ExtKeyUsage) != 1 || d.cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Fatalf("extended key usages %v", d.cert.ExtKeyUsage)
	}
	for name, edit := range map[string]func(*x509.CertificateRequest){
		"nothing": nil, "code signing": ekus(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}),
	} {
		before := d.cert
		d.take(e.estReenroll(bg, call(), &api.ESTEnroll{Label: "verbatim", CSR: d.csr(edit), Certificates: d.shows()}))
		if len(d.cert.ExtKeyUsage) != 1 || d.cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || d.cert.KeyUsage != before.KeyUsage || len(d.cert.Extensions) != len(before.Extensions) {
			t.Errorf("%s: %v %v", name, d.cert.ExtKeyUsage, d.cert.Extensions)
		}
	}
}

// TestESTRenewalRefused: a renewal is for the same names, at the same place, of
// a certificate that is good.
func TestESTRenewalRefused(t *testing.T) {
	t.Parallel()
	e := estEnv(t, nil)
	d := e.enrolled("", nil)
	try := func(who *op.Call, label string, chain [][]byte, edit func(*x509.CertificateRequest)) error {
		_, err := e.estReenroll(bg, who, &api.ESTEnroll{Label: label, CSR: d.csr(edit), Certificates: chain})
		return err
	}
	before := e.count(tableCerts)
	wantFault(t, try(call(), "", d.shows(), func(r *x509.CertificateRequest) { r.Subject.CommonName = "mail.example.com" }), fault.Invalid, "the subject")
	wantFault(t, try(call(), "", d.shows(), func(r *x509.CertificateRequest) { r.Subject.Country = []string{"DE"} }), fault.Invalid, "the subject")
	wantFault(t, try(call(), "", d.shows(), func(r *x509.CertificateRequest) { r.DNSNames = append(r.DNSNames, "mail.example.com") }), fault.Invalid, "alternative names")
	wantFault(t, try(call(), "", d.shows(), func(r *x509.CertificateRequest) { r.DNSNames = nil }), fault.Invalid, "alternative names")
	wantFault(t, try(call(), "", d.shows(), func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{{192, 0, 2, 1}} }), fault.Invalid, "alternative names")
	wantFault(t, try(call(), "other", d.shows(), nil), fault.Invalid, "renew it where it was issued")
	wantFault(t, try(call(), "verbatim", d.shows(), nil), fault.Invalid, "renew it where it was issued")
	wantFault(t, try(call(), "unknown", d.shows(), nil), fault.NotFound, "unknown")
	wantFault(t, try(call(), "", nil, nil), fault.Invalid, "showed no certificate")
	wantFault(t, try(byToken(), "", nil, nil), fault.Invalid, "showed no certificate")
	wantFault(t, try(call(), "", [][]byte{{1, 2, 3}}, nil), fault.Denied, "can't be read")

	foreign, chain := e.outside("Foreign")
	wantFault(t, try(call(), "", chain, nil), fault.Denied, "was not issued by")
	e.setEST(&api.SetPKIEST{Authenticators: &map[string]map[string]string{"cert": {"ca": pemText(foreign.Raw)}}})
	wantFault(t, try(call(), "", chain, nil), fault.Denied, "was not issued by")
	wantFault(t, try(byToken(), "", d.shows(), nil), fault.Denied, "does not allow client tokens")
	e.setEST(&api.SetPKIEST{Authenticators: &map[string]map[string]string{"token": {}}})
	wantFault(t, try(call(), "", d.shows(), nil), fault.Denied, "does not allow client certificates")
	must(t, try(byToken(), "", d.shows(), nil))
	e.setEST(&api.SetPKIEST{Authenticators: &map[string]map[string]string{"cert": {}, "token": {}}})

	forged := bytes.Clone(d.cert.Raw)
	forged[len(forged)-1] ^= 1
	wantFault(t, try(call(), "", [][]byte{forged}, nil), fault.Denied, "was not issued by")
	root := parsePEM(t, e.rootPEM())
	wantFault(t, try(call(), "", [][]byte{root.Raw}, nil), fault.Denied, "is that of an authority")

	e.clock.Store(3500)
	must(t, try(call(), "", d.shows(), nil))
	e.clock.Store(3700)
	wantFault(t, try(call(), "", d.shows(), nil), fault.Denied, "expired at")
	e.clock.Store(-120)
	wantFault(t, try(call(), "", d.shows(), nil), fault.Denied, "is not valid before")
	e.clock.Store(0)
	_, err := e.revoke(bg, call(), &api.PKIRevoke{SerialNumber: serialText(d.cert.SerialNumber)})
	must(t, err)
	wantFault(t, try(call(), "", d.shows(), nil), fault.Denied, "was revoked at")
	wantFault(t, try(byToken(), "", d.shows(), nil), fault.Denied, "was revoked at")
	if n := e.count(tableCerts); n != before+2 {
		t.Errorf("%d certificates were made, want 2", n-before)
	}
}

func (e *env) rootPEM() string {
	e.t.Helper()
	out, err := e.readIssuer(bg, call(), &api.PKIIssuerRef{Issuer: defaultRef})
	must(e.t, err)
	return out.Certificate
}

// outside is an authority of elsewhere, and a chain of a certificate of its.
func (e *env) outside(name string) (*x509.Certificate, [][]byte) {
	e.t.Helper()
	key := e.device().key
	now := e.time()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "a device", SerialNumber: "SN-1"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	must(e.t, err)
	root, err := x509.ParseCertificate(der)
	must(e.t, err)
	der, err = x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), key)
	must(e.t, err)
	return root, [][]byte{der}
}

// TestESTEnrollByCertificate: a certificate of a named authority enrolls; one of
// the mount's own does not, since it could get other names.
func TestESTEnrollByCertificate(t *testing.T) {
	t.Parallel()
	e := estEnv(t, func(r *api.SetPKIRole) { r.AllowedSerialNumbers = &[]string{"SN-*"} })
	d := e.device()
	maker, chain := e.outside("Maker")
	try := func(chain [][]byte) (*api.ESTCertificates, error) {
		return e.estEnroll(bg, call(), &api.ESTEnroll{CSR: d.csr(func(r *x509.CertificateRequest) { r.Subject.SerialNumber = "SN-1" }), Certificates: chain})
	}
	_, err := try(nil)
	wantFault(t, err, fault.Denied, "showed no certificate")
	_, err = try(chain)
	wantFault(t, err, fault.Denied, "can't enroll")
	e.setEST(&api.SetPKIEST{Authenticators: &map[string]map[string]string{"cert": {"ca": pemText(maker.Raw)}}})
	a := d.take(try(chain))
	if a.ShownSubject != "SERIALNUMBER=SN-1,CN=a device" || d.cert.Subject.SerialNumber != "SN-1" {
		t.Errorf("%+v %v", a, d.cert.Subject)
	}
	_, err = try(d.shows())
	wantFault(t, err, fault.Denied, "is not accepted by authenticators.cert.ca")
	_, other := e.outside("Other")
	_, err = try(other)
	wantFault(t, err, fault.Denied, "is not accepted by authenticators.cert.ca")
	e.clock.Store(40 * 24 * 3600)
	_, err = try(chain)
	wantFault(t, err, fault.Denied, "is not accepted by authenticators.cert.ca")
	e.clock.Store(0)

	// The mount's own authority may be named, too: but not for what was revoked.
	e.setEST(&api.SetPKIEST{Authenticators: &map[string]map[string]string{"cert": {"ca": e.rootPEM()}, "token": {}}})
	_, err = try(d.shows())
	must(t, err)
	_, err = e.revoke(bg, call(), &api.PKIRevoke{SerialNumber: serialText(d.cert.SerialNumber)})
	must(t, err)
	_, err = try(d.shows())
	wantFault(t, err, fault.Denied, "was revoked at")
}

// TestESTOddCertificates: what was issued for servers, with no_store, or by an
// issuer that was revoked can't be renewed.
func TestESTOddCertificates(t *testing.T) {
	t.Parallel()
	e := estEnv(t, nil)
	try := func(d *device) error {
		_, err := e.estReenroll(bg, call(), &api.ESTEnroll{CSR: d.csr(nil), Certificates: d.shows()})
		return err
	}
	good := e.enrolled("", nil)
	e.makeRole("web", func(r *api.SetPKIRole) { r.ClientFlag = new(false) })
	wantFault(t, try(e.enrolled("", nil)), fault.Denied, "is not for clients")
	e.makeRole("web", func(r *api.SetPKIRole) { r.NoStore = new(true) })
	wantFault(t, try(e.enrolled("", nil)), fault.Denied, "is not kept here")
	e.makeRole("web", nil)
	must(t, try(good))
	_, err := e.deleteRole(bg, call(), &api.PKIRoleName{Name: "web"})
	must(t, err)
	wantFault(t, try(good), fault.NotFound, "not there any more")
	e.makeRole("web", nil)
	_, err = e.revokeIssuer(bg, call(), &api.PKIIssuerRef{Issuer: defaultRef})
	must(t, err)
	wantFault(t, try(good), fault.Denied, "which is revoked")
}

// TestESTRequests: every form of the body that RFC 8951 allows; what is none is
// refused and changes nothing.
func TestESTRequests(t *testing.T) {
	t.Parallel()
	e := estEnv(t, nil)
	d := e.device()
	good := d.csr(nil)
	bare := strings.ReplaceAll(good, "\r\n", "")
	der, err := base64.StdEncoding.DecodeString(good)
	must(t, err)
	for name, text := range map[string]string{
		"one line": bare, "CRLF": good, "LF": strings.ReplaceAll(good, "\r\n", "\n"), "blanks": "\n " + strings.ReplaceAll(good, "\r\n", "\r\n\t ") + " \n",
		"PEM": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
	} {
		if _, err := e.estEnroll(bg, byToken(), &api.ESTEnroll{CSR: text}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	before := e.count(tableCerts)
	forged := bytes.Clone(der)
	forged[len(forged)-1] ^= 1
	for text, want := range map[string]string{
		"": `"csr" is empty`, "!": "not base64", bare[:len(bare)-3]: "not base64", "AAAA": "could not be parsed", "\xff\xfe": "not base64", "a\x00b": "not base64",
		base64Lines(forged):                "signature invalid",
		strings.Repeat("A", 1<<20):         "at most",
		strings.Repeat("AAAA", 100<<10):    "at most",
		"-----BEGIN CERTIFICATE-----\nAA=": "no certificate request in PEM",
		d.csr(func(r *x509.CertificateRequest) { r.Subject.CommonName = "www.example.org" }):  "not allowed by this role",
		d.csr(func(r *x509.CertificateRequest) { r.Subject.SerialNumber = "1" }):              "serial_number 1 not allowed",
		d.csr(func(r *x509.CertificateRequest) { r.Subject.CommonName = "a\nb.example.com" }): "control character",
	} {
		_, err := e.estEnroll(bg, byToken(), &api.ESTEnroll{CSR: text})
		wantFault(t, err, fault.Invalid, want)
	}
	if n := e.count(tableCerts); n != before {
		t.Errorf("%d certificates more", n-before)
	}
}

// withPassword is a request with a challengePassword, which x509 can't make.
func (d *device) withPassword(text string, tag cbasn1.Tag) string {
	d.e.t.Helper()
	template, err := base64.StdEncoding.DecodeString(d.csr(nil))
	must(d.e.t, err)
	parsed, err := x509.ParseCertificateRequest(template)
	must(d.e.t, err)
	var info, attributes, rest cryptobyte.String = cryptobyte.String(parsed.RawTBSCertificateRequest), nil, nil
	if !info.ReadASN1(&info, cbasn1.SEQUENCE) {
		d.e.t.Fatal("no CertificationRequestInfo")
	}
	head := len(info)
	rest = info
	if !rest.SkipASN1(cbasn1.INTEGER) || !rest.SkipASN1(cbasn1.SEQUENCE) || !rest.SkipASN1(cbasn1.SEQUENCE) {
		d.e.t.Fatal("no CertificationRequestInfo")
	}
	head -= len(rest)
	if !rest.ReadASN1(&attributes, constructed(0)) {
		d.e.t.Fatal("no attributes")
	}
	tbs := sequence(func(b *builder) {
		b.AddBytes(info[:head])
		b.AddASN1(constructed(0), func(b *builder) {
			b.AddBytes(attributes)
			b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
				b.AddASN1ObjectIdentifier(oidChallengePassword)
				b.AddASN1(cbasn1.SET, func(b *builder) { b.AddASN1(tag, func(b *builder) { b.AddBytes([]byte(text)) }) })
			})
		})
	})
	alg, err := chooseAlgorithm(d.key.Public(), 256, false)
	must(d.e.t, err)
	signature, err := alg.sign(d.key, tbs)
	must(d.e.t, err)
	return base64Lines(sequence(func(b *builder) {
		b.AddBytes(tbs)
		b.AddBytes(alg.der)
		b.AddASN1BitString(signature)
	}))
}

// TestESTChannelBinding: a challengePassword is the binding of the connection or
// the request is refused; it may be demanded.
func TestESTChannelBinding(t *testing.T) {
	t.Parallel()
	e := estEnv(t, nil)
	d := e.device()
	binding := bytes.Repeat([]byte{7}, 32)
	right := base64.StdEncoding.EncodeToString(binding)
	try := func(csr string, binding []byte) error {
		_, err := e.estEnroll(bg, byToken(), &api.ESTEnroll{CSR: csr, ChannelBinding: binding})
		return err
	}
	must(t, try(d.csr(nil), binding))
	must(t, try(d.withPassword(right, cbasn1.UTF8String), binding))
	must(t, try(d.withPassword(right, cbasn1.PrintableString), binding))
	wantFault(t, try(d.withPassword(right, cbasn1.UTF8String), nil), fault.Invalid, "this one has none")
	wantFault(t, try(d.withPassword("secret", cbasn1.UTF8String), binding), fault.Invalid, "is not the channel binding")
	wantFault(t, try(d.withPassword(right, cbasn1.UTF8String), binding[1:]), fault.Invalid, "is not the channel binding")
	wantFault(t, try(d.withPassword(right, cbasn1.INTEGER), binding), fault.Invalid, "not one text")
	e.setEST(&api.SetPKIEST{RequireChannelBinding: new(true)})
	wantFault(t, try(d.csr(nil), binding), fault.Invalid, "lacks challengePassword")
	must(t, try(d.withPassword(right, cbasn1.UTF8String), binding))
}

// TestESTConfig: what config/est takes, and what it refuses by name.
func TestESTConfig(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("web", nil)
	for want, r := range map[string]*api.SetPKIEST{
		"needs to know what to issue":     {Enabled: new(true)},
		"default_mount needs":             {DefaultMount: new(true)},
		"unknown role":                    {DefaultPathPolicy: new("role:nothing")},
		"it is sign-verbatim or role":     {DefaultPathPolicy: new("web")},
		"is no label":                     {LabelToPathPolicy: &map[string]string{"cacerts": "role:web"}},
		`"a/b" is no label`:               {LabelToPathPolicy: &map[string]string{"a/b": "role:web"}},
		"label_to_path_policy of x":       {LabelToPathPolicy: &map[string]string{"x": ""}},
		"Sentinel":                        {EnableSentinelParsing: new(true)},
		"audit_fields is refused":         {AuditFields: &[]string{"csr"}},
		`authenticators has "userpass"`:   {Authenticators: &map[string]map[string]string{"userpass": {"accessor": "x"}}},
		"authenticators.cert.accessor":    {Authenticators: &map[string]map[string]string{"cert": {"accessor": "x"}}},
		"authenticators.token.ca":         {Authenticators: &map[string]map[string]string{"token": {"ca": "x"}}},
		"not one or more certificates":    {Authenticators: &map[string]map[string]string{"cert": {"ca": "x"}}},
		"no object identifier":            {CSRAttributes: &[]string{"x"}},
		"the EST server needs authentica": {Enabled: new(true), DefaultPathPolicy: new("role:web"), Authenticators: &map[string]map[string]string{}},
	} {
		_, err := e.setESTConfig(bg, call(), r)
		wantFault(t, err, fault.Invalid, want)
	}
	if n := e.count(tableESTConfig); n != 0 {
		t.Errorf("%d records", n)
	}
	_, err := e.estCACerts(bg, call(), &api.ESTGet{})
	wantFault(t, err, fault.NotFound, "config/est enables it")
	_, err = e.ESTMount(bg, "")
	wantFault(t, err, fault.NotFound, "no mount has default_mount")

	out := e.setEST(&api.SetPKIEST{
		Enabled: new(true), DefaultMount: new(true), DefaultPathPolicy: new("sign-verbatim"), LabelToPathPolicy: &map[string]string{"a": "role:web"},
		Authenticators: &map[string]map[string]string{"cert": {"accessor": "", "cert_role": ""}}, EnableSentinelParsing: new(false), AuditFields: &[]string{},
	})
	if out.LastUpdated == "" || len(out.Authenticators) != 1 || len(out.Authenticators["cert"]) != 0 {
		t.Errorf("%+v", out)
	}
	kept, err := e.readESTConfig(bg, call(), nil)
	must(t, err)
	if _, there := kept.Authenticators["token"]; there || !kept.Enabled || kept.LabelToPathPolicy["a"] != "role:web" {
		t.Errorf("%+v", kept)
	}
	e.setEST(&api.SetPKIEST{LabelToPathPolicy: &map[string]string{"b": "role:web"}})
	for label, want := range map[string]string{"": "pki/", "b": "pki/", "a": ""} {
		if got, err := e.ESTMount(bg, label); got != want || (err == nil) != (want != "") {
			t.Errorf("label %q: %q %v", label, got, err)
		}
	}
	second := &op.Call{Mount: "second/", MayUpdate: true}
	_, err = e.setESTConfig(bg, second, &api.SetPKIEST{LabelToPathPolicy: &map[string]string{"b": "sign-verbatim"}})
	wantFault(t, err, fault.Conflict, "the label b is that of pki/ already")
	_, err = e.setESTConfig(bg, second, &api.SetPKIEST{DefaultMount: new(true), DefaultPathPolicy: new("sign-verbatim")})
	wantFault(t, err, fault.Conflict, "default_mount is that of pki/ already")
	must(t, e.Unmount(bg, "pki/"))
	if n := e.count(tableESTConfig); n != 0 {
		t.Errorf("%d records after unmounting", n)
	}
	_, err = e.setESTConfig(bg, second, &api.SetPKIEST{Enabled: new(true), LabelToPathPolicy: &map[string]string{"b": "sign-verbatim"}})
	must(t, err)
}
