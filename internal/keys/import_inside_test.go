package keys

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/tokentest"
)

// An imported secret lives where a generated one would, and in no record.
func TestImportInside(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	for _, protection := range []string{"", "wrapped", "token"} {
		for _, typ := range []token.Type{token.AES256, token.P384, token.HMAC, token.RSA2048} {
			name := typ.String() + "-" + protection + "_"
			secret, public := tokentest.Secret(t, typ, 48)
			must(t, e.importAs(api.ImportKey{Name: name, Type: typ.String(), Protection: protection, Ciphertext: e.wrap(crypto.SHA256.New, secret)}))
			k := e.read(name)
			want := protection
			if want == "" {
				want = "wrapped"
			}
			if k.Protection != want || !k.ImportedKey || typ == token.HMAC && k.KeySize != 48 {
				t.Errorf("%+v", k)
			}
			if public != nil && !bytes.Equal(pkix(t, publicOf(t, k, "1")), public) {
				t.Errorf("%s has another public key", name)
			}
			e.restart()
			_, err := e.hmac(bg, call(), &api.HMAC{Name: name, Input: []byte("m")})
			must(t, err)
			var r versionRecord
			_, err = e.sealed.Get(bg, tableVersions, keyName{"transit/", name}.version(1), &r)
			must(t, err)
			if len(r.Main.Secret) != 0 || r.Main.Place != want {
				t.Errorf("the record of %s: %+v", name, r.Main)
			}
		}
	}
	must(t, e.importAs(api.ImportKey{Name: "vector", Ciphertext: e.wrap(crypto.SHA256.New, make([]byte, 32))}))
	if p, err := e.dec("vector", "vault:v1:AAAAAAAAAAAAAAAAzqdAPU1ga24HTsXTuvOdGNDRyKeZmWvwJluYtdSKuRk="); err != nil || p != string(make([]byte, 16)) {
		t.Errorf("%x %v", p, err)
	}
	if e.count(tableIntents) != 0 {
		t.Error("intents are left")
	}
}

func TestImportInsideRefuses(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	good := e.wrap(crypto.SHA256.New, make([]byte, 32))
	altered := bytes.Clone(good)
	altered[len(altered)-1] ^= 1
	p384, _ := tokentest.Secret(t, token.P384, 0)
	edwards, _ := tokentest.Secret(t, token.Ed25519, 0)
	const closed = "ciphertext can't be unwrapped"
	for _, protection := range []string{"", "token", "wrapped"} {
		for _, c := range []struct {
			r    api.ImportKey
			want string
		}{
			{api.ImportKey{Ciphertext: altered}, closed},
			{api.ImportKey{Ciphertext: good, HashFunction: "SHA512"}, closed},
			{api.ImportKey{Ciphertext: good, HashFunction: "MD5"}, "unsupported hash_function"},
			{api.ImportKey{Ciphertext: good, Type: "aes128-gcm96"}, closed},
			{api.ImportKey{Ciphertext: good[:527]}, "ciphertext has 527 bytes"},
			{api.ImportKey{Ciphertext: e.wrap(crypto.SHA256.New, p384), Type: "ecdsa-p256"}, closed},
			{api.ImportKey{Ciphertext: e.wrap(crypto.SHA256.New, make([]byte, 31)), Type: "hmac"}, closed},
			{api.ImportKey{Ciphertext: good, Type: "chacha20-poly1305"}, "protection=software"},
		} {
			c.r.Name, c.r.Protection = "k", protection
			err := e.importAs(c.r)
			wantFault(t, err, fault.Invalid, c.want)
			if c.want == closed && fault.Message(err) != closed {
				t.Errorf("%q tells more", fault.Message(err))
			}
		}
	}
	e.hsm.info.Holds[token.Ed25519] = token.Hold{Object: true} // as SoftHSM2: it does not import them
	wantFault(t, e.importAs(api.ImportKey{Name: "k", Type: "ed25519", Ciphertext: e.wrap(crypto.SHA256.New, edwards)}),
		fault.Invalid, "protection=software")
	wantFault(t, e.importAs(api.ImportKey{Name: "k", Protection: "wrapped", Type: "ed25519", Ciphertext: good}), fault.Invalid, "protection=token")
	if e.count(tableKeys) != 0 || e.count(tableVersions) != 0 || e.count(tableIntents) != 0 || len(e.hsm.ids()) != 0 {
		t.Error("a refused import left something")
	}
}

// A wrapping key that is in server memory opens nothing for the HSM token.
func TestImportInsideNeedsTheWrappingKey(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	rsa4096 := e.hsm.info.Holds[token.RSA4096]
	delete(e.hsm.info.Holds, token.RSA4096)
	blob := e.wrap(crypto.SHA256.New, make([]byte, 32))
	e.hsm.info.Holds[token.RSA4096] = rsa4096
	wantFault(t, e.importAs(api.ImportKey{Name: "k", Ciphertext: blob}), fault.Invalid, "is kept in server memory")
	must(t, e.importAs(api.ImportKey{Name: "k", Protection: "software", Ciphertext: blob}))
}

// Versions of a key stay at its protection, and a private key joins its public
// key there.
func TestImportVersionsInside(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.hsm.info.Holds[token.Ed25519] = token.Hold{Object: true, Import: true}
	_, first, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	_, second, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	must(t, e.importAs(api.ImportKey{Name: "k", Type: "ed25519", PublicKey: publicPEM(t, first.Public())}))
	if k := e.read("k"); k.Protection != "token" {
		t.Errorf("%+v", k)
	}
	_, err = e.sign(bg, call(), &api.Sign{Name: "k", Input: []byte("m")})
	wantFault(t, err, fault.Invalid, "has a public key alone")
	version := func(number int, key ed25519.PrivateKey) error {
		_, err := e.importVersion(bg, call(), &api.ImportKeyVersion{Name: "k", Version: number, Ciphertext: e.wrap(crypto.SHA256.New, pkcs8(t, key))})
		return err
	}
	wantFault(t, version(1, second), fault.Invalid, "does not belong to the public key of version 1")
	must(t, version(1, first))
	must(t, version(0, second))
	wantFault(t, version(1, first), fault.Invalid, "has its private key already")
	for range 2 {
		for number, key := range map[int]ed25519.PrivateKey{1: first, 2: second} {
			sig, err := e.sign(bg, call(), &api.Sign{Name: "k", Input: []byte("m"), KeyVersion: number})
			must(t, err)
			if want := prefixOf(number) + b64(ed25519.Sign(key, []byte("m"))); sig.Signature != want {
				t.Errorf("version %d: %s", number, sig.Signature)
			}
		}
		e.restart()
	}
	if n := len(e.hsm.ids()); n != 2 || e.count(tableIntents) != 0 {
		t.Errorf("%d objects, %d intents", n, e.count(tableIntents))
	}
	_, err = e.configKey(bg, call(), &api.ConfigKey{Name: "k", DeletionAllowed: ptr(true)})
	must(t, err)
	_, err = e.deleteKey(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	if n := len(e.hsm.ids()); n != 0 || e.count(tableIntents) != 0 {
		t.Errorf("%d objects, %d intents after deletion", n, e.count(tableIntents))
	}
}

// A public key alone can be at any place, and leaves nothing to destroy.
func TestImportPublicAnywhere(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	delete(e.hsm.info.Holds, token.Ed25519)
	must(t, e.importAs(api.ImportKey{Name: "k", Type: "ed25519", PublicKey: publicPEM(t, key.Public())}))
	if k := e.read("k"); k.Protection != "software" {
		t.Errorf("%+v", k)
	}
	must(t, e.importAs(api.ImportKey{Name: "p", Type: "ecdsa-p256", Protection: "token", PublicKey: publicPEM(t, publicOf(t, e.make("m", "ecdsa-p256"), "1"))}))
	_, err = e.backupKey(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	for _, name := range []string{"k", "p"} {
		_, err = e.configKey(bg, call(), &api.ConfigKey{Name: name, DeletionAllowed: ptr(true)})
		must(t, err)
		_, err = e.deleteKey(bg, call(), &api.KeyName{Name: name})
		must(t, err)
	}
	if e.count(tableIntents) != 0 {
		t.Error("intents are left")
	}
}
