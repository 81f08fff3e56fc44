package keys

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

func TestEncryptRoundTrips(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	for _, typ := range token.Types() {
		name := typ.String()
		e.make(name, name)
		if !canEncrypt(typ) {
			_, err := e.encrypt(bg, call(), &api.Encrypt{Name: name, Plaintext: []byte("x")})
			wantFault(t, err, fault.Invalid, "message encryption not supported for key type "+name)
			_, err = e.dec(name, "vault:v1:AAAA")
			wantFault(t, err, fault.Invalid, "message decryption not supported for key type "+name)
			continue
		}
		for _, plain := range []string{"", "a", strings.Repeat("long ", 30)} {
			c := e.enc(name, plain)
			if p, err := e.dec(name, c); err != nil || p != plain {
				t.Errorf("%s: %q %v", name, p, err)
			}
			if p, err := e.dec(name, strings.Replace(c, ":v1:", ":v0:", 1)); err != nil || p != plain {
				t.Errorf("%s as v0: %q %v", name, p, err)
			}
		}
		if c1, c2 := e.enc(name, "same"), e.enc(name, "same"); c1 == c2 {
			t.Errorf("%s: two ciphertexts are the same", name)
		}
	}
}

// Every single-bit change of a ciphertext is refused, but the one that turns
// v1 into v0, which reads as v1.
func TestEveryBitCounts(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	for _, typ := range []string{"aes256-gcm96", "aes128-gcm96", "chacha20-poly1305", "xchacha20-poly1305", "rsa-2048"} {
		e.make(typ, typ)
		good := e.enc(typ, "some bytes")
		for i := range len(good) * 8 {
			bad := []byte(good)
			bad[i/8] ^= 1 << (i % 8)
			if strings.HasPrefix(string(bad), "vault:v0:") {
				continue
			}
			if _, err := e.dec(typ, string(bad)); fault.KindOf(err) != fault.Invalid {
				t.Fatalf("%s: bit %d changed: %q: %v", typ, i, bad, err)
			}
		}
		for n := range good {
			if _, err := e.dec(typ, good[:n]); fault.KindOf(err) != fault.Invalid {
				t.Fatalf("%s: cut to %d: %v", typ, n, err)
			}
		}
	}
}

func TestAssociatedData(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.make("k", "")
	e.make("rsa", "rsa-2048")
	r, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("p"), AssociatedData: []byte("aad")})
	must(t, err)
	for _, aad := range []string{"", "aae"} {
		_, err := e.decrypt(bg, call(), &api.Decrypt{Name: "k", Ciphertext: r.Ciphertext, AssociatedData: []byte(aad)})
		wantFault(t, err, fault.Invalid, "cipher: message authentication failed")
	}
	e.rotateNow("k")
	w, err := e.rewrap(bg, call(), &api.Rewrap{Name: "k", Ciphertext: r.Ciphertext, AssociatedData: []byte("aad")})
	must(t, err)
	d, err := e.decrypt(bg, call(), &api.Decrypt{Name: "k", Ciphertext: w.Ciphertext, AssociatedData: []byte("aad")})
	must(t, err)
	if string(*d.Plaintext) != "p" || w.KeyVersion != 2 {
		t.Errorf("%q %+v", *d.Plaintext, w)
	}
	_, err = e.encrypt(bg, call(), &api.Encrypt{Name: "rsa", Plaintext: []byte("p"), AssociatedData: []byte("aad")})
	wantFault(t, err, fault.Invalid, "associated_data")
	_, err = e.decrypt(bg, call(), &api.Decrypt{Name: "rsa", Ciphertext: e.enc("rsa", "p"), AssociatedData: []byte("aad")})
	wantFault(t, err, fault.Invalid, "associated_data")
}

func TestVersionsOfCiphertexts(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.make("k", "")
	old := e.enc("k", "1")
	e.rotateNow("k")
	e.rotateNow("k")
	r, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("2"), KeyVersion: 2})
	must(t, err)
	if r.KeyVersion != 2 || !strings.HasPrefix(r.Ciphertext, "vault:v2:") {
		t.Errorf("%+v", r)
	}
	for version, want := range map[int]string{-1: "negative", 4: "higher than the latest"} {
		_, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("2"), KeyVersion: version})
		wantFault(t, err, fault.Invalid, want)
	}
	_, err = e.dec("k", strings.Replace(old, ":v1:", ":v4:", 1))
	wantFault(t, err, fault.Invalid, "invalid ciphertext: version is too new")
	e.configure("k", api.ConfigKey{MinDecryptionVersion: ptr(2), MinEncryptionVersion: ptr(3)})
	_, err = e.dec("k", old)
	wantFault(t, err, fault.Invalid, "ciphertext or signature version is disallowed by policy (too old)")
	_, err = e.rewrap(bg, call(), &api.Rewrap{Name: "k", Ciphertext: old})
	wantFault(t, err, fault.Invalid, "(too old)")
	_, err = e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("2"), KeyVersion: 2})
	wantFault(t, err, fault.Invalid, "less than the minimum encryption key version")
	e.configure("k", api.ConfigKey{MinDecryptionVersion: ptr(1)})
	if p, err := e.dec("k", old); err != nil || p != "1" {
		t.Errorf("%q %v", p, err)
	}
}

func TestMissingThings(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.make("k", "")
	update := call()
	update.MayCreate = false
	_, err := e.encrypt(bg, update, &api.Encrypt{Name: "none", Plaintext: []byte{}})
	wantFault(t, err, fault.Invalid, "encryption key not found")
	_, err = e.encrypt(bg, call(), &api.Encrypt{Name: "k"})
	wantFault(t, err, fault.Invalid, "missing plaintext to encrypt")
	_, err = e.encrypt(bg, call(), &api.Encrypt{Name: "k", BatchInput: []api.EncryptItem{}})
	wantFault(t, err, fault.Invalid, "missing batch input")
	_, err = e.dec("none", "vault:v1:AAAA")
	wantFault(t, err, fault.Invalid, "encryption key not found")
	_, err = e.dec("k", "")
	wantFault(t, err, fault.Invalid, "missing ciphertext to decrypt")
	_, err = e.decrypt(bg, call(), &api.Decrypt{Name: "k", BatchInput: []api.DecryptItem{}})
	wantFault(t, err, fault.Invalid, "missing batch input")
	_, err = e.rewrap(bg, call(), &api.Rewrap{Name: "k"})
	wantFault(t, err, fault.Invalid, "missing ciphertext to decrypt")
	_, err = e.rewrap(bg, call(), &api.Rewrap{Name: "k", BatchInput: []api.RewrapItem{}})
	wantFault(t, err, fault.Invalid, "missing batch input")
	_, err = e.rotateKey(bg, call(), &api.RotateKey{Name: "none"})
	wantFault(t, err, fault.Invalid, "key not found")
	_, err = e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte{}, PartialFailure: 20})
	wantFault(t, err, fault.Invalid, "no HTTP status")
}

func TestUpsert(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	if ok, err := e.encryptExists(bg, call(), &api.Encrypt{Name: "k"}); ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, c := range []struct {
		r    api.Encrypt
		want string
	}{
		{api.Encrypt{Plaintext: []byte("x"), Context: []byte("c"), Type: "rsa-2048"}, "key derivation and convergent encryption not supported"},
		{api.Encrypt{Plaintext: []byte("x"), Type: "ed25519"}, "message encryption not supported"},
		{api.Encrypt{Plaintext: []byte("x"), Type: "des"}, "unknown key type des"},
		{api.Encrypt{Plaintext: []byte("x"), KeyVersion: 2}, "higher than the latest"},
		{api.Encrypt{BatchInput: []api.EncryptItem{{}, {KeyVersion: 3, Plaintext: []byte("x")}}}, "missing plaintext"},
		{api.Encrypt{BatchInput: []api.EncryptItem{{Plaintext: []byte("x"), Context: []byte("c")}}, Type: "ed25519"}, "message encryption not supported"},
	} {
		c.r.Name = "k"
		_, err := e.encrypt(bg, call(), &c.r)
		wantFault(t, err, fault.Invalid, c.want)
		if e.count(tableKeys) != 0 {
			t.Fatalf("%+v made a key", c.r)
		}
	}
	c := e.enc("k", "x")
	k, err := e.readKey(bg, call(), &api.ReadKey{Name: "k"})
	must(t, err)
	if p, err := e.dec("k", c); err != nil || p != "x" || k.Type != "aes256-gcm96" || k.Protection != "wrapped" {
		t.Errorf("%q %v %+v", p, err, k)
	}
	r, err := e.encrypt(bg, call(), &api.Encrypt{Name: "rsa", Plaintext: []byte("x"), Type: "rsa-2048"})
	must(t, err)
	if p, err := e.dec("rsa", r.Ciphertext); err != nil || p != "x" {
		t.Errorf("%q %v", p, err)
	}
	// Vault ignores the context of a key that is not derived.
	_, err = e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("x"), Context: []byte("c")})
	must(t, err)
}

func TestEncryptBatch(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "")
	e.rotateNow("k")
	e.hsm.uses.Store(0)
	items := []api.EncryptItem{
		{Plaintext: []byte("a"), Reference: "r0"}, {Plaintext: []byte("b"), KeyVersion: 1}, {Plaintext: []byte{}},
		{Plaintext: []byte("d"), KeyVersion: 1, AssociatedData: []byte("aad"), Reference: "r3"},
	}
	r, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", BatchInput: items, Plaintext: []byte("ignored")})
	must(t, err)
	if r.Status != 0 || len(r.BatchResults) != 4 || r.Ciphertext != "" {
		t.Fatalf("%+v", r)
	}
	if n := e.hsm.uses.Load(); n != 2 {
		t.Errorf("%d calls of the token for two versions", n)
	}
	d := &api.Decrypt{Name: "k"}
	for i, res := range r.BatchResults {
		want := 2 - i%2
		if res.KeyVersion != want || !strings.HasPrefix(res.Ciphertext, fmt.Sprintf("vault:v%d:", want)) || res.Reference != items[i].Reference {
			t.Errorf("item %d: %+v", i, res)
		}
		d.BatchInput = append(d.BatchInput, api.DecryptItem{Ciphertext: res.Ciphertext, AssociatedData: items[i].AssociatedData, Reference: fmt.Sprint(i)})
	}
	got, err := e.decrypt(bg, call(), d)
	must(t, err)
	for i, res := range got.BatchResults {
		if res.Error != "" || string(*res.Plaintext) != string(items[i].Plaintext) || res.Reference != fmt.Sprint(i) {
			t.Errorf("item %d: %+v", i, res)
		}
	}
	if n := e.hsm.uses.Load(); n != 4 || got.Status != 0 {
		t.Errorf("%d calls of the token, status %d", n, got.Status)
	}
}

func TestBatchErrors(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.make("k", "")
	good := e.enc("k", "x")
	for _, c := range []struct{ partial, want int }{{0, 400}, {207, 207}} {
		r, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", PartialFailure: c.partial, BatchInput: []api.EncryptItem{{Plaintext: []byte("x")}, {Reference: "bad"}, {Plaintext: []byte("x"), KeyVersion: 9}}})
		must(t, err)
		if r.Status != c.want || r.BatchResults[0].Error != "" || r.BatchResults[0].Ciphertext == "" ||
			r.BatchResults[1].Error != "missing plaintext to encrypt" || r.BatchResults[1].Reference != "bad" || r.BatchResults[1].Ciphertext != "" ||
			r.BatchResults[2].Error == "" {
			t.Errorf("%+v", r)
		}
		d, err := e.decrypt(bg, call(), &api.Decrypt{Name: "k", PartialFailure: c.partial, BatchInput: []api.DecryptItem{{}, {Ciphertext: good}, {Ciphertext: good, AssociatedData: []byte("other")}}})
		must(t, err)
		if d.Status != c.want || d.BatchResults[0].Error != "missing ciphertext to decrypt" || string(*d.BatchResults[1].Plaintext) != "x" ||
			d.BatchResults[2].Plaintext != nil || d.BatchResults[2].Error != msgOpen {
			t.Errorf("%+v", d)
		}
	}
	all, err := e.decrypt(bg, call(), &api.Decrypt{Name: "k", PartialFailure: 207, BatchInput: []api.DecryptItem{{Ciphertext: "x"}}})
	must(t, err)
	if all.Status != 400 {
		t.Errorf("nothing succeeded, status %d", all.Status)
	}
	w, err := e.rewrap(bg, call(), &api.Rewrap{Name: "k", BatchInput: []api.RewrapItem{{Ciphertext: good, Reference: "r"}, {Ciphertext: "x"}, {Ciphertext: good, KeyVersion: 2}}})
	must(t, err)
	if w.Status != 0 || w.BatchResults[0].Reference != "r" || w.BatchResults[1].Error != "invalid ciphertext: no prefix" || w.BatchResults[2].Error == "" {
		t.Errorf("%+v", w)
	}
	if p, err := e.dec("k", w.BatchResults[0].Ciphertext); err != nil || p != "x" {
		t.Errorf("%q %v", p, err)
	}
}

// A decryption failure of an RSA key says one thing only, whatever was wrong.
func TestRSAFailuresAreUniform(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "rsa-2048")
	good := e.enc("k", "x")
	_, payload, _ := parseText(good, "ciphertext")
	raw, _ := decodeBase64(strictBase64, nil, payload)
	for name, bad := range map[string][]byte{
		"empty": {}, "short": raw[:255], "long": append([]byte{0}, raw...), "zero": make([]byte, 256),
		"above the modulus": []byte(strings.Repeat("\xff", 256)), "altered": append(raw[:255:255], raw[255]^1),
	} {
		_, err := e.dec("k", "vault:v1:"+base64.StdEncoding.EncodeToString(bad))
		if err == nil || fault.Message(err) != msgOpen || fault.KindOf(err) != fault.Invalid || fault.HintOf(err) != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: make([]byte, 191)})
	wantFault(t, err, fault.Invalid, "encrypts at most 190")
	e.enc("k", string(make([]byte, 190)))
}

func TestDataKey(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "")
	e.make("rsa", "rsa-2048")
	for bits, size := range map[int]int{0: 32, 128: 16, 256: 32, 512: 64} {
		for _, name := range []string{"k", "rsa"} {
			r, err := e.dataKey(bg, call(), &api.DataKey{Kind: "plaintext", Name: name, Bits: bits})
			must(t, err)
			p, err := e.dec(name, r.Ciphertext)
			if err != nil || p != string(r.Plaintext) || len(p) != size || r.KeyVersion != 1 {
				t.Errorf("%s, %d bits: %+v %v", name, bits, r, err)
			}
			r, err = e.dataKey(bg, call(), &api.DataKey{Kind: "wrapped", Name: name, Bits: bits})
			must(t, err)
			p, err = e.dec(name, r.Ciphertext)
			if err != nil || len(p) != size || r.Plaintext != nil || p == string(make([]byte, size)) {
				t.Errorf("%s, %d bits, wrapped: %+v %v", name, bits, r, err)
			}
		}
	}
	for _, c := range []struct {
		r    api.DataKey
		want string
	}{
		{api.DataKey{Kind: "open", Name: "k"}, "'plaintext' or 'wrapped'"},
		{api.DataKey{Kind: "wrapped", Name: "k", Bits: 64}, "invalid bit length 64"},
		{api.DataKey{Kind: "wrapped", Name: "none"}, "encryption key not found"},
		{api.DataKey{Kind: "wrapped", Name: "k", KeyVersion: 2}, "higher than the latest"},
		{api.DataKey{Kind: "wrapped", Name: "rsa", AssociatedData: []byte("x")}, "associated_data"},
	} {
		_, err := e.dataKey(bg, call(), &c.r)
		wantFault(t, err, fault.Invalid, c.want)
	}
}

func TestRandom(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	size := func(r *api.RandomBytes, err error) int {
		t.Helper()
		must(t, err)
		b, err := base64.StdEncoding.DecodeString(r.RandomBytes)
		must(t, err)
		return len(b)
	}
	if n := size(e.random(bg, call(), &api.Random{})); n != 32 {
		t.Error(n)
	}
	if n := size(e.random(bg, call(), &api.Random{Bytes: 131072})); n != 131072 {
		t.Error(n)
	}
	if n := size(e.randomOne(bg, call(), &api.Random{Source: "7"})); n != 7 {
		t.Error(n)
	}
	if n := size(e.randomOne(bg, call(), &api.Random{Source: "all", Bytes: 9})); n != 9 {
		t.Error(n)
	}
	if n := size(e.randomBoth(bg, call(), &api.Random{Source: "seal", URLBytes: 5, Bytes: 9})); n != 5 {
		t.Error(n)
	}
	r, err := e.random(bg, call(), &api.Random{Bytes: 4, Format: "hex"})
	must(t, err)
	if len(unhex(t, r.RandomBytes)) != 4 {
		t.Error(r.RandomBytes)
	}
	_, err = e.random(bg, call(), &api.Random{Bytes: -1})
	wantFault(t, err, fault.Invalid, "from 1 to 131072")
	_, err = e.random(bg, call(), &api.Random{Bytes: 131073})
	wantFault(t, err, fault.Invalid, "from 1 to 131072")
	_, err = e.random(bg, call(), &api.Random{Format: "raw"})
	wantFault(t, err, fault.Invalid, "base64 or hex")
	for _, source := range []string{"0", "-3", "dice", ""} {
		_, err = e.randomOne(bg, call(), &api.Random{Source: source})
		wantFault(t, err, fault.Invalid, "")
	}
	_, err = e.randomBoth(bg, call(), &api.Random{Source: "all"})
	wantFault(t, err, fault.Invalid, "from 1 to 131072")
	_, err = e.randomBoth(bg, call(), &api.Random{Source: "dice", URLBytes: 1})
	wantFault(t, err, fault.Invalid, "entropy source")
}
