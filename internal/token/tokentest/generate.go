package tokentest

import (
	"bytes"
	"crypto/x509"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

// sizes of HMAC keys to test, in bytes; no choice for other types.
func sizes(typ token.Type) []int {
	if typ == token.HMAC {
		return []int{64, 32, 512}
	}
	return []int{0}
}

// subject makes a stored key ready for tests.
func (s *suite) subject(t *testing.T, tok token.Token, stored token.Stored) subject {
	t.Helper()
	key, err := tok.Key(stored)
	must(t, err)
	return subject{key, stored.Type, stored.Size, stored.Public, s}
}

func (s *suite) generate(t *testing.T, tok token.Token, spec token.Spec) token.Stored {
	t.Helper()
	if spec.Type == token.HMAC && spec.Size == 0 {
		spec.Size = 64
	}
	stored, err := tok.Generate(s.context(t), spec)
	must(t, err)
	wrong := stored.Type != spec.Type || stored.ID != spec.ID || stored.Size != spec.Size ||
		spec.Place != token.PlaceAuto && stored.Place != spec.Place ||
		(stored.Place == token.PlaceWrapped) != (len(stored.Blob) > 0)
	if wrong {
		t.Fatalf("Generate(%+v) returned %+v", spec, stored)
	}
	c := spec.Type.Class()
	if symmetric := c == token.ClassAEAD || c == token.ClassHMAC; symmetric != (len(stored.Public) == 0) {
		t.Fatalf("Generate(%s): public key %x", spec.Type, stored.Public)
	} else if !symmetric {
		_, err := x509.ParsePKIXPublicKey(stored.Public)
		must(t, err)
	}
	return stored
}

// testKey makes keys of one type in one place and takes them through their life.
func (s *suite) testKey(t *testing.T, tok token.Token, typ token.Type, place token.Place) {
	var first token.Stored
	for i, size := range sizes(typ) {
		spec := token.Spec{Type: typ, Size: size, Place: place, ID: newID(), Label: "suite " + typ.String()}
		stored := s.generate(t, tok, spec)
		k := s.subject(t, tok, stored)
		k.use(t)
		s.keep(t, k, stored)
		if i == 0 {
			first = stored
		}
	}
	s.testBatch(t, s.subject(t, tok, first))
	if typ.Class() != token.ClassRSA || typ == token.RSA2048 {
		s.testRepeat(t, tok, first)
		s.testAuto(t, tok, typ)
	}
}

// testRepeat: the same ID again replaces the key, and Destroy ends it.
func (s *suite) testRepeat(t *testing.T, tok token.Token, like token.Stored) {
	spec := token.Spec{Type: like.Type, Size: like.Size, Place: like.Place, ID: newID(), Label: "repeated"}
	first := s.generate(t, tok, spec)
	s.subject(t, tok, first).works(t)
	before, err := s.subject(t, tok, first).attempt(t)
	must(t, err)
	second := s.generate(t, tok, spec)
	k := s.subject(t, tok, second)
	k.works(t)
	// Signatures may differ under one key; public keys and the rest may not.
	after, err := k.attempt(t)
	must(t, err)
	if bytes.Equal(before, after) || len(first.Public) > 0 && bytes.Equal(first.Public, second.Public) {
		t.Errorf("Generate made the same key of type %s twice", like.Type)
	}
	must(t, tok.Destroy(s.context(t), second))
	must(t, tok.Destroy(s.context(t), second))
	if like.Place == token.PlaceWrapped {
		k.works(t) // the blob is the key; only caches were dropped
		return
	}
	for what, handle := range map[string]subject{"used": k, "new": s.subject(t, tok, second)} {
		_, err := handle.attempt(t)
		wantErr(t, what+" handle of a destroyed object", err, token.ErrNotFound)
	}
}

// testAuto: the driver chooses a place that it has.
func (s *suite) testAuto(t *testing.T, tok token.Token, typ token.Type) {
	stored := s.generate(t, tok, token.Spec{Type: typ, ID: newID(), Label: "auto"})
	hold := tok.Info().Holds[typ]
	want := token.PlaceObject
	if hold.Wrapped {
		want = token.PlaceWrapped
	}
	if stored.Place != want {
		t.Errorf("PlaceAuto of %s led to %s, though the token holds it %+v", typ, placeName(stored.Place), hold)
	}
	s.subject(t, tok, stored).works(t)
	must(t, tok.Destroy(s.context(t), stored))
}

// testUnsupported: what Info does not claim is refused, and so is nonsense.
func (s *suite) testUnsupported(t *testing.T, tok token.Token) {
	refuse := func(spec token.Spec) {
		t.Helper()
		spec.ID = newID()
		if spec.Type == token.HMAC && spec.Size == 0 {
			spec.Size = 64
		}
		_, err := tok.Generate(s.context(t), spec)
		wantErr(t, "Generate "+spec.Type.String()+" "+placeName(spec.Place), err, token.ErrUnsupported)
	}
	for _, typ := range token.Types() {
		hold := tok.Info().Holds[typ]
		if !hold.Wrapped {
			refuse(token.Spec{Type: typ, Place: token.PlaceWrapped})
		}
		if !hold.Object {
			refuse(token.Spec{Type: typ, Place: token.PlaceObject})
		}
		if !hold.Wrapped && !hold.Object {
			refuse(token.Spec{Type: typ})
		}
	}
	refuse(token.Spec{})
	refuse(token.Spec{Type: 200})
	for _, size := range []int{-1, 1, 31, 513} {
		_, err := tok.Generate(s.context(t), token.Spec{Type: token.HMAC, Size: size, ID: newID()})
		if err == nil {
			t.Errorf("Generate made an HMAC key of %d bytes", size)
		}
	}
	if key, err := tok.Key(token.Stored{Place: token.PlaceWrapped}); err == nil {
		if key.Do(s.context(t), token.Op{Kind: token.Seal}, []token.Item{{}}) == nil {
			t.Error("a key of no type works")
		}
	}
}

// testSoftware checks keys of one type in server memory.
func (s *suite) testSoftware(t *testing.T, engine token.Software, typ token.Type) {
	for _, size := range sizes(typ) {
		secret, public, err := engine.Generate(token.Spec{Type: typ, Size: size})
		must(t, err)
		again, _, err := engine.Generate(token.Spec{Type: typ, Size: size})
		must(t, err)
		if bytes.Equal(again, secret) {
			t.Errorf("Generate made the same secret of type %s twice", typ)
		}
		given := bytes.Clone(secret)
		key, err := engine.Open(typ, given)
		must(t, err)
		clear(given) // the engine may not lean on the caller's bytes
		k := subject{key, typ, size, public, s}
		k.use(t)
		s.testBatch(t, k)
		k.checkSecret(t, secret)
		for _, other := range token.Types() {
			same := other.Class() == typ.Class() && (other.Bits() == typ.Bits()) ||
				other == token.HMAC && len(secret) >= 32 && len(secret) <= 512 ||
				typ == token.HMAC && len(secret)*8 == other.Bits()
			if _, err := engine.Open(other, secret); !same && err == nil {
				t.Errorf("a secret of type %s was taken for %s", typ, other)
			}
		}
		for _, bad := range [][]byte{nil, secret[:len(secret)-1], append(bytes.Clone(secret), 0)} {
			if _, err := engine.Open(typ, bad); err == nil && typ != token.HMAC {
				t.Errorf("a secret of type %s with %d bytes was taken", typ, len(bad))
			}
		}
	}
	for _, spec := range []token.Spec{{Type: typ, Size: 7}, {Type: typ, Size: 513}, {Type: typ, Size: -1}} {
		if _, _, err := engine.Generate(spec); err == nil {
			t.Errorf("Generate(%+v) made a key", spec)
		}
	}
}
