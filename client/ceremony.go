package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/claviger/claviger/api"
)

// CeremonyStatement returns the signed statement of the last ceremony of an act:
// api.ActInit, api.ActRekey or api.ActGenerateRoot.
func (c *Client) CeremonyStatement(ctx context.Context, act string) (*api.SignedStatement, error) {
	return call[api.SignedStatement](ctx, c, request{method: http.MethodGet, path: "sys/ceremony/" + url.PathEscape(act), repeat: true})
}
