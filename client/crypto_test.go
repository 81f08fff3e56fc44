package client_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha3"
	_ "crypto/sha512"
	"errors"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

// key makes a key of the test's own on the development server.
func key(t *testing.T, c *client.Client, typ string) string {
	t.Helper()
	name := strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()) + "-" + typ
	if _, err := c.CreateKey(t.Context(), api.CreateKey{Name: name, Type: typ}); err != nil {
		t.Fatal(err)
	}
	return name
}

func signer(t *testing.T, c *client.Client, name string, version int) *client.Signer {
	t.Helper()
	s, err := c.Signer(t.Context(), name, version)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func digest(h crypto.Hash, text string) []byte {
	f := h.New()
	f.Write([]byte(text))
	return f.Sum(nil)
}

// TestSigner checks signatures of every kind with the standard library.
func TestSigner(t *testing.T) {
	t.Parallel()
	c := connect()
	pss := func(h crypto.Hash, salt int) *rsa.PSSOptions { return &rsa.PSSOptions{Hash: h, SaltLength: salt} }
	all := []crypto.SignerOpts{crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512}
	for typ, opts := range map[string][]crypto.SignerOpts{
		"ecdsa-p256": all, "ecdsa-p384": all, "ecdsa-p521": all,
		"rsa-2048": append([]crypto.SignerOpts{
			pss(crypto.SHA256, rsa.PSSSaltLengthAuto), pss(crypto.SHA384, rsa.PSSSaltLengthEqualsHash), pss(crypto.SHA512, 20),
		}, all...),
	} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			s := signer(t, c, key(t, c, typ), 0)
			for _, o := range opts {
				d := digest(o.HashFunc(), "message")
				signature, err := s.Sign(rand.Reader, d, o)
				if err != nil {
					t.Errorf("%v: %v", o, err)
					continue
				}
				if err := check(s.Public(), d, signature, o); err != nil {
					t.Errorf("%v: %v", o, err)
				}
			}
		})
	}
}

func check(public crypto.PublicKey, d, signature []byte, o crypto.SignerOpts) error {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(p, d, signature) {
			return nil
		}
	case *rsa.PublicKey:
		if pss, ok := o.(*rsa.PSSOptions); ok {
			return rsa.VerifyPSS(p, o.HashFunc(), d, signature, pss)
		}
		return rsa.VerifyPKCS1v15(p, o.HashFunc(), d, signature)
	case ed25519.PublicKey:
		return ed25519.VerifyWithOptions(p, d, signature, &ed25519.Options{})
	}
	return errors.New("not valid")
}

func TestSignerEd25519(t *testing.T) {
	t.Parallel()
	c := connect()
	s := signer(t, c, key(t, c, "ed25519"), 0)
	for _, message := range [][]byte{[]byte("message"), {}, nil} {
		for _, o := range []crypto.SignerOpts{crypto.Hash(0), &ed25519.Options{}} {
			signature, err := s.Sign(nil, message, o)
			if err != nil || check(s.Public(), message, signature, o) != nil {
				t.Errorf("%q: %v", message, err)
			}
		}
	}
	for _, o := range []crypto.SignerOpts{crypto.SHA512, &ed25519.Options{Hash: crypto.SHA512}, &ed25519.Options{Context: "x"}, nil} {
		if _, err := s.Sign(nil, digest(crypto.SHA512, "message"), o); err == nil {
			t.Errorf("signed with %v", o)
		}
	}
}

func TestSignerRefuses(t *testing.T) {
	t.Parallel()
	c := connect()
	ec, rs := signer(t, c, key(t, c, "ecdsa-p256"), 0), signer(t, c, key(t, c, "rsa-2048"), 0)
	d := digest(crypto.SHA256, "message")
	for _, tt := range []struct {
		s    *client.Signer
		d    []byte
		opts crypto.SignerOpts
		want string
	}{
		{ec, d, nil, "which hash"},
		{ec, d, crypto.Hash(0), "not offered"},
		{ec, d, crypto.MD5, "not offered"},
		{ec, d[:31], crypto.SHA256, "has 32 bytes, not 31"},
		{rs, d, crypto.SHA512, "has 64 bytes, not 32"},
		{rs, d, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: -2}, "salt length"},
		{rs, d, &rsa.PSSOptions{}, "not offered"},
		{rs, d, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 9999}, "salt_length"},
	} {
		if _, err := tt.s.Sign(nil, tt.d, tt.opts); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.opts, err, tt.want)
		}
	}
	raw, err := rs.Sign(nil, []byte("as it is"), crypto.Hash(0))
	if err != nil || rsa.VerifyPKCS1v15(rs.Public().(*rsa.PublicKey), 0, []byte("as it is"), raw) != nil {
		t.Errorf("without a hash: %v", err)
	}
	for _, name := range []string{key(t, c, "aes256-gcm96"), "no-such-key"} {
		if _, err := c.Signer(t.Context(), name, 0); err == nil {
			t.Errorf("%s signs", name)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ec.WithContext(ended).Sign(nil, d, crypto.SHA256); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}

// A signer keeps its version, so that its public key stays the right one.
func TestSignerKeepsItsVersion(t *testing.T) {
	t.Parallel()
	c := connect()
	name := key(t, c, "ecdsa-p256")
	old := signer(t, c, name, 0)
	if _, err := c.RotateKey(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	d := digest(crypto.SHA256, "message")
	for version, s := range map[int]*client.Signer{1: old, 2: signer(t, c, name, 0)} {
		signature, err := s.Sign(nil, d, crypto.SHA256)
		if err != nil || check(s.Public(), d, signature, crypto.SHA256) != nil || s.Version() != version {
			t.Errorf("version %d, want %d: %v", s.Version(), version, err)
		}
	}
	public, err := c.PublicKey(t.Context(), name, 1)
	if err != nil || !old.Public().(*ecdsa.PublicKey).Equal(public) {
		t.Errorf("%v, %v", public, err)
	}
	if _, err := c.Signer(t.Context(), name, 3); err == nil || !strings.Contains(err.Error(), "no version 3") {
		t.Error(err)
	}
}

func TestDecrypter(t *testing.T) {
	t.Parallel()
	c := connect()
	d, err := c.Decrypter(t.Context(), key(t, c, "rsa-2048"), 0)
	if err != nil {
		t.Fatal(err)
	}
	oaep := &rsa.OAEPOptions{Hash: crypto.SHA256}
	for _, plain := range [][]byte{[]byte("secret"), {}} {
		sealed, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, d.Public().(*rsa.PublicKey), plain, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.Decrypt(nil, sealed, oaep); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%q, %v", got, err)
		}
		sealed[9] ^= 1
		if _, err := d.Decrypt(nil, sealed, oaep); err == nil {
			t.Error("an altered ciphertext opens")
		}
		for _, o := range []crypto.DecrypterOpts{nil, crypto.SHA256, &rsa.OAEPOptions{Hash: crypto.SHA1},
			&rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte("x")}, &rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA1}} {
			if _, err := d.Decrypt(nil, sealed, o); err == nil || !strings.Contains(err.Error(), "only OAEP with SHA-256") {
				t.Errorf("%v: %v", o, err)
			}
		}
	}
	if _, err := c.Decrypter(t.Context(), key(t, c, "ecdsa-p256"), 0); err == nil {
		t.Error("an ECDSA key decrypts")
	}
}

func TestSealer(t *testing.T) {
	t.Parallel()
	c := connect()
	name := key(t, c, "chacha20-poly1305")
	s := c.Sealer(name)
	var sealed []string
	for _, plain := range [][]byte{[]byte("secret"), {}, nil} {
		for _, ad := range [][]byte{nil, []byte("a")} {
			text, err := s.Seal(t.Context(), plain, ad)
			if err != nil {
				t.Fatal(err)
			}
			sealed = append(sealed, text)
			if got, err := s.Open(t.Context(), text, ad); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%q, %v", got, err)
			}
			_, err = s.Open(t.Context(), text, []byte("other"))
			if e, ok := errors.AsType[*api.Error](err); !ok || e.Status != 400 {
				t.Errorf("with other associated data: %v", err)
			}
		}
	}
	if _, err := c.RotateKey(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Open(t.Context(), sealed[0], nil); err != nil || string(got) != "secret" {
		t.Errorf("after a rotation: %q, %v", got, err)
	}
	if text, err := s.Seal(t.Context(), nil, nil); err != nil || !strings.HasPrefix(text, "vault:v2:") {
		t.Errorf("%q, %v", text, err)
	}
}
