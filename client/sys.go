package client

import (
	"context"
	"net/http"
	"strings"

	"github.com/claviger/claviger/api"
)

// InitStatus tells whether the server was initialised.
func (c *Client) InitStatus(ctx context.Context) (*api.InitStatus, error) {
	return bare[api.InitStatus](ctx, c, request{method: http.MethodGet, path: "sys/init", repeat: true})
}

// Init initialises the server. What it returns exists nowhere else. It is
// never sent twice.
func (c *Client) Init(ctx context.Context, r api.Init) (*api.InitResult, error) {
	return bare[api.InitResult](ctx, c, request{method: http.MethodPut, path: "sys/init", body: r})
}

// SealStatus returns the state of the seal.
func (c *Client) SealStatus(ctx context.Context) (*api.SealStatus, error) {
	return bare[api.SealStatus](ctx, c, request{method: http.MethodGet, path: "sys/seal-status", repeat: true})
}

// Unseal gives one share, or forgets those given. It is never sent twice.
func (c *Client) Unseal(ctx context.Context, r api.Unseal) (*api.SealStatus, error) {
	return bare[api.SealStatus](ctx, c, request{method: http.MethodPut, path: "sys/unseal", body: r})
}

// Seal seals the server.
func (c *Client) Seal(ctx context.Context) error {
	return c.do(ctx, request{method: http.MethodPut, path: "sys/seal", body: api.Empty{}, repeat: true})
}

// Health returns the server's health; sealed and uninitialised are answers,
// not errors. Status is the HTTP status.
func (c *Client) Health(ctx context.Context) (*api.Health, error) {
	r := request{method: http.MethodGet, path: "sys/health", repeat: true, lenient: true}
	status, body, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	h, err := decodeBare[api.Health](r, status, body)
	if err != nil {
		return nil, err
	}
	h.Status = status
	return h, nil
}

// HSMStatus describes the HSM token of an unsealed server, with the public key
// of its audit log.
func (c *Client) HSMStatus(ctx context.Context) (*api.TokenStatus, error) {
	return call[api.TokenStatus](ctx, c, request{method: http.MethodGet, path: "sys/hsm", repeat: true})
}

// Mounts returns the mounts by path; a path ends in a slash.
func (c *Client) Mounts(ctx context.Context) (map[string]api.Mount, error) {
	m, err := call[map[string]api.Mount](ctx, c, request{method: http.MethodGet, path: "sys/mounts", repeat: true})
	if err != nil {
		return nil, err
	}
	return *m, nil
}

// EnableMount mounts an engine. It is never sent twice.
func (c *Client) EnableMount(ctx context.Context, r api.CreateMount) error {
	path, err := below("sys/mounts", strings.Split(strings.Trim(r.Path, "/"), "/")...)
	if err != nil {
		return err
	}
	return c.do(ctx, request{method: http.MethodPut, path: path, body: r})
}

// ListPolicies returns the names of all policies.
func (c *Client) ListPolicies(ctx context.Context) ([]string, error) {
	return c.list(ctx, "sys/policies/acl")
}

// ReadPolicy returns a policy.
func (c *Client) ReadPolicy(ctx context.Context, name string) (*api.Policy, error) {
	path, err := below("sys/policies/acl", name)
	if err != nil {
		return nil, err
	}
	return call[api.Policy](ctx, c, request{method: http.MethodGet, path: path, repeat: true})
}

// WritePolicy makes or replaces a policy.
func (c *Client) WritePolicy(ctx context.Context, r api.WritePolicy) error {
	path, err := below("sys/policies/acl", r.Name)
	if err != nil {
		return err
	}
	return c.do(ctx, request{method: http.MethodPut, path: path, body: r, repeat: true})
}

// DeletePolicy deletes a policy.
func (c *Client) DeletePolicy(ctx context.Context, name string) error {
	path, err := below("sys/policies/acl", name)
	if err != nil {
		return err
	}
	return c.do(ctx, request{method: http.MethodDelete, path: path, repeat: true})
}
