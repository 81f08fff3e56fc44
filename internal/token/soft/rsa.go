package soft

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"sync"

	"filippo.io/bigmod"

	"github.com/claviger/claviger/internal/token"
)

// rsaKey signs and decrypts as RFC 8017.
type rsaKey struct {
	priv *rsa.PrivateKey
	typ  token.Type
	// rejection is what messages of wrong padding are made of: SHA-256 of the
	// private exponent.
	rejection func() [sha256.Size]byte
}

func newRSAKey(priv *rsa.PrivateKey, t token.Type) *rsaKey {
	return &rsaKey{priv, t, sync.OnceValue(func() [sha256.Size]byte {
		d := priv.D.FillBytes(make([]byte, priv.Size()))
		defer clear(d)
		return sha256.Sum256(d)
	})}
}

// Do implements token.Key for Sign (PKCS1v15, PSS) and Decrypt (OAEP).
func (k *rsaKey) Do(ctx context.Context, op token.Op, items []token.Item) error {
	if err := k.check(op); err != nil {
		return err
	}
	for i := range items {
		if err := alive(ctx); err != nil {
			return err
		}
		it := &items[i]
		out, err := k.one(op, it)
		if it.Err = err; err == nil {
			it.Out = append(it.Out, out...)
			clear(out)
		}
	}
	return nil
}

// check refuses what no item could succeed with.
func (k *rsaKey) check(op token.Op) error {
	sign := op.Kind == token.Sign && (op.Scheme == token.PKCS1v15 || op.Scheme == token.PSS)
	switch {
	case op.Kind != token.Sign && op.Kind != token.Decrypt:
		return wrongKind(k.typ, op.Kind)
	case op.Kind == token.Decrypt && op.Scheme == token.PKCS1v15 && op.Hash == 0:
		return nil
	case !sign && (op.Kind == token.Sign || op.Scheme != token.OAEP):
		return fmt.Errorf("%w: RSA signs with PKCS1v15 or PSS and decrypts with OAEP, or PKCS1v15 without a hash", token.ErrUnsupported)
	case op.Scheme == token.PKCS1v15 && op.Hash == 0:
		return nil
	case !hashOK(op.Hash):
		return wrongHash(op.Hash)
	case op.Scheme != token.PSS:
		return nil
	}
	// RFC 8017 section 9.1.1: emLen ≥ hLen + sLen + 2, and emBits = modBits - 1.
	if largest := (k.typ.Bits()+6)/8 - op.Hash.Size() - 2; op.Salt < 0 || op.Salt > largest {
		return fmt.Errorf("%w: a PSS salt of %d bytes; %s with %s takes 0 to %d",
			token.ErrUnsupported, op.Salt, k.typ, op.Hash, largest)
	}
	return nil
}

func (k *rsaKey) one(op token.Op, it *token.Item) ([]byte, error) {
	if op.Kind == token.Decrypt && op.Scheme == token.PKCS1v15 {
		return k.decryptPKCS1(it.In)
	}
	if op.Kind == token.Decrypt {
		// The hash state belongs to this call; both hashes of OAEP are op.Hash.
		out, err := rsa.DecryptOAEP(op.Hash.New(), nil, k.priv, it.In, it.AAD)
		if err != nil {
			return nil, token.ErrOpen
		}
		return out, nil
	}
	if op.Hash != 0 && len(it.In) != op.Hash.Size() {
		return nil, fmt.Errorf("a digest of %d bytes; %s has %d", len(it.In), op.Hash, op.Hash.Size())
	}
	out, err := k.sign(op, it.In)
	if errors.Is(err, rsa.ErrMessageTooLong) {
		return nil, fmt.Errorf("%d bytes to sign; a key of type %s takes at most %d", len(it.In), k.typ, k.priv.Size()-11)
	}
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return out, nil
}

// decryptPKCS1 never fails for its padding: see token.OpenPKCS1v15.
func (k *rsaKey) decryptPKCS1(in []byte) ([]byte, error) {
	if len(in) != k.priv.Size() || new(big.Int).SetBytes(in).Cmp(k.priv.N) >= 0 {
		return nil, token.ErrOpen
	}
	em, err := rsaPrivate(k.priv, in)
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	secret := k.rejection()
	return token.OpenPKCS1v15(nil, em, secret[:], in), nil
}

func (k *rsaKey) sign(op token.Op, in []byte) ([]byte, error) {
	switch {
	case op.Scheme == token.PKCS1v15:
		return rsa.SignPKCS1v15(nil, k.priv, op.Hash, in)
	case op.Salt == 0:
		return k.signPSSNoSalt(op.Hash, in)
	}
	return rsa.SignPSS(rand.Reader, k.priv, op.Hash, in, &rsa.PSSOptions{SaltLength: op.Salt})
}

// signPSSNoSalt is PSS with an empty salt, which crypto/rsa does not offer: its
// salt length 0 means "as long as possible".
func (k *rsaKey) signPSSNoSalt(h crypto.Hash, digest []byte) ([]byte, error) {
	em := encodePSSNoSalt(h, digest, k.priv.N.BitLen()-1)
	sig, err := rsaPrivate(k.priv, em)
	if err != nil {
		return nil, err
	}
	opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}
	if err := rsa.VerifyPSS(&k.priv.PublicKey, h, digest, sig, opts); err != nil {
		return nil, errors.New("the signature that was made is wrong") // a fault would reveal the key
	}
	return sig, nil
}

// encodePSSNoSalt is EMSA-PSS-ENCODE (RFC 8017 section 9.1.1) with sLen = 0:
// maskedDB ‖ H ‖ 0xbc.
func encodePSSNoSalt(h crypto.Hash, digest []byte, emBits int) []byte {
	emLen := (emBits + 7) / 8
	em := make([]byte, emLen)
	db := em[:emLen-h.Size()-1]
	hash := h.New()
	hash.Write(make([]byte, 8))
	hash.Write(digest)
	sum := hash.Sum(nil)
	db[len(db)-1] = 1
	maskMGF1(db, h, sum)
	db[0] &= 0xff >> (8*emLen - emBits)
	copy(em[len(db):], sum)
	em[emLen-1] = 0xbc
	return em
}

// maskMGF1 xors dst with MGF1 of seed (RFC 8017 section B.2.1).
func maskMGF1(dst []byte, h crypto.Hash, seed []byte) {
	for counter := byte(0); len(dst) > 0; counter++ { // 512 bytes need fewer than 256 rounds
		hash := h.New()
		hash.Write(seed)
		hash.Write([]byte{0, 0, 0, counter})
		for _, b := range hash.Sum(nil)[:min(len(dst), h.Size())] {
			dst[0] ^= b
			dst = dst[1:]
		}
	}
}

// rsaPrivate is RSASP1 (RFC 8017 section 5.2.1) in constant time.
func rsaPrivate(priv *rsa.PrivateKey, in []byte) ([]byte, error) {
	n, err := bigmod.NewModulus(priv.N.Bytes())
	if err != nil {
		return nil, fmt.Errorf("prepare the modulus: %w", err)
	}
	x, err := bigmod.NewNat().SetBytes(bytes.Clone(in), n)
	if err != nil {
		return nil, fmt.Errorf("prepare the message: %w", err)
	}
	d := priv.D.FillBytes(make([]byte, priv.Size()))
	defer clear(d)
	return bigmod.NewNat().Exp(x, d, n).Bytes(n), nil
}
