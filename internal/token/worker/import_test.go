package worker

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/tokentest"
)

func rsaPublic(t testing.TB, der []byte) *rsa.PublicKey {
	t.Helper()
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return public.(*rsa.PublicKey)
}

// A module that has CKM_RSA_AES_KEY_WRAP opens the whole; what it refuses of it
// (here all but SHA-1) is opened in two steps.
func TestImportWhole(t *testing.T) {
	t.Parallel()
	s := newShim(t)
	s.cfg.Env = append(s.cfg.Env, "SHIM_WHOLE=1")
	h := openToken(t, s.cfg)
	wrapping, _ := generate(t, h, token.RSA2048, token.PlaceWrapped)
	under := rsaPublic(t, wrapping.Public)
	secret, public := tokentest.Secret(t, token.P256, 0)
	for i, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		blob := tokentest.Wrap(t, under, hash, secret)
		st, err := h.Import(within(t), newSpec(token.P256, token.PlaceObject), token.Package{Key: wrapping, Hash: hash, Blob: blob})
		if err != nil || !bytes.Equal(st.Public, public) {
			t.Errorf("%v: %+v %v", hash, st, err)
		}
		if want := []string{"uu", "u"}[i]; s.read("whole") != want { // twice for an object, once for what is refused
			t.Errorf("%v: the mechanism was used %q, want %q", hash, s.read("whole"), want)
		}
		blob[len(blob)-1] ^= 1
		_, err = h.Import(within(t), newSpec(token.P256, token.PlaceWrapped), token.Package{Key: wrapping, Hash: hash, Blob: blob})
		if !errors.Is(err, token.ErrOpen) {
			t.Errorf("%v, altered: %v", hash, err)
		}
		if err := os.Remove(filepath.Join(s.dir, "whole")); err != nil {
			t.Fatal(err)
		}
	}
}

// Nothing that was imported can leave the token, and no session object is left
// extractable.
func TestImportedIsSecret(t *testing.T) {
	t.Parallel()
	cfg := softConfig(t)
	h := openToken(t, cfg)
	wrapping, _ := generate(t, h, token.RSA2048, token.PlaceWrapped)
	under := rsaPublic(t, wrapping.Public)
	for _, typ := range []token.Type{token.AES256, token.HMAC, token.P384, token.RSA2048} {
		secret, _ := tokentest.Secret(t, typ, 64)
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA512} {
			p := token.Package{Key: wrapping, Hash: hash, Blob: tokentest.Wrap(t, under, hash, secret)}
			if _, err := h.Import(within(t), newSpec(typ, token.PlaceObject), p); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.Close()
	n, out := 0, string(inspection(t, cfg))
	for _, l := range strings.Split(out, "\n") {
		if rest, ok := strings.CutPrefix(l, "OBJECT k-"); ok {
			n++
			// sensitive, private, always sensitive, extractable: what came from outside was not always sensitive
			if f := strings.Fields(rest); f[1] != "true" || f[2] != "true" || f[4] != "false" {
				t.Error(l)
			}
		}
	}
	if n != 8 {
		t.Errorf("%d objects: %s", n, out)
	}
}

// SEC 1 section 4.1.6, against the standard library.
func TestRecoverFrom(t *testing.T) {
	t.Parallel()
	for typ, c := range curves {
		k, err := ecdsa.GenerateKey(c.curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		size := (typ.Bits() + 7) / 8
		other := bytes.Repeat([]byte{1}, c.hash)
		sig := func(digest []byte) []byte {
			r, s, err := ecdsa.Sign(rand.Reader, k, digest)
			if err != nil {
				t.Fatal(err)
			}
			return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		}
		for range 4 {
			if got := recoverFrom(typ, sig(make([]byte, c.hash)), other, sig(other)); got == nil || !got.Equal(&k.PublicKey) {
				t.Errorf("%v: %v", typ, got)
			}
		}
		if got := recoverFrom(typ, sig(other), other, sig(other)); got != nil {
			t.Errorf("%v: a key of a signature of another digest", typ)
		}
		if got := recoverFrom(typ, make([]byte, 2*size), other, sig(other)); got != nil {
			t.Errorf("%v: a key of zeros", typ)
		}
	}
}

func FuzzRecoverFrom(f *testing.F) {
	f.Add(make([]byte, 64), make([]byte, 64))
	f.Add(bytes.Repeat([]byte{1}, 64), bytes.Repeat([]byte{2}, 64))
	other := bytes.Repeat([]byte{1}, 32)
	f.Fuzz(func(t *testing.T, sig, proof []byte) {
		if len(sig) != 64 || len(proof) != 64 {
			return
		}
		if k := recoverFrom(token.P256, sig, other, proof); k != nil && k.Curve != elliptic.P256() {
			t.Error(k)
		}
	})
}

func FuzzParseImport(f *testing.F) {
	r := importRequest{spec: newSpec(token.AES256, token.PlaceWrapped), key: token.Stored{Type: token.RSA2048, Blob: []byte{1}},
		mode: importBetween, between: make([]byte, 32), blob: make([]byte, 300)}
	f.Add(r.append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseImport(b)
		if err != nil {
			return
		}
		again, err := parseImport(r.append(nil))
		if err != nil || !reflect.DeepEqual(again.spec, r.spec) || !bytes.Equal(again.blob, r.blob) || !bytes.Equal(again.between, r.between) {
			t.Errorf("%+v %v", again, err)
		}
	})
}
