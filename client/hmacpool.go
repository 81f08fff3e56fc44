package client

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/api"
)

// PoolHMAC computes HMACs with the secrets of the pool at the client's mount (see
// WithMount), one or a batch.
func (c *Client) PoolHMAC(ctx context.Context, r api.PoolHMAC) (*api.PoolCodes, error) {
	return on[api.PoolCodes](ctx, c, repeatable(r), "hmac")
}

// ConfigPool says where the pool of the client's mount is.
func (c *Client) ConfigPool(ctx context.Context, r api.PoolConfig) (*api.PoolConfig, error) {
	return on[api.PoolConfig](ctx, c, repeatable(r), "config")
}

// PoolStatus shows the state of the pool of the client's mount.
func (c *Client) PoolStatus(ctx context.Context) (*api.PoolStatus, error) {
	return on[api.PoolStatus](ctx, c, request{method: http.MethodGet, repeat: true}, "status")
}
