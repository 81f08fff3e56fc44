package client

import (
	"context"
	"net/http"
	"strings"

	"github.com/claviger/claviger/api"
)

// Help explains a path, such as "transit/encrypt/app", or a whole mount, such
// as "transit".
func (c *Client) Help(ctx context.Context, path string) (*api.PathHelp, error) {
	escaped, err := at(strings.Split(strings.Trim(path, "/"), "/")...)
	if err != nil {
		return nil, err
	}
	return bare[api.PathHelp](ctx, c, request{method: http.MethodGet, path: escaped, query: "help=1", repeat: true})
}
