package client

import (
	"context"
	"errors"
	"net/http"

	"github.com/claviger/claviger/api"
)

// CreateToken makes a client token, by a role if r names one. It is never sent
// twice.
func (c *Client) CreateToken(ctx context.Context, r api.CreateToken) (*api.Auth, error) {
	path := "auth/token/create"
	if r.Role != "" {
		var err error
		if path, err = below(path, r.Role); err != nil {
			return nil, err
		}
	}
	return c.auth(ctx, request{method: http.MethodPut, path: path, body: r})
}

// LookupSelf describes the client's own token.
func (c *Client) LookupSelf(ctx context.Context) (*api.TokenInfo, error) {
	return call[api.TokenInfo](ctx, c, request{method: http.MethodGet, path: "auth/token/lookup-self", repeat: true})
}

// LookupToken describes another client token.
func (c *Client) LookupToken(ctx context.Context, token string) (*api.TokenInfo, error) {
	return call[api.TokenInfo](ctx, c, request{method: http.MethodPut, path: "auth/token/lookup", body: api.TokenID{Token: token}, repeat: true})
}

// RenewSelf prolongs the client's own token; increment 0 leaves the time to the server.
func (c *Client) RenewSelf(ctx context.Context, increment api.Seconds) (*api.Auth, error) {
	return c.auth(ctx, request{method: http.MethodPut, path: "auth/token/renew-self", body: api.RenewToken{Increment: increment}, repeat: true})
}

// RenewToken prolongs another client token.
func (c *Client) RenewToken(ctx context.Context, token string, increment api.Seconds) (*api.Auth, error) {
	return c.auth(ctx, request{method: http.MethodPut, path: "auth/token/renew", body: api.RenewToken{Token: token, Increment: increment}, repeat: true})
}

// RevokeSelf ends the client's own token and its children.
func (c *Client) RevokeSelf(ctx context.Context) error {
	return c.do(ctx, request{method: http.MethodPut, path: "auth/token/revoke-self", body: api.Empty{}})
}

// RevokeToken ends another client token and its children.
func (c *Client) RevokeToken(ctx context.Context, token string) error {
	return c.do(ctx, request{method: http.MethodPut, path: "auth/token/revoke", body: api.TokenID{Token: token}})
}

func (c *Client) auth(ctx context.Context, r request) (*api.Auth, error) {
	env, err := c.exchange(ctx, r)
	if err != nil {
		return nil, err
	}
	if env == nil || env.Auth == nil {
		return nil, errors.New("the server's answer carries no client token")
	}
	return env.Auth, nil
}
