package keys

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// The keys are those of RFC 5903 section 8.1; HKDF of their shared secret was
// computed with Python's hmac.
func TestKnownAgreement(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), unhex(t, "c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433"))
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	e.plant("own", token.P256, pkcs8, pkix(t, private.Public()))
	peer, err := ecdh.P256().NewPublicKey(unhex(t, "04d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf6356fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab"))
	must(t, err)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix(t, peer)}))
	for typ, size := range map[string]int{"": 32, "aes128-gcm96": 16, "chacha20-poly1305": 32, "xchacha20-poly1305": 32} {
		name := "k" + typ
		_, err := e.deriveKey(bg, call(), &api.DeriveKey{Name: name, BaseKeyName: "own", PeerPublicKey: text, DerivedKeyType: typ, Algorithm: "ecdh"})
		must(t, err)
		var r versionRecord
		_, err = e.sealed.Get(bg, tableVersions, keyName{"transit/", name}.version(1), &r)
		must(t, err)
		if want := unhex(t, "3bf511eebadf44c1f7b0282a1262fe4ddd9da23bb1555cfda591ac46b088c441")[:size]; !bytes.Equal(r.Main.Secret, want) {
			t.Errorf("%s: %x, want %x", typ, r.Main.Secret, want)
		}
		if p, err := e.dec(name, e.enc(name, "x")); err != nil || p != "x" {
			t.Errorf("%q %v", p, err)
		}
	}
}

// Both parties get the same key, and neither rotates it.
func TestAgreement(t *testing.T) {
	t.Parallel()
	for _, typ := range []string{"ecdsa-p256", "ecdsa-p384", "ecdsa-p521"} {
		e := newEnv(t, true)
		public := map[string]string{}
		for _, name := range []string{"alice", "bob"} {
			e.makeAs(api.CreateKey{Name: name, Type: typ, Protection: "software"})
			public[name] = shownKey(t, e.rotateNow(name), "1").PublicKey
		}
		for own, peer := range map[string]string{"alice": "bob", "bob": "alice"} {
			_, err := e.deriveKey(bg, call(), &api.DeriveKey{Name: "of-" + own, BaseKeyName: own, BaseKeyVersion: 1, PeerPublicKey: public[peer]})
			must(t, err)
		}
		if p, err := e.dec("of-bob", e.enc("of-alice", "x")); err != nil || p != "x" {
			t.Errorf("%s: %q %v", typ, p, err)
		}
		k, err := e.readKey(bg, call(), &api.ReadKey{Name: "of-bob"})
		must(t, err)
		if k.Protection != "software" || !k.ImportedKey || k.Derived {
			t.Errorf("%+v", k)
		}
		_, err = e.rotateKey(bg, call(), &api.RotateKey{Name: "of-bob"})
		wantFault(t, err, fault.Invalid, "does not allow rotation")
	}
}

func TestAgreementRefuses(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.makeAs(api.CreateKey{Name: "own", Type: "ecdsa-p256", Protection: "software"})
	e.makeAs(api.CreateKey{Name: "wrapped", Type: "ecdsa-p256"})
	good := shownKey(t, e.makeAs(api.CreateKey{Name: "peer", Type: "ecdsa-p256"}), "1").PublicKey
	wide := shownKey(t, e.makeAs(api.CreateKey{Name: "wide", Type: "ecdsa-p384"}), "1").PublicKey
	modulus := shownKey(t, e.makeAs(api.CreateKey{Name: "rsa", Type: "rsa-2048"}), "1").PublicKey
	e.make("aes", "")
	versions := e.count(tableVersions)
	for _, c := range []struct {
		r    api.DeriveKey
		want string
	}{
		{api.DeriveKey{BaseKeyName: "none", PeerPublicKey: good}, "specified base key not found"},
		{api.DeriveKey{BaseKeyName: "own"}, "peer public key not provided"},
		{api.DeriveKey{BaseKeyName: "own", PeerPublicKey: "x"}, "no public key in PEM"},
		{api.DeriveKey{BaseKeyName: "own", PeerPublicKey: good + good}, "no public key in PEM"},
		{api.DeriveKey{BaseKeyName: "own", PeerPublicKey: modulus}, "not an ECDSA key"},
		{api.DeriveKey{BaseKeyName: "own", PeerPublicKey: wide}, "does not match peer public key curve"},
		{api.DeriveKey{BaseKeyName: "wrapped", PeerPublicKey: good}, "protection=software"},
		{api.DeriveKey{BaseKeyName: "aes", PeerPublicKey: good}, "base key type aes256-gcm96 does not support key agreement"},
		{api.DeriveKey{BaseKeyName: "own", PeerPublicKey: good, Algorithm: "dh"}, "key derivation algorithm dh not supported"},
		{api.DeriveKey{BaseKeyName: "own", PeerPublicKey: good, DerivedKeyType: "hmac"}, "unknown key type hmac"},
		{api.DeriveKey{BaseKeyName: "own", PeerPublicKey: good, DerivedKeyType: "des"}, "unknown key type des"},
		{api.DeriveKey{BaseKeyName: "own", PeerPublicKey: good, BaseKeyVersion: 2}, "no version 2"},
		{api.DeriveKey{BaseKeyName: "own", PeerPublicKey: good, BaseKeyVersion: -1}, "no version -1"},
		{api.DeriveKey{Name: "-", BaseKeyName: "own", PeerPublicKey: good}, "no name for a key"},
		{api.DeriveKey{Name: "aes", BaseKeyName: "own", PeerPublicKey: good}, "key aes already exists"},
	} {
		if c.r.Name == "" {
			c.r.Name = "k"
		}
		_, err := e.deriveKey(bg, call(), &c.r)
		wantFault(t, err, fault.Invalid, c.want)
	}
	if e.count(tableVersions) != versions || e.count(tableIntents) != 0 {
		t.Error("a refused request made something")
	}
}

func FuzzParsePeer(f *testing.F) {
	f.Add("-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n")
	f.Add("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
	private, err := ecdh.P256().NewPrivateKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix(f, private.PublicKey())})))
	f.Fuzz(func(t *testing.T, text string) {
		peer, err := parsePeer(text)
		if (peer == nil) == (err == nil) {
			t.Fatalf("%v %v", peer, err)
		}
		if err != nil && fault.KindOf(err) != fault.Invalid {
			t.Fatal(err)
		}
	})
}
