package client

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/api"
)

func rolePath(name string) (string, error) { return below("auth/token/roles", name) }

// WriteTokenRole makes or changes a role of client tokens.
func (c *Client) WriteTokenRole(ctx context.Context, r api.TokenRole) error {
	path, err := rolePath(r.Name)
	if err != nil {
		return err
	}
	return c.do(ctx, request{method: http.MethodPut, path: path, body: r, repeat: true})
}

// ReadTokenRole describes a role of client tokens.
func (c *Client) ReadTokenRole(ctx context.Context, name string) (*api.TokenRoleInfo, error) {
	path, err := rolePath(name)
	if err != nil {
		return nil, err
	}
	return call[api.TokenRoleInfo](ctx, c, request{method: http.MethodGet, path: path, repeat: true})
}

// ListTokenRoles returns the names of the roles of client tokens, none if there
// are none.
func (c *Client) ListTokenRoles(ctx context.Context) ([]string, error) {
	return c.list(ctx, "auth/token/roles")
}

// DeleteTokenRole deletes a role. Its client tokens live on, but are not renewed
// any more.
func (c *Client) DeleteTokenRole(ctx context.Context, name string) error {
	path, err := rolePath(name)
	if err != nil {
		return err
	}
	return c.do(ctx, request{method: http.MethodDelete, path: path, repeat: true})
}

// ListAccessors returns the accessors of all client tokens.
func (c *Client) ListAccessors(ctx context.Context) ([]string, error) {
	return c.list(ctx, "auth/token/accessors")
}

// RevokeOrphan ends a client token and leaves those made with it as orphans. It
// is never sent twice: the second would not find it.
func (c *Client) RevokeOrphan(ctx context.Context, token string) error {
	return c.do(ctx, request{method: http.MethodPut, path: "auth/token/revoke-orphan", body: api.TokenID{Token: token}})
}

// TidyTokens lets the server remove expired client tokens, in the background.
func (c *Client) TidyTokens(ctx context.Context) error {
	return c.do(ctx, request{method: http.MethodPut, path: "auth/token/tidy", body: api.Empty{}, repeat: true})
}
