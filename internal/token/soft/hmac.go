package soft

import (
	"bytes"
	"context"
	"crypto"
	"crypto/hmac"
	_ "crypto/sha1"   // HMAC-SHA-1, OAEP, PKCS1v15
	_ "crypto/sha256" // crypto.SHA224, SHA256
	_ "crypto/sha3"   // crypto.SHA3_*
	_ "crypto/sha512" // crypto.SHA384, SHA512, SHA512_*
	"fmt"
	"hash"
	"sync"

	"github.com/claviger/claviger/internal/token"
)

// hmacKey computes codes as RFC 2104. States are kept per hash: a state that is
// reset skips the two blocks of key setup and its allocations.
type hmacKey struct {
	secret []byte
	states [crypto.BLAKE2s_256]sync.Pool // of hash.Hash; all hashes of hashOK are below
}

func openHMAC(secret []byte) (token.Key, error) {
	if len(secret) < minHMAC || len(secret) > maxHMAC {
		return nil, fmt.Errorf("an HMAC secret of %d bytes; it can have %d to %d", len(secret), minHMAC, maxHMAC)
	}
	return &hmacKey{secret: bytes.Clone(secret)}, nil
}

// Do implements token.Key for MAC.
func (k *hmacKey) Do(ctx context.Context, op token.Op, items []token.Item) error {
	if op.Kind != token.MAC {
		return wrongKind(token.HMAC, op.Kind)
	}
	if !hashOK(op.Hash) {
		return wrongHash(op.Hash)
	}
	pool := &k.states[op.Hash]
	state, _ := pool.Get().(hash.Hash)
	if state == nil {
		state = hmac.New(op.Hash.New, k.secret)
	}
	defer pool.Put(state)
	for i := range items {
		if err := alive(ctx); err != nil {
			return err
		}
		it := &items[i]
		state.Reset()
		state.Write(it.In)
		it.Out, it.Err = state.Sum(it.Out), nil
	}
	return nil
}
