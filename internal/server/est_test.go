package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
)

// estServer is a server with an EST server, on its own listener, without a label
// and under the label "all".
type estServer struct {
	t      *testing.T
	s      *Server
	base   string // https://…/.well-known/est/
	listed *x509.CertPool
}

func newESTServer(t *testing.T) *estServer {
	t.Helper()
	dir := t.TempDir()
	e := &estServer{t: t, listed: x509.NewCertPool()}
	e.listed.AddCert(certificate(t, dir, 1))
	cfg := config.Dev(t.TempDir())
	f := &cfg.Front.EST
	cfg.Listeners = append(cfg.Listeners, config.Listener{Address: "127.0.0.1:0", TLSCert: filepath.Join(dir, "crt"), TLSKey: filepath.Join(dir, "key")})
	f.Enabled, f.Address, f.TLSCert, f.TLSKey = true, "127.0.0.1:0", filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	e.s = running(t, cfg, Options{Dev: &Dev{RootTokenID: "root"}})
	e.base = e.s.FrontAddress("est") + "/.well-known/est/"
	e.set("sys/mounts/ca/devices", map[string]any{"type": "pki"})
	e.set("ca/devices/root/generate/internal", map[string]any{"common_name": "Devices", "key_type": "ec"})
	e.set("ca/devices/roles/web", map[string]any{"allowed_domains": "example.com", "allow_subdomains": true, "key_type": "ec", "ttl": "1h"})
	e.set("ca/devices/config/est", map[string]any{"enabled": true, "default_mount": true, "default_path_policy": "role:web",
		"label_to_path_policy": map[string]string{"all": "sign-verbatim"}})
	return e
}

// set writes to the API and must succeed.
func (e *estServer) set(path string, body any) {
	e.t.Helper()
	var text string
	if status := do(e.t, e.s, "POST", path, "root", body, &text); status >= 300 {
		e.t.Fatalf("%s: status %d: %s", path, status, text)
	}
}

// estDevice is a client with a key and perhaps a certificate.
type estDevice struct {
	e    *estServer
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	http *http.Client
}

// client has a connection of its own, on which it shows a certificate if there is one.
func (e *estServer) client(key *ecdsa.PrivateKey, cert *x509.Certificate) *estDevice {
	e.t.Helper()
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			e.t.Fatal(err)
		}
	}
	c := &tls.Config{RootCAs: e.listed, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	if cert != nil {
		c.Certificates = []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}
	}
	transport := &http.Transport{TLSClientConfig: c}
	e.t.Cleanup(transport.CloseIdleConnections)
	return &estDevice{e, key, cert, &http.Client{Transport: transport}}
}

// csr is a request in base64 for host names.
func (d *estDevice) csr(names ...string) string {
	d.e.t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: names[0]}, DNSNames: names}, d.key)
	if err != nil {
		d.e.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// post sends a request of EST; password may be "".
func (d *estDevice) post(path, password, body string) (int, string, http.Header) {
	d.e.t.Helper()
	r, err := http.NewRequest("POST", path, strings.NewReader(body))
	if err != nil {
		d.e.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/pkcs10")
	if password != "" {
		r.SetBasicAuth("device", password)
	}
	resp, err := d.http.Do(r)
	if err != nil {
		d.e.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.e.t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// want posts and compares status and a part of the answer.
func (d *estDevice) want(what, path, password, body string, status int, part string) http.Header {
	d.e.t.Helper()
	got, text, header := d.post(d.e.base+path, password, body)
	if got != status || !strings.Contains(text, part) {
		d.e.t.Errorf("%s: status %d %.300q, want %d with %q", what, got, text, status, part)
	}
	return header
}

// enrolls posts and must get a certificate.
func (d *estDevice) enrolls(path, password, body string) *x509.Certificate {
	d.e.t.Helper()
	status, text, header := d.post(d.e.base+path, password, body)
	if status != 200 || header.Get("Content-Type") != "application/pkcs7-mime; smime-type=certs-only" || header.Get("Content-Transfer-Encoding") != "base64" {
		d.e.t.Fatalf("%s: status %d %q %v", path, status, text, header)
	}
	return certOf(d.e.t, text)
}

// certOf is the one certificate of a certs-only message.
func certOf(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	var message struct {
		Type   asn1.ObjectIdentifier
		Signed struct {
			Version    int
			Algorithms asn1.RawValue
			Content    asn1.RawValue
			Certs      asn1.RawValue
			Signers    asn1.RawValue
		} `asn1:"explicit,tag:0"`
	}
	if _, err := asn1.Unmarshal(der, &message); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(message.Signed.Certs.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestEST: a device enrolls with a token, renews with its certificate over
// several connections, and everything wrong is refused with a reason.
func TestEST(t *testing.T) {
	t.Parallel()
	e := newESTServer(t)
	e.set("sys/policies/acl/enroll", map[string]any{"policy": `path "ca/devices/est/simpleenroll" { capabilities = ["update"] }`})
	var made struct{ Auth api.Auth }
	do(t, e.s, "POST", "auth/token/create", "root", map[string]any{"policies": []string{"enroll"}, "no_default_policy": true}, &made)
	password := made.Auth.ClientToken

	d := e.client(nil, nil)
	csr := d.csr("www.example.com")
	cert := d.enrolls("simpleenroll", password, csr)
	header := d.want("nobody", "simpleenroll", "", csr, 401, "show a client certificate")
	if header.Get("WWW-Authenticate") != `Basic realm="EST", charset="UTF-8"` {
		t.Errorf("401 with %v", header)
	}
	d.want("wrong password", "simpleenroll", "s.wrong", csr, 401, "must be a client token")
	d.want("a place that the policy does not allow", "all/simpleenroll", password, csr, 401, "must be a client token")
	d.want("a token without a certificate", "simplereenroll", "root", csr, 400, "showed no certificate")
	d.want("a name that the role does not allow", "simpleenroll", password, d.csr("www.example.org"), 400, "not allowed by this role")
	d.want("bad base64", "simpleenroll", password, "?", 400, "not base64")
	d.want("1 MiB", "simpleenroll", password, strings.Repeat("A", 1<<20), 413, "larger than")
	d.want("unknown label", "x/simpleenroll", password, csr, 404, `label "x"`)

	owner := e.client(d.key, cert)
	second := owner.enrolls("simplereenroll", "", csr)
	// Another connection resumes the session: the certificate goes with it.
	owner.http.CloseIdleConnections()
	owner.enrolls("simplereenroll", "", csr)
	owner.want("another name", "simplereenroll", "", owner.csr("mail.example.com"), 400, "they must be the same")
	owner.want("enrolling by its own certificate", "simpleenroll", "", owner.csr("mail.example.com"), 401, "can't enroll")
	e.client(foreignCertificate(t)).want("a foreign certificate", "simplereenroll", "", csr, 401, "was not issued by")

	e.set("ca/devices/revoke", map[string]any{"serial_number": serialOf(cert)})
	owner.want("a revoked certificate on an open connection", "simplereenroll", "", csr, 401, "was revoked")
	e.client(d.key, second).enrolls("simplereenroll", "", csr)

	var text string
	if status := do(t, e.s, "GET", "sys/internal/specs/openapi", "root", nil, &text); status != 200 || !strings.Contains(text, "/ca/devices/est/simpleenroll") {
		t.Errorf("the OpenAPI document lacks EST: status %d", status)
	}
	if status := do(t, e.s, "POST", "sys/seal", "root", nil, nil); status != 204 {
		t.Fatalf("seal: status %d", status)
	}
	header = d.want("while sealed", "simpleenroll", password, csr, 503, "sealed")
	if header.Get("Retry-After") != "30" {
		t.Errorf("503 with %v", header)
	}
}

func serialOf(cert *x509.Certificate) string { return hex.EncodeToString(cert.SerialNumber.Bytes()) }

// foreignCertificate is a certificate of its own, with its key.
func foreignCertificate(t *testing.T) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "www.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// TestESTOnTheAPI: the API's listeners serve EST by password, and ask nobody for
// a certificate.
func TestESTOnTheAPI(t *testing.T) {
	t.Parallel()
	e := newESTServer(t)
	d := e.client(nil, nil)
	at := e.s.Addresses()[0] + "/.well-known/est/"
	if status, text, _ := d.post(at+"simpleenroll", "root", d.csr("www.example.com")); status != 200 {
		t.Errorf("status %d %s", status, text)
	}
	if status, text, _ := d.post(at+"simplereenroll", "root", d.csr("www.example.com")); status != 400 || !strings.Contains(text, "[front.est]") {
		t.Errorf("status %d %s", status, text)
	}
	// The listener of EST has nothing but EST.
	if status, _, _ := d.post(e.s.FrontAddress("est")+"/v1/sys/seal", "root", ""); status != 404 {
		t.Errorf("the API on the listener of EST: status %d", status)
	}
	asked := func(address string) (asked bool) {
		c := &tls.Config{RootCAs: e.listed, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return new(tls.Certificate), nil
		}}
		conn, err := tls.Dial("tcp", strings.TrimPrefix(address, "https://"), c)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if conn.ConnectionState().Version != tls.VersionTLS13 {
			t.Error("not TLS 1.3")
		}
		return asked
	}
	if !asked(e.s.FrontAddress("est")) {
		t.Error("the listener of EST asks for no certificate")
	}
	if asked(e.s.Addresses()[1]) {
		t.Error("a listener of the API asks for a certificate")
	}
}

// TestESTChannelBinding: the challengePassword of a request is the tls-exporter
// of its connection, and of no other.
func TestESTChannelBinding(t *testing.T) {
	t.Parallel()
	e := newESTServer(t)
	e.set("ca/devices/config/est", map[string]any{"require_channel_binding": true})
	d := e.client(nil, nil)
	// The connection is made by hand, since what it exports is needed first.
	conn, err := tls.Dial("tcp", strings.TrimPrefix(e.s.FrontAddress("est"), "https://"), &tls.Config{RootCAs: e.listed})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	state := conn.ConnectionState()
	binding, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	if err != nil {
		t.Fatal(err)
	}
	bound := d.boundCSR(base64.StdEncoding.EncodeToString(binding))
	d.want("a request of another connection", "simpleenroll", "root", bound, 400, "is not the channel binding")
	d.want("an unbound request", "simpleenroll", "root", d.csr("www.example.com"), 400, "lacks challengePassword")
	d.http.Transport = &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	if cert := d.enrolls("simpleenroll", "root", bound); cert.Subject.CommonName != "www.example.com" {
		t.Errorf("certificate of %v", cert.Subject)
	}
}

// boundCSR is a request with a challengePassword, put together by hand.
func (d *estDevice) boundCSR(password string) string {
	d.e.t.Helper()
	plain, err := base64.StdEncoding.DecodeString(d.csr("www.example.com"))
	if err != nil {
		d.e.t.Fatal(err)
	}
	var csr struct {
		Info struct {
			Version    int
			Subject    asn1.RawValue
			PublicKey  asn1.RawValue
			Attributes []asn1.RawValue `asn1:"tag:0,set"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	must := func(err error) {
		d.e.t.Helper()
		if err != nil {
			d.e.t.Fatal(err)
		}
	}
	_, err = asn1.Unmarshal(plain, &csr)
	must(err)
	attribute, err := asn1.Marshal(struct {
		Type   asn1.ObjectIdentifier
		Values []string `asn1:"set"`
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, []string{password}})
	must(err)
	csr.Info.Attributes = append(csr.Info.Attributes, asn1.RawValue{FullBytes: attribute})
	info, err := asn1.Marshal(csr.Info)
	must(err)
	digest := sha256.Sum256(info)
	csr.Signature.Bytes, err = ecdsa.SignASN1(rand.Reader, d.key, digest[:])
	must(err)
	csr.Signature.BitLength = 8 * len(csr.Signature.Bytes)
	der, err := asn1.Marshal(struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: info}, csr.Algorithm, csr.Signature})
	must(err)
	if bytes.Equal(der, plain) {
		d.e.t.Fatal("nothing was added")
	}
	return base64.StdEncoding.EncodeToString(der)
}
