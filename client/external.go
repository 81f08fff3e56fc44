package client

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/api"
)

const externalConfigs = "sys/external-keys/configs"

// external calls an operation on what at names below the configurations of external keys.
func external[T any](ctx context.Context, c *Client, r request, at ...string) (*T, error) {
	path, err := below(externalConfigs, at...)
	if err != nil {
		return nil, err
	}
	r.path = path
	return call[T](ctx, c, r)
}

func (c *Client) changeExternal(ctx context.Context, method string, body any, at ...string) error {
	path, err := below(externalConfigs, at...)
	if err != nil {
		return err
	}
	return c.do(ctx, request{method: method, path: path, body: body, repeat: true})
}

// ExternalConfigs returns the names of the configurations of external keys.
func (c *Client) ExternalConfigs(ctx context.Context) ([]string, error) {
	return c.list(ctx, externalConfigs)
}

// ExternalConfig describes a configuration of external keys.
func (c *Client) ExternalConfig(ctx context.Context, config string) (*api.ExternalConfig, error) {
	return external[api.ExternalConfig](ctx, c, request{method: http.MethodGet, repeat: true}, config)
}

// SetExternalConfig sets a configuration of external keys.
func (c *Client) SetExternalConfig(ctx context.Context, r api.SetExternalConfig) error {
	return c.changeExternal(ctx, http.MethodPut, r, r.Config)
}

// DeleteExternalConfig forgets a configuration and the names of its keys. The keys
// stay in the HSM token.
func (c *Client) DeleteExternalConfig(ctx context.Context, config string) error {
	return c.changeExternal(ctx, http.MethodDelete, nil, config)
}

// ExternalKeys returns the names of the external keys of a configuration.
func (c *Client) ExternalKeys(ctx context.Context, config string) ([]string, error) {
	path, err := below(externalConfigs, config, "keys")
	if err != nil {
		return nil, err
	}
	return c.list(ctx, path)
}

// ExternalKey describes an external key.
func (c *Client) ExternalKey(ctx context.Context, config, key string) (*api.ExternalKey, error) {
	return external[api.ExternalKey](ctx, c, request{method: http.MethodGet, repeat: true}, config, "keys", key)
}

// SetExternalKey gives a name to a key that lies in the HSM token.
func (c *Client) SetExternalKey(ctx context.Context, r api.SetExternalKey) error {
	return c.changeExternal(ctx, http.MethodPut, r, r.Config, "keys", r.Key)
}

// DeleteExternalKey forgets an external key. It stays in the HSM token.
func (c *Client) DeleteExternalKey(ctx context.Context, config, key string) error {
	return c.changeExternal(ctx, http.MethodDelete, nil, config, "keys", key)
}

// ExternalGrants returns the paths of the mounts that may use an external key.
func (c *Client) ExternalGrants(ctx context.Context, config, key string) ([]string, error) {
	path, err := below(externalConfigs, config, "keys", key, "grants")
	if err != nil {
		return nil, err
	}
	return c.list(ctx, path)
}

// GrantExternalKey lets a mount use an external key.
func (c *Client) GrantExternalKey(ctx context.Context, config, key, mount string) error {
	return c.changeExternal(ctx, http.MethodPut, api.Empty{}, append([]string{config, "keys", key, "grants"}, segments(mount)...)...)
}

// RevokeExternalKey lets a mount use an external key no more.
func (c *Client) RevokeExternalKey(ctx context.Context, config, key, mount string) error {
	return c.changeExternal(ctx, http.MethodDelete, nil, append([]string{config, "keys", key, "grants"}, segments(mount)...)...)
}

// RotateToExternal adds a version to a key that was made of an object of the HSM
// token: the external key that ref (CONFIG:KEY) means. It is never sent twice.
func (c *Client) RotateToExternal(ctx context.Context, name, ref string) (*api.Key, error) {
	return on[api.Key](ctx, c, single(api.RotateKey{ExternalKeyRef: ref}), "keys", name, "rotate")
}
