package client

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/api"
)

// LookupAccessor describes the client token of an accessor, without its text.
func (c *Client) LookupAccessor(ctx context.Context, accessor string) (*api.TokenInfo, error) {
	return call[api.TokenInfo](ctx, c, request{method: http.MethodPut, path: "auth/token/lookup-accessor", body: api.Accessor{Accessor: accessor}, repeat: true})
}

// RenewAccessor prolongs the client token of an accessor; increment 0 leaves the
// time to the server. The answer does not show the token's text.
func (c *Client) RenewAccessor(ctx context.Context, accessor string, increment api.Seconds) (*api.Auth, error) {
	return c.auth(ctx, request{method: http.MethodPut, path: "auth/token/renew-accessor", body: api.RenewAccessor{Accessor: accessor, Increment: increment}, repeat: true})
}

// RevokeAccessor ends the client token of an accessor and its children. It is
// never sent twice: the second would not find it.
func (c *Client) RevokeAccessor(ctx context.Context, accessor string) error {
	return c.do(ctx, request{method: http.MethodPut, path: "auth/token/revoke-accessor", body: api.Accessor{Accessor: accessor}})
}
