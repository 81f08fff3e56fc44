package tokentest

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

// KWP wraps secret under kek as RFC 5649 section 4.1 says.
func KWP(t testing.TB, kek, secret []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(kek)
	if err != nil {
		t.Fatal(err)
	}
	a := binary.BigEndian.AppendUint32([]byte{0xa6, 0x59, 0x59, 0xa6}, uint32(len(secret)))
	p := append(bytes.Clone(secret), make([]byte, -len(secret)&7)...)
	if len(p) == 8 {
		out := append(a, p...)
		block.Encrypt(out, out)
		return out
	}
	for j := range 6 {
		for i := 0; i < len(p); i += 8 {
			b := append(bytes.Clone(a), p[i:i+8]...)
			block.Encrypt(b, b)
			a = binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(b)^uint64(len(p)/8*j+i/8+1))
			copy(p[i:], b[8:])
		}
	}
	return append(a, p...)
}

// Wrap makes the blob of a token.Package with Go's packages and KWP.
func Wrap(t testing.TB, public *rsa.PublicKey, hash crypto.Hash, secret []byte) []byte {
	t.Helper()
	between := randomBytes(token.ImportAES)
	first, err := rsa.EncryptOAEP(hash.New(), rand.Reader, public, between, nil)
	if err != nil {
		t.Fatal(err)
	}
	return append(first, KWP(t, between, secret)...)
}

// Secret makes a secret of a type as a package carries it, and its public half
// as PKIX DER; size is of HMAC keys.
func Secret(t testing.TB, typ token.Type, size int) (secret, public []byte) {
	t.Helper()
	var key crypto.Signer
	var err error
	switch typ.Class() {
	case token.ClassAEAD:
		return randomBytes(typ.Bits() / 8), nil
	case token.ClassHMAC:
		return randomBytes(size), nil
	case token.ClassEd25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case token.ClassECDSA:
		key, err = ecdsa.GenerateKey(map[token.Type]elliptic.Curve{
			token.P256: elliptic.P256(), token.P384: elliptic.P384(), token.P521: elliptic.P521(),
		}[typ], rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, typ.Bits())
	}
	if err == nil {
		secret, err = x509.MarshalPKCS8PrivateKey(key)
	}
	if err == nil {
		public, err = x509.MarshalPKIXPublicKey(key.Public())
	}
	if err != nil {
		t.Fatal(err)
	}
	return secret, public
}

// testImport takes secrets of every type in, under a wrapping key of the token.
func (s *suite) testImport(t *testing.T, tok token.Token) {
	wrapping, public := s.wrappingKey(t, tok)
	hashes := []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA224}
	for i, typ := range token.Types() {
		hold := tok.Info().Holds[typ]
		spec := token.Spec{Type: typ, ID: newID(), Label: "imported"}
		if !hold.Import {
			blob := make([]byte, len(public.N.Bytes())+40)
			_, err := tok.Import(s.context(t), spec, token.Package{Key: wrapping, Hash: crypto.SHA256, Blob: blob})
			wantErr(t, "importing "+typ.String(), err, token.ErrUnsupported)
			continue
		}
		if typ.Class() == token.ClassRSA && typ != token.RSA2048 {
			continue
		}
		for j, place := range []token.Place{token.PlaceAuto, token.PlaceWrapped, token.PlaceObject} {
			spec.Place, spec.ID = place, newID()
			if place == token.PlaceWrapped && !hold.Wrapped || place == token.PlaceObject && !hold.Object {
				continue
			}
			s.testImportOne(t, tok, spec, wrapping, public, hashes[(i+j)%len(hashes)])
		}
	}
	if tok.Info().Holds[token.AES256].Import {
		s.testImportRefuses(t, tok, wrapping, public)
	}
}

// wrappingKey makes one of the smallest type that the token holds as it likes best.
func (s *suite) wrappingKey(t *testing.T, tok token.Token) (token.Stored, *rsa.PublicKey) {
	t.Helper()
	if h, ok := tok.Info().Holds[token.RSA2048]; !ok || !h.Wrapped && !h.Object {
		t.Skip("the token holds no RSA keys")
	}
	stored := s.generate(t, tok, token.Spec{Type: token.RSA2048, ID: newID(), Label: "wrapping"})
	t.Cleanup(func() { must(t, tok.Destroy(s.context(t), stored)) })
	public, err := x509.ParsePKIXPublicKey(stored.Public)
	must(t, err)
	return stored, public.(*rsa.PublicKey)
}

func (s *suite) testImportOne(t *testing.T, tok token.Token, spec token.Spec, wrapping token.Stored, under *rsa.PublicKey, hash crypto.Hash) {
	t.Helper()
	size := 0
	if spec.Type == token.HMAC {
		size = 64
	}
	secret, public := Secret(t, spec.Type, size)
	p := token.Package{Key: wrapping, Hash: hash, Blob: Wrap(t, under, hash, secret)}
	var stored token.Stored
	for range 2 { // it can be repeated
		var err error
		stored, err = tok.Import(s.context(t), spec, p)
		if err != nil {
			t.Fatalf("importing %s to %s with %s: %v", spec.Type, placeName(spec.Place), hash, err)
		}
	}
	if stored.Type != spec.Type || stored.ID != spec.ID || stored.Size != size || !bytes.Equal(stored.Public, public) ||
		spec.Place != token.PlaceAuto && stored.Place != spec.Place || (stored.Place == token.PlaceWrapped) != (len(stored.Blob) > 0) {
		t.Fatalf("importing %s: %+v", spec.Type, stored)
	}
	k := s.subject(t, tok, stored)
	k.use(t)
	k.checkSecret(t, secret)
	if spec.Type == token.AES128 || spec.Type == token.AES256 {
		k.checkCBC(t, secret)
	}
	must(t, tok.Destroy(s.context(t), stored))
}

// testImportRefuses: whatever is wrong inside a blob, the answer is one.
func (s *suite) testImportRefuses(t *testing.T, tok token.Token, wrapping token.Stored, under *rsa.PublicKey) {
	aesKey, _ := Secret(t, token.AES256, 0)
	p256, _ := Secret(t, token.P256, 0)
	p384, _ := Secret(t, token.P384, 0)
	small, _ := Secret(t, token.RSA2048, 0)
	good := Wrap(t, under, crypto.SHA1, aesKey)
	altered := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	stranger, err := rsa.GenerateKey(rand.Reader, under.N.BitLen())
	must(t, err)
	for i, c := range []struct {
		typ  token.Type
		hash crypto.Hash
		blob []byte
	}{
		{token.AES256, crypto.SHA1, altered(0)}, {token.AES256, crypto.SHA1, altered(under.Size() - 1)},
		{token.AES256, crypto.SHA1, altered(under.Size())}, {token.AES256, crypto.SHA1, altered(len(good) - 1)},
		{token.AES256, crypto.SHA1, good[:len(good)-8]}, {token.AES256, crypto.SHA1, append(bytes.Clone(good), make([]byte, 8)...)},
		{token.AES256, crypto.SHA1, nil}, {token.AES256, crypto.SHA1, good[:under.Size()]},
		{token.AES256, crypto.SHA256, good}, {token.AES256, crypto.SHA1, Wrap(t, &stranger.PublicKey, crypto.SHA1, aesKey)},
		{token.AES128, crypto.SHA1, good}, {token.AES256, crypto.SHA256, Wrap(t, under, crypto.SHA256, aesKey[:31])},
		{token.AES256, crypto.SHA1, Wrap(t, under, crypto.SHA1, aesKey[:16])},
		{token.HMAC, crypto.SHA1, Wrap(t, under, crypto.SHA1, aesKey[:24])},
		{token.HMAC, crypto.SHA1, Wrap(t, under, crypto.SHA1, make([]byte, 520))},
		{token.P256, crypto.SHA1, Wrap(t, under, crypto.SHA1, p384)}, {token.P384, crypto.SHA256, Wrap(t, under, crypto.SHA256, p256)},
		{token.P256, crypto.SHA1, good}, {token.P256, crypto.SHA1, Wrap(t, under, crypto.SHA1, small)},
		{token.RSA2048, crypto.SHA1, Wrap(t, under, crypto.SHA1, p256)}, {token.RSA3072, crypto.SHA1, Wrap(t, under, crypto.SHA1, small)},
		{token.P256, crypto.SHA1, Wrap(t, under, crypto.SHA1, p256[:len(p256)-1])},
	} {
		hold := tok.Info().Holds[c.typ]
		if !hold.Import {
			continue
		}
		for _, place := range []token.Place{token.PlaceWrapped, token.PlaceObject} {
			if place == token.PlaceWrapped && !hold.Wrapped || place == token.PlaceObject && !hold.Object {
				continue
			}
			spec := token.Spec{Type: c.typ, Place: place, ID: newID(), Label: "refused"}
			_, err := tok.Import(s.context(t), spec, token.Package{Key: wrapping, Hash: c.hash, Blob: c.blob})
			if !errors.Is(err, token.ErrOpen) {
				t.Errorf("case %d, %s to %s: %v", i, c.typ, placeName(place), err)
			} else if err.Error() != token.ErrOpen.Error() {
				t.Errorf("case %d, %s: %q tells more", i, c.typ, err)
			}
			if place == token.PlaceObject {
				_, err := s.subject(t, tok, token.Stored{Type: c.typ, Place: place, ID: spec.ID, Size: 64, Public: wrapping.Public}).attempt(t)
				wantErr(t, "what a refused import left", err, token.ErrNotFound)
			}
		}
	}
}
