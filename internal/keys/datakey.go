package keys

import (
	"context"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

const defaultDataKeyBits = 256

// dataKey makes random bytes in the HSM token and encrypts them under a key.
func (s *Service) dataKey(ctx context.Context, c *op.Call, r *api.DataKey) (*api.DataKeyResult, error) {
	if r.Kind != "plaintext" && r.Kind != "wrapped" {
		return nil, invalid("invalid path: %q must be 'plaintext' or 'wrapped'", r.Kind)
	}
	bits := r.Bits
	switch bits {
	case 0:
		bits = defaultDataKeyBits
	case 128, 256, 512:
	default:
		return nil, invalid("invalid bit length %d: it is 128, 256 or 512", bits)
	}
	k, err := s.find(ctx, c.Mount, r.Name, msgNoEncryptionKey)
	if err == nil {
		err = checkCanEncrypt(k.meta.Type, "encryption")
	}
	if err == nil {
		_, err = k.forNew(r.KeyVersion, "encryption")
	}
	if err == nil {
		err = k.checkContext(r.Context)
	}
	if err != nil {
		return nil, err
	}
	secret := make([]byte, bits/8)
	out, err := s.sealDataKey(ctx, k, r, secret)
	if err != nil || r.Kind == "wrapped" {
		clear(secret)
		return out, err
	}
	out.Plaintext = secret
	return out, nil
}

func (s *Service) sealDataKey(ctx context.Context, k *key, r *api.DataKey, secret []byte) (*api.DataKeyResult, error) {
	if err := s.tokenRandom(ctx, secret); err != nil {
		return nil, err
	}
	sc := borrow(1)
	defer sc.giveBack()
	sc.work[0] = work{version: r.KeyVersion, in: secret, aad: r.AssociatedData, context: r.Context}
	if err := s.seal(ctx, k, sc); err != nil {
		return nil, err
	}
	w := &sc.work[0]
	if w.err != nil {
		return nil, w.err
	}
	return &api.DataKeyResult{Ciphertext: w.text, KeyVersion: w.version}, nil
}
