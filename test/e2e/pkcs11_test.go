package e2e

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

// p11 is a caller of a server whose keys are in SoftHSM2.
type p11 struct {
	*client.Client
	t *testing.T
}

func p11As(t *testing.T, s *harness.Server, token string) p11 {
	t.Helper()
	c, err := client.New(client.Config{Address: s.Addr, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return p11{c, t}
}

func (p p11) create(r api.P11Create) *api.P11Key {
	p.t.Helper()
	k, err := p.CreateP11Key(p.t.Context(), r)
	if err != nil {
		p.t.Fatal(err)
	}
	return k
}

func (p p11) names(r api.P11Find) string {
	p.t.Helper()
	found, err := p.FindP11(p.t.Context(), r)
	if err != nil {
		p.t.Fatal(err)
	}
	var names []string
	for _, k := range found.Keys {
		names = append(names, fmt.Sprint(k.Name, k.May))
	}
	for _, o := range found.Objects {
		names = append(names, o.ID[:4])
	}
	return strings.Join(names, " ")
}

// signature returns the bare signature of a request.
func (p p11) signature(r api.Sign) []byte {
	p.t.Helper()
	s, err := p.Sign(p.t.Context(), r)
	if err != nil {
		p.t.Fatalf("%+v: %v", r, err)
	}
	enc := base64.StdEncoding
	if r.MarshalingAlgorithm == "jws" {
		enc = base64.RawURLEncoding
	}
	raw, err := enc.DecodeString(s.Signature[strings.LastIndexByte(s.Signature, ':')+1:])
	if err != nil {
		p.t.Fatal(err)
	}
	return raw
}

func publicOf[P any](t *testing.T, k *api.P11Key) P {
	t.Helper()
	parsed, err := x509.ParsePKIXPublicKey(k.Versions[0].Public)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.(P)
}

// A server with keys in SoftHSM2 does what PKCS#11 asks for, for keys that are
// objects of the token and for wrapped ones.
func TestPKCS11Operations(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	p := p11As(t, s, s.RootToken)
	for _, protection := range []api.Protection{api.ProtectionToken, api.ProtectionWrapped} {
		t.Run(protection, func(t *testing.T) {
			p := p11{p.Client, t}
			p.signsRSA(protection)
			p.signsECDSA(protection)
			p.authenticates(protection)
			p.encrypts(protection)
			p.agrees(protection)
		})
	}
}

func (p p11) signsRSA(protection api.Protection) {
	p.t.Helper()
	name := "rsa-" + protection
	public := publicOf[*rsa.PublicKey](p.t, p.create(api.P11Create{Name: name, Type: "rsa-2048", Protection: protection}))
	// CKM_RSA_PKCS as TLS 1.0 uses it, and with whatever a program puts there.
	one, two := md5.Sum([]byte("m")), sha1.Sum([]byte("m"))
	for _, in := range [][]byte{append(one[:], two[:]...), []byte("x"), bytes.Repeat([]byte("y"), 245)} {
		sig := p.signature(api.Sign{Name: name, Input: in, Prehashed: true, HashAlgorithm: "none", SignatureAlgorithm: "pkcs1v15"})
		if err := rsa.VerifyPKCS1v15(public, 0, in, sig); err != nil {
			p.t.Error(err)
		}
	}
	for name2, hash := range map[string]crypto.Hash{"sha1": crypto.SHA1, "sha2-224": crypto.SHA224, "sha2-256": crypto.SHA256, "sha2-384": crypto.SHA384, "sha2-512": crypto.SHA512} {
		digest := make([]byte, hash.Size())
		for salt, n := range map[string]int{"none": 0, "1": 1, "hash": hash.Size(), "auto": 256 - 2 - hash.Size()} {
			sig := p.signature(api.Sign{Name: name, Input: digest, Prehashed: true, HashAlgorithm: name2, SignatureAlgorithm: "pss", SaltLength: salt})
			if err := rsa.VerifyPSS(public, hash, digest, sig, &rsa.PSSOptions{SaltLength: n}); err != nil {
				p.t.Errorf("%s, salt %s: %v", name2, salt, err)
			}
		}
	}
	p.decrypts(api.P11Cipher{Name: name, Scheme: "rsa-pkcs1v15"}, tokentest.EncryptPKCS1v15(p.t, public, []byte("secret")), nil)
	in, err := rsa.EncryptOAEP(sha512.New384(), rand.Reader, public, []byte("secret"), []byte("label"))
	p.decrypts(api.P11Cipher{Name: name, Scheme: "rsa-oaep", Hash: "sha2-384", Label: []byte("label")}, in, err)
	in, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, public, []byte("secret"), nil)
	p.decrypts(api.P11Cipher{Name: name, Scheme: "rsa-oaep", Hash: "sha1"}, in, err)
}

func (p p11) decrypts(r api.P11Cipher, in []byte, err error) {
	p.t.Helper()
	if err == nil {
		r.Input = in
		in, err = p.DecryptP11(p.t.Context(), r)
	}
	if err != nil || string(in) != "secret" {
		p.t.Errorf("%s: %q, %v", r.Scheme, in, err)
	}
}

func (p p11) signsECDSA(protection api.Protection) {
	p.t.Helper()
	for _, typ := range []string{"ecdsa-p256", "ecdsa-p384", "ecdsa-p521"} {
		name := typ + "-" + protection
		public := publicOf[*ecdsa.PublicKey](p.t, p.create(api.P11Create{Name: name, Type: typ, Protection: protection}))
		for hash, n := range map[string]int{"sha1": 20, "sha2-224": 28, "sha2-256": 32, "sha2-384": 48, "sha2-512": 64} {
			digest := bytes.Repeat([]byte{0xA5}, n)
			sig := p.signature(api.Sign{Name: name, Input: digest, Prehashed: true, HashAlgorithm: hash, MarshalingAlgorithm: "jws"})
			r, s := new(big.Int).SetBytes(sig[:len(sig)/2]), new(big.Int).SetBytes(sig[len(sig)/2:])
			if !ecdsa.Verify(public, digest, r, s) {
				p.t.Errorf("%s: a wrong signature of %s", typ, hash)
			}
		}
	}
}

func (p p11) authenticates(protection api.Protection) {
	p.t.Helper()
	name := "hmac-" + protection
	p.create(api.P11Create{Name: name, Type: "hmac", KeySize: 64, Protection: protection})
	for hash, size := range map[string]int{"sha1": 20, "sha2-224": 28, "sha2-256": 32, "sha2-384": 48, "sha2-512": 64} {
		for _, in := range []string{"", "message"} {
			code, err := p.HMAC(p.t.Context(), api.HMAC{Name: name, Algorithm: hash, Input: []byte(in)})
			if err != nil {
				p.t.Fatal(err)
			}
			raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(code.HMAC, "vault:v1:"))
			if err != nil || len(raw) != size {
				p.t.Errorf("%s: %d bytes, %v", hash, len(raw), err)
			}
		}
	}
}

func (p p11) encrypts(protection api.Protection) {
	p.t.Helper()
	name := "aes-" + protection
	p.create(api.P11Create{Name: name, Type: "aes256-gcm96", Protection: protection})
	iv := []byte("sixteen bytes iv")
	for _, r := range []api.P11Cipher{
		{Scheme: "aes-gcm", IV: iv[:12], AAD: []byte("aad")}, {Scheme: "aes-gcm", IV: iv[:12], TagLength: 12},
		{Scheme: "aes-cbc", IV: iv}, {Scheme: "aes-cbc-pad", IV: iv},
	} {
		for _, text := range []string{"", "whole blocks of 16 bytes: thirty", strings.Repeat("0123456789abcdef", 4096)} {
			r.Name, r.Input = name, []byte(text)
			out, err := p.EncryptP11(p.t.Context(), r)
			if err != nil {
				p.t.Fatalf("%s: %v", r.Scheme, err)
			}
			r.Input = out
			if back, err := p.DecryptP11(p.t.Context(), r); err != nil || string(back) != text {
				p.t.Errorf("%s: %d bytes, %v", r.Scheme, len(back), err)
			}
		}
	}
}

func (p p11) agrees(protection api.Protection) {
	p.t.Helper()
	for typ, curve := range map[string]ecdh.Curve{"ecdsa-p256": ecdh.P256(), "ecdsa-p384": ecdh.P384(), "ecdsa-p521": ecdh.P521()} {
		name := "agree-" + typ + "-" + protection
		public, err := publicOf[*ecdsa.PublicKey](p.t, p.create(api.P11Create{Name: name, Type: typ, Protection: protection, Uses: []string{"agree"}})).ECDH()
		if err != nil {
			p.t.Fatal(err)
		}
		private, err := curve.GenerateKey(rand.Reader)
		if err != nil {
			p.t.Fatal(err)
		}
		want, err := private.ECDH(public)
		if err != nil {
			p.t.Fatal(err)
		}
		if got, err := p.Agree(p.t.Context(), api.P11Agree{Name: name, Public: private.PublicKey().Bytes()}); err != nil || !hmac.Equal(got, want) {
			p.t.Errorf("%s: %v", name, err)
		}
	}
}

// What a caller may see follows from its policies; and what was acknowledged is
// there after the server was killed.
func TestPKCS11FindByPolicy(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	root := p11As(t, s, s.RootToken)
	session := "session-" + strings.Repeat("0a", 16)
	root.create(api.P11Create{Name: session, Type: "ecdsa-p256", Session: true})
	root.create(api.P11Create{Name: "web", Type: "ecdsa-p256", Label: "tls", ID: []byte{1}, Deletable: true})
	root.create(api.P11Create{Name: "other", Type: "ecdsa-p256", Label: "tls"})
	object := api.P11PutObject{ID: strings.Repeat("ab", 16), Attributes: []api.P11Attribute{{Form: 2, Value: make([]byte, 8)}, {Type: 3, Value: []byte("tls")}}}
	if _, err := root.PutP11Object(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	policy := `path "transit/pkcs11-find" { capabilities = ["update"] }
path "transit/sign/web" { capabilities = ["update"] }
path "transit/keys/web" { capabilities = ["read", "delete"] }`
	if err := root.WritePolicy(t.Context(), api.WritePolicy{Name: "web", Policy: policy}); err != nil {
		t.Fatal(err)
	}
	auth, err := root.CreateToken(t.Context(), api.CreateToken{Policies: []string{"web"}, TTL: 3600})
	if err != nil {
		t.Fatal(err)
	}
	tls := "tls"
	for range 2 {
		web := p11As(t, s, auth.ClientToken)
		if got := web.names(api.P11Find{Label: &tls}); got != "web[sign delete]" {
			t.Errorf("found %q", got)
		}
		all, err := web.FindP11(t.Context(), api.P11Find{})
		if err != nil || len(all.Keys) != 1 || len(all.Objects) != 0 || all.Next != "" {
			t.Errorf("%+v, %v", all, err)
		}
		if again, err := web.FindP11(t.Context(), api.P11Find{Changed: all.Change}); err != nil || !again.Unchanged {
			t.Errorf("%+v, %v", again, err)
		}
		root := p11As(t, s, s.RootToken)
		if got := root.names(api.P11Find{}); !strings.HasPrefix(got, "other[sign change delete] "+session+"[") || !strings.HasSuffix(got, "web[sign change delete] abab") {
			t.Errorf("root found %q", got)
		}
		s.Kill()
		s.Start(t)
		s.Unseal(t, s.Shares...)
		if again, err := p11As(t, s, auth.ClientToken).FindP11(t.Context(), api.P11Find{Changed: all.Change}); err != nil || again.Unchanged {
			t.Errorf("after a restart: %+v, %v", again, err)
		}
	}
	root = p11As(t, s, s.RootToken)
	before, err := p11As(t, s, auth.ClientToken).FindP11(t.Context(), api.P11Find{})
	if err != nil {
		t.Fatal(err)
	}
	policy += "\npath \"transit/hmac/other\" { capabilities = [\"update\"] }\npath \"transit/sign/other\" { capabilities = [\"update\"] }"
	if err := root.WritePolicy(t.Context(), api.WritePolicy{Name: "web", Policy: policy}); err != nil {
		t.Fatal(err)
	}
	if got := p11As(t, s, auth.ClientToken).names(api.P11Find{Changed: before.Change}); got != "other[sign] web[sign delete]" {
		t.Errorf("found %q", got)
	}
	if err := root.DeleteP11Object(t.Context(), object.ID); err != nil {
		t.Error(err)
	}
	kept, err := root.SetP11Key(t.Context(), api.P11Settings{Name: session, Keep: "kept"})
	if err != nil || kept.Name != "kept" || kept.Session {
		t.Errorf("%+v, %v", kept, err)
	}
	root.signature(api.Sign{Name: "kept", Input: []byte("x")})
}
