package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	subject "crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// publicOf reads a version's public key as read shows it.
func publicOf(t testing.TB, k *api.Key, version string) crypto.PublicKey {
	t.Helper()
	var v api.KeyVersion
	must(t, json.Unmarshal(k.Keys[version], &v))
	if block, _ := pem.Decode([]byte(v.PublicKey)); block != nil {
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		must(t, err)
		return pub
	}
	raw, err := base64.StdEncoding.DecodeString(v.PublicKey)
	must(t, err)
	return ed25519.PublicKey(raw)
}

// issue returns a chain of two certificates for a public key.
func issue(t testing.TB, public crypto.PublicKey, name string) string {
	t.Helper()
	root, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: subject.Name{CommonName: "root"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: subject.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	top, err := x509.CreateCertificate(rand.Reader, ca, ca, root.Public(), root)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, public, root)
	must(t, err)
	return chainText([][]byte{der, top})
}

// template is a certificate request as a client would make it with a key of
// its own.
func template(t testing.TB) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: subject.Name{CommonName: "example.test", Organization: []string{"Example"}}, DNSNames: []string{"example.test", "www.example.test"},
		SignatureAlgorithm: x509.SHA512WithRSAPSS,
	}, key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: pemCSR, Bytes: der}))
}

func TestCSR(t *testing.T) {
	t.Parallel()
	soft, hard := newEnv(t, false), newEnv(t, true)
	from := template(t)
	for _, typ := range token.Types() {
		if !canSign(typ) || typ.Class() == token.ClassRSA && typ != token.RSA2048 {
			continue
		}
		for _, e := range []*env{soft, hard} {
			name := typ.String()
			e.make(name, name)
			e.rotateNow(name)
			for _, c := range []struct {
				r       api.SignCSR
				version string
				names   int
			}{{api.SignCSR{Name: name}, "2", 0}, {api.SignCSR{Name: name, Version: 1, CSR: from}, "1", 2}} {
				r, err := e.signCSR(bg, call(), &c.r)
				must(t, err)
				block, rest := pem.Decode([]byte(r.CSR))
				if block == nil || len(rest) != 0 || r.Name != name || r.Type != name {
					t.Fatalf("%+v", r)
				}
				got, err := x509.ParseCertificateRequest(block.Bytes)
				must(t, err)
				if err := got.CheckSignature(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				want := publicOf(t, e.read(name), c.version).(interface{ Equal(crypto.PublicKey) bool })
				if !want.Equal(got.PublicKey) {
					t.Errorf("%s: the request is for another key", name)
				}
				if len(got.DNSNames) != c.names || c.names > 0 && got.Subject.String() != "CN=example.test,O=Example" {
					t.Errorf("%s: %v %v", name, got.Subject, got.DNSNames)
				}
			}
		}
	}
}

// Every way in which crypto.Signer is asked, checked by the standard library.
func TestSigner(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	d := sha256.Sum256([]byte("m"))
	for typ, check := range map[token.Type]func(s signer) bool{
		token.RSA2048: func(s signer) bool {
			pub := s.Public().(*rsa.PublicKey)
			plain, err := s.Sign(nil, d[:], crypto.SHA256)
			must(t, err)
			must(t, rsa.VerifyPKCS1v15(pub, crypto.SHA256, d[:], plain))
			for _, salt := range []int{rsa.PSSSaltLengthAuto, rsa.PSSSaltLengthEqualsHash, 20} {
				opts := &rsa.PSSOptions{SaltLength: salt, Hash: crypto.SHA256}
				pss, err := s.Sign(nil, d[:], opts)
				must(t, err)
				must(t, rsa.VerifyPSS(pub, crypto.SHA256, d[:], pss, opts))
			}
			return true
		},
		token.P256: func(s signer) bool {
			sig, err := s.Sign(nil, d[:], crypto.SHA256)
			must(t, err)
			return ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), d[:], sig)
		},
		token.Ed25519: func(s signer) bool {
			_, err := s.Sign(nil, d[:], crypto.SHA256)
			wantFault(t, err, fault.Internal, "")
			sig, err := s.Sign(nil, []byte("m"), crypto.Hash(0))
			must(t, err)
			return ed25519.Verify(s.Public().(ed25519.PublicKey), []byte("m"), sig)
		},
	} {
		e.make(typ.String(), typ.String())
		k, err := e.key(bg, keyName{"transit/", typ.String()})
		must(t, err)
		v, err := e.version(bg, k, 1)
		must(t, err)
		if !check(signer{bg, typ, v}) {
			t.Errorf("%v: wrong signature", typ)
		}
	}
}

func TestCSRRefuses(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("ec", "ecdsa-p256")
	e.make("aes", "")
	e.rotateNow("ec")
	e.configure("ec", api.ConfigKey{MinDecryptionVersion: ptr(2)})
	for _, c := range []struct {
		r    api.SignCSR
		want string
	}{
		{api.SignCSR{Name: "none"}, "signing key not found"},
		{api.SignCSR{Name: "aes"}, "key type aes256-gcm96 does not support signing"},
		{api.SignCSR{Name: "ec", Version: 3}, "higher than the latest"},
		{api.SignCSR{Name: "ec", Version: 1}, "less than the minimum"},
		{api.SignCSR{Name: "ec", CSR: "x"}, "no certificate request in PEM"},
		{api.SignCSR{Name: "ec", CSR: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}, "no certificate request in PEM"},
		{api.SignCSR{Name: "ec", CSR: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"}, "csr can't be read"},
	} {
		_, err := e.signCSR(bg, call(), &c.r)
		wantFault(t, err, fault.Invalid, c.want)
	}
	e.hsm.use = func() error { return token.ErrUnavailable }
	_, err := e.signCSR(bg, call(), &api.SignCSR{Name: "ec"})
	wantFault(t, err, fault.Unavailable, "the HSM token does not answer")
}

func chainOf(t testing.TB, k *api.Key, version string) string {
	t.Helper()
	var v api.KeyVersion
	must(t, json.Unmarshal(k.Keys[version], &v))
	return v.CertificateChain
}

func TestSetCertificate(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	for _, typ := range []string{"ecdsa-p256", "ed25519", "rsa-2048"} {
		first := e.make(typ, typ)
		second := e.rotateNow(typ)
		old := issue(t, publicOf(t, first, "1"), "old")
		chain := issue(t, publicOf(t, second, "2"), "new")
		_, err := e.setCertificate(bg, call(), &api.SetCertificate{Name: typ, Version: 1, CertificateChain: old})
		must(t, err)
		_, err = e.setCertificate(bg, call(), &api.SetCertificate{Name: typ, CertificateChain: "a comment\n" + chain + "\n \n"})
		must(t, err)
		for range 2 {
			k := e.read(typ)
			if chainOf(t, k, "1") != old || chainOf(t, k, "2") != chain {
				t.Errorf("%s: %s", typ, k.Keys)
			}
			e.restart()
		}
		if _, err := e.signCSR(bg, call(), &api.SignCSR{Name: typ}); err != nil {
			t.Errorf("%s is of no use any more: %v", typ, err)
		}
		loaded, err := e.key(bg, keyName{"transit/", typ})
		must(t, err)
		slots := slices.Clone(loaded.slots)
		again := issue(t, publicOf(t, second, "2"), "renewed")
		_, err = e.setCertificate(bg, call(), &api.SetCertificate{Name: typ, CertificateChain: again})
		must(t, err)
		if !slices.Equal(loaded.slots, slots) {
			t.Error("a loaded key was changed under its users")
		}
		if k := e.rotateNow(typ); chainOf(t, k, "2") != again || chainOf(t, k, "3") != "" {
			t.Errorf("%s: %s", typ, k.Keys)
		}
	}
}

func TestSetCertificateRefuses(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("aes", "")
	e.make("ec", "ecdsa-p256")
	e.make("ed", "ed25519")
	k := e.rotateNow("ec")
	chain := issue(t, publicOf(t, k, "2"), "leaf")
	leaf, root, _ := strings.Cut(chain, "-----END CERTIFICATE-----\n")
	leaf += "-----END CERTIFICATE-----\n"
	for _, c := range []struct {
		r    api.SetCertificate
		want string
	}{
		{api.SetCertificate{Name: "none", CertificateChain: chain}, "no existing key named none"},
		{api.SetCertificate{Name: "aes", CertificateChain: chain}, "has no public key"},
		{api.SetCertificate{Name: "ed", CertificateChain: chain}, "not for the public key of version 1"},
		{api.SetCertificate{Name: "ec", Version: 1, CertificateChain: chain}, "not for the public key of version 1"},
		{api.SetCertificate{Name: "ec", Version: 3, CertificateChain: chain}, "no version 3 that is in use: they are 1 to 2"},
		{api.SetCertificate{Name: "ec", Version: -1, CertificateChain: chain}, "no version -1"},
		{api.SetCertificate{Name: "ec"}, "no list of certificates"},
		{api.SetCertificate{Name: "ec", CertificateChain: chain + "rest"}, "no list of certificates"},
		{api.SetCertificate{Name: "ec", CertificateChain: root + leaf}, "certificate 1 of certificate_chain is not signed by certificate 2"},
		{api.SetCertificate{Name: "ec", CertificateChain: leaf + leaf}, "is not signed by certificate 2"},
		{api.SetCertificate{Name: "ec", CertificateChain: strings.Repeat(root, maxCertificates+1)}, "more than 16"},
		{api.SetCertificate{Name: "ec", CertificateChain: template(t)}, `PEM block "CERTIFICATE REQUEST"`},
		{api.SetCertificate{Name: "ec", CertificateChain: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, "certificate 1 of certificate_chain can't be read"},
	} {
		_, err := e.setCertificate(bg, call(), &c.r)
		wantFault(t, err, fault.Invalid, c.want)
	}
	if got := chainOf(t, e.read("ec"), "2"); got != "" {
		t.Errorf("a refused chain is stored: %s", got)
	}
	e.configure("ec", api.ConfigKey{MinDecryptionVersion: ptr(2)})
	_, err := e.setCertificate(bg, call(), &api.SetCertificate{Name: "ec", Version: 1, CertificateChain: chain})
	wantFault(t, err, fault.Invalid, "they are 2 to 2")
	_, err = e.setCertificate(bg, call(), &api.SetCertificate{Name: "ec", CertificateChain: leaf})
	must(t, err)
}

func FuzzCertificates(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(f, err)
	f.Add(issue(f, key.Public(), "leaf"))
	f.Add(template(f))
	f.Add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		if chain, err := parseChain(text); err == nil {
			again, err := parseChain(chainText(rawChain(chain)))
			if err != nil || len(again) != len(chain) {
				t.Errorf("%d certificates, then %d: %v", len(chain), len(again), err)
			}
		} else {
			wantFault(t, err, fault.Invalid, "certificate")
		}
		if from, err := parseTemplate(text); err == nil && text != "" && from.PublicKey != nil {
			t.Error("the template's key is taken")
		}
	})
}
