package keys

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/token"
)

// plant puts a software key with a known secret into the store.
func (e *env) plant(name string, t token.Type, secret, public []byte) {
	e.t.Helper()
	n := keyName{"transit/", name}
	meta := keyRecord{Format: recordFormat, ID: "planted-" + name, Type: t, Protection: api.ProtectionSoftware, Latest: 1, MinDecryption: 1}
	r := versionRecord{Format: recordFormat, KeyID: meta.ID, Number: 1, Main: secretRecord{Type: t, Place: api.ProtectionSoftware, Secret: secret, Public: public}}
	a, err := e.sealed.Put(tableKeys, n.record(), 0, meta)
	must(e.t, err)
	b, err := e.sealed.Put(tableVersions, n.version(1), 0, r)
	must(e.t, err)
	must(e.t, e.sealed.Apply(bg, a, b))
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	must(t, err)
	return b
}

func pkix(t testing.TB, pub any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	must(t, err)
	return der
}

const sunscreen = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."

// Published vectors, so that the text forms are those of every other
// implementation: McGrew and Viega (GCM test cases 2 and 14), RFC 8439 section
// 2.8.2, draft-irtf-cfrg-xchacha-03 appendix A.3.1.
func TestKnownCiphertexts(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	zero := "00000000000000000000000000000000"
	for _, c := range []struct {
		typ                          token.Type
		key, nonce, sealed, aad, raw string
	}{
		{token.AES128, zero, "000000000000000000000000", "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf", "", string(make([]byte, 16))},
		{token.AES256, zero + zero, "000000000000000000000000", "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919", "", string(make([]byte, 16))},
		{token.AES256, zero + zero, "000000000000000000000000", "530f8afbc74536b9a963b4f1c4cb738b", "", ""},
		{token.ChaCha20, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "070000004041424344454647",
			"d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
			"50515253c0c1c2c3c4c5c6c7", sunscreen},
		{token.XChaCha20, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "404142434445464748494a4b4c4d4e4f5051525354555657",
			"bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49",
			"50515253c0c1c2c3c4c5c6c7", sunscreen},
	} {
		name := c.typ.String() + hex.EncodeToString([]byte{byte(len(c.raw))})
		e.plant(name, c.typ, unhex(t, c.key), nil)
		text := "vault:v1:" + base64.StdEncoding.EncodeToString(unhex(t, c.nonce+c.sealed))
		r, err := e.decrypt(bg, call(), &api.Decrypt{Name: name, Ciphertext: text, AssociatedData: unhex(t, c.aad)})
		must(t, err)
		if string(*r.Plaintext) != c.raw || *r.Plaintext == nil {
			t.Errorf("%s: %q", name, *r.Plaintext)
		}
	}
}

func TestKnownHMAC(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	key := make([]byte, 131) // RFC 4231 section 4.7
	for i := range key {
		key[i] = 0xaa
	}
	e.plant("k", token.HMAC, key, nil)
	input := []byte("Test Using Larger Than Block-Size Key - Hash Key First")
	for alg, want := range map[string]string{
		"sha2-224": "95e9a0db962095adaebe9b2d6f0dbce2d499f112f2d2b7273fa6870e",
		"":         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
		"sha2-512": "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
	} {
		r, err := e.hmac(bg, call(), &api.HMAC{Name: "k", Input: input, Algorithm: alg})
		must(t, err)
		if want := "vault:v1:" + base64.StdEncoding.EncodeToString(unhex(t, want)); r.HMAC != want {
			t.Errorf("%s: %s", alg, r.HMAC)
		}
	}
}

func TestKnownSignatures(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	// RFC 8032 section 7.1, test 2.
	seed := unhex(t, "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
	priv := ed25519.NewKeyFromSeed(seed)
	secret, err := x509.MarshalPKCS8PrivateKey(priv)
	must(t, err)
	e.plant("ed", token.Ed25519, secret, pkix(t, priv.Public()))
	want := "vault:v1:" + base64.StdEncoding.EncodeToString(unhex(t, "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"))
	r, err := e.sign(bg, call(), &api.Sign{Name: "ed", Input: []byte{0x72}})
	must(t, err)
	if r.Signature != want {
		t.Errorf("ed25519: %s", r.Signature)
	}
	k, err := e.readKey(bg, call(), &api.ReadKey{Name: "ed"})
	must(t, err)
	if got := base64.StdEncoding.EncodeToString(priv.Public().(ed25519.PublicKey)); !strings.Contains(string(k.Keys["1"]), got) {
		t.Errorf("public key %s not in %s", got, k.Keys["1"])
	}

	// RFC 6979 appendix A.2.5, P-256 with SHA-256, "sample".
	ec, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), unhex(t, "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"))
	must(t, err)
	secret, err = x509.MarshalPKCS8PrivateKey(ec)
	must(t, err)
	e.plant("ec", token.P256, secret, pkix(t, ec.Public()))
	rs := unhex(t, "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8")
	der, err := ecdsaDER(rs)
	must(t, err)
	for m, text := range map[string]string{
		"jws":  "vault:v1:" + base64.RawURLEncoding.EncodeToString(rs),
		"asn1": "vault:v1:" + base64.StdEncoding.EncodeToString(der),
	} {
		v, err := e.verify(bg, call(), &api.Verify{Name: "ec", Input: []byte("sample"), MarshalingAlgorithm: m, Signature: text})
		must(t, err)
		if !*v.Valid {
			t.Errorf("%s: not valid", m)
		}
	}
}

// RSA ciphertexts of another implementation open, and ours open there.
func TestRSAForeign(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	priv, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(priv)
	must(t, err)
	e.plant("rsa", token.RSA2048, secret, pkix(t, priv.Public()))
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &priv.PublicKey, []byte("foreign"), nil)
	must(t, err)
	if p, err := e.dec("rsa", "vault:v1:"+base64.StdEncoding.EncodeToString(sealed)); err != nil || p != "foreign" {
		t.Errorf("%q %v", p, err)
	}
	_, payload, err := parseText(e.enc("rsa", "ours"), "ciphertext")
	must(t, err)
	raw, ok := decodeBase64(strictBase64, nil, payload)
	p, err := rsa.DecryptOAEP(sha256.New(), nil, priv, raw, nil)
	if !ok || err != nil || string(p) != "ours" {
		t.Errorf("%q %v", p, err)
	}
}
