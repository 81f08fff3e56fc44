package client

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/api"
)

// rootPath is the form of generate-root for callers with a client token. The other
// form answers the same, without an envelope, if the server's configuration
// allows it.
func rootPath(open bool) string {
	if open {
		return "sys/generate-root/"
	}
	return "sys/generate-root-token/"
}

func rootCall(ctx context.Context, c *Client, open bool, r request) (*api.GenerateRootStatus, error) {
	r.path = rootPath(open) + r.path
	if open {
		return bare[api.GenerateRootStatus](ctx, c, r)
	}
	return call[api.GenerateRootStatus](ctx, c, r)
}

// GenerateRootStatus shows how far the making of a root token is. In this and the
// calls below, open chooses the form for callers without a client token.
func (c *Client) GenerateRootStatus(ctx context.Context, open bool) (*api.GenerateRootStatus, error) {
	return rootCall(ctx, c, open, request{method: http.MethodGet, path: "attempt", repeat: true})
}

// StartGenerateRoot begins to make a root token. The one-time pad in the answer,
// if there is one, is shown only now. It is never sent twice.
func (c *Client) StartGenerateRoot(ctx context.Context, open bool, r api.StartGenerateRoot) (*api.GenerateRootStatus, error) {
	return rootCall(ctx, c, open, request{method: http.MethodPut, path: "attempt", body: r})
}

// GiveRootShare gives a share; the last one makes the token. It is never sent twice.
func (c *Client) GiveRootShare(ctx context.Context, open bool, r api.GiveRootShare) (*api.GenerateRootStatus, error) {
	return rootCall(ctx, c, open, request{method: http.MethodPut, path: "update", body: r})
}

// CancelGenerateRoot forgets the shares given so far.
func (c *Client) CancelGenerateRoot(ctx context.Context, open bool) error {
	return c.do(ctx, request{method: http.MethodDelete, path: rootPath(open) + "attempt", repeat: true})
}
