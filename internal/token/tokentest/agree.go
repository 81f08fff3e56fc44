package tokentest

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

// testAgree checks key agreement with keys that were made for it, in every place,
// and that others refuse it.
func (s *suite) testAgree(t *testing.T, tok token.Token) {
	if !tok.Info().Agree {
		t.Skip("the token has no key agreement")
	}
	for _, typ := range []token.Type{token.P256, token.P384, token.P521} {
		for _, place := range s.held(tok)[typ] {
			stored, err := tok.Generate(s.context(t), token.Spec{Type: typ, Place: place, ID: newID(), Label: "agree", Agree: true})
			must(t, err)
			key, err := tok.Key(stored)
			must(t, err)
			subject{s: s, Key: key, typ: typ, public: stored.Public}.useAgree(t)
			stored.Agree = false
			other, err := tok.Key(stored)
			must(t, err)
			if err := other.Do(s.context(t), token.Op{Kind: token.Agree}, make([]token.Item, 1)); !errors.Is(err, token.ErrUnsupported) {
				t.Errorf("%s: a key for signatures agrees: %v", typ, err)
			}
			must(t, tok.Destroy(s.context(t), stored))
		}
	}
}

func (k subject) useAgree(t *testing.T) {
	t.Helper()
	public, err := publicKey[*ecdsa.PublicKey](t, k).ECDH()
	must(t, err)
	op := token.Op{Kind: token.Agree}
	for range 3 {
		private, err := public.Curve().GenerateKey(rand.Reader)
		must(t, err)
		want, err := private.ECDH(public)
		must(t, err)
		wantEqual(t, "shared secret", k.one(t, op, token.Item{In: private.PublicKey().Bytes(), Out: []byte("ab")}), append([]byte("ab"), want...))
	}
	own := public.Bytes()
	for what, point := range map[string][]byte{
		"no point":                    nil,
		"infinity":                    {0},
		"a point beside the curve":    append(slices.Clone(own[:len(own)-1]), own[len(own)-1]^1),
		"a compressed point":          append([]byte{2}, own[1:1+len(own)/2]...),
		"a point with something more": append(slices.Clone(own), 0),
		"a point of another curve":    otherPoint(t, public.Curve()),
	} {
		if _, err := k.try(t, op, token.Item{In: point}); err == nil {
			t.Errorf("%s: agreed with %s", k.typ, what)
		}
	}
	k.useECDSA(t) // a key for both
}

func otherPoint(t *testing.T, curve ecdh.Curve) []byte {
	t.Helper()
	other := ecdh.P256()
	if curve == other {
		other = ecdh.P384()
	}
	private, err := other.GenerateKey(rand.Reader)
	must(t, err)
	return private.PublicKey().Bytes()
}
