package soft

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"

	"github.com/claviger/claviger/internal/token"
)

var errIV = errors.New("AES-CBC needs an initialisation vector of 16 bytes")

// doCBC is AES-CBC with PKCS #7 padding (RFC 5652 section 6.3), CKM_AES_CBC_PAD.
func (k *aeadKey) doCBC(ctx context.Context, op token.Op, items []token.Item) error {
	for i := range items {
		if err := alive(ctx); err != nil {
			return err
		}
		it := &items[i]
		switch {
		case len(it.Nonce) != aes.BlockSize:
			it.Err = errIV
		case op.Kind == token.EncryptCBC:
			it.Out, it.Err = append(it.Out, k.encrypt(it)...), nil
		default:
			it.Err = k.decrypt(it)
		}
	}
	return nil
}

func (k *aeadKey) encrypt(it *token.Item) []byte {
	n := aes.BlockSize - len(it.In)%aes.BlockSize
	text := make([]byte, len(it.In)+n)
	copy(text, it.In)
	for i := len(it.In); i < len(text); i++ {
		text[i] = byte(n)
	}
	cipher.NewCBCEncrypter(k.block, it.Nonce).CryptBlocks(text, text)
	return text
}

func (k *aeadKey) decrypt(it *token.Item) error {
	if len(it.In) == 0 || len(it.In)%aes.BlockSize != 0 {
		return token.ErrOpen
	}
	text := make([]byte, len(it.In))
	defer clear(text)
	cipher.NewCBCDecrypter(k.block, it.Nonce).CryptBlocks(text, it.In)
	n := int(text[len(text)-1])
	ok := subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, aes.BlockSize)
	for i := 1; i <= aes.BlockSize; i++ {
		inside := subtle.ConstantTimeLessOrEq(i, n)
		same := subtle.ConstantTimeByteEq(text[len(text)-i], byte(n))
		ok &= same | (inside ^ 1)
	}
	if ok != 1 {
		return token.ErrOpen
	}
	it.Out, it.Err = append(it.Out, text[:len(text)-n]...), nil
	return nil
}
