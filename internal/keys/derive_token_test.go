package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
)

func prfOf(t *testing.T, secret []byte) tokenExpander {
	t.Helper()
	k, err := soft.Engine{}.Open(token.HMAC, secret)
	must(t, err)
	return tokenExpander{k}
}

// PRK, info and OKM of RFC 5869 appendices A.1 and A.3, and one that Python's
// hmac made.
func TestExpandInToken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ prk, info, okm string }{
		{"077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5", "f0f1f2f3f4f5f6f7f8f9",
			"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
		{"19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04", "",
			"8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
		{counting, fmt.Sprintf("%x", "tenant-7"),
			"7e0dfe24a1d3de20c4a194ca993e55bbdffff555e8e7492d2719514927bf16772122c035e31b0f9d429081f14ff78e8dbe989dffceec667371d751e5c36b8458"},
	} {
		want := unhex(t, c.okm)
		for _, n := range []int{16, 32, len(want)} {
			okm, err := prfOf(t, unhex(t, c.prk)).expand(bg, [][]byte{unhex(t, c.info), []byte("other"), unhex(t, c.info)}, n)
			must(t, err)
			if !bytes.Equal(okm[0], want[:n]) || !bytes.Equal(okm[2], want[:n]) || bytes.Equal(okm[1], want[:n]) {
				t.Errorf("%d bytes: %x, want %x", n, okm, want[:n])
			}
		}
	}
}

const counting = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// The nonce and the Ed25519 values were computed with Python's hmac and OpenSSL.
func TestKnownDerivedInToken(t *testing.T) {
	t.Parallel()
	prf := prfOf(t, unhex(t, counting))
	message := []byte("attack at dawn")

	d := &deriver{expander: prf, engine: soft.Engine{}, typ: token.AES256, convergent: true}
	secrets, err := d.expand(bg, [][]byte{[]byte("tenant-7")}, d.size())
	must(t, err)
	k, nonceKey, err := d.open(secrets[0])
	must(t, err)
	nonce := make([]byte, 12)
	convergentNonce(nonce, nonceKey, message)
	if fmt.Sprintf("%x", nonce) != "32e52366bf7fccc3d0bd44dd" {
		t.Errorf("nonce %x", nonce)
	}
	block, err := aes.NewCipher(unhex(t, "7e0dfe24a1d3de20c4a194ca993e55bbdffff555e8e7492d2719514927bf1677"))
	must(t, err)
	gcm, err := cipher.NewGCM(block)
	must(t, err)
	items := []token.Item{{Nonce: nonce, In: message}}
	must(t, k.Do(bg, token.Op{Kind: token.Seal}, items))
	if want := gcm.Seal(nil, nonce, message, nil); !bytes.Equal(items[0].Out, want) {
		t.Errorf("%x, want %x", items[0].Out, want)
	}

	d = &deriver{expander: prf, typ: token.Ed25519}
	secrets, err = d.expand(bg, [][]byte{[]byte("tenant-7")}, d.size())
	must(t, err)
	k, _, err = d.open(secrets[0])
	must(t, err)
	items = []token.Item{{In: message}}
	must(t, k.Do(bg, token.Op{Kind: token.Sign}, items))
	checkText(t, items[0].Out, "UJp5j/LFe7MSGDuKbUQb/VdH0k7obv7C+KuoC3csn2Q56PgwghX4/lkpoLQuvc0lTrebspubbZhC5XEr4mOlBw==")
	checkText(t, k.(*derivedSigner).public(), "4pp31ANwmJkcxw5TxGfrSfQSJ/f+F2irGr/raJn+vXE=")
	if err := k.Do(bg, token.Op{Kind: token.Seal}, items); !errors.Is(err, token.ErrUnsupported) {
		t.Error(err)
	}
}

// What Vault would derive of the seed 00 01 02 …; computed with Python's hmac
// and OpenSSL.
func TestKnownDerivedSignature(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	pkcs8 := append(unhex(t, "302e020100300506032b657004220420"), unhex(t, counting)...)
	e.plantDerived("k", token.Ed25519, pkcs8, false)
	out, err := e.sign(bg, call(), &api.Sign{Name: "k", Input: []byte("attack at dawn"), Context: []byte("tenant-7")})
	must(t, err)
	if out.Signature != "vault:v1:7gab+jZjTcjRjfdMoeXf1Zbtm9AKfFZBEiZLjz+yi+jrGVEhwNIAT6g0VvH/eyyoKxvRTRVsg7jhcOoz3dESBQ==" {
		t.Error(out.Signature)
	}
	checkText(t, out.PublicKey, "vYMQfrIVzVQ+xKREWD5Kz1tTJLSiNMD/IMbFa4DNmj8=")
}

func checkText(t *testing.T, got []byte, want string) {
	t.Helper()
	if text := base64.StdEncoding.EncodeToString(got); text != want {
		t.Errorf("%s, want %s", text, want)
	}
}

// places are the protections that derived keys are tested with: on the embedded
// token and on an HSM.
var places = map[string]bool{"software": false, "wrapped": true, "token": true, "": true}

func TestDerivedEverywhere(t *testing.T) {
	t.Parallel()
	for place, onHSM := range places {
		for _, typ := range []string{"aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"} {
			for _, convergent := range []bool{false, true} {
				e := newEnv(t, onHSM)
				k := e.makeAs(api.CreateKey{Name: "k", Type: typ, Protection: place, Derived: true, ConvergentEncryption: convergent})
				if place == "" && k.Protection != "wrapped" || place != "" && k.Protection != place || k.KDF != "hkdf_sha256" || k.KeySize != 0 {
					t.Errorf("%q %s: %+v", place, typ, k)
				}
				e.useDerived(convergent)
			}
		}
	}
}

// useDerived walks the derived key k through all that AEAD keys do.
func (e *env) useDerived(convergent bool) {
	t := e.t
	t.Helper()
	a, b := []byte("a"), []byte("b")
	var in []api.EncryptItem
	for _, c := range [][]byte{a, b, a, a, b} {
		in = append(in, api.EncryptItem{Plaintext: []byte("x"), Context: c})
	}
	r, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", BatchInput: in})
	must(t, err)
	text := r.BatchResults[0].Ciphertext
	if same := text == r.BatchResults[2].Ciphertext; same != convergent || text == r.BatchResults[1].Ciphertext {
		t.Errorf("%+v", r)
	}
	h, err := e.hmac(bg, call(), &api.HMAC{Name: "k", Input: []byte("a\x01")})
	must(t, err)
	e.rotateNow("k")
	e.restart()
	h1, err := e.hmac(bg, call(), &api.HMAC{Name: "k", Input: []byte("a\x01"), KeyVersion: 1})
	must(t, err)
	if h.HMAC != h1.HMAC {
		t.Error("another HMAC after a restart")
	}
	w, err := e.rewrap(bg, call(), &api.Rewrap{Name: "k", BatchInput: []api.RewrapItem{
		{Ciphertext: text, Context: a}, {Ciphertext: r.BatchResults[1].Ciphertext, Context: b}, {Ciphertext: text, Context: b},
	}})
	must(t, err)
	if w.BatchResults[2].Error != msgOpen || !strings.HasPrefix(w.BatchResults[1].Ciphertext, "vault:v2:") {
		t.Errorf("%+v", w)
	}
	d, err := e.dataKey(bg, call(), &api.DataKey{Name: "k", Kind: "plaintext", Context: a})
	must(t, err)
	for ciphertext, want := range map[string]string{text: "x", w.BatchResults[0].Ciphertext: "x", d.Ciphertext: string(d.Plaintext)} {
		p, err := e.decrypt(bg, call(), &api.Decrypt{Name: "k", Ciphertext: ciphertext, Context: a})
		must(t, err)
		if string(*p.Plaintext) != want {
			t.Errorf("%q", *p.Plaintext)
		}
		_, err = e.decrypt(bg, call(), &api.Decrypt{Name: "k", Ciphertext: ciphertext, Context: b})
		wantFault(t, err, fault.Invalid, msgOpen)
	}
}

// The HMAC that callers may ask for must not be made with the secret that keys
// are derived from: it would give them away.
func TestHMACDoesNotDerive(t *testing.T) {
	t.Parallel()
	for place, onHSM := range places {
		e := newEnv(t, onHSM)
		e.makeAs(api.CreateKey{Name: "k", Derived: true, Protection: place})
		k, err := e.key(bg, keyName{"transit/", "k"})
		must(t, err)
		v, err := e.version(bg, k, 1)
		must(t, err)
		okm, err := v.derive.expand(bg, [][]byte{[]byte("a")}, prfSize)
		must(t, err)
		h, err := e.hmac(bg, call(), &api.HMAC{Name: "k", Input: []byte("a\x01")})
		must(t, err)
		if strings.HasSuffix(h.HMAC, base64.StdEncoding.EncodeToString(okm[0])) {
			t.Errorf("%q: the HMAC is the key of context a", place)
		}
		if v.main != nil {
			t.Error("a derived key has a main key")
		}
	}
}

// No secret of a derived key in an HSM is in the store or in this process.
func TestDerivedStaysInToken(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	for name, typ := range map[string]string{"aes": "", "ed": "ed25519"} {
		e.makeAs(api.CreateKey{Name: name, Type: typ, Derived: true})
		var r versionRecord
		_, err := e.sealed.Get(bg, tableVersions, keyName{"transit/", name}.version(1), &r)
		must(t, err)
		if r.Main.Type != token.HMAC || r.Main.Size != prfSize || r.Main.Place != "wrapped" || r.Main.Secret != nil || r.MAC.ID == r.Main.ID {
			t.Errorf("%+v", r)
		}
	}
}

// One call of the HSM token serves a whole batch, however many contexts it has.
func TestDerivedBatchCost(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.makeAs(api.CreateKey{Name: "k", Derived: true, ConvergentEncryption: true})
	var in []api.EncryptItem
	for i := range 50 {
		in = append(in, api.EncryptItem{Plaintext: []byte("x"), Context: fmt.Append(nil, i)})
	}
	before := e.hsm.uses.Load()
	_, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", BatchInput: in})
	must(t, err)
	if calls := e.hsm.uses.Load() - before; calls != 2 {
		t.Errorf("%d calls, want one for each half of the derived bytes", calls)
	}
}

func TestDerivedTokenFails(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.makeAs(api.CreateKey{Name: "k", Derived: true})
	e.makeAs(api.CreateKey{Name: "ed", Derived: true, Type: "ed25519"})
	e.hsm.use = func() error { return token.ErrUnavailable }
	_, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", BatchInput: []api.EncryptItem{{Plaintext: []byte("x"), Context: []byte("a")}}})
	wantFault(t, err, fault.Unavailable, "the HSM token does not answer")
	_, err = e.readKey(bg, call(), &api.ReadKey{Name: "ed", Context: []byte("a")})
	wantFault(t, err, fault.Unavailable, "the HSM token does not answer")
	e.hsm.use = func() error { return token.ErrBlob }
	r, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", BatchInput: []api.EncryptItem{{Plaintext: []byte("x"), Context: []byte("a")}}})
	must(t, err)
	if r.Status != 500 || !strings.Contains(r.BatchResults[0].Error, "secret of this key version is gone") {
		t.Errorf("%+v", r)
	}
}

// An HSM without HMAC keys derives nothing, and software is not chosen for it.
func TestDerivedNeedsHMAC(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.hsm.info.Holds = maps.Clone(e.hsm.info.Holds)
	delete(e.hsm.info.Holds, token.HMAC)
	for _, place := range []string{"", "token", "wrapped"} {
		_, err := e.createKey(bg, call(), &api.CreateKey{Name: "k", Derived: true, Protection: place})
		wantFault(t, err, fault.Invalid, "can't hold keys of type hmac")
		wantFault(t, err, fault.Invalid, "from which the keys of requests are derived")
		wantFault(t, err, fault.Invalid, "protection=software")
	}
	e.makeAs(api.CreateKey{Name: "k", Derived: true, Protection: "software"})
	e.encAs(api.Encrypt{Name: "k", Plaintext: []byte("x"), Context: []byte("c")})
}

func TestDerivedSign(t *testing.T) {
	t.Parallel()
	for place, onHSM := range places {
		e := newEnv(t, onHSM)
		k := e.makeAs(api.CreateKey{Name: "k", Type: "ed25519", Derived: true, Protection: place})
		if !k.Derived || !k.SupportsDerivation || !k.SupportsSigning || shownKey(t, k, "1").PublicKey != "" || shownKey(t, k, "1").Name != "ed25519" {
			t.Errorf("%q: %+v", place, k)
		}
		var r versionRecord
		_, err := e.sealed.Get(bg, tableVersions, keyName{"transit/", "k"}.version(1), &r)
		must(t, err)
		if r.Main.Public != nil {
			t.Errorf("%q: a public key of the whole version is kept", place)
		}
		message, a, b := []byte("m"), []byte("a"), []byte("b")
		e.rotateNow("k")
		e.restart()
		out, err := e.sign(bg, call(), &api.Sign{Name: "k", BatchInput: []api.InputItem{
			{Input: message, Context: a, Reference: "r"}, {Input: message}, {Input: message, Context: b}, {Context: a},
		}})
		must(t, err)
		rs := out.BatchResults
		if rs[1].Error != msgNoContext || rs[3].Error != "missing input" || rs[0].Reference != "r" || rs[0].KeyVersion != 2 {
			t.Errorf("%+v", rs)
		}
		for i, c := range map[int][]byte{0: a, 2: b} {
			k, err := e.readKey(bg, call(), &api.ReadKey{Name: "k", Context: c})
			must(t, err)
			if text := base64.StdEncoding.EncodeToString(rs[i].PublicKey); text != shownKey(t, k, "2").PublicKey || text == shownKey(t, k, "1").PublicKey {
				t.Errorf("%q: %s, %+v", place, text, k)
			}
			sig, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(rs[i].Signature, "vault:v2:"))
			must(t, err)
			if !ed25519.Verify(rs[i].PublicKey, message, sig) {
				t.Errorf("%q: signature of context %s is wrong", place, c)
			}
		}
		one, err := e.sign(bg, call(), &api.Sign{Name: "k", Input: message, Context: a, KeyVersion: 1})
		must(t, err)
		e.checkVerified(message, one.Signature, a, true)
		e.checkVerified(message, one.Signature, b, false)
		e.checkVerified(message, rs[0].Signature, a, true)
		_, err = e.verify(bg, call(), &api.Verify{Name: "k", Input: message, Signature: one.Signature})
		wantFault(t, err, fault.Invalid, msgNoContext)
		_, err = e.sign(bg, call(), &api.Sign{Name: "k", Input: message})
		wantFault(t, err, fault.Invalid, msgNoContext)
		_, err = e.exportKey(bg, call(), &api.ExportKey{Kind: "public-key", Name: "k"})
		wantFault(t, err, fault.Invalid, "another public key for each context")
		_, err = e.signCSR(bg, call(), &api.SignCSR{Name: "k"})
		wantFault(t, err, fault.Invalid, "another public key for each context")
		_, err = e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: message, Context: a})
		wantFault(t, err, fault.Invalid, "message encryption not supported for key type ed25519")
	}
}

func (e *env) checkVerified(message []byte, signature string, keyContext []byte, want bool) {
	e.t.Helper()
	v, err := e.verify(bg, call(), &api.Verify{Name: "k", Input: message, Signature: signature, Context: keyContext})
	must(e.t, err)
	if *v.Valid != want {
		e.t.Errorf("valid is %t", *v.Valid)
	}
}

func shownKey(t *testing.T, k *api.Key, version string) (v api.KeyVersion) {
	t.Helper()
	must(t, json.Unmarshal(k.Keys[version], &v))
	return v
}

// A backup of a wrapped derived key restores to the same keys of requests.
func TestDerivedBackup(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.makeAs(api.CreateKey{Name: "k", Derived: true, ConvergentEncryption: true})
	text := e.encAs(api.Encrypt{Name: "k", Plaintext: []byte("x"), Context: []byte("c")})
	b, err := e.backupKey(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	_, err = e.restoreKey(bg, call(), &api.Restore{Name: "copy", Backup: b.Backup})
	must(t, err)
	if again := e.encAs(api.Encrypt{Name: "copy", Plaintext: []byte("x"), Context: []byte("c")}); again != text {
		t.Errorf("%s, want %s", again, text)
	}
}
