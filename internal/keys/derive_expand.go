package keys

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// softwareExpander is HKDF-SHA256 (RFC 5869) with the version's secret, no
// salt, and the context for info, as Vault derives keys. The secret is in
// server memory for as long as the version is loaded.
type softwareExpander struct{ secret []byte }

func (e softwareExpander) expand(_ context.Context, contexts [][]byte, n int) ([][]byte, error) {
	okm := make([][]byte, len(contexts))
	for i, info := range contexts {
		var err error
		if okm[i], err = hkdf.Key(sha256.New, e.secret, nil, string(info), n); err != nil {
			wipe(okm)
			return nil, err
		}
	}
	return okm, nil
}

// softwareSecret takes the secret to derive from out of a record: the key
// itself; for Ed25519 the seed with the public key (RFC 8032 section 5.1.5),
// which is what Vault derives from.
func softwareSecret(r *secretRecord) ([]byte, error) {
	defer func() { r.Secret = nil }()
	switch r.Type.Class() {
	case token.ClassAEAD:
		if len(r.Secret) == r.Type.Bits()/8 {
			return r.Secret, nil
		}
	case token.ClassEd25519:
		defer clear(r.Secret)
		if k, err := x509.ParsePKCS8PrivateKey(r.Secret); err == nil {
			if private, ok := k.(ed25519.PrivateKey); ok {
				return private, nil
			}
		}
	}
	return nil, fmt.Errorf("a secret of %d bytes and type %v derives no keys: %w", len(r.Secret), r.Type, store.ErrCorrupt)
}

// prfSize is the length in bytes of the secret of a derived key in an HSM
// token, and of a block that it makes: that of SHA-256.
const prfSize = sha256.Size

// tokenExpander is HKDF-Expand of RFC 5869 section 2.3, a KDF in feedback
// mode in the sense of SP 800-108: HMAC-SHA256 inside the HSM token with the version's
// secret, and the context for info. The secret is uniformly random, for which
// RFC 5869 section 3.3 allows to leave the extraction out.
type tokenExpander struct{ prf token.Key }

// expand makes one call of the HSM token for every prfSize bytes, whatever the
// number of contexts.
func (e tokenExpander) expand(ctx context.Context, contexts [][]byte, n int) ([][]byte, error) {
	blocks := (n + prfSize - 1) / prfSize
	okm, inputs := make([][]byte, len(contexts)), make([][]byte, len(contexts))
	for i := range contexts {
		okm[i] = make([]byte, 0, blocks*prfSize)
		inputs[i] = make([]byte, 0, prfSize+len(contexts[i])+1)
	}
	defer wipe(inputs)
	items := make([]token.Item, len(contexts))
	for block := 1; block <= blocks; block++ {
		for i, info := range contexts {
			last := okm[i][max(len(okm[i])-prfSize, 0):]
			inputs[i] = append(append(append(inputs[i][:0], last...), info...), byte(block))
			items[i] = token.Item{In: inputs[i], Out: okm[i]}
		}
		if err := e.block(ctx, items, block); err != nil {
			wipe(okm)
			return nil, err
		}
		for i := range items {
			okm[i] = items[i].Out
		}
	}
	for i := range okm {
		clear(okm[i][n:])
		okm[i] = okm[i][:n]
	}
	return okm, nil
}

func (e tokenExpander) block(ctx context.Context, items []token.Item, block int) error {
	if err := e.prf.Do(ctx, token.Op{Kind: token.MAC, Hash: crypto.SHA256}, items); err != nil {
		return err
	}
	for i := range items {
		if items[i].Err != nil {
			return items[i].Err
		}
		if len(items[i].Out) != block*prfSize {
			return fmt.Errorf("the HSM token made %d bytes of HMAC-SHA256", len(items[i].Out)-(block-1)*prfSize)
		}
	}
	return nil
}
