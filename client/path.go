package client

import (
	"context"
	"net/http"
	"strings"

	"github.com/claviger/claviger/api"
)

// Send calls any path of the API, such as "pki/config/est", for operations that
// have no method of their own. The method is GET, LIST, POST, PUT, PATCH or DELETE;
// body is encoded as JSON, nil sends none. The answer is nil if the server has
// nothing to say. GET and LIST are tried again where that may help, the others are
// only where the server has not seen them. Errors of the server are *api.Error.
func (c *Client) Send(ctx context.Context, method, path string, body any) (*api.Envelope, error) {
	r, err := anyPath(method, path, body)
	if err != nil {
		return nil, err
	}
	return c.exchange(ctx, r)
}

// anyPath is a call of a path that is not escaped yet.
func anyPath(method, path string, body any) (request, error) {
	escaped, err := at(strings.Split(strings.Trim(path, "/"), "/")...)
	r := request{method: method, path: escaped, body: body, repeat: method == http.MethodGet || method == "LIST"}
	if method == "LIST" { // which is no method that every proxy knows
		r.method, r.query = http.MethodGet, "list=true"
	}
	return r, err
}
