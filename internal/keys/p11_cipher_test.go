package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/tokentest"
)

func (e *env) cipher(f func(r *api.P11Cipher) (*api.P11Output, error), r api.P11Cipher) []byte {
	e.t.Helper()
	out, err := f(&r)
	must(e.t, err)
	return out.Output
}

// ciphers returns the two operations as functions of a request.
func (e *env) ciphers() (encrypt, decrypt func(r *api.P11Cipher) (*api.P11Output, error)) {
	ctx := context.Background()
	encrypt = func(r *api.P11Cipher) (*api.P11Output, error) { return e.p11Encrypt(ctx, everything(), r) }
	decrypt = func(r *api.P11Cipher) (*api.P11Output, error) { return e.p11Decrypt(ctx, everything(), r) }
	return encrypt, decrypt
}

// bareKey makes an AES key for bare ciphers whose secret the test knows.
func (e *env) bareKey(name, typ string) cipher.Block {
	e.t.Helper()
	e.p11(api.P11Create{Name: name, Type: typ, Protection: api.ProtectionSoftware})
	k, err := e.key(context.Background(), keyName{"transit/", name})
	must(e.t, err)
	r, err := e.versionRecord(context.Background(), k, 1)
	must(e.t, err)
	block, err := aes.NewCipher(r.Main.Secret)
	must(e.t, err)
	return block
}

// Ciphertexts are those of the standard library, and change one for the other.
func TestBareCiphers(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	encrypt, decrypt := e.ciphers()
	for _, typ := range []string{"aes128-gcm96", "aes256-gcm96"} {
		block := e.bareKey(typ, typ)
		iv := bytes.Repeat([]byte{7}, 16)
		for _, n := range []int{0, 16, 48} {
			text := bytes.Repeat([]byte("text"), n/4)
			want := make([]byte, n)
			cipher.NewCBCEncrypter(block, iv).CryptBlocks(want, text)
			r := api.P11Cipher{Name: typ, Scheme: schemeRawCBC, IV: iv, Input: text}
			if got := e.cipher(encrypt, r); !bytes.Equal(got, want) {
				t.Errorf("CBC of %d bytes: %x, want %x", n, got, want)
			}
			r.Input = want
			if got := e.cipher(decrypt, r); !bytes.Equal(got, text) {
				t.Errorf("CBC of %d bytes back: %q", n, got)
			}
		}
		for _, n := range []int{0, 1, 16, 17} {
			text := bytes.Repeat([]byte("t"), n)
			r := api.P11Cipher{Name: typ, Scheme: schemePadCBC, IV: iv, Input: text}
			r.Input = e.cipher(encrypt, r)
			plain := make([]byte, len(r.Input))
			cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, r.Input)
			if pad := 16 - n%16; len(r.Input) != n+pad || !bytes.Equal(plain[:n], text) || int(plain[n]) != pad || !bytes.Equal(e.cipher(decrypt, r), text) {
				t.Errorf("padded CBC of %d bytes: %x", n, plain)
			}
		}
		for tag := 12; tag <= 16; tag++ {
			aead, err := cipher.NewGCMWithTagSize(block, tag)
			must(t, err)
			for _, text := range []string{"", "text", "more than one block of text"} {
				r := api.P11Cipher{Name: typ, Scheme: schemeGCM, IV: iv[:12], AAD: []byte("aad"), TagLength: tag, Input: []byte(text)}
				want := aead.Seal(nil, r.IV, r.Input, r.AAD)
				if got := e.cipher(encrypt, r); !bytes.Equal(got, want) {
					t.Errorf("GCM with a tag of %d: %x, want %x", tag, got, want)
				}
				r.Input = want
				if got := e.cipher(decrypt, r); string(got) != text {
					t.Errorf("GCM with a tag of %d back: %q", tag, got)
				}
				for i := range want {
					r.Input = bytes.Clone(want)
					r.Input[i] ^= 1
					_, err := decrypt(&r)
					wantFault(t, err, fault.Invalid, msgOpen)
				}
				r.Input = want[:tag-1]
				_, err := decrypt(&r)
				wantFault(t, err, fault.Invalid, msgOpen)
				r.Input, r.AAD = want, nil
				_, err = decrypt(&r)
				wantFault(t, err, fault.Invalid, msgOpen)
			}
		}
	}
}

// Every failure of decryption is the same to the caller.
func TestBareFailuresAreAlike(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	_, decrypt := e.ciphers()
	e.p11(api.P11Create{Name: "aes", Type: "aes256-gcm96"})
	public := publicKeyOf[*rsa.PublicKey](t, e.p11(api.P11Create{Name: "rsa", Type: "rsa-2048"}))
	wrongLabel, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public, []byte("x"), []byte("other"))
	must(t, err)
	v15 := tokentest.EncryptPKCS1v15(t, public, []byte("x"))
	texts := map[string]bool{}
	for _, r := range []api.P11Cipher{
		{Name: "rsa", Scheme: schemeOAEP, Hash: "sha1", Input: wrongLabel},
		{Name: "rsa", Scheme: schemeOAEP, Hash: "sha2-512", Input: wrongLabel},
		{Name: "rsa", Scheme: schemeOAEP, Input: v15},
		{Name: "rsa", Scheme: schemeOAEP, Input: v15[1:]},
		{Name: "rsa", Scheme: schemeOAEP, Input: bytes.Repeat([]byte{255}, 256)},
		{Name: "rsa", Scheme: schemePKCS1v15, Input: []byte("short")},
		{Name: "aes", Scheme: schemePadCBC, IV: make([]byte, 16), Input: make([]byte, 15)},
		{Name: "aes", Scheme: schemePadCBC, IV: make([]byte, 16), Input: make([]byte, 16)},
		{Name: "aes", Scheme: schemeGCM, IV: make([]byte, 12), Input: make([]byte, 3)},
		{Name: "aes", Scheme: schemeGCM, IV: make([]byte, 12), Input: make([]byte, 30)},
		{Name: "aes", Scheme: schemeGCM, IV: make([]byte, 12), TagLength: 12, Input: make([]byte, 30)},
	} {
		_, err := decrypt(&r)
		if err == nil {
			t.Errorf("%+v decrypts", r)
			continue
		}
		texts[err.Error()+fault.HintOf(err)] = true
	}
	if len(texts) != 1 {
		t.Errorf("failures differ: %v", texts)
	}
	// Wrong padding of PKCS #1 v1.5 is a message that looks random, always the same.
	r := api.P11Cipher{Name: "rsa", Scheme: schemePKCS1v15, Input: wrongLabel}
	if a, b := e.cipher(decrypt, r), e.cipher(decrypt, r); !bytes.Equal(a, b) || string(a) == "x" {
		t.Error("implicit rejection")
	}
}

// publicKeyOf is the public key of the newest version.
func publicKeyOf[P any](t testing.TB, k *api.P11Key) P {
	t.Helper()
	parsed, err := x509.ParsePKIXPublicKey(k.Versions[0].Public)
	must(t, err)
	return parsed.(P)
}

func TestBareRSA(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEnv(t, true)
	_, decrypt := e.ciphers()
	first := publicKeyOf[*rsa.PublicKey](t, e.p11(api.P11Create{Name: "rsa", Type: "rsa-2048"}))
	e.rotateNow("rsa")
	in := tokentest.EncryptPKCS1v15(t, first, []byte("old"))
	if got := e.cipher(decrypt, api.P11Cipher{Name: "rsa", Version: 1, Scheme: schemePKCS1v15, Input: in}); string(got) != "old" {
		t.Errorf("%q", got)
	}
	newest := publicKeyOf[*rsa.PublicKey](t, &e.found(everything(), api.P11Find{}).Keys[0])
	in, err := rsa.EncryptOAEP(sha512.New384(), rand.Reader, newest, []byte("new"), []byte("label"))
	must(t, err)
	if got := e.cipher(decrypt, api.P11Cipher{Name: "rsa", Scheme: schemeOAEP, Hash: "sha2-384", Label: []byte("label"), Input: in}); string(got) != "new" {
		t.Errorf("%q", got)
	}
	e.configure("rsa", api.ConfigKey{MinDecryptionVersion: ptr(2)})
	_, err = e.p11Decrypt(ctx, everything(), &api.P11Cipher{Name: "rsa", Version: 1, Scheme: schemePKCS1v15, Input: in})
	wantFault(t, err, fault.Invalid, "no version 1 that is in use")
}

func TestBareRefuses(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	encrypt, decrypt := e.ciphers()
	e.p11(api.P11Create{Name: "aes", Type: "aes256-gcm96"})
	e.make("transit", "aes256-gcm96")
	e.p11(api.P11Create{Name: "rsa", Type: "rsa-2048"})
	iv, in := make([]byte, 16), make([]byte, 16)
	for _, test := range []struct {
		r    api.P11Cipher
		want string
	}{
		{api.P11Cipher{Name: "none", Scheme: schemeGCM, IV: iv[:12], Input: in}, msgNoEncryptionKey},
		{api.P11Cipher{Name: "aes", Scheme: schemeGCM, IV: iv[:12]}, "missing input"},
		{api.P11Cipher{Name: "aes", Scheme: "aes-ctr", IV: iv, Input: in}, `scheme "aes-ctr": it is`},
		{api.P11Cipher{Name: "aes", Scheme: schemeGCM, IV: iv, Input: in}, "iv has 16 bytes"},
		{api.P11Cipher{Name: "aes", Scheme: schemeGCM, IV: iv[:12], TagLength: 11, Input: in}, "12 to 16"},
		{api.P11Cipher{Name: "aes", Scheme: schemeGCM, IV: iv[:12], TagLength: 17, Input: in}, "12 to 16"},
		{api.P11Cipher{Name: "aes", Scheme: schemeGCM, IV: iv[:12], Hash: "sha1", Input: in}, "hash and label"},
		{api.P11Cipher{Name: "aes", Scheme: schemeRawCBC, IV: iv[:12], Input: in}, "iv has 12 bytes"},
		{api.P11Cipher{Name: "aes", Scheme: schemeRawCBC, IV: iv, AAD: in, Input: in}, "nothing authenticates"},
		{api.P11Cipher{Name: "aes", Scheme: schemeRawCBC, IV: iv, Input: in[:15]}, "whole blocks of 16"},
		{api.P11Cipher{Name: "transit", Scheme: schemeGCM, IV: iv[:12], Input: in}, "was not made for PKCS#11"},
		{api.P11Cipher{Name: "rsa", Scheme: schemeGCM, IV: iv[:12], Input: in}, "needs an AES key"},
	} {
		for _, f := range []func(*api.P11Cipher) (*api.P11Output, error){encrypt, decrypt} {
			_, err := f(&test.r)
			wantFault(t, err, fault.Invalid, test.want)
		}
	}
	for _, test := range []struct {
		r    api.P11Cipher
		want string
	}{
		{api.P11Cipher{Name: "aes", Scheme: schemeOAEP, Input: in}, "needs an RSA key"},
		{api.P11Cipher{Name: "rsa", Scheme: schemeOAEP, Hash: "md5", Input: in}, "it is sha1"},
		{api.P11Cipher{Name: "rsa", Scheme: schemeOAEP, Hash: "none", Input: in}, "it is sha1"},
		{api.P11Cipher{Name: "rsa", Scheme: schemePKCS1v15, Label: in, Input: in}, "hash and label"},
		{api.P11Cipher{Name: "rsa", Scheme: schemePKCS1v15, IV: iv, Input: in}, "are for AES"},
		{api.P11Cipher{Name: "aes", Version: 2, Scheme: schemeGCM, IV: iv[:12], Input: in}, "no version 2"},
	} {
		_, err := decrypt(&test.r)
		wantFault(t, err, fault.Invalid, test.want)
	}
	_, err := encrypt(&api.P11Cipher{Name: "rsa", Scheme: schemeOAEP, Input: in})
	wantFault(t, err, fault.Invalid, "needs the public key only")
	_, err = encrypt(&api.P11Cipher{Name: "aes", Version: 2, Scheme: schemeGCM, IV: iv[:12], Input: in})
	wantFault(t, err, fault.Invalid, "higher than the latest")
}

// Encryption with GCM counts; a key that has made its 2^32 seals makes no more.
func TestBareCounts(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.limits = sealLimits{total: 2, firstBlock: 1, lastBlock: 1}
	encrypt, decrypt := e.ciphers()
	e.p11(api.P11Create{Name: "aes", Type: "aes256-gcm96"})
	r := api.P11Cipher{Name: "aes", Scheme: schemeGCM, IV: make([]byte, 12), TagLength: 12, Input: []byte("x")}
	out := e.cipher(encrypt, r)
	e.cipher(encrypt, r)
	_, err := encrypt(&r)
	if fault.KindOf(err) != fault.Exhausted {
		t.Errorf("%v", err)
	}
	r.Input = out
	e.cipher(decrypt, r)
}

func TestAgree(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, protection := range []api.Protection{api.ProtectionToken, api.ProtectionWrapped, api.ProtectionSoftware} {
		e := newEnv(t, true)
		for _, typ := range []string{"ecdsa-p256", "ecdsa-p384", "ecdsa-p521"} {
			k := e.p11(api.P11Create{Name: typ, Type: typ, Protection: protection, Uses: []string{"agree"}})
			public, err := publicKeyOf[*ecdsa.PublicKey](t, k).ECDH()
			must(t, err)
			e.rotateNow(typ)
			e.restart()
			private, err := public.Curve().GenerateKey(rand.Reader)
			must(t, err)
			want, err := private.ECDH(public)
			must(t, err)
			agree := func(version int, point []byte) (*api.P11Shared, error) {
				return e.p11Agree(ctx, everything(), &api.P11Agree{Name: typ, Version: version, Public: point})
			}
			own := private.PublicKey().Bytes()
			got, err := agree(1, own)
			must(t, err)
			if !bytes.Equal(got.Secret, want) {
				t.Errorf("%s: another secret", typ)
			}
			if got, err := agree(0, own); err != nil || bytes.Equal(got.Secret, want) {
				t.Errorf("%s: the newest version has the secret of the first, %v", typ, err)
			}
			other, err := ecdh.X25519().GenerateKey(rand.Reader)
			must(t, err)
			bad := bytes.Clone(own)
			bad[len(bad)-1] ^= 1
			for _, point := range [][]byte{nil, {0}, bad, own[1:], append(bytes.Clone(own), 0), other.PublicKey().Bytes(), append([]byte{2}, own[1:1+len(own)/2]...)} {
				_, err := agree(0, point)
				wantFault(t, err, fault.Invalid, "no uncompressed point")
			}
			_, err = agree(3, own)
			wantFault(t, err, fault.Invalid, "no version 3")
			peer := shownKey(t, e.makeAs(api.CreateKey{Name: "peer-" + typ, Type: typ}), "1").PublicKey
			_, err = e.deriveKey(ctx, call(), &api.DeriveKey{Name: "of-" + typ, BaseKeyName: typ, PeerPublicKey: peer})
			must(t, err)
		}
	}
}

func TestAgreeRefuses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEnv(t, true)
	e.make("plain", "ecdsa-p256")
	e.make("ed", "ed25519")
	for name, want := range map[string]string{"plain": "not made for key agreement", "ed": "does not support key agreement", "none": "key not found"} {
		_, err := e.p11Agree(ctx, everything(), &api.P11Agree{Name: name})
		wantFault(t, err, fault.Invalid, want)
	}
	e.hsm.info.Agree = false
	r := &api.P11Create{Name: "k", Type: "ecdsa-p256", Uses: []string{"agree"}}
	_, err := e.p11Create(ctx, everything(), r)
	wantFault(t, err, fault.Invalid, "CKM_ECDH1_DERIVE")
	r.Protection = api.ProtectionSoftware
	_, err = e.p11Create(ctx, everything(), r)
	must(t, err)
}

// A secret of elsewhere serves the ciphers of PKCS#11 if its import says so.
func TestBareImported(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	encrypt, _ := e.ciphers()
	secret := bytes.Repeat([]byte{3}, 16)
	must(t, e.importAs(api.ImportKey{Name: "aes", Type: "aes128-gcm96", PKCS11: true, Ciphertext: e.wrap(crypto.SHA256.New, secret)}))
	e.restart()
	block, err := aes.NewCipher(secret)
	must(t, err)
	want := make([]byte, 16)
	block.Encrypt(want, want)
	if got := e.cipher(encrypt, api.P11Cipher{Name: "aes", Scheme: schemeRawCBC, IV: make([]byte, 16), Input: make([]byte, 16)}); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	_, err = e.encrypt(bg, call(), &api.Encrypt{Name: "aes", Plaintext: []byte("x")})
	wantFault(t, err, fault.Invalid, "was made for PKCS#11")
	err = e.importAs(api.ImportKey{Name: "p", Type: "ecdsa-p256", PKCS11: true})
	wantFault(t, err, fault.Invalid, "is for AES keys")
}

// A record of the first release, which knew nothing of PKCS#11, opens, and what is
// written for a key of today without anything set is the same.
func TestRecordsStay(t *testing.T) {
	t.Parallel()
	for _, v := range []any{keyRecord{Type: token.P256}, secretRecord{Type: token.P256}} {
		text, err := json.Marshal(v)
		must(t, err)
		if bytes.Contains(text, []byte("pkcs11")) || bytes.Contains(text, []byte("agree")) {
			t.Errorf("%s", text)
		}
	}
}
