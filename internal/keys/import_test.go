package keys

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"hash"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// kwp wraps as RFC 5649 section 4.1 says, written here anew.
func kwp(t testing.TB, kek, secret []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(kek)
	must(t, err)
	a := binary.BigEndian.AppendUint32([]byte{0xa6, 0x59, 0x59, 0xa6}, uint32(len(secret)))
	p := append(bytes.Clone(secret), make([]byte, -len(secret)&7)...)
	if len(p) == 8 {
		out := append(a, p...)
		block.Encrypt(out, out)
		return out
	}
	for j := range 6 {
		for i := 0; i < len(p); i += 8 {
			b := append(bytes.Clone(a), p[i:i+8]...)
			block.Encrypt(b, b)
			n := uint64(len(p)/8*j + i/8 + 1)
			a = binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(b)^n)
			copy(p[i:], b[8:])
		}
	}
	return append(a, p...)
}

// RFC 5649 section 6.
func TestKWPOfTheTest(t *testing.T) {
	t.Parallel()
	kek := unhex(t, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
	for secret, want := range map[string]string{
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		if got := kwp(t, kek, unhex(t, secret)); !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("%x", got)
		}
	}
}

func (e *env) wrappingPublic() *rsa.PublicKey {
	e.t.Helper()
	r, err := e.readWrappingKey(bg, call(), nil)
	must(e.t, err)
	block, _ := pem.Decode([]byte(r.PublicKey))
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	must(e.t, err)
	return pub.(*rsa.PublicKey)
}

// wrap makes an import blob with the standard library and the KWP above.
func (e *env) wrap(h func() hash.Hash, secret []byte) []byte {
	e.t.Helper()
	return wrapFor(e.t, e.wrappingPublic(), h, secret)
}

func wrapFor(t testing.TB, public *rsa.PublicKey, h func() hash.Hash, secret []byte) []byte {
	t.Helper()
	kek := make([]byte, 32)
	rand.Read(kek)
	first, err := rsa.EncryptOAEP(h(), rand.Reader, public, kek, nil)
	must(t, err)
	return append(first, kwp(t, kek, secret)...)
}

func (e *env) importAs(r api.ImportKey) error {
	_, err := e.importKey(bg, call(), &r)
	return err
}

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return der
}

func publicPEM(t testing.TB, public any) string {
	t.Helper()
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix(t, public)}))
}

func TestImport(t *testing.T) {
	t.Parallel()
	hashes := []struct {
		name string
		hash func() hash.Hash
	}{
		{"SHA1", crypto.SHA1.New}, {"SHA224", crypto.SHA224.New}, {"", crypto.SHA256.New}, {"sha256", crypto.SHA256.New},
		{"SHA384", crypto.SHA384.New}, {"SHA512", crypto.SHA512.New},
	}
	for _, e := range []*env{newEnv(t, false), newEnv(t, true)} {
		public := e.wrappingPublic()
		if public.N.BitLen() != 4096 {
			t.Errorf("a wrapping key of %d bits", public.N.BitLen())
		}
		for i, typ := range token.Types() {
			if typ.Class() == token.ClassRSA && typ != token.RSA2048 {
				continue
			}
			secret, want, err := e.software.Generate(token.Spec{Type: typ, Size: map[bool]int{true: 48}[typ == token.HMAC]})
			must(t, err)
			h := hashes[i%len(hashes)]
			name := typ.String()
			r := api.ImportKey{Name: name, Type: name, Protection: "software", HashFunction: h.name, Ciphertext: e.wrap(h.hash, secret)}
			if e.hsm == nil {
				r.Protection = ""
			}
			must(t, e.importAs(r))
			k := e.read(name)
			if !k.ImportedKey || *k.AllowRotation || k.Protection != "software" || k.LatestVersion != 1 || typ == token.HMAC && k.KeySize != 48 {
				t.Errorf("%+v", k)
			}
			if want != nil && !bytes.Equal(pkix(t, publicOf(t, k, "1")), want) {
				t.Errorf("%s has another public key", name)
			}
			if i == 0 {
				e.restart()
			}
			_, err = e.hmac(bg, call(), &api.HMAC{Name: name, Input: []byte("m")})
			must(t, err)
			if canEncrypt(typ) {
				if p, err := e.dec(name, e.enc(name, "p")); err != nil || p != "p" {
					t.Errorf("%s: %q %v", name, p, err)
				}
			}
			if canSign(typ) {
				sig, err := e.sign(bg, call(), &api.Sign{Name: name, Input: []byte("m")})
				must(t, err)
				v, err := e.verify(bg, call(), &api.Verify{Name: name, Input: []byte("m"), Signature: sig.Signature})
				if must(t, err); !*v.Valid {
					t.Errorf("%s: signature", name)
				}
			}
		}
		if !public.Equal(e.wrappingPublic()) || e.count(tableWrapping) != 1 || e.count(tableIntents) != 0 {
			t.Error("the wrapping key changed")
		}
	}
}

// The imported secret is the one that is used: NIST's AES-GCM test case 14
// (McGrew and Viega) opens under it.
func TestImportedSecretIsUsed(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	must(t, e.importAs(api.ImportKey{Name: "k", Ciphertext: e.wrap(crypto.SHA256.New, make([]byte, 32))}))
	p, err := e.dec("k", "vault:v1:AAAAAAAAAAAAAAAAzqdAPU1ga24HTsXTuvOdGNDRyKeZmWvwJluYtdSKuRk=")
	if err != nil || p != string(make([]byte, 16)) {
		t.Errorf("%x %v", p, err)
	}
}

func TestImportVersions(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("made", "ecdsa-p256")
	_, first, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	_, second, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	version := func(r api.ImportKeyVersion) error {
		_, err := e.importVersion(bg, call(), &r)
		return err
	}
	must(t, e.importAs(api.ImportKey{Name: "k", Type: "ed25519", Protection: "software", PublicKey: publicPEM(t, first.Public())}))
	must(t, version(api.ImportKeyVersion{Name: "k", Ciphertext: e.wrap(crypto.SHA512.New, pkcs8(t, second)), HashFunction: "SHA512"}))
	k := e.read("k")
	if k.LatestVersion != 2 || !second.Public().(ed25519.PublicKey).Equal(publicOf(t, k, "2")) {
		t.Fatalf("%+v", k)
	}
	v, err := e.verify(bg, call(), &api.Verify{Name: "k", Input: []byte("m"), Signature: "vault:v1:" + b64(ed25519.Sign(first, []byte("m")))})
	if must(t, err); !*v.Valid {
		t.Error("the public key alone does not verify")
	}
	_, err = e.sign(bg, call(), &api.Sign{Name: "k", Input: []byte("m"), KeyVersion: 1})
	wantFault(t, err, fault.Invalid, "has a public key alone")
	_, err = e.signCSR(bg, call(), &api.SignCSR{Name: "k", Version: 1})
	wantFault(t, err, fault.Invalid, "has a public key alone")

	one, two := e.wrap(crypto.SHA256.New, pkcs8(t, first)), e.wrap(crypto.SHA256.New, pkcs8(t, second))
	for _, c := range []struct {
		r    api.ImportKeyVersion
		want string
	}{
		{api.ImportKeyVersion{Name: "none", Ciphertext: one}, "no key found with name none"},
		{api.ImportKeyVersion{Name: "made", Ciphertext: one}, "only be used with an imported key"},
		{api.ImportKeyVersion{Name: "k", Version: 3, Ciphertext: one}, "no version 3"},
		{api.ImportKeyVersion{Name: "k", Version: 1, PublicKey: publicPEM(t, first.Public())}, "give ciphertext, not public_key"},
		{api.ImportKeyVersion{Name: "k", Version: 1, Ciphertext: two}, "does not belong to the public key of version 1"},
		{api.ImportKeyVersion{Name: "k", Version: 2, Ciphertext: two}, "has its private key already"},
		{api.ImportKeyVersion{Name: "k"}, "must be supplied"},
		{api.ImportKeyVersion{Name: "k", PublicKey: publicPEM(t, e.wrappingPublic())}, "no key of type ed25519"},
	} {
		wantFault(t, version(c.r), fault.Invalid, c.want)
	}
	must(t, version(api.ImportKeyVersion{Name: "k", Version: 1, Ciphertext: one}))
	for range 2 {
		sig, err := e.sign(bg, call(), &api.Sign{Name: "k", Input: []byte("m"), KeyVersion: 1})
		must(t, err)
		if sig.Signature != "vault:v1:"+b64(ed25519.Sign(first, []byte("m"))) {
			t.Error("another signature")
		}
		e.restart()
	}
	_, err = e.rotateKey(bg, call(), &api.RotateKey{Name: "k"})
	wantFault(t, err, fault.Invalid, "imported key k does not allow rotation within Vault")
	must(t, e.importAs(api.ImportKey{Name: "turning", Protection: "software", AllowRotation: true, Ciphertext: e.wrap(crypto.SHA256.New, make([]byte, 32))}))
	if k := e.rotateNow("turning"); k.LatestVersion != 2 || k.Protection != "software" || !*k.AllowRotation {
		t.Errorf("%+v", k)
	}
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	e, soft := newEnv(t, true), newEnv(t, false)
	e.make("there", "")
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	good := e.wrap(crypto.SHA256.New, make([]byte, 32))
	altered := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	short, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, e.wrappingPublic(), make([]byte, 16), nil)
	must(t, err)
	short = append(short, kwp(t, make([]byte, 16), make([]byte, 32))...)
	const closed = "ciphertext can't be unwrapped"
	for _, c := range []struct {
		r    api.ImportKey
		want string
	}{
		{api.ImportKey{Name: "there", Ciphertext: good}, "cannot be used with an existing key"},
		{api.ImportKey{Name: "a b", Ciphertext: good}, "no name for a key"},
		{api.ImportKey{Type: "des", Ciphertext: good}, "unknown key type"},
		{api.ImportKey{Derived: true, Ciphertext: good}, "derived"},
		{api.ImportKey{Exportable: true, Ciphertext: good}, "not exportable"},
		{api.ImportKey{AllowPlaintextBackup: true, Ciphertext: good}, "not exportable"},
		{api.ImportKey{AutoRotatePeriod: 3600, Ciphertext: good}, "auto_rotate_period"},
		{api.ImportKey{}, "must be supplied"},
		{api.ImportKey{Ciphertext: good, PublicKey: "x"}, "only one of"},
		{api.ImportKey{HashFunction: "MD5", Ciphertext: good}, "unsupported hash_function"},
		{api.ImportKey{Ciphertext: good[:520]}, "ciphertext has 520 bytes"},
		{api.ImportKey{HashFunction: "SHA1", Ciphertext: good}, closed},
		{api.ImportKey{Ciphertext: altered(0)}, closed},
		{api.ImportKey{Ciphertext: altered(511)}, closed},
		{api.ImportKey{Ciphertext: altered(512)}, closed},
		{api.ImportKey{Ciphertext: altered(len(good) - 1)}, closed},
		{api.ImportKey{Ciphertext: good[:len(good)-8]}, closed},
		{api.ImportKey{Ciphertext: short}, closed},
		{api.ImportKey{Ciphertext: soft.wrap(crypto.SHA256.New, make([]byte, 32))}, closed},
		{api.ImportKey{Type: "aes128-gcm96", Ciphertext: good}, "no key of type aes128-gcm96"},
		{api.ImportKey{Type: "ecdsa-p256", Ciphertext: e.wrap(crypto.SHA256.New, pkcs8(t, p384))}, "no key of type ecdsa-p256"},
		{api.ImportKey{Type: "hmac", Ciphertext: e.wrap(crypto.SHA256.New, make([]byte, 31))}, "no key of type hmac"},
		{api.ImportKey{PublicKey: publicPEM(t, p384.Public())}, "has no public key"},
		{api.ImportKey{Type: "ecdsa-p256", PublicKey: publicPEM(t, p384.Public())}, "no key of type ecdsa-p256"},
		{api.ImportKey{Type: "ed25519", PublicKey: publicPEM(t, p384.Public())}, "no key of type ed25519"},
		{api.ImportKey{Type: "ecdsa-p384", PublicKey: "x"}, "no public key in PEM"},
		{api.ImportKey{Type: "ecdsa-p384", PublicKey: publicPEM(t, p384.Public()) + "x"}, "no public key in PEM"},
		{api.ImportKey{Type: "ecdsa-p384", PublicKey: strings.ReplaceAll(publicPEM(t, p384.Public()), "M", "A")}, "can't be read"},
	} {
		if c.r.Name == "" {
			c.r.Name = "k"
		}
		c.r.Protection = "software"
		err := e.importAs(c.r)
		wantFault(t, err, fault.Invalid, c.want)
		if c.want == closed && fault.Message(err) != closed {
			t.Errorf("%q tells more", fault.Message(err))
		}
	}
	wantFault(t, e.importAs(api.ImportKey{Name: "k", Protection: "paper", Ciphertext: good}), fault.Invalid, "unknown protection")
	if e.count(tableKeys) != 1 || e.count(tableVersions) != 1 || e.count(tableIntents) != 0 {
		t.Error("a refused import left something")
	}
}

// Only one wrapping key comes of many first uses, and no object is left of the
// others.
func TestWrappingKeyRace(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.hsm.info.Holds[token.RSA4096] = token.Hold{Object: true}
	got := make(chan string, 2)
	for range cap(got) {
		go func() {
			r, err := e.readWrappingKey(bg, call(), nil)
			if err != nil {
				t.Error(err)
				r = &api.WrappingKey{}
			}
			got <- r.PublicKey
		}()
	}
	if a, b := <-got, <-got; a != b || a == "" || len(e.hsm.ids()) != 1 || e.count(tableIntents) != 0 {
		t.Errorf("%d objects, %d intents", len(e.hsm.ids()), e.count(tableIntents))
	}
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func TestUnmountDropsTheWrappingKey(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	must(t, e.Unmount(bg, "transit/")) // without one
	e.hsm.info.Holds[token.RSA4096] = token.Hold{Object: true}
	e.wrappingPublic()
	if len(e.hsm.ids()) != 1 || e.count(tableWrapping) != 1 {
		t.Fatal("the wrapping key is no object")
	}
	must(t, e.Unmount(bg, "transit/"))
	if len(e.hsm.ids()) != 0 || e.count(tableWrapping) != 0 || e.count(tableIntents) != 0 {
		t.Errorf("%d objects, %d intents", len(e.hsm.ids()), e.count(tableIntents))
	}
}

func FuzzImportPublic(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(f, err)
	f.Add(publicPEM(f, key.Public()))
	f.Add("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := importPublic(token.P256, text)
		if err != nil {
			wantFault(t, err, fault.Invalid, "public_key")
			return
		}
		if _, err := x509.ParsePKIXPublicKey(r.Public); err != nil || len(r.Secret) != 0 {
			t.Errorf("%+v: %v", r, err)
		}
	})
}
