package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
)

// certified makes a certificate of a name by an issuer, or by itself.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func makeCert(t testing.TB, name string, by *testCA, authority bool, until time.Time) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: until.Add(-10_000 * time.Hour), NotAfter: until,
		IsCA: authority, BasicConstraintsValid: authority,
	}
	if authority {
		template.KeyUsage = x509.KeyUsageCertSign
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &testCA{cert, key}
}

func TestTree(t *testing.T) {
	t.Parallel()
	now := time.Now()
	root := makeCert(t, "Root", nil, true, now.Add(400*24*time.Hour+time.Hour))
	middle := makeCert(t, "Middle\x1b[2J", root, true, now.Add(36*time.Hour))
	other := makeCert(t, "Other", root, true, now.Add(time.Hour))
	leaf := makeCert(t, "leaf", middle, false, now.Add(-time.Hour))
	for _, tt := range []struct {
		name   string
		others []*x509.Certificate
		want   string
	}{
		{"whole, in any order", []*x509.Certificate{other.cert, root.cert, leaf.cert, middle.cert},
			"Root  (root, P-256, 400 days left)\n" +
				"└─ Middle\\u001b[2J  (authority, P-256, 1 day left)\n" +
				"   └─ leaf  (certificate, P-256, expired)\n"},
		{"without the root", []*x509.Certificate{middle.cert},
			"Root  (not here)\n" +
				"└─ Middle\\u001b[2J  (authority, P-256, 1 day left)\n" +
				"   └─ leaf  (certificate, P-256, expired)\n"},
		{"alone", nil, "Middle\\u001b[2J  (not here)\n└─ leaf  (certificate, P-256, expired)\n"},
	} {
		if got := tree(leaf.cert, tt.others, now); got != tt.want {
			t.Errorf("%s:\n%swant\n%s", tt.name, got, tt.want)
		}
	}
	if got := tree(root.cert, []*x509.Certificate{root.cert}, now); got != "Root  (root, P-256, 400 days left)\n" {
		t.Errorf("a root alone:\n%s", got)
	}
}

// TestExpiringColours: colour is for a terminal only.
func TestExpiringColours(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	now := time.Unix(1_800_000_000, 0)
	list := &api.PKICertList{Keys: []string{"01", "02", "03"}, KeyInfo: map[string]api.PKICertInfo{
		"01": {CommonName: "today", Expiration: now.Add(time.Hour).Unix()},
		"02": {CommonName: "soon", Expiration: now.Add(10*24*time.Hour + time.Hour).Unix()},
		"03": {CommonName: "later", Expiration: now.Add(20*24*time.Hour + time.Hour).Unix()},
	}}
	for _, tt := range []struct {
		tty      bool
		noColor  string
		coloured int
	}{{true, "", 2}, {true, "1", 0}, {false, "", 0}} {
		t.Setenv("NO_COLOR", tt.noColor)
		a, out, _ := testApp(t)
		a.outTTY = tt.tty
		if err := (&certs{app: a}).showExpiring(list, now); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if n := strings.Count(text, "\x1b[0m\n"); n != tt.coloured || strings.Contains(text, "later") && strings.Contains(text, "\x1b[33m20") {
			t.Errorf("terminal %v, NO_COLOR=%q: %q", tt.tty, tt.noColor, text)
		}
		if !strings.Contains(text, "DAYS LEFT  EXPIRES            COMMON NAME  NAMES  ROLE  SERIAL\n") || !strings.Contains(text, "20         2027-02-04 09:00Z  later") {
			t.Errorf("%s", text)
		}
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	for _, tt := range []struct {
		info api.PKICertInfo
		want string
	}{
		{api.PKICertInfo{NotBefore: 1, Expiration: 2000}, "valid"},
		{api.PKICertInfo{NotBefore: 1, Expiration: 999}, "expired"},
		{api.PKICertInfo{NotBefore: 1001, Expiration: 2000}, "not yet valid"},
		{api.PKICertInfo{NotBefore: 1, Expiration: 999, RevocationTime: 5}, "revoked"},
	} {
		if got := stateOf(tt.info, now); got != tt.want {
			t.Errorf("%+v: %s", tt.info, got)
		}
	}
	if got := someNames(api.PKICertInfo{CommonName: "a", Names: []string{"a", "b", "c", "d", "e"}}); got != "b, c, d and 1 more" {
		t.Error(got)
	}
}

// FuzzParseCertificates: what is no certificate is an error, and what is one can be shown.
func FuzzParseCertificates(f *testing.F) {
	f.Add([]byte(pemCertificate(makeCert(f, "x", nil, true, time.Now()).cert)))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("no PEM"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parseCertificates(text)
		if err != nil {
			return
		}
		a, out, _ := testApp(t)
		if err := (&certs{app: a}).showCert(describe(all[0], all[1:], 0)); err != nil || strings.ContainsRune(out.String(), '\x1b') {
			t.Errorf("%v: %q", err, out.String())
		}
	})
}
