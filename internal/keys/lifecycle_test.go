package keys

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

var bg = context.Background()

func TestCreateEveryType(t *testing.T) {
	t.Parallel()
	soft, hard := newEnv(t, false), newEnv(t, true)
	for _, typ := range token.Types() {
		for _, e := range []*env{soft, hard} {
			name := typ.String()
			want := api.ProtectionSoftware
			if e == hard {
				want = api.ProtectionWrapped
				if typ == token.Ed25519 {
					want = api.ProtectionToken
				}
			}
			k, err := e.createKey(bg, call(), &api.CreateKey{Name: name, Type: name})
			if e == hard && strings.Contains(name, "chacha") {
				wantFault(t, err, fault.Invalid, `the HSM token "test hsm" can't hold keys of type `+name)
				wantFault(t, err, fault.Invalid, "protection=software")
				k, err = e.createKey(bg, call(), &api.CreateKey{Name: name, Type: name, Protection: "software"})
				want = api.ProtectionSoftware
			}
			must(t, err)
			if k.Protection != want || k.Type != name || k.LatestVersion != 1 || k.MinDecryptionVersion != 1 || k.MinEncryptionVersion != 0 {
				t.Errorf("%s: %+v", name, k)
			}
			h, err := e.hmac(bg, call(), &api.HMAC{Name: name, Input: []byte("x"), Algorithm: "sha2-512"})
			must(t, err)
			if !strings.HasPrefix(h.HMAC, "vault:v1:") {
				t.Errorf("%s: HMAC %q", name, h.HMAC)
			}
		}
	}
	if n := len(hard.hsm.ids()); n != 1 {
		t.Errorf("the HSM has %d objects, want the Ed25519 key alone", n)
	}
	if n := hard.count(tableIntents); n != 0 {
		t.Errorf("%d intents are left", n)
	}
}

func TestReadShape(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	sym := e.make("sym", "")
	var unix int64
	must(t, json.Unmarshal(sym.Keys["1"], &unix))
	if sym.Type != "aes256-gcm96" || time.Since(time.Unix(unix, 0)) > time.Minute || !sym.SupportsEncryption || sym.SupportsSigning {
		t.Errorf("%+v", sym)
	}
	for typ, want := range map[string]string{"ecdsa-p256": "P-256", "ecdsa-p384": "P-384", "ecdsa-p521": "P-521", "ed25519": "ed25519", "rsa-2048": "rsa-2048"} {
		k := e.make(typ, typ)
		var v api.KeyVersion
		must(t, json.Unmarshal(k.Keys["1"], &v))
		if v.Name != want || !k.SupportsSigning {
			t.Errorf("%s: %+v", typ, v)
		}
		if _, err := time.Parse(time.RFC3339Nano, v.CreationTime); err != nil {
			t.Error(err)
		}
		if typ == "ed25519" {
			if raw, err := base64.StdEncoding.DecodeString(v.PublicKey); err != nil || len(raw) != 32 {
				t.Errorf("ed25519 public key %q", v.PublicKey)
			}
		} else if !strings.HasPrefix(v.PublicKey, "-----BEGIN PUBLIC KEY-----\n") {
			t.Errorf("%s public key %q", typ, v.PublicKey)
		}
		if k.SupportsEncryption != strings.HasPrefix(typ, "rsa") {
			t.Errorf("%s: encryption %v", typ, k.SupportsEncryption)
		}
	}
	_, err := e.readKey(bg, call(), &api.ReadKey{Name: "none"})
	wantFault(t, err, fault.NotFound, "")
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	for _, c := range []struct {
		r    api.CreateKey
		want string
	}{
		{api.CreateKey{Name: "k", Type: "des"}, "unknown key type des"},
		{api.CreateKey{Name: "k", ConvergentEncryption: true}, "convergent"},
		{api.CreateKey{Name: "k", Exportable: true}, "private key material is not exportable"},
		{api.CreateKey{Name: "k", AllowPlaintextBackup: true}, "private key material is not exportable"},
		{api.CreateKey{Name: "k", AutoRotatePeriod: -1}, "at least an hour"},
		{api.CreateKey{Name: "k", Protection: "vault"}, "unknown protection"},
		{api.CreateKey{Name: "k", Type: "ed25519", Protection: "wrapped"}, "ask for protection=token"},
		{api.CreateKey{Name: "k", Type: "chacha20-poly1305", Protection: "token"}, "so protection=token is not possible"},
		{api.CreateKey{Name: "k", KeySize: 32}, "key_size is for type hmac only"},
		{api.CreateKey{Name: "k", Type: "hmac", KeySize: 31}, "from 32 to 512"},
		{api.CreateKey{Name: "k", Type: "hmac", KeySize: 513}, "from 32 to 512"},
		{api.CreateKey{Name: ""}, "no name for a key"},
		{api.CreateKey{Name: "-k"}, "no name for a key"},
		{api.CreateKey{Name: "k."}, "no name for a key"},
		{api.CreateKey{Name: "a b"}, "no name for a key"},
		{api.CreateKey{Name: "a/b"}, "no name for a key"},
		{api.CreateKey{Name: strings.Repeat("k", 256)}, "no name for a key"},
	} {
		_, err := e.createKey(bg, call(), &c.r)
		wantFault(t, err, fault.Invalid, c.want)
	}
	if e.count(tableKeys) != 0 || e.count(tableVersions) != 0 || e.count(tableIntents) != 0 || len(e.hsm.ids()) != 0 {
		t.Error("a refused request left something")
	}
}

func TestHMACKeySizes(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	for _, c := range []struct {
		r    api.CreateKey
		want int
	}{
		{api.CreateKey{Name: "hsm"}, 64}, {api.CreateKey{Name: "soft", Protection: "software"}, 32},
		{api.CreateKey{Name: "big", KeySize: 512}, 512}, {api.CreateKey{Name: "small", KeySize: 32, Protection: "token"}, 32},
	} {
		c.r.Type = "hmac"
		if k := e.makeAs(c.r); k.KeySize != c.want {
			t.Errorf("%s: %d bytes", c.r.Name, k.KeySize)
		}
		if k := e.rotateNow(c.r.Name); k.KeySize != c.want || k.LatestVersion != 2 {
			t.Errorf("%s rotated: %+v", c.r.Name, k)
		}
	}
}

func TestExplicitTokenProtection(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.makeAs(api.CreateKey{Name: "obj", Protection: "token"})
	if n := len(e.hsm.ids()); n != 2 {
		t.Fatalf("%d objects, want the key and its HMAC secret", n)
	}
	e.rotateNow("obj")
	if n := len(e.hsm.ids()); n != 4 {
		t.Fatalf("%d objects after rotation", n)
	}
	c := e.enc("obj", "x")
	e.restart()
	if p, err := e.dec("obj", c); err != nil || p != "x" {
		t.Fatalf("%q %v", p, err)
	}
	e.configure("obj", api.ConfigKey{DeletionAllowed: ptr(true)})
	_, err := e.deleteKey(bg, call(), &api.KeyName{Name: "obj"})
	must(t, err)
	if n := len(e.hsm.ids()); n != 0 {
		t.Fatalf("%d objects after deletion", n)
	}
}

func TestWrappedSecretsStayOutOfRecords(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	for _, typ := range token.Types() {
		if h := e.hsm.info.Holds[typ]; !h.Wrapped && !h.Object {
			continue
		}
		e.make(typ.String(), typ.String())
		var r versionRecord
		_, err := e.sealed.Get(bg, tableVersions, keyName{"transit/", typ.String()}.version(1), &r)
		must(t, err)
		if r.Main.Secret != nil || r.MAC != nil && r.MAC.Secret != nil {
			t.Errorf("%v: a secret is in the record", typ)
		}
	}
}

func TestCreateExisting(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	before := e.make("k", "")
	c := call()
	after, err := e.createKey(bg, c, &api.CreateKey{Name: "k", Type: "ed25519", Protection: "token"})
	must(t, err)
	if after.Type != before.Type || after.LatestVersion != 1 {
		t.Errorf("%+v", after)
	}
	if len(c.Warnings) != 3 || c.Warnings[0] != "key k already existed" {
		t.Errorf("warnings %q", c.Warnings)
	}
	for name, want := range map[string]bool{"k": true, "other": false} {
		if ok, err := e.createExists(bg, call(), &api.CreateKey{Name: name}); ok != want || err != nil {
			t.Errorf("exists %s: %v %v", name, ok, err)
		}
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	r, err := e.listKeys(bg, call(), nil)
	must(t, err)
	if !r.IsEmpty() {
		t.Fatal(r.Keys)
	}
	for _, name := range []string{"b", "a", "a.b", "Z"} {
		e.make(name, "")
	}
	below := call()
	below.Mount = "transit/below/"
	_, err = e.createKey(bg, below, &api.CreateKey{Name: "x"})
	must(t, err)
	r, err = e.listKeys(bg, call(), nil)
	must(t, err)
	if !slices.Equal(r.Keys, []string{"Z", "a", "a.b", "b"}) {
		t.Fatal(r.Keys)
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	for i := range listPage + 3 {
		put, err := e.sealed.Put(tableKeys, "transit/k"+strconv.Itoa(i), 0, keyRecord{Format: recordFormat, Type: token.AES256})
		must(t, err)
		must(t, e.sealed.Apply(bg, put))
	}
	r, err := e.listKeys(bg, call(), nil)
	must(t, err)
	if len(r.Keys) != listPage+3 {
		t.Fatal(len(r.Keys))
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "ed25519")
	e.rotateNow("k")
	_, err := e.deleteKey(bg, call(), &api.KeyName{Name: "k"})
	if err == nil || err.Error() != "error deleting policy k: deletion is not allowed for this key" {
		t.Fatal(err)
	}
	_, err = e.deleteKey(bg, call(), &api.KeyName{Name: "none"})
	wantFault(t, err, fault.Invalid, "not found")
	e.configure("k", api.ConfigKey{DeletionAllowed: ptr(true)})
	if n := len(e.hsm.ids()); n != 2 {
		t.Fatalf("%d objects", n)
	}
	_, err = e.deleteKey(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	if len(e.hsm.ids()) != 0 || e.count(tableKeys)+e.count(tableVersions)+e.count(tableIntents) != 0 {
		t.Error("the deleted key left something")
	}
	if k := e.make("k", "ecdsa-p256"); k.LatestVersion != 1 || k.Type != "ecdsa-p256" {
		t.Errorf("%+v", k)
	}
}

func TestDeleteForgetsCounters(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.make("k", "")
	old := e.enc("k", "x")
	e.configure("k", api.ConfigKey{DeletionAllowed: ptr(true)})
	_, err := e.deleteKey(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	if n := e.count(tableCounters); n != 0 {
		t.Fatalf("%d counters", n)
	}
	e.make("k", "")
	e.enc("k", "x")
	_, err = e.dec("k", old)
	wantFault(t, err, fault.Invalid, msgOpen)
}

func TestDeleteWhileTokenIsAway(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "ed25519")
	e.configure("k", api.ConfigKey{DeletionAllowed: ptr(true)})
	e.hsm.destroy = func(token.Stored) error { return token.ErrUnavailable }
	_, err := e.deleteKey(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	if len(e.hsm.ids()) != 1 || e.count(tableIntents) != 1 {
		t.Fatal("the object must be noted for the next start")
	}
	e.hsm.destroy = nil
	e.restart()
	if len(e.hsm.ids()) != 0 || e.count(tableIntents) != 0 {
		t.Fatal("the next start did not destroy the object")
	}
}

func TestConfigRules(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.make("k", "")
	for range 4 {
		e.rotateNow("k")
	}
	e.configure("k", api.ConfigKey{MinDecryptionVersion: ptr(2), MinEncryptionVersion: ptr(3)})
	for _, c := range []struct {
		r    api.ConfigKey
		want string
	}{
		{api.ConfigKey{MinDecryptionVersion: ptr(-1)}, "cannot be negative"},
		{api.ConfigKey{MinEncryptionVersion: ptr(-1)}, "cannot be negative"},
		{api.ConfigKey{MinDecryptionVersion: ptr(6)}, "cannot set min decryption version of 6, latest key version is 5"},
		{api.ConfigKey{MinEncryptionVersion: ptr(6)}, "cannot set min encryption version of 6, latest key version is 5"},
		{api.ConfigKey{MinEncryptionVersion: ptr(1)}, "must be greater than or equal to min decryption version of 2"},
		{api.ConfigKey{MinDecryptionVersion: ptr(4)}, "min encryption version of 3 must be"},
		{api.ConfigKey{Exportable: ptr(true)}, "not exportable"},
		{api.ConfigKey{AllowPlaintextBackup: ptr(true)}, "not exportable"},
		{api.ConfigKey{Name: "none", DeletionAllowed: ptr(true)}, "no existing key named none could be found"},
	} {
		if c.r.Name == "" {
			c.r.Name = "k"
		}
		_, err := e.configKey(bg, call(), &c.r)
		wantFault(t, err, fault.Invalid, c.want)
	}
	k, err := e.readKey(bg, call(), &api.ReadKey{Name: "k"})
	must(t, err)
	if k.MinDecryptionVersion != 2 || k.MinEncryptionVersion != 3 || len(k.Keys) != 4 || k.Keys["1"] != nil {
		t.Errorf("%+v", k)
	}
	c := call()
	k, err = e.configKey(bg, c, &api.ConfigKey{Name: "k", MinDecryptionVersion: ptr(0), MinEncryptionVersion: ptr(0), Exportable: ptr(false)})
	must(t, err)
	if k.MinDecryptionVersion != 1 || len(c.Warnings) != 1 {
		t.Errorf("%+v %q", k, c.Warnings)
	}
	e.restart()
	if again, err := e.readKey(bg, call(), &api.ReadKey{Name: "k"}); err != nil || again.MinDecryptionVersion != 1 || len(again.Keys) != 5 {
		t.Errorf("after a restart: %+v %v", again, err)
	}
}

func TestConcurrentRotations(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "")
	other, err := New(Options{Store: e.sealed, Token: e.holder, Software: e.software})
	must(t, err)
	const each = 10
	var wg sync.WaitGroup
	for _, s := range []*Service{e.Service, other} {
		for range 2 {
			wg.Go(func() {
				for range each / 2 {
					if _, err := s.rotateKey(bg, call(), &api.RotateKey{Name: "k"}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			for range each {
				r, err := s.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("p")})
				if err != nil {
					t.Error(err)
					return
				}
				if d, err := s.decrypt(bg, call(), &api.Decrypt{Name: "k", Ciphertext: r.Ciphertext}); err != nil || string(*d.Plaintext) != "p" {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	e.restart()
	k, err := e.readKey(bg, call(), &api.ReadKey{Name: "k"})
	must(t, err)
	if k.LatestVersion != 1+2*each || e.count(tableVersions) != 1+2*each {
		t.Errorf("%d versions, %d records", k.LatestVersion, e.count(tableVersions))
	}
}

func TestConcurrentCreations(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := e.createKey(bg, call(), &api.CreateKey{Name: "k", Type: "ed25519"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(e.hsm.ids()) != 1 || e.count(tableIntents) != 0 || e.count(tableVersions) != 1 {
		t.Errorf("%d objects, %d intents", len(e.hsm.ids()), e.count(tableIntents))
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("ec", "ecdsa-p256")
	e.make("aes", "")
	e.rotateNow("ec")
	r, err := e.exportKey(bg, call(), &api.ExportKey{Kind: "public-key", Name: "ec"})
	must(t, err)
	if len(r.Keys) != 2 || r.Type != "ecdsa-p256" || !strings.Contains(r.Keys["2"], "PUBLIC KEY") {
		t.Errorf("%+v", r)
	}
	for _, version := range []string{"2", "latest"} {
		r, err = e.exportKey(bg, call(), &api.ExportKey{Kind: "public-key", Name: "ec", Version: version})
		must(t, err)
		if len(r.Keys) != 1 || r.Keys["2"] == "" {
			t.Errorf("%+v", r)
		}
	}
	e.configure("ec", api.ConfigKey{MinDecryptionVersion: ptr(2)})
	for _, c := range []struct {
		r    api.ExportKey
		kind fault.Kind
		want string
	}{
		{api.ExportKey{Kind: "encryption-key", Name: "aes"}, fault.Invalid, "private key material is not exportable"},
		{api.ExportKey{Kind: "hmac-key", Name: "aes"}, fault.Invalid, "the protection of this key is wrapped"},
		{api.ExportKey{Kind: "signing-key", Name: "ec"}, fault.Invalid, "private key material is not exportable"},
		{api.ExportKey{Kind: "soul", Name: "ec"}, fault.Invalid, "invalid export type: soul"},
		{api.ExportKey{Kind: "public-key", Name: "aes"}, fault.Invalid, "has no public key"},
		{api.ExportKey{Kind: "public-key", Name: "none"}, fault.NotFound, ""},
		{api.ExportKey{Kind: "public-key", Name: "ec", Version: "x"}, fault.Invalid, "no key version"},
		{api.ExportKey{Kind: "public-key", Name: "ec", Version: "3"}, fault.Invalid, "version does not exist"},
		{api.ExportKey{Kind: "public-key", Name: "ec", Version: "1"}, fault.Invalid, "below minimum"},
	} {
		_, err := e.exportKey(bg, call(), &c.r)
		wantFault(t, err, c.kind, c.want)
	}
}
