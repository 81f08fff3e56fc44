package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/titanous/rocacheck"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// snapshot is everything that is stored, keys included.
func (e *env) snapshot() map[string]int64 {
	e.t.Helper()
	all := map[string]int64{}
	for _, table := range append([]string{tableRoles, tableIssuers, tableKeys, tableCerts, tableIntents, tableRevoked, tableCRLs, tableConfig,
		"keys", "key_versions", "key_intents"}, acmeTables...) {
		rs, err := e.db.List(bg, table, "", "", 0)
		must(e.t, err)
		for _, r := range rs {
			all[table+"/"+r.Key] = r.Version
		}
	}
	return all
}

// spkiOf is SubjectPublicKeyInfo of an RSA key that Go would not make.
func spkiOf(n *big.Int, exponent int) []byte {
	key, err := asn1.Marshal(struct {
		N *big.Int
		E int
	}{n, exponent})
	if err != nil {
		panic(err)
	}
	return sequence(func(b *builder) {
		b.AddASN1(0x30, func(b *builder) {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1})
			b.AddASN1NULL()
		})
		b.AddASN1BitString(key)
	})
}

// unsigned is a request for a key that nobody has, with a signature of nothing.
func unsigned(spki []byte, extensions ...extension) string {
	subject, _ := subjectName(pkix.Name{CommonName: "www.example.com"})
	der := sequence(func(b *builder) {
		b.AddBytes(requestInfo(subject, spki, extensions))
		b.AddASN1(0x30, func(b *builder) {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11})
			b.AddASN1NULL()
		})
		b.AddASN1BitString(make([]byte, 256))
	})
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// roca is a modulus with the fingerprint of the faulty generator: modulo each of
// the primes that are looked at it is a power of 65537.
func roca(t *testing.T) *big.Int {
	t.Helper()
	m := big.NewInt(1)
	for n := int64(2); n <= 167; n++ {
		if p := big.NewInt(n); p.ProbablyPrime(0) {
			m.Mul(m, p)
		}
	}
	residue := new(big.Int).Exp(big.NewInt(65537), big.NewInt(4711), m)
	one := big.NewInt(1)
	for range 1000 {
		k, err := rand.Int(rand.Reader, new(big.Int).Div(new(big.Int).Lsh(one, 2047), m))
		must(t, err)
		n := new(big.Int).Add(new(big.Int).Mul(new(big.Int).Add(k, new(big.Int).Div(new(big.Int).Lsh(one, 2047), m)), m), residue)
		if n.BitLen() == 2048 && n.Bit(0) == 1 && new(big.Int).GCD(nil, nil, n, smallPrimes).Cmp(one) == 0 && rocacheck.IsWeak(&rsa.PublicKey{N: n, E: 65537}) {
			return n
		}
	}
	t.Fatal("no modulus of the faulty generator found")
	return nil
}

// weakKeys are requests for keys that protect nothing.
func weakKeys(t *testing.T) map[string]struct{ csr, want string } {
	t.Helper()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	p, err := rand.Prime(rand.Reader, 1024)
	must(t, err)
	q := new(big.Int).Add(p, big.NewInt(2))
	for !q.ProbablyPrime(20) {
		q.Add(q, big.NewInt(2))
	}
	broken := new(big.Int).Lsh(big.NewInt(1), 2048)
	broken.Div(broken, big.NewInt(641))
	broken.SetBit(broken, 0, 1).Mul(broken.Sub(broken, big.NewInt(2)), big.NewInt(641))
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	must(t, err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	outside, err := x509.MarshalPKIXPublicKey(ec.Public())
	must(t, err)
	outside[len(outside)-1] ^= 1
	point := func(text string) string {
		raw, err := hex.DecodeString(text)
		must(t, err)
		return unsigned(sequence(func(b *builder) {
			b.AddASN1(0x30, func(b *builder) { b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 101, 112}) })
			b.AddASN1BitString(raw)
		}))
	}
	return map[string]struct{ csr, want string }{
		"small RSA":           {csrWith(t, small, nil), "< 2048 bits"},
		"large RSA":           {unsigned(spkiOf(new(big.Int).SetBit(new(big.Int).Set(good.N), 9000, 1), 65537)), "at most 8192"},
		"odd size":            {unsigned(spkiOf(new(big.Int).SetBit(new(big.Int).Set(good.N), 2049, 1), 65537)), "no multiple of 8"},
		"exponent 1":          {unsigned(spkiOf(good.N, 1)), "public exponent 1"},
		"even exponent":       {unsigned(spkiOf(good.N, 65536)), "public exponent 65536"},
		"negative exponent":   {unsigned(spkiOf(good.N, -3)), "could not be parsed"},
		"even modulus":        {unsigned(spkiOf(new(big.Int).SetBit(new(big.Int).Set(good.N), 0, 0), 65537)), "small factor"},
		"small factor":        {unsigned(spkiOf(broken, 65537)), "small factor"},
		"square":              {unsigned(spkiOf(new(big.Int).Mul(p, p), 65537)), "close together"},
		"close factors":       {unsigned(spkiOf(new(big.Int).Mul(p, q), 65537)), "close together"},
		"ROCA":                {unsigned(spkiOf(roca(t), 65537)), "CVE-2017-15361"},
		"P-224":               {csrWith(t, p224, nil), "curve of 224 bits"},
		"outside the curve":   {unsigned(outside), "could not be parsed"},
		"Ed25519 identity":    {point("01" + strings.Repeat("00", 31)), "small order"},
		"Ed25519 order 8":     {point("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"), "small order"},
		"Ed25519 no point":    {point("02" + strings.Repeat("00", 31)), "signature invalid"},
		"Ed25519 of 31 bytes": {point(strings.Repeat("11", 31)), "could not be parsed"},
		"key of no kind": {unsigned(sequence(func(b *builder) {
			b.AddASN1(0x30, func(b *builder) { b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 101, 110}) })
			b.AddASN1BitString(bytes.Repeat([]byte{9}, 32))
		})), "of a kind that is not certified here"},
	}
}

// TestSmallOrder: with the points of the table anybody makes signatures, which
// is why they are refused.
func TestSmallOrder(t *testing.T) {
	t.Parallel()
	forged := append([]byte{1}, make([]byte, 63)...) // R is the identity, S is 0
	for _, p := range smallOrder {
		works := slices.ContainsFunc(make([]struct{}, 1), func(struct{}) bool {
			for n := range 400 {
				if ed25519.Verify(p, fmt.Append(nil, n), forged) {
					return true
				}
			}
			return false
		})
		if !works {
			t.Errorf("%x: no forged signature verifies", p)
		}
		wantFault(t, checkPublic(ed25519.PublicKey(p)), fault.Invalid, "small order")
	}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	must(t, checkPublic(public))
}

// raw SAN extensions: names that Go would not write.
func sanOf(add func(b *builder)) extension { return extension{oidSAN, false, sequence(add)} }

func general(tag uint8, value string) func(b *builder) {
	return func(b *builder) { addText(b, tag, value) }
}

// wrongNames are alternative names that are refused, whatever the role allows.
func wrongNames() map[string]struct {
	san  extension
	want string
} {
	nested := func(tag uint8, fill func(b *builder)) func(b *builder) {
		return func(b *builder) { b.AddASN1(constructed(tag), fill) }
	}
	return map[string]struct {
		san  extension
		want string
	}{
		"DNS with NUL":          {sanOf(general(nameDNS, "www.example.com\x00.evil.org")), "no host name"},
		"DNS with a line end":   {sanOf(general(nameDNS, "www.example.com\n")), "no host name"},
		"DNS with a space":      {sanOf(general(nameDNS, "www .example.com")), "no host name"},
		"DNS as U-label":        {sanOf(general(nameDNS, "bücher.example.com")), "could not be parsed"},
		"DNS that is none":      {sanOf(general(nameDNS, "joe@example.com")), "no host name"},
		"DNS, empty":            {sanOf(general(nameDNS, "")), "not allowed"},
		"DNS, empty label":      {sanOf(general(nameDNS, "www..example.com")), "not allowed"},
		"DNS, long label":       {sanOf(general(nameDNS, strings.Repeat("a", 64)+".example.com")), "not allowed"},
		"DNS, two wildcards":    {sanOf(general(nameDNS, "*.*.example.com")), "not allowed"},
		"DNS, inner wildcard":   {sanOf(general(nameDNS, "www.*.example.com")), "not allowed"},
		"DNS that is forbidden": {sanOf(general(nameDNS, "evil.org")), "evil.org not allowed"},
		"broken A-label":        {sanOf(general(nameDNS, "xn--a-.example.com")), ""},
		"mail without @":        {sanOf(general(nameEmail, "joe.example.com")), "no e-mail address"},
		"mail with two @":       {sanOf(general(nameEmail, "a@b@www.example.com")), "no e-mail address"},
		"mail without a name":   {sanOf(general(nameEmail, "@www.example.com")), "no e-mail address"},
		"mail with NUL":         {sanOf(general(nameEmail, "joe\x00@www.example.com")), "no e-mail address"},
		"URI, relative":         {sanOf(general(nameURI, "/path")), "no absolute URI"},
		"URI with a line end":   {sanOf(general(nameURI, "spiffe://x\n")), "could not be parsed"},
		"URI that is forbidden": {sanOf(general(nameURI, "spiffe://x/y")), "not allowed"},
		"IP of 5 bytes":         {sanOf(general(nameIP, "12345")), "could not be parsed"},
		"IP of 0 bytes":         {sanOf(general(nameIP, "")), "could not be parsed"},
		"other name, forbidden": {sanExtension(&sans{others: []otherName{{"1.2.3", "x"}}}, false), "not allowed"},
		"other name, no text": {sanOf(nested(nameOther, func(b *builder) {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 3})
			b.AddASN1(constructed(0), func(b *builder) { b.AddASN1Int64(1) })
		})), "no UTF-8 text"},
		"X.400":          {sanOf(nested(3, func(b *builder) { b.AddASN1NULL() })), "that is not certified here"},
		"directory name": {sanOf(nested(4, func(b *builder) { b.AddASN1(0x30, func(*builder) {}) })), "that is not certified here"},
		"EDI party":      {sanOf(nested(5, func(b *builder) { b.AddASN1NULL() })), "that is not certified here"},
		"registered id":  {sanOf(general(8, "\x2a\x03")), "that is not certified here"},
		"no sequence":    {extension{oidSAN, false, []byte{4, 0}}, "could not be parsed"},
		"cut":            {extension{oidSAN, false, []byte{0x30, 2, 0x82, 9}}, ""},
	}
}

// requestWith is a signed request with an extension of its own.
func requestWith(t *testing.T, e extension) string {
	t.Helper()
	text, _ := newCSR(t, func(c *x509.CertificateRequest) {
		c.ExtraExtensions = []pkix.Extension{{Id: e.oid, Critical: e.critical, Value: e.value}}
	})
	return text
}

// TestBadInput: whatever is wrong with what a caller sends is said, on every path
// that takes it, and the store is as it was.
func TestBadInput(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("web", nil)
	e.makeRole("any", func(r *api.SetPKIRole) {
		r.AllowAnyName, r.UseCSRCommonName, r.RequireCN = new(true), new(false), new(false)
	})
	before := e.snapshot()
	sign := func(csr string) error {
		_, err := e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: csr})
		return err
	}
	verbatim := func(csr string) error {
		_, err := e.signVerbatim(bg, call(), &api.PKISign{CSR: csr})
		return err
	}
	intermediate := func(csr string) error {
		_, err := e.signIntermediate(bg, call(), &api.PKISignIntermediate{CSR: csr, UseCSRValues: true})
		return err
	}
	byACME := func(csr string) error {
		block, _ := pem.Decode([]byte(csr))
		if block == nil {
			return invalid("no PEM")
		}
		_, err := parseRequestDER(block.Bytes)
		return err
	}
	check := func(t *testing.T, err error, want string) {
		t.Helper()
		wantFault(t, err, fault.Invalid, want)
		if after := e.snapshot(); !maps.Equal(before, after) {
			t.Error("something was stored")
		}
	}

	for what, w := range weakKeys(t) {
		for path, f := range map[string]func(string) error{"sign": sign, "verbatim": verbatim, "intermediate": intermediate, "acme": byACME} {
			t.Run("key/"+what+"/"+path, func(t *testing.T) { check(t, f(w.csr), w.want) })
		}
	}
	for what, w := range wrongNames() {
		csr := requestWith(t, w.san)
		t.Run("name/"+what, func(t *testing.T) { check(t, sign(csr), w.want) })
	}
	good, key := newCSR(t, nil)
	block, _ := pem.Decode([]byte(good))
	forged := slices.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1
	subject := func(value string) string {
		return csrWith(t, key, func(c *x509.CertificateRequest) {
			c.Subject.CommonName, c.Subject.Organization = "www.example.com", []string{value}
		})
	}
	huge := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: make([]byte, 1<<20)}))
	authority := requestWith(t, basicExtension(true, -1))
	for what, w := range map[string]struct {
		f         func(string) error
		csr, want string
	}{
		"no signature of its own":     {sign, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: forged})), "not signed by its own key"},
		"1 MiB":                       {sign, huge, "at most 262144 are taken"},
		"1 MiB for an intermediate":   {intermediate, huge, "at most 262144 are taken"},
		"1 MiB of DER":                {byACME, huge, "at most 262144 are taken"},
		"a certificate":               {sign, strings.ReplaceAll(good, "CERTIFICATE REQUEST", "CERTIFICATE"), "no certificate request"},
		"something behind":            {sign, good + "x", "no certificate request"},
		"verbatim NUL":                {verbatim, subject("ACME\x00"), "control character"},
		"verbatim line end":           {verbatim, subject("ACME\nCN=evil"), "control character"},
		"intermediate NUL":            {intermediate, subject("ACME\x00"), "control character"},
		"verbatim authority":          {verbatim, authority, "sign-intermediate"},
		"verbatim name constraints":   {verbatim, requestWith(t, constraintsExtension(&constraints{permittedDNS: []string{"x.org"}})), "only authorities have"},
		"verbatim key usage broken":   {verbatim, requestWith(t, extension{oidKeyUsage, true, []byte{5, 0}}), ""},
		"verbatim extended key usage": {verbatim, requestWith(t, extension{oidEKU, false, []byte{0x30, 1, 5}}), ""},
	} {
		t.Run("request/"+what, func(t *testing.T) { check(t, w.f(w.csr), w.want) })
	}
	for what, n := range map[string]struct {
		names api.PKINames
		want  string
	}{
		"NUL":             {api.PKINames{CommonName: "www\x00.example.com"}, "control character"},
		"line end":        {api.PKINames{CommonName: "www.example.com", AltNames: []string{"a\r\n.example.com"}}, "control character"},
		"no UTF-8":        {api.PKINames{CommonName: "www\xff.example.com"}, "control character"},
		"URI line end":    {api.PKINames{CommonName: "www.example.com", URISANs: []string{"spiffe://x\n"}}, "control character"},
		"IP that is none": {api.PKINames{CommonName: "www.example.com", IPSANs: []string{"10.0.0.256"}}, "not a valid IP address"},
		"IP with a zone":  {api.PKINames{CommonName: "www.example.com", IPSANs: []string{"fe80::1%eth0"}}, "not a valid IP address"},
		"other name":      {api.PKINames{CommonName: "www.example.com", OtherSANs: []string{"1.2.3;INT:4"}}, "OID;UTF8:text"},
		"two @":           {api.PKINames{CommonName: "www.example.com", AltNames: []string{"a@b@example.com"}}, "no e-mail address"},
		"serial number":   {api.PKINames{CommonName: "www.example.com", SerialNumber: "1"}, "serial_number 1 not allowed"},
		"user id":         {api.PKINames{CommonName: "www.example.com", UserIDs: []string{"joe"}}, "user_id joe is not allowed"},
	} {
		t.Run("field/"+what, func(t *testing.T) {
			csr, _ := newCSR(t, func(c *x509.CertificateRequest) { c.Subject.CommonName = "" })
			r := &api.PKISign{Role: "web", CSR: csr, PKINames: n.names}
			st, err := e.state(bg, "pki/")
			must(t, err)
			role := *st.roles["web"].value
			role.UseCSRSANs = false
			_, err = e.roleProfile(call(), &role, &r.PKINames, nil, &r.PKIValidity)
			check(t, err, n.want)
		})
	}
	badRoles(t, e, check)
	badBundles(t, e, check)
}

func badRoles(t *testing.T, e *env, check func(*testing.T, error, string)) {
	for want, edit := range map[string]func(*api.SetPKIRole){
		"unknown key type":            func(r *api.SetPKIRole) { r.KeyType = new("dsa") },
		"unsupported bit length":      func(r *api.SetPKIRole) { r.KeyType, r.KeyBits = new("rsa"), new(1024) },
		"is no network":               func(r *api.SetPKIRole) { r.AllowedIPSANsCIDR = &[]string{"10.0.0.0"} },
		"cn_validations has disabled": func(r *api.SetPKIRole) { r.CNValidations = &[]string{"disabled", "email"} },
		"which is no lint":            func(r *api.SetPKIRole) { r.LintExceptions = &[]string{"e_everything"} },
		"contains a control":          func(r *api.SetPKIRole) { r.Organization = &[]string{"ACME\nInc"} },
		"signature_bits is 128":       func(r *api.SetPKIRole) { r.SignatureBits = new(128) },
		"negative":                    func(r *api.SetPKIRole) { r.NotBeforeDuration = new(api.Seconds(-1)) },
	} {
		t.Run("role/"+want, func(t *testing.T) {
			r := &api.SetPKIRole{Name: "bad"}
			edit(r)
			_, err := e.setRole(bg, call(), r)
			check(t, err, want)
		})
	}
}

func badBundles(t *testing.T, e *env, check func(*testing.T, error, string)) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	must(t, err)
	for what, key := range map[string]crypto.Signer{"< 2048 bits": weak, "curve of 224 bits": p224} {
		t.Run("bundle/"+what, func(t *testing.T) {
			template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Weak"}, NotBefore: e.time().Add(-3600e9),
				NotAfter: e.time().Add(3600e9), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
			der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
			must(t, err)
			pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
			must(t, err)
			text := pemOf(der) + "\n"
			_, err = e.importBundle(bg, call(), &api.PKIBundle{PEMBundle: text + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))})
			check(t, err, "of a kind that authorities do not have here")
			_, err = e.importCerts(bg, call(), &api.PKIBundle{PEMBundle: text})
			check(t, err, what)
		})
	}
	t.Run("bundle/1 MiB", func(t *testing.T) {
		_, err := e.importBundle(bg, call(), &api.PKIBundle{PEMBundle: strings.Repeat("A", 1<<20+1)})
		check(t, err, "at most 1048576 are taken")
	})
}

// Names in other scripts are certified as A-labels.
func TestInternationalNames(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("web", func(r *api.SetPKIRole) { r.RequireCN, r.KeyType = new(false), new("ec") })
	ask := &api.PKIIssue{Role: "web"}
	ask.AltNames = []string{"bücher.example.com", "xn--mnchen-3ya.example.com", "joe@bücher.example.com"}
	out, err := e.issue(bg, call(), ask)
	must(t, err)
	got := parsePEM(t, out.Certificate)
	if !slices.Equal(got.DNSNames, []string{"xn--bcher-kva.example.com", "xn--mnchen-3ya.example.com"}) || !slices.Equal(got.EmailAddresses, []string{"joe@xn--bcher-kva.example.com"}) {
		t.Errorf("%q %q", got.DNSNames, got.EmailAddresses)
	}
}

// A serial number that is taken is not used again: nothing is signed.
func TestSerialTwice(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("web", nil)
	first := e.signed("web")
	before := e.snapshot()
	l := linted{&prepared{profile: &profile{notAfter: e.time()}, tbs: []byte{0x30, 0}}}
	copy(l.serial[:], first.SerialNumber.Bytes())
	used := false
	_, err := e.sign(bg, "pki/", "issuer", signerFunc(func() { used = true }), l)
	if err == nil || used || !maps.Equal(before, e.snapshot()) {
		t.Errorf("error %v, the key was used: %t", err, used)
	}
}

type signerFunc func()

func (signerFunc) Public() crypto.PublicKey { return nil }

// Sign notes that it was called.
func (f signerFunc) Sign(_ io.Reader, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
	f()
	return nil, context.Canceled
}
