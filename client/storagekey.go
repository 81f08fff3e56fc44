package client

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/api"
)

// KeyStatus describes the storage key, which seals the records of the store.
func (c *Client) KeyStatus(ctx context.Context) (*api.KeyStatus, error) {
	return call[api.KeyStatus](ctx, c, request{method: http.MethodGet, path: "sys/key-status", repeat: true})
}

// RotateStorageKey replaces the storage key. What it sealed opens as before. It is
// never sent twice.
func (c *Client) RotateStorageKey(ctx context.Context) error {
	return c.do(ctx, request{method: http.MethodPut, path: "sys/rotate", body: api.Empty{}})
}

// RotationConfig tells when the storage key is replaced by itself.
func (c *Client) RotationConfig(ctx context.Context) (*api.RotationConfig, error) {
	return call[api.RotationConfig](ctx, c, request{method: http.MethodGet, path: "sys/rotate/config", repeat: true})
}

// WriteRotationConfig changes when the storage key is replaced by itself.
func (c *Client) WriteRotationConfig(ctx context.Context, r api.WriteRotationConfig) error {
	return c.do(ctx, request{method: http.MethodPut, path: "sys/rotate/config", body: r, repeat: true})
}
