package client

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/api"
)

// TrimKey destroys the oldest versions of a key, for ever.
func (c *Client) TrimKey(ctx context.Context, r api.TrimKey) (*api.Key, error) {
	return on[api.Key](ctx, c, repeatable(r), "keys", r.Name, "trim")
}

// DeriveKey makes a key of an own private key and another party's public key.
// It is never sent twice: the second would find the key that the first made.
func (c *Client) DeriveKey(ctx context.Context, r api.DeriveKey) error {
	return c.act(ctx, single(r), "derive-key", r.Name)
}

// KeySettings returns what holds for all keys of the mount.
func (c *Client) KeySettings(ctx context.Context) (*api.KeySettings, error) {
	return on[api.KeySettings](ctx, c, request{method: http.MethodGet, repeat: true}, "config", "keys")
}

// SetKeySettings changes what holds for all keys of the mount; nil fields stay as
// they are.
func (c *Client) SetKeySettings(ctx context.Context, r api.SetKeySettings) (*api.KeySettings, error) {
	return on[api.KeySettings](ctx, c, repeatable(r), "config", "keys")
}

// Hash returns the digest of an input.
func (c *Client) Hash(ctx context.Context, r api.Hash) (*api.HashSum, error) {
	return on[api.HashSum](ctx, c, repeatable(r), withOption(r.URLAlgorithm, "hash")...)
}
