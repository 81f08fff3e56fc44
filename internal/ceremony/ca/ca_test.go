package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected: %v (%s)", err, fault.HintOf(err))
	}
}

// agreeing custodians type what they are asked for.
type agreeing struct{ shown string }

func (p *agreeing) Show(text string) error { p.shown = text; return nil }

func (p *agreeing) Ask(_ context.Context, _, phrase string) (string, error) { return phrase, nil }

// house is a directory and a token in which ceremonies are held.
type house struct {
	t   *testing.T
	dir string
	tok token.Token
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t, t.TempDir(), nil}
	h.tok = scratch(t)
	return h
}

func scratch(t *testing.T) token.Token {
	t.Helper()
	device := soft.NewDevice(soft.Config{})
	must(t, device.Create(t.Context(), []byte("so-pin"), []byte("user-pin")))
	tok, err := device.Open(t.Context(), []byte("user-pin"))
	must(t, err)
	t.Cleanup(func() { tok.Close() })
	return tok
}

const head = `title: A test
custodians: {threshold: 1, names: [Alice]}
token: {soft: t, label: t}
`

// document is the text of a ceremony with the plan in the flow style of YAML.
func document(kind, name, plan string) string {
	return "ceremony: " + kind + "\n" + head + "transcript: " + name + ".transcript\nplan: " + plan + "\n"
}

// hold holds a ceremony and returns what the custodians read.
func (h *house) hold(kind, name, plan string) (string, error) {
	h.t.Helper()
	d, act, err := Parse([]byte(document(kind, name, plan)), filepath.Join(h.dir, name+".yaml"))
	if err != nil {
		return "", err
	}
	p := new(agreeing)
	_, err = ceremony.Run(h.t.Context(), d, act, ceremony.Options{Tool: "test", Token: h.tok, People: p})
	return p.shown, err
}

// rehearse plays one on another token.
func (h *house) rehearse(kind, name, plan string) error {
	h.t.Helper()
	d, act, err := Parse([]byte(document(kind, name, plan)), filepath.Join(h.dir, name+".yaml"))
	must(h.t, err)
	r, err := ceremony.Run(h.t.Context(), d, act, ceremony.Options{
		Tool: "test", Token: scratch(h.t), People: new(agreeing), Rehearsal: true, Out: h.t.TempDir(),
	})
	if err == nil && !r.Report.Rehearsal {
		h.t.Error("the transcript does not say that it was a rehearsal")
	}
	return err
}

// made rehearses a ceremony, holds it, and checks what the custodians read.
func (h *house) made(kind, name, plan string, want ...string) {
	h.t.Helper()
	if err := h.rehearse(kind, name, plan); err != nil {
		h.t.Fatalf("rehearsal of %s: %v", name, err)
	}
	shown, err := h.hold(kind, name, plan)
	if err != nil {
		h.t.Fatalf("%s: %v", name, err)
	}
	for _, w := range want {
		if !strings.Contains(shown, w) {
			h.t.Errorf("%s: the custodians don't see %q:\n%s", name, w, shown)
		}
	}
}

// openssl runs openssl in the directory; it must succeed, or fail with what is given.
func (h *house) openssl(fails string, args ...string) {
	h.t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		h.t.Skip("openssl is not installed")
	}
	cmd := exec.Command("openssl", args...)
	cmd.Dir = h.dir
	out, err := cmd.CombinedOutput()
	if (err != nil) != (fails != "") || !strings.Contains(string(out), fails) {
		h.t.Errorf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (h *house) write(name, text string) {
	h.t.Helper()
	must(h.t, os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600))
}

// csr writes a certificate request.
func (h *house) csr(name string, subject pkix.Name) {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(h.t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	must(h.t, err)
	h.write(name, pemOf("CERTIFICATE REQUEST", der))
}

const rootPlanText = `{subject: {common_name: Root, organization: [Org]}, key: {label: root, type: ecdsa-p256}, valid_for: 20y, max_path_length: 2, certificate: root.pem}`

const byRoot = `issuer: root.pem, issuer_key: {label: root}, `

// A house's life: all kinds of ceremonies, each rehearsed before, each result
// accepted by openssl.
func TestAllKinds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.made("root", "root", rootPlanText, "CN=Root,O=Org", "authority, path length 2", "sign certificates, sign CRLs", "ECDSA, P-256")
	h.openssl("", "verify", "-x509_strict", "-CAfile", "root.pem", "root.pem")

	h.csr("lower.csr", pkix.Name{CommonName: "Lower", Organization: []string{"Org"}})
	h.made("intermediate", "lower", `{`+byRoot+`csr: lower.csr, valid_for: 5y, max_path_length: 0, permitted_dns_domains: [example.com],
		excluded_ip_ranges: [0.0.0.0/0], crl_urls: ["http://a.example/r.crl"], ocsp_urls: ["http://a.example/o"], issuer_urls: ["http://a.example/r"],
		policies: [1.2.3.4], certificate: lower.pem}`,
		"CN=Lower,O=Org", "permitted DNS example.com", "excluded IP 0.0.0.0/0", "http://a.example/r.crl", "OCSP http://a.example/o", "issuer http://a.example/r", "1.2.3.4", "Issuer")
	h.openssl("", "verify", "-x509_strict", "-CAfile", "root.pem", "lower.pem")

	h.made("intermediate", "own", `{`+byRoot+`key: {label: own, type: rsa-2048}, subject: {common_name: Own}, valid_for: 400d, max_path_length: 1, certificate: own.pem}`, "RSA, 2048 bits")
	h.openssl("", "verify", "-x509_strict", "-CAfile", "root.pem", "own.pem")

	h.made("root", "next", `{subject: {common_name: Next}, key: {label: next, type: ed25519}, valid_for: 25y, max_path_length: 0, certificate: next.pem}`, "Ed25519")
	h.made("cross-sign", "cross", `{`+byRoot+`authority: next.pem, valid_for: 2y, certificate: cross.pem}`, "CN=Next", "path length 0")
	h.openssl("", "verify", "-x509_strict", "-CAfile", "root.pem", "cross.pem")

	h.csr("ocsp.csr", pkix.Name{})
	h.made("ocsp-responder", "ocsp", `{`+byRoot+`csr: ocsp.csr, subject: {common_name: Responder}, valid_for: 90d, certificate: ocsp.pem}`,
		"sign OCSP answers", "OCSP no check", "no authority", "digital signature")
	h.openssl("", "verify", "-x509_strict", "-purpose", "ocsphelper", "-CAfile", "root.pem", "ocsp.pem")

	h.made("request", "partner", `{subject: {common_name: Partner}, key: {label: partner, type: ecdsa-p384}, csr: partner.csr}`, "CN=Partner", "P-384")
	h.openssl("", "req", "-in", "partner.csr", "-verify", "-noout")
	// The key is there: a further ceremony uses it.
	h.made("root", "again", `{subject: {common_name: Again}, key: {label: partner, type: ecdsa-p384, existing: true}, valid_for: 1y, certificate: again.pem}`)
	h.crls()
}

func (h *house) crls() {
	h.t.Helper()
	h.made("crl", "crl1", `{`+byRoot+`valid_for: 100d, crl: 1.crl}`, "0 certificates", "Number                       1")
	h.openssl("", "verify", "-x509_strict", "-crl_check", "-CRLfile", "1.crl", "-CAfile", "root.pem", "lower.pem")
	h.made("crl", "crl2", `{`+byRoot+`previous: 1.crl, revoked: [{certificate: lower.pem, reason: keyCompromise}, {serial: "4a:0f", reason: superseded, time: "2026-01-01T00:00:00Z"}], valid_for: 100d, crl: 2.crl}`,
		"2 certificates", "keyCompromise", "4a:0f  2026-01-01 00:00:00 UTC  superseded", "Number                       2")
	h.openssl("certificate revoked", "verify", "-x509_strict", "-crl_check", "-CRLfile", "2.crl", "-CAfile", "root.pem", "lower.pem")
	h.openssl("", "verify", "-x509_strict", "-crl_check", "-CRLfile", "2.crl", "-CAfile", "root.pem", "own.pem")
	h.made("crl", "crl3", `{`+byRoot+`previous: 2.crl, number: 9, valid_for: 100d, crl: 3.crl}`, "2 certificates", "keyCompromise")
	h.write("bad.crl", "x")
	h.fake("fake.pem")
	for want, plan := range map[string]string{
		"has 9; numbers grow":             `{` + byRoot + `previous: 3.crl, number: 9, valid_for: 100d, crl: x.crl}`,
		"begin":                           `{` + byRoot + `previous: 3.crl, not_before: "2026-01-01T00:00:00Z", not_after: "2046-01-01T00:00:00Z", crl: x.crl}`,
		"is on the CRL twice":             `{` + byRoot + `previous: 3.crl, revoked: [{serial: "4a0f"}], valid_for: 100d, crl: x.crl}`,
		"not one of this issuer":          `{` + byRoot + `revoked: [{certificate: next.pem}], valid_for: 100d, crl: x.crl}`,
		"certificate fake.pem is not one": `{` + byRoot + `revoked: [{certificate: fake.pem}], valid_for: 100d, crl: x.crl}`,
		"no certificate in PEM":           `{` + byRoot + `revoked: [{certificate: 1.crl}], valid_for: 100d, crl: x.crl}`,
		"plan: previous: the CRL":         `{` + byRoot + `previous: bad.crl, valid_for: 100d, crl: x.crl}`,
		"no CRL in PEM":                   `{` + byRoot + `previous: root.pem, valid_for: 100d, crl: x.crl}`,
		"plan: previous":                  `{` + byRoot + `previous: absent.crl, valid_for: 100d, crl: x.crl}`,
		"not that of the issuer's":        `{issuer: root.pem, issuer_key: {label: own}, valid_for: 100d, crl: x.crl}`,
		"no private key":                  `{issuer: root.pem, issuer_key: {label: nothing}, valid_for: 100d, crl: x.crl}`,
		"no private key with the la":      `{issuer: root.pem, issuer_key: {id: "00:ff"}, valid_for: 100d, crl: x.crl}`,
	} {
		_, err := h.hold("crl", "x", plan)
		if err == nil || !strings.Contains(err.Error(), want) {
			h.t.Errorf("%v, want %q", err, want)
		}
		for _, name := range []string{"x.crl", "x.transcript"} {
			if _, err := os.Lstat(filepath.Join(h.dir, name)); err == nil {
				h.t.Fatalf("%q: there is %s", want, name)
			}
		}
	}
}

// fake writes a certificate in the root's name by another key.
func (h *house) fake(name string) {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(h.t, err)
	above := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root", Organization: []string{"Org"}}}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2)}, above, key.Public(), key)
	must(h.t, err)
	h.write(name, pemOf("CERTIFICATE", der))
}

// What can't be signed leaves neither a file nor a key.
func TestRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, err := h.hold("root", "root", rootPlanText)
	must(t, err)
	h.csr("lower.csr", pkix.Name{CommonName: "Lower"})
	h.csr("nameless.csr", pkix.Name{})
	h.csr("long.csr", pkix.Name{CommonName: strings.Repeat("a", 65)})
	h.csr("split.csr", pkix.Name{CommonName: "a\nb"})
	before, err := h.tok.Objects(t.Context(), token.ObjectName{}, 100)
	must(t, err)
	files, err := os.ReadDir(h.dir)
	must(t, err)
	for _, c := range []struct{ kind, plan, want string }{
		{"root", strings.Replace(rootPlanText, "root.pem", "x.pem", 1), "has a key of the label"},
		{"root", strings.Replace(rootPlanText, "label: root", "label: two", 1), "exists already"},
		{"root", `{subject: {common_name: ` + strings.Repeat("a", 65) + `}, key: {label: two, type: ecdsa-p256}, valid_for: 1y, certificate: x.pem}`, "e_subject_common_name_max_length"},
		{"root", `{subject: {common_name: X}, key: {label: root, type: rsa-2048, existing: true}, valid_for: 1y, certificate: x.pem}`, "not of the type"},
		{"intermediate", `{` + byRoot + `csr: lower.csr, valid_for: 30y, max_path_length: 0, certificate: x.pem}`, "beyond the expiration"},
		{"intermediate", `{` + byRoot + `csr: lower.csr, valid_for: 1y, certificate: x.pem}`, "max_path_length"},
		{"intermediate", `{` + byRoot + `csr: nameless.csr, valid_for: 1y, max_path_length: 0, certificate: x.pem}`, "no common name"},
		{"intermediate", `{` + byRoot + `csr: long.csr, valid_for: 1y, max_path_length: 0, certificate: x.pem}`, "e_subject_common_name_max_length"},
		{"intermediate", `{` + byRoot + `csr: split.csr, valid_for: 1y, max_path_length: 0, certificate: x.pem}`, "contains a control character"},
		{"intermediate", `{` + byRoot + `csr: root.pem, valid_for: 1y, max_path_length: 0, certificate: x.pem}`, "plan: csr"},
		{"intermediate", `{` + byRoot + `csr: absent, valid_for: 1y, max_path_length: 0, certificate: x.pem}`, "plan: csr"},
		{"intermediate", `{issuer: lower.csr, issuer_key: {label: root}, csr: lower.csr, valid_for: 1y, certificate: x.pem}`, "plan: issuer"},
		{"cross-sign", `{` + byRoot + `authority: lower.csr, valid_for: 1y, certificate: x.pem}`, "PEM"},
	} {
		_, err := h.hold(c.kind, "x", c.plan)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	after, err := h.tok.Objects(t.Context(), token.ObjectName{}, 100)
	must(t, err)
	left, err := os.ReadDir(h.dir)
	must(t, err)
	if len(after) != len(before) || len(left) != len(files) {
		t.Errorf("%d keys instead of %d, %d files instead of %d", len(after), len(before), len(left), len(files))
	}
}

// A rule may be broken if the document names it; the transcript repeats it.
func TestLintExceptions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const rule = "e_subject_common_name_max_length"
	h.made("root", "root", `{subject: {common_name: `+strings.Repeat("a", 65)+`}, key: {label: root, type: ecdsa-p256}, valid_for: 1y, lint_exceptions: [`+rule+`], certificate: root.pem}`, rule)
	text, err := os.ReadFile(filepath.Join(h.dir, "root.transcript"))
	must(t, err)
	r, err := ceremony.Verify(text, ceremony.VerifyOptions{})
	must(t, err)
	if len(r.Exceptions) != 1 || r.Exceptions[0] != rule {
		t.Errorf("exceptions: %v", r.Exceptions)
	}
}

// What a document can't say is refused before a token is opened.
func TestPlans(t *testing.T) {
	t.Parallel()
	const key, sub, name, rest = `key: {label: a, type: ecdsa-p256}, `, `subject: {common_name: A}, `, `certificate: c, `, `valid_for: 1y`
	for _, c := range []struct{ kind, plan, want string }{
		{"rot", `{}`, "there is no ceremony"},
		{"root", `{` + key + name + rest + `}`, "no common_name"},
		{"root", `{` + sub + name + rest + `}`, "no label"},
		{"root", `{` + sub + `key: {label: a, type: aes256-gcm96}, ` + name + rest + `}`, "rsa-2048"},
		{"root", `{` + sub + `key: {label: " a", type: ed25519}, ` + name + rest + `}`, "blanks"},
		{"root", `{` + sub + key + name + `}`, "not_after or valid_for"},
		{"root", `{` + sub + key + name + rest + `, not_after: "2040-01-01T00:00:00Z"}`, "not_after or valid_for"},
		{"root", `{` + sub + key + name + `valid_for: 1m}`, "20y, 90d or 36h"},
		{"root", `{` + sub + key + name + `valid_for: y}`, "20y, 90d or 36h"},
		{"root", `{` + sub + key + name + `valid_for: 0d}`, "20y, 90d or 36h"},
		{"root", `{` + sub + key + name + `valid_for: 99999y}`, "20y, 90d or 36h"},
		{"root", `{` + sub + key + name + `not_after: tomorrow}`, "no time"},
		{"root", `{` + sub + key + name + rest + `, not_before: now}`, "no time"},
		{"root", `{` + sub + key + name + rest + `, max_path_length: -1}`, "max_path_length is -1"},
		{"root", `{` + sub + key + rest + `}`, "certificate is missing"},
		{"root", `{` + sub + key + name + rest + `, surplus: 1}`, "no such field"},
		{"root", `{` + sub + key + name + rest + `, csr: x}`, "no such field"},
		{"intermediate", `{` + name + rest + `}`, "issuer is missing"},
		{"intermediate", `{issuer: r, ` + name + rest + `}`, "issuer_key must"},
		{"intermediate", `{issuer: r, issuer_key: {id: xy}, ` + name + rest + `}`, "no CKA_ID"},
		{"intermediate", `{` + byRoot + name + rest + `}`, "either csr"},
		{"intermediate", `{` + byRoot + sub + key + `csr: x, ` + name + rest + `}`, "either csr"},
		{"intermediate", `{` + byRoot + key + name + rest + `}`, "subject is missing"},
		{"intermediate", `{` + byRoot + `csr: x, subject: {country: [DE]}, ` + name + rest + `}`, "no common_name"},
		{"cross-sign", `{` + byRoot + name + rest + `}`, "authority is missing"},
		{"cross-sign", `{` + byRoot + sub + `authority: x, ` + name + rest + `}`, "no such field"},
		{"ocsp-responder", `{` + byRoot + sub + name + rest + `}`, "csr is missing"},
		{"request", `{` + sub + key + `}`, "csr is missing"},
		{"crl", `{` + byRoot + rest + `}`, "crl is missing"},
		{"crl", `{` + byRoot + rest + `, crl: c, number: -1}`, "number is -1"},
		{"crl", `{` + byRoot + rest + `, crl: c, revoked: [{}]}`, "either serial or certificate"},
		{"crl", `{` + byRoot + rest + `, crl: c, revoked: [{serial: "xy"}]}`, "no serial number"},
		{"crl", `{` + byRoot + rest + `, crl: c, revoked: [{serial: "-5"}]}`, ""},
		{"crl", `{` + byRoot + rest + `, crl: c, revoked: [{serial: "0"}]}`, "no serial number"},
		{"crl", `{` + byRoot + rest + `, crl: c, revoked: [{serial: "5", reason: fun}]}`, "keyCompromise"},
		{"crl", `{` + byRoot + rest + `, crl: c, revoked: [{serial: "5", time: then}]}`, "no time"},
	} {
		_, _, err := Parse([]byte(document(c.kind, "x", c.plan)), "x.yaml")
		if c.want == "" {
			must(t, err)
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s %s: %v, want %q", c.kind, c.plan, err, c.want)
		}
	}
}

func TestExamples(t *testing.T) {
	t.Parallel()
	names, help := Kinds()
	for i, name := range names {
		text, err := Example(name)
		must(t, err)
		if d, _, err := Parse([]byte(text), "x.yaml"); err != nil || d.Kind != name || help[i] == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Example("../doc"); err == nil {
		t.Error("an example of nothing")
	}
}

// A name that looks like further lines of what is shown does not make any.
func TestQuoted(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a\n  Issuer  CN=Other\x1b[2J"},
		NotAfter: time.Now(), ExtraExtensions: []pkix.Extension{{Id: []int{1, 2, 3}, Value: []byte{1}}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	text := describeCertificate(cert)
	if strings.Contains(text, "\n  Issuer  CN") || strings.Contains(text, "\x1b") || !strings.Contains(text, "1.2.3  ") {
		t.Errorf("shown: %q", text)
	}
}

func FuzzParse(f *testing.F) {
	names, _ := Kinds()
	for _, name := range names {
		text, err := Example(name)
		must(f, err)
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		_, act, err := Parse(text, "x.yaml")
		if err == nil && (len(act.Outputs()) != 1 || act.Outputs()[0] == "") {
			t.Errorf("outputs %q", act.Outputs())
		}
	})
}

func FuzzSerial(f *testing.F) {
	f.Add("4a:0f")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseSerial(text)
		if err != nil {
			return
		}
		if again, err := parseSerial(serialText(n)); err != nil || again.Cmp(n) != 0 {
			t.Errorf("%q: %v, %v", text, again, err)
		}
	})
}
