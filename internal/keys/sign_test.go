package keys

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

func (e *env) sig(r api.Sign) string {
	e.t.Helper()
	s, err := e.sign(bg, call(), &r)
	must(e.t, err)
	return s.Signature
}

func (e *env) valid(r api.Verify) bool {
	e.t.Helper()
	v, err := e.verify(bg, call(), &r)
	must(e.t, err)
	return *v.Valid
}

func TestSignEveryForm(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	msg := []byte("message")
	for _, typ := range []token.Type{token.Ed25519, token.P256, token.P384, token.P521, token.RSA2048} {
		name := typ.String()
		e.make(name, name)
		for hash := range hashes {
			for _, sigalg := range []string{"", "pss", "pkcs1v15"} {
				for _, marshaling := range []string{"", "asn1", "jws"} {
					if hash == "none" || typ != token.RSA2048 && sigalg == "pss" {
						continue
					}
					what := fmt.Sprint(name, " ", hash, " ", sigalg, " ", marshaling)
					s := api.Sign{Name: name, Input: msg, URLHash: hash, SignatureAlgorithm: sigalg, MarshalingAlgorithm: marshaling, HashAlgorithm: "nonsense"}
					v := api.Verify{Name: name, Input: msg, HashAlgorithm: hash, SignatureAlgorithm: sigalg, MarshalingAlgorithm: marshaling}
					v.Signature = e.sig(s)
					if !e.valid(v) {
						t.Errorf("%s: not valid", what)
					}
					v.Input = []byte("another")
					if e.valid(v) {
						t.Errorf("%s: valid for another message", what)
					}
					if typ == token.Ed25519 {
						continue
					}
					// The same by its digest.
					v.Input, v.Prehashed = digest(hashes[hash], msg), true
					s.Input, s.Prehashed = v.Input, true
					if !e.valid(v) {
						t.Errorf("%s: not valid by its digest", what)
					}
					v.Signature = e.sig(s)
					v.Input, v.Prehashed = msg, false
					if !e.valid(v) {
						t.Errorf("%s: signature of the digest not valid", what)
					}
				}
			}
		}
	}
}

func (e *env) rsaPublic(name string) *rsa.PublicKey {
	e.t.Helper()
	k, err := e.readKey(bg, call(), &api.ReadKey{Name: name})
	must(e.t, err)
	var v api.KeyVersion
	must(e.t, json.Unmarshal(k.Keys["1"], &v))
	block, _ := pem.Decode([]byte(v.PublicKey))
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	must(e.t, err)
	return pub.(*rsa.PublicKey)
}

func TestRSAForms(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "rsa-2048")
	pub := e.rsaPublic("k")
	msg := []byte("message")
	sum := digest(crypto.SHA256, msg)
	raw := func(text string) []byte {
		b, ok := decodeBase64(strictBase64, nil, strings.TrimPrefix(text, "vault:v1:"))
		if !ok {
			t.Fatal(text)
		}
		return b
	}
	for length, want := range map[string]int{"": 222, "auto": 222, "0": 222, "hash": 32, "-1": 32, "20": 20, "222": 222} {
		s := raw(e.sig(api.Sign{Name: "k", Input: msg, SaltLength: strings.ToUpper(length)}))
		if err := rsa.VerifyPSS(pub, crypto.SHA256, sum, s, &rsa.PSSOptions{SaltLength: want}); err != nil {
			t.Errorf("salt_length %q: %v", length, err)
		}
	}
	// Without a salt PSS has nothing random.
	bare := e.sig(api.Sign{Name: "k", Input: msg, SaltLength: "none"})
	if bare != e.sig(api.Sign{Name: "k", Input: msg, SaltLength: "none"}) || !e.valid(api.Verify{Name: "k", Input: msg, Signature: bare}) {
		t.Error("salt_length none")
	}
	_, err := e.verify(bg, call(), &api.Verify{Name: "k", Input: msg, Signature: bare, SaltLength: "none"})
	wantFault(t, err, fault.Invalid, "is for signing")
	s := e.sig(api.Sign{Name: "k", Input: msg, SaltLength: "20"})
	for length, want := range map[string]bool{"": true, "auto": true, "20": true, "hash": false, "21": false} {
		if got := e.valid(api.Verify{Name: "k", Input: msg, Signature: s, SaltLength: length}); got != want {
			t.Errorf("verify with salt_length %q: %v", length, got)
		}
	}
	must(t, rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum, raw(e.sig(api.Sign{Name: "k", Input: msg, SignatureAlgorithm: "pkcs1v15"}))))
	none := api.Sign{Name: "k", Input: []byte("any bytes"), HashAlgorithm: "none", Prehashed: true, SignatureAlgorithm: "pkcs1v15"}
	text := e.sig(none)
	must(t, rsa.VerifyPKCS1v15(pub, 0, none.Input, raw(text)))
	if !e.valid(api.Verify{Name: "k", Input: none.Input, Signature: text, Algorithm: "none", Prehashed: true, SignatureAlgorithm: "pkcs1v15"}) {
		t.Error("none: not valid")
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	for _, typ := range []string{"rsa-2048", "ecdsa-p256", "ed25519", "aes256-gcm96", "hmac"} {
		e.make(typ, typ)
	}
	in := []byte("x")
	for _, c := range []struct {
		r    api.Sign
		want string
	}{
		{api.Sign{Name: "none", Input: in}, "signing key not found"},
		{api.Sign{Name: "aes256-gcm96", Input: in}, "key type aes256-gcm96 does not support signing"},
		{api.Sign{Name: "hmac", Input: in}, "key type hmac does not support signing"},
		{api.Sign{Name: "ecdsa-p256"}, "missing input"},
		{api.Sign{Name: "ecdsa-p256", Input: in, HashAlgorithm: "md5"}, "unsupported hash algorithm"},
		{api.Sign{Name: "ecdsa-p256", Input: in, Prehashed: true}, "it has 32 bytes"},
		{api.Sign{Name: "ecdsa-p256", Input: in, MarshalingAlgorithm: "xml"}, "asn1 or jws"},
		{api.Sign{Name: "ecdsa-p256", Input: in, KeyVersion: 2}, "requested version for signing is higher"},
		{api.Sign{Name: "ecdsa-p256", Input: in, HashAlgorithm: "none"}, "hash_algorithm=none requires both"},
		{api.Sign{Name: "ecdsa-p256", Input: in, HashAlgorithm: "none", Prehashed: true, SignatureAlgorithm: "pkcs1v15"}, "for RSA keys only"},
		{api.Sign{Name: "ecdsa-p256", BatchInput: []api.InputItem{}}, "missing batch input"},
		{api.Sign{Name: "rsa-2048", Input: in, SignatureAlgorithm: "dsa"}, "pss or pkcs1v15"},
		{api.Sign{Name: "rsa-2048", Input: in, SaltLength: "223"}, "at most 222"},
		{api.Sign{Name: "rsa-2048", Input: in, SaltLength: "-2"}, "salt_length"},
		{api.Sign{Name: "rsa-2048", Input: in, SaltLength: "long"}, "salt_length"},
		{api.Sign{Name: "rsa-2048", Input: make([]byte, 246), HashAlgorithm: "none", Prehashed: true, SignatureAlgorithm: "pkcs1v15"}, "at most 245"},
	} {
		_, err := e.sign(bg, call(), &c.r)
		wantFault(t, err, fault.Invalid, c.want)
	}
	// Ed25519 hashes on its own: prehashed makes no difference.
	if !e.valid(api.Verify{Name: "ed25519", Input: in, Signature: e.sig(api.Sign{Name: "ed25519", Input: in, Prehashed: true})}) {
		t.Error("ed25519 with prehashed")
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	for _, typ := range []string{"rsa-2048", "ecdsa-p256", "ed25519", "hmac"} {
		e.make(typ, typ)
	}
	in := []byte("x")
	good := e.sig(api.Sign{Name: "ecdsa-p256", Input: in})
	_, payload, _ := parseText(good, "signature")
	der, _ := base64.StdEncoding.DecodeString(payload)
	text := func(b []byte) string { return "vault:v1:" + base64.StdEncoding.EncodeToString(b) }
	mac := "vault:v1:AAAA"
	for _, c := range []struct {
		r    api.Verify
		want string
	}{
		{api.Verify{Name: "none", Signature: good}, "signature verification key not found"},
		{api.Verify{Name: "none", HMAC: mac}, "encryption key not found"},
		{api.Verify{Name: "hmac", Signature: good}, "key type hmac does not support verification"},
		{api.Verify{Name: "ecdsa-p256"}, "neither"},
		{api.Verify{Name: "ecdsa-p256", Signature: good, HMAC: mac}, "not both"},
		{api.Verify{Name: "ecdsa-p256", Signature: "x"}, "invalid signature: no prefix"},
		{api.Verify{Name: "ecdsa-p256", Signature: strings.Replace(good, "v1", "v2", 1)}, "invalid signature: version is too new"},
		{api.Verify{Name: "ecdsa-p256", Signature: good}, "missing input"},
		{api.Verify{Name: "ecdsa-p256", Input: in, Signature: good + "!"}, "invalid base64"},
		{api.Verify{Name: "ecdsa-p256", Input: in, Signature: "vault:v1:+" + payload, MarshalingAlgorithm: "jws"}, "invalid base64"},
		{api.Verify{Name: "ecdsa-p256", Input: in, Signature: text(append(der, 0))}, "ASN.1 DER"},
		{api.Verify{Name: "ecdsa-p256", Input: in, Signature: text(der[:len(der)-1])}, "ASN.1 DER"},
		{api.Verify{Name: "ecdsa-p256", Input: in, Signature: "vault:v1:" + base64.RawURLEncoding.EncodeToString(der[:63]), MarshalingAlgorithm: "jws"}, "jws signature"},
		{api.Verify{Name: "ecdsa-p256", HMAC: "x", Input: in}, "invalid HMAC: no prefix"},
		{api.Verify{Name: "ecdsa-p256", HMAC: "vault:v2:AAAA", Input: in}, "invalid HMAC: version is too new"},
		{api.Verify{Name: "ecdsa-p256", HMAC: "vault:v1:A", Input: in}, "could not decode base64"},
		{api.Verify{Name: "ecdsa-p256", HMAC: mac}, "missing input for HMAC"},
		{api.Verify{Name: "ecdsa-p256", HMAC: mac, Input: in, Algorithm: "none"}, "none"},
		{api.Verify{Name: "ecdsa-p256", BatchInput: []api.VerifyItem{}}, "missing batch input"},
		{api.Verify{Name: "ecdsa-p256", BatchInput: []api.VerifyItem{{Signature: good}, {HMAC: mac}}}, "all elements"},
	} {
		_, err := e.verify(bg, call(), &c.r)
		wantFault(t, err, fault.Invalid, c.want)
	}
	for _, v := range []api.Verify{
		{Name: "ed25519", Input: in, Signature: mac}, {Name: "rsa-2048", Input: in, Signature: mac},
		{Name: "ecdsa-p256", Input: in, HMAC: mac}, {Name: "hmac", Input: in, HMAC: mac},
	} {
		if e.valid(v) {
			t.Errorf("%+v is valid", v)
		}
	}
}

func TestSignBatch(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "ecdsa-p256")
	e.rotateNow("k")
	r, err := e.sign(bg, call(), &api.Sign{Name: "k", KeyVersion: 1, BatchInput: []api.InputItem{{Input: []byte("a"), Reference: "A"}, {Reference: "B"}, {Input: []byte("c")}}})
	must(t, err)
	if r.BatchResults[0].Reference != "A" || r.BatchResults[1].Error != "missing input" || r.BatchResults[1].Reference != "B" || r.BatchResults[2].KeyVersion != 1 {
		t.Fatalf("%+v", r)
	}
	v, err := e.verify(bg, call(), &api.Verify{Name: "k", BatchInput: []api.VerifyItem{
		{Input: []byte("a"), Signature: r.BatchResults[0].Signature, Reference: "A"},
		{Input: []byte("a"), Signature: r.BatchResults[2].Signature},
		{Input: []byte("c"), Signature: "vault:v1:!"},
	}})
	must(t, err)
	if got := v.BatchResults; !got[0].Valid || got[0].Reference != "A" || got[1].Valid || got[1].Error != "" || got[2].Valid || got[2].Error == "" {
		t.Fatalf("%+v", got)
	}
}

func TestHMAC(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	for _, typ := range []string{"hmac", "aes256-gcm96", "ed25519"} {
		e.make(typ, typ)
		first, err := e.hmac(bg, call(), &api.HMAC{Name: typ, Input: []byte("m")})
		must(t, err)
		e.rotateNow(typ)
		second, err := e.hmac(bg, call(), &api.HMAC{Name: typ, Input: []byte("m"), URLAlgorithm: "sha3-512", Algorithm: "sha2-256"})
		must(t, err)
		if !strings.HasPrefix(second.HMAC, "vault:v2:") || len(second.HMAC) != textLen("vault:v2:", 64) {
			t.Error(second.HMAC)
		}
		if !e.valid(api.Verify{Name: typ, Input: []byte("m"), HMAC: first.HMAC}) || !e.valid(api.Verify{Name: typ, Input: []byte("m"), HMAC: second.HMAC, URLHash: "sha3-512"}) {
			t.Errorf("%s: not valid", typ)
		}
		if e.valid(api.Verify{Name: typ, Input: []byte("n"), HMAC: first.HMAC}) || e.valid(api.Verify{Name: typ, Input: []byte("m"), HMAC: second.HMAC}) {
			t.Errorf("%s: valid", typ)
		}
		batch, err := e.hmac(bg, call(), &api.HMAC{Name: typ, KeyVersion: 1, BatchInput: []api.InputItem{{Input: []byte("m"), Reference: "r"}, {}}})
		must(t, err)
		if batch.BatchResults[0].HMAC != first.HMAC || batch.BatchResults[0].Reference != "r" || batch.BatchResults[1].Error != "missing input for HMAC" {
			t.Errorf("%+v", batch)
		}
		v, err := e.verify(bg, call(), &api.Verify{Name: typ, BatchInput: []api.VerifyItem{{Input: []byte("m"), HMAC: first.HMAC}, {Input: []byte("m"), HMAC: "vault:v1:AA"}, {Input: []byte("n"), HMAC: first.HMAC, Reference: "r"}}})
		must(t, err)
		if got := v.BatchResults; !got[0].Valid || got[1].Error == "" || got[2].Valid || got[2].Error != "" || got[2].Reference != "r" {
			t.Errorf("%+v", got)
		}
		e.configure(typ, api.ConfigKey{MinDecryptionVersion: ptr(2)})
		_, err = e.verify(bg, call(), &api.Verify{Name: typ, Input: []byte("m"), HMAC: first.HMAC})
		wantFault(t, err, fault.Invalid, "(too old)")
		_, err = e.hmac(bg, call(), &api.HMAC{Name: typ, Input: []byte("m"), KeyVersion: 1})
		wantFault(t, err, fault.Invalid, "requested version for HMAC is less")
	}
	_, err := e.hmac(bg, call(), &api.HMAC{Name: "none", Input: []byte("m")})
	wantFault(t, err, fault.Invalid, "encryption key not found")
	_, err = e.hmac(bg, call(), &api.HMAC{Name: "hmac"})
	wantFault(t, err, fault.Invalid, "missing input for HMAC")
	_, err = e.hmac(bg, call(), &api.HMAC{Name: "hmac", Input: []byte("m"), Algorithm: "none"})
	wantFault(t, err, fault.Invalid, `unsupported algorithm "none"`)
}

// An HSM that holds no HMAC keys still makes keys; only HMAC is refused.
func TestNoHMACInToken(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	delete(e.hsm.info.Holds, token.HMAC)
	e.make("k", "ecdsa-p256")
	_, err := e.hmac(bg, call(), &api.HMAC{Name: "k", Input: []byte("m")})
	wantFault(t, err, fault.Invalid, "has no HMAC secret")
	e.sig(api.Sign{Name: "k", Input: []byte("m")})
}

// Who names the key by its id gets no signature of another that has its name now.
func TestSignWithKeyID(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.makeAs(api.CreateKey{Name: "k", Type: "ecdsa-p256"})
	k, err := e.find(bg, "transit/", "k", "")
	must(t, err)
	for id, ok := range map[string]bool{"": true, k.meta.ID: true, "another": false} {
		_, err := e.sign(bg, call(), &api.Sign{Name: "k", KeyID: id, Input: []byte("x")})
		if (err == nil) != ok {
			t.Errorf("key_id %q: %v", id, err)
		}
	}
}
