package soft

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/claviger/claviger/internal/token"
)

// ed25519Key signs messages as RFC 8032 section 5.1.6 (no pre-hashing).
type ed25519Key struct{ priv ed25519.PrivateKey }

// Do implements token.Key for Sign.
func (k ed25519Key) Do(ctx context.Context, op token.Op, items []token.Item) error {
	if op.Kind != token.Sign {
		return wrongKind(token.Ed25519, op.Kind)
	}
	for i := range items {
		if err := alive(ctx); err != nil {
			return err
		}
		it := &items[i]
		it.Out, it.Err = append(it.Out, ed25519.Sign(k.priv, it.In)...), nil
	}
	return nil
}

// ecdsaKey signs digests (FIPS 186-5 section 6.4). A digest longer than the
// curve's order is cut, as the standard says.
type ecdsaKey struct {
	priv *ecdsa.PrivateKey
	typ  token.Type
}

// Do implements token.Key for Sign and Agree.
func (k *ecdsaKey) Do(ctx context.Context, op token.Op, items []token.Item) error {
	do := k.sign
	switch op.Kind {
	case token.Sign:
	case token.Agree:
		do = k.agree
	default:
		return wrongKind(k.typ, op.Kind)
	}
	for i := range items {
		if err := alive(ctx); err != nil {
			return err
		}
		it := &items[i]
		it.Err = do(it)
	}
	return nil
}

// agree is ECDH (SP 800-56A section 5.7.1.2).
func (k *ecdsaKey) agree(it *token.Item) error {
	private, err := k.priv.ECDH()
	if err != nil {
		return fmt.Errorf("open a key for agreement: %w", err)
	}
	peer, err := private.Curve().NewPublicKey(it.In)
	if err != nil {
		return fmt.Errorf("the other's public key: %w", err)
	}
	shared, err := private.ECDH(peer)
	it.Out = append(it.Out, shared...)
	clear(shared)
	return err
}

func (k *ecdsaKey) sign(it *token.Item) error {
	if len(it.In) == 0 {
		return errEmptyDigest
	}
	r, s, err := ecdsa.Sign(rand.Reader, k.priv, it.In)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	n, size := len(it.Out), (k.typ.Bits()+7)/8
	it.Out = slices.Grow(it.Out, 2*size)[:n+2*size]
	r.FillBytes(it.Out[n : n+size])
	s.FillBytes(it.Out[n+size:])
	return nil
}
