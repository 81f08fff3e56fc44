package soft

import (
	"bytes"
	"context"
	"fmt"

	"github.com/claviger/claviger/internal/token"
)

// A sealed secret: one byte of format (1), a random nonce of 12 bytes,
// AES-256-GCM ciphertext, tag of 16 bytes. So few are ever made that random
// nonces are safe.
const (
	secretFormat   = 1
	secretNonce    = 12
	maxSecretBytes = 64
)

// SealSecret implements token.Token.
func (t *Token) SealSecret(ctx context.Context, secret, aad []byte) ([]byte, error) {
	if len(secret) > maxSecretBytes {
		return nil, fmt.Errorf("a secret of %d bytes to seal; it can have up to %d", len(secret), maxSecretBytes)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.readyStorage(ctx); err != nil {
		return nil, err
	}
	out := append([]byte{secretFormat}, randomBytes(secretNonce)...)
	return t.storage.Seal(out, out[1:], secret, secretAAD(aad)), nil
}

// OpenSecret implements token.Token.
func (t *Token) OpenSecret(ctx context.Context, sealed, aad []byte) ([]byte, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.readyStorage(ctx); err != nil {
		return nil, err
	}
	if len(sealed) < 1+secretNonce || sealed[0] != secretFormat {
		return nil, token.ErrOpen
	}
	nonce, body := sealed[1:1+secretNonce], sealed[1+secretNonce:]
	secret, err := t.storage.Open(nil, nonce, body, secretAAD(aad))
	if err != nil {
		return nil, token.ErrOpen
	}
	return secret, nil
}

func (t *Token) readyStorage(ctx context.Context) error {
	if err := t.ready(ctx); err != nil {
		return err
	}
	if t.storage == nil {
		return fmt.Errorf("%w: the storage key; the token was not provisioned", token.ErrNotFound)
	}
	return nil
}

// secretAAD keeps sealed secrets apart from anything else under the storage key.
func secretAAD(aad []byte) []byte {
	return append(bytes.Clone([]byte("claviger secret 1\x00")), aad...)
}
