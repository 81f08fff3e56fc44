package client

import (
	"context"

	"github.com/claviger/claviger/api"
)

// CreateLegacyKey makes a key with the label and identifier that an older
// program's tools look for in the HSM token. It is never sent twice: the second
// would find the key there.
func (c *Client) CreateLegacyKey(ctx context.Context, r api.CreateLegacyKey) (*api.LegacyKey, error) {
	return on[api.LegacyKey](ctx, c, single(r), "legacy", "keys", r.Name)
}

// LegacyEncrypt encrypts as an older program's client or server does, with the
// key's first version. For aes-cbc the caller gives 16 random bytes as IV.
func (c *Client) LegacyEncrypt(ctx context.Context, r api.LegacyEncrypt) (*api.LegacyEncrypted, error) {
	return on[api.LegacyEncrypted](ctx, c, repeatable(r), "legacy", "encrypt", r.Name)
}

// LegacyDecrypt decrypts what an older program's client encrypted.
func (c *Client) LegacyDecrypt(ctx context.Context, r api.LegacyDecrypt) (*api.LegacyDecrypted, error) {
	return on[api.LegacyDecrypted](ctx, c, repeatable(r), "legacy", "decrypt", r.Name)
}
