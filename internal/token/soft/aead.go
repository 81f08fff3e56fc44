package soft

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/claviger/claviger/internal/token"
)

// aeadKey holds the prepared cipher (NIST SP 800-38D, RFC 8439,
// draft-irtf-cfrg-xchacha), so that a call costs no key schedule.
type aeadKey struct {
	aead  cipher.AEAD
	typ   token.Type
	block cipher.Block // of AES keys, for CBC
}

func openAEAD(t token.Type, secret []byte) (token.Key, error) {
	if want := t.Bits() / 8; len(secret) != want {
		return nil, fmt.Errorf("the secret of a key of type %s has %d bytes, not %d", t, len(secret), want)
	}
	aead, err := newAEAD(t, secret)
	if err != nil {
		return nil, fmt.Errorf("prepare a key of type %s: %w", t, err)
	}
	k := &aeadKey{aead: aead, typ: t}
	if t == token.AES128 || t == token.AES256 {
		k.block, err = aes.NewCipher(secret)
	}
	return k, err
}

func newAEAD(t token.Type, secret []byte) (cipher.AEAD, error) {
	switch t {
	case token.ChaCha20:
		return chacha20poly1305.New(secret)
	case token.XChaCha20:
		return chacha20poly1305.NewX(secret)
	}
	return newGCM(secret)
}

func newGCM(secret []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Do implements token.Key for Seal and Open.
func (k *aeadKey) Do(ctx context.Context, op token.Op, items []token.Item) error {
	if k.block != nil && (op.Kind == token.EncryptCBC || op.Kind == token.DecryptCBC) {
		return k.doCBC(ctx, op, items)
	}
	if op.Kind != token.Seal && op.Kind != token.Open {
		return wrongKind(k.typ, op.Kind)
	}
	for i := range items {
		if err := alive(ctx); err != nil {
			return err
		}
		if op.Kind == token.Seal {
			k.seal(&items[i])
		} else {
			k.open(&items[i])
		}
	}
	return nil
}

func (k *aeadKey) seal(it *token.Item) {
	if it.Err = k.checkNonce(it.Nonce); it.Err == nil {
		it.Out = k.aead.Seal(it.Out, it.Nonce, it.In, it.AAD)
	}
}

func (k *aeadKey) open(it *token.Item) {
	if it.Err = k.checkNonce(it.Nonce); it.Err != nil {
		return
	}
	out, err := k.aead.Open(it.Out, it.Nonce, it.In, it.AAD)
	if err != nil {
		it.Err = token.ErrOpen
		return
	}
	it.Out = out
}

func (k *aeadKey) checkNonce(nonce []byte) error {
	if len(nonce) != k.aead.NonceSize() {
		return fmt.Errorf("a nonce of %d bytes; %s needs %d", len(nonce), k.typ, k.aead.NonceSize())
	}
	return nil
}
