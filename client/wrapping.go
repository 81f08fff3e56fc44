package client

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/claviger/claviger/api"
)

// Wrap keeps data, which must be a JSON object, on the server for ttl (whole
// seconds) and returns the token that opens it once. It is never sent twice.
func (c *Client) Wrap(ctx context.Context, data any, ttl time.Duration) (*api.WrapInfo, error) {
	return c.wrapped(ctx, request{method: http.MethodPut, path: "sys/wrapping/wrap", body: data, wrap: ttl})
}

// CreateTokenWrapped makes a client token that nobody sees but who opens the
// wrapped answer within ttl (whole seconds). It is never sent twice.
func (c *Client) CreateTokenWrapped(ctx context.Context, r api.CreateToken, ttl time.Duration) (*api.WrapInfo, error) {
	return c.wrapped(ctx, request{method: http.MethodPut, path: "auth/token/create", body: r, wrap: ttl})
}

// Unwrap returns what a wrapping token opens, once: it is never sent twice. No
// client token is needed.
func (c *Client) Unwrap(ctx context.Context, token string) (*api.Unwrapped, error) {
	env, err := c.WithToken(token).exchange(ctx, request{method: http.MethodPut, path: "sys/wrapping/unwrap", body: api.Empty{}})
	if err != nil {
		return nil, err
	}
	if env == nil {
		return nil, errors.New("the server's answer holds nothing that was wrapped")
	}
	return &api.Unwrapped{Data: env.Data, Auth: env.Auth}, nil
}

// RenewWrapping keeps a wrapped answer under a new wrapping token, for its whole
// time again. The old token opens nothing any more. It is never sent twice.
func (c *Client) RenewWrapping(ctx context.Context, token string) (*api.WrapInfo, error) {
	return c.WithToken(token).wrapped(ctx, request{method: http.MethodPut, path: "sys/wrapping/rewrap", body: api.Empty{}})
}

// LookupWrapping describes a wrapped answer without opening it.
func (c *Client) LookupWrapping(ctx context.Context, token string) (*api.WrappingInfo, error) {
	return call[api.WrappingInfo](ctx, c.WithToken(token),
		request{method: http.MethodPut, path: "sys/wrapping/lookup", body: api.Empty{}, repeat: true})
}

func (c *Client) wrapped(ctx context.Context, r request) (*api.WrapInfo, error) {
	if r.wrap%time.Second != 0 || r.wrap < 0 {
		return nil, errors.New("a wrapped answer is kept for a whole number of seconds")
	}
	env, err := c.exchange(ctx, r)
	if err != nil {
		return nil, err
	}
	if env == nil || env.WrapInfo == nil {
		return nil, errors.New("the server's answer carries no wrapping token")
	}
	return env.WrapInfo, nil
}
