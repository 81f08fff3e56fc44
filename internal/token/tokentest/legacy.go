package tokentest

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

// useCBC checks AES-CBC with PKCS #7 padding.
func (k subject) useCBC(t *testing.T) {
	t.Helper()
	encrypt, decrypt := token.Op{Kind: token.EncryptCBC}, token.Op{Kind: token.DecryptCBC}
	iv := randomBytes(16)
	for _, n := range []int{0, 1, 15, 16, 17, 1000} {
		text := randomBytes(n)
		it := token.Item{Nonce: iv, In: text, Out: []byte("ab")}
		sealed := k.one(t, encrypt, it)
		if len(sealed) != 2+n+16-n%16 {
			t.Fatalf("%s: %d bytes became %d", k.typ, n, len(sealed))
		}
		wantEqual(t, "decrypted", k.one(t, decrypt, token.Item{Nonce: iv, In: sealed[2:]}), text)
	}
	good := k.one(t, encrypt, token.Item{Nonce: iv, In: []byte("text")})
	for _, bad := range [][]byte{nil, good[:15], append(bytes.Clone(good), 0)} {
		_, err := k.try(t, decrypt, token.Item{Nonce: iv, In: bad})
		wantErr(t, "decrypting no whole blocks", err, token.ErrOpen)
	}
	other := bytes.Clone(iv)
	other[15] ^= 0x80 // the last byte of the padding becomes 0x8c
	_, err := k.try(t, decrypt, token.Item{Nonce: other, In: good})
	wantErr(t, "wrong padding", err, token.ErrOpen)
	other[15] = iv[15] ^ 12 // and 0
	_, err = k.try(t, decrypt, token.Item{Nonce: other, In: good})
	wantErr(t, "padding of 0", err, token.ErrOpen)
	k.refused(t, "a short IV", encrypt, token.Item{Nonce: iv[:12], In: []byte("text")})
}

// checkCBC checks the ciphertext of an AES key that the test knows.
func (k subject) checkCBC(t *testing.T, secret []byte) {
	t.Helper()
	block, err := aes.NewCipher(secret)
	must(t, err)
	iv, text := randomBytes(16), []byte("fifteen bytes..")
	want := append(bytes.Clone(text), 1)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(want, want)
	wantEqual(t, "AES-CBC", k.one(t, token.Op{Kind: token.EncryptCBC}, token.Item{Nonce: iv, In: text}), want)
}

// EncryptPKCS1v15 encrypts as old clients do (RFC 8017 section 7.2.1).
func EncryptPKCS1v15(t testing.TB, pub *rsa.PublicKey, text []byte) []byte {
	t.Helper()
	size := pub.Size()
	if len(text) > size-11 {
		t.Fatalf("%d bytes are too many", len(text))
	}
	em := make([]byte, size)
	em[1] = 2
	for i := 2; i < size-len(text)-1; {
		if em[i] = randomBytes(1)[0]; em[i] != 0 {
			i++
		}
	}
	copy(em[size-len(text):], text)
	c := new(big.Int).Exp(new(big.Int).SetBytes(em), big.NewInt(int64(pub.E)), pub.N)
	return c.FillBytes(em)
}

// useDecryptPKCS1v15 checks the padding of PKCS #1 v1.5: what is not padded so is
// an error, or a message that only looks like one.
func (k subject) useDecryptPKCS1v15(t *testing.T, pub *rsa.PublicKey) {
	t.Helper()
	op := token.Op{Kind: token.Decrypt, Scheme: token.PKCS1v15}
	for _, n := range []int{0, 1, 32, pub.Size() - 11} {
		text := randomBytes(n)
		ct := EncryptPKCS1v15(t, pub, text)
		wantEqual(t, "decrypted", k.one(t, op, token.Item{In: ct, Out: []byte("ab")}), append([]byte("ab"), text...))
	}
	for _, n := range []int{0, 1, pub.Size() - 1, pub.Size() + 1} {
		_, err := k.try(t, op, token.Item{In: make([]byte, n)})
		wantErr(t, "a ciphertext of another length", err, token.ErrOpen)
	}
	_, err := k.try(t, op, token.Item{In: bytes.Repeat([]byte{0xff}, pub.Size())})
	wantErr(t, "a ciphertext above the modulus", err, token.ErrOpen)
	wrong, err := rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, pub, []byte("text"), nil)
	must(t, err)
	first, err := k.try(t, op, token.Item{In: wrong})
	second, again := k.try(t, op, token.Item{In: wrong})
	if err == nil && again == nil && bytes.Equal(first, second) {
		return // rejected implicitly, and always in the same way
	}
	if !errors.Is(err, token.ErrOpen) || !errors.Is(again, token.ErrOpen) {
		t.Errorf("%s, wrong padding: %x %v, %x %v", k.typ, first, err, second, again)
	}
}

// testObjects makes keys with names of other programs, and finds and adopts them.
func (s *suite) testObjects(t *testing.T, tok token.Token) {
	if len(s.Options.PIN) != 0 {
		t.Skip("the module has templates of its own")
	}
	for _, c := range []struct {
		typ  token.Type
		size int
		name token.ObjectName
	}{
		{token.AES128, 0, token.ObjectName{Label: "path/of a key", ID: []byte{0, 0x80}}},
		{token.RSA2048, 0, token.ObjectName{Label: "path/of a key", ID: []byte{0, 0x80}}},
		{token.P256, 0, token.ObjectName{Label: "only a label"}},
		{token.P521, 0, token.ObjectName{ID: bytes.Repeat([]byte{7}, token.MaxObjectID)}},
		{token.Ed25519, 0, token.ObjectName{Label: "edwards", ID: []byte{1}}},
		{token.HMAC, 64, token.ObjectName{Label: "generic", ID: []byte{1}}},
	} {
		if !tok.Info().Holds[c.typ].Object {
			continue
		}
		t.Run(c.typ.String(), func(t *testing.T) { s.testObject(t, tok, c.typ, c.size, c.name) })
	}
	_, err := tok.Adopt(s.context(t), token.ObjectName{Label: "nobody's"})
	wantErr(t, "adopting what is not there", err, token.ErrNotFound)
	_, err = tok.Adopt(s.context(t), token.ObjectName{})
	wantErr(t, "adopting all", err, token.ErrAmbiguous)
	_, err = tok.Adopt(s.context(t), token.ObjectName{Label: "claviger-kek"})
	wantErr(t, "adopting the KEK", err, token.ErrUnsupported)
	for _, name := range []token.ObjectName{{}, {ID: make([]byte, 65)}, {Label: string(make([]byte, 256))}} {
		_, err := tok.Generate(s.context(t), token.Spec{Type: token.AES128, Place: token.PlaceObject, ID: newID(), Name: &name})
		wantErr(t, "a key without a name", err, token.ErrUnsupported)
	}
	name := token.ObjectName{Label: "x"}
	_, err = tok.Generate(s.context(t), token.Spec{Type: token.AES128, Place: token.PlaceWrapped, ID: newID(), Name: &name})
	wantErr(t, "a wrapped key with a name", err, token.ErrUnsupported)
}

func (s *suite) testObject(t *testing.T, tok token.Token, typ token.Type, size int, name token.ObjectName) {
	spec := token.Spec{Type: typ, Size: size, Place: token.PlaceObject, ID: newID(), Name: &name}
	made, err := tok.Generate(s.context(t), spec)
	must(t, err)
	if made.Name == nil || made.Name.Label != name.Label || !bytes.Equal(made.Name.ID, name.ID) || made.Name.Class == token.AnyObject || made.ID != spec.ID {
		t.Fatalf("%+v %+v", made, made.Name)
	}
	spec.ID = newID()
	_, err = tok.Generate(s.context(t), spec)
	wantErr(t, "the same name again", err, token.ErrTaken)
	s.subject(t, tok, made).use(t)

	name.Class = made.Name.Class
	list, err := tok.Objects(s.context(t), name, 10)
	must(t, err)
	if len(list) != 1 || list[0].Type != typ || list[0].Size != size || !list[0].Same(made.Name) || list[0].Extractable ||
		!list[0].Sensitive || !list[0].Private || list[0].System || list[0].Public != (len(made.Public) > 0) || len(list[0].Uses) == 0 {
		t.Errorf("%+v", list)
	}
	all, err := tok.Objects(s.context(t), token.ObjectName{}, 1000)
	must(t, err)
	if !slices.ContainsFunc(all, func(o token.Object) bool { return o.Same(made.Name) }) ||
		!slices.ContainsFunc(all, func(o token.Object) bool { return o.System && o.Type == 0 && o.Note != "" }) {
		t.Errorf("%d objects, of which none is the new one or the KEK", len(all))
	}
	adopted, err := tok.Adopt(s.context(t), name)
	must(t, err)
	if adopted.Type != typ || adopted.Size != size || !bytes.Equal(adopted.Public, made.Public) || adopted.Name == nil || !adopted.Name.Same(made.Name) {
		t.Fatalf("%+v", adopted)
	}
	k := s.subject(t, tok, adopted)
	k.works(t)
	s.legacyUse(t, k)
	kept := *adopted.Name
	kept.Keep = true
	adopted.Name = &kept
	must(t, tok.Destroy(s.context(t), adopted))
	s.subject(t, tok, adopted).works(t)
	must(t, tok.Destroy(s.context(t), made))
	must(t, tok.Destroy(s.context(t), made))
	_, err = s.subject(t, tok, made).attempt(t)
	wantErr(t, "a destroyed object", err, token.ErrNotFound)
	list, err = tok.Objects(s.context(t), name, 10)
	must(t, err)
	if len(list) != 0 {
		t.Errorf("what is left: %+v", list)
	}
}

func (s *suite) legacyUse(t *testing.T, k subject) {
	switch k.typ.Class() {
	case token.ClassAEAD:
		k.useCBC(t)
	case token.ClassRSA:
		k.useDecryptPKCS1v15(t, publicKey[*rsa.PublicKey](t, k))
	case token.ClassECDSA:
		public, err := x509.ParsePKIXPublicKey(k.public)
		must(t, err)
		if _, ok := public.(*ecdsa.PublicKey); !ok {
			t.Errorf("%T", public)
		}
	}
}
