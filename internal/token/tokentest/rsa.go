package tokentest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"   // the hashes that are tested
	_ "crypto/sha256" //
	_ "crypto/sha3"   //
	_ "crypto/sha512" //
	"errors"
	"fmt"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

// Every driver takes needed; of optional it may lack some.
var (
	needed   = []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}
	optional = []crypto.Hash{
		crypto.SHA224, crypto.SHA512_224, crypto.SHA512_256,
		crypto.SHA3_224, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512,
	}
	never = []crypto.Hash{crypto.MD4, crypto.MD5, crypto.MD5SHA1, crypto.RIPEMD160, crypto.BLAKE2b_256, 77}
)

// eachHash calls f for the hashes that the key takes in operation op.
func (k subject) eachHash(t *testing.T, op token.Op, it func(crypto.Hash) token.Item, f func(crypto.Hash)) {
	t.Helper()
	for _, h := range needed {
		f(h)
	}
	for _, h := range optional {
		op.Hash = h
		if _, err := k.try(t, op, it(h)); !errors.Is(err, token.ErrUnsupported) {
			f(h)
		}
	}
	for _, h := range never {
		op.Hash = h
		k.refused(t, fmt.Sprintf("hash %d", h), op, token.Item{In: make([]byte, 32)})
	}
}

func digestItem(h crypto.Hash) token.Item { return token.Item{In: randomBytes(h.Size())} }

func (k subject) useRSA(t *testing.T) {
	t.Helper()
	pub := publicKey[*rsa.PublicKey](t, k)
	if pub.N.BitLen() != k.typ.Bits() {
		t.Fatalf("%s: the modulus has %d bits", k.typ, pub.N.BitLen())
	}
	k.usePKCS1v15(t, pub)
	k.usePSS(t, pub)
	k.useOAEP(t, pub)
	k.useDecryptPKCS1v15(t, pub)
	for _, op := range []token.Op{
		{Kind: token.Sign, Hash: crypto.SHA256},
		{Kind: token.Sign, Scheme: token.OAEP, Hash: crypto.SHA256},
		{Kind: token.Decrypt, Hash: crypto.SHA256},
		{Kind: token.Decrypt, Scheme: token.PKCS1v15, Hash: crypto.SHA256},
		{Kind: token.Decrypt, Scheme: token.OAEP},
		{Kind: token.Sign, Scheme: token.PSS},
		{Kind: token.Sign, Scheme: 9, Hash: crypto.SHA256},
	} {
		k.refused(t, fmt.Sprintf("operation %+v", op), op, token.Item{In: make([]byte, 32)})
	}
}

func (k subject) usePKCS1v15(t *testing.T, pub *rsa.PublicKey) {
	t.Helper()
	op := token.Op{Kind: token.Sign, Scheme: token.PKCS1v15}
	k.eachHash(t, op, digestItem, func(h crypto.Hash) {
		op.Hash = h
		it := digestItem(h)
		it.Out = []byte("ab")
		sig := k.one(t, op, it)
		if err := rsa.VerifyPKCS1v15(pub, h, it.In, sig[2:]); err != nil {
			t.Errorf("%s, PKCS #1 v1.5 with %s: %v", k.typ, h, err)
		}
		k.refused(t, "short digest", op, token.Item{In: it.In[1:]})
		k.refused(t, "long digest", op, token.Item{In: append(bytes.Clone(it.In), 0)})
	})
	op.Hash = 0 // no DigestInfo
	for _, n := range []int{1, 20, 36, k.typ.Bits()/8 - 11} {
		msg := randomBytes(n)
		if err := rsa.VerifyPKCS1v15(pub, 0, msg, k.one(t, op, token.Item{In: msg})); err != nil {
			t.Errorf("%s, PKCS #1 v1.5 of %d bytes without DigestInfo: %v", k.typ, n, err)
		}
	}
	k.refused(t, "too much to sign", op, token.Item{In: make([]byte, k.typ.Bits()/8-10)})
}

func (k subject) usePSS(t *testing.T, pub *rsa.PublicKey) {
	t.Helper()
	op := token.Op{Kind: token.Sign, Scheme: token.PSS}
	k.eachHash(t, op, digestItem, func(h crypto.Hash) {
		op.Hash = h
		largest := k.typ.Bits()/8 - h.Size() - 2
		for _, op.Salt = range []int{0, 1, h.Size(), largest} {
			digest := randomBytes(h.Size())
			sig := k.one(t, op, token.Item{In: digest})
			if err := verifyPSS(pub, h, digest, sig, op.Salt); err != nil {
				t.Errorf("%s, PSS with %s and a salt of %d: %v", k.typ, h, op.Salt, err)
			}
		}
		for _, op.Salt = range []int{-1, -2, largest + 1, 1 << 20} {
			k.refused(t, fmt.Sprintf("PSS salt of %d", op.Salt), op, digestItem(h))
		}
		for _, op.Salt = range []int{0, h.Size()} {
			k.refused(t, "short digest", op, token.Item{In: make([]byte, h.Size()-1)})
		}
	})
}

// verifyPSS checks the salt's length too. crypto/rsa can't be asked for length
// 0, which it takes for "any"; then the signature has to be deterministic, and
// its caller sees that from the padding.
func verifyPSS(pub *rsa.PublicKey, h crypto.Hash, digest, sig []byte, salt int) error {
	if err := rsa.VerifyPSS(pub, h, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}); err != nil {
		return err
	}
	if salt > 0 {
		return rsa.VerifyPSS(pub, h, digest, sig, &rsa.PSSOptions{SaltLength: salt})
	}
	for n := 1; n <= pub.Size()-h.Size()-2; n++ {
		if rsa.VerifyPSS(pub, h, digest, sig, &rsa.PSSOptions{SaltLength: n}) == nil {
			return fmt.Errorf("the salt has %d bytes", n)
		}
	}
	return nil
}

func (k subject) useOAEP(t *testing.T, pub *rsa.PublicKey) {
	t.Helper()
	op := token.Op{Kind: token.Decrypt, Scheme: token.OAEP}
	sample := func(h crypto.Hash) token.Item {
		ct, err := rsa.EncryptOAEP(h.New(), rand.Reader, pub, []byte("plain"), nil)
		must(t, err)
		return token.Item{In: ct}
	}
	k.eachHash(t, op, sample, func(h crypto.Hash) {
		op.Hash = h
		for _, label := range [][]byte{nil, []byte("label")} {
			for _, n := range []int{0, 1, 32, pub.Size() - 2*h.Size() - 2} {
				plain := randomBytes(n)
				ct, err := rsa.EncryptOAEP(h.New(), rand.Reader, pub, plain, label)
				must(t, err)
				got := k.one(t, op, token.Item{In: ct, AAD: label, Out: []byte("ab")})
				wantEqual(t, fmt.Sprintf("%s, OAEP with %s", k.typ, h), got, append([]byte("ab"), plain...))
			}
		}
	})
	k.tamperOAEP(t, pub)
}

// tamperOAEP: whatever is wrong with a ciphertext, the answer is the same.
func (k subject) tamperOAEP(t *testing.T, pub *rsa.PublicKey) {
	t.Helper()
	ct, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, pub, []byte("plain"), []byte("label"))
	must(t, err)
	op := token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: crypto.SHA256}
	label := []byte("label")
	bad := []token.Item{
		{In: ct, AAD: nil}, {In: ct, AAD: []byte("Label")},
		{In: nil, AAD: label}, {In: ct[:len(ct)-1], AAD: label}, {In: append(bytes.Clone(ct), 0), AAD: label},
		{In: make([]byte, len(ct)), AAD: label}, {In: bytes.Repeat([]byte{0xff}, len(ct)), AAD: label},
		{In: pub.N.Bytes(), AAD: label},
	}
	for bit := 0; bit < len(ct)*8; bit += len(ct)*8/24 | 1 {
		b := bytes.Clone(ct)
		b[bit/8] ^= 1 << (bit % 8)
		bad = append(bad, token.Item{In: b, AAD: label})
	}
	items := k.do(t, op, bad...)
	for i, it := range items {
		wantErr(t, fmt.Sprintf("%s: altered OAEP ciphertext %d", k.typ, i), it.Err, token.ErrOpen)
		if it.Err != nil && it.Err.Error() != items[0].Err.Error() || len(it.Out) > 0 {
			t.Errorf("failures differ: %v, output %x; %v", it.Err, it.Out, items[0].Err)
		}
	}
	op.Hash = crypto.SHA1
	_, err = k.try(t, op, token.Item{In: ct, AAD: label})
	wantErr(t, "OAEP with another hash", err, token.ErrOpen)
}
