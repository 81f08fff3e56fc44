package client

import (
	"context"

	"github.com/claviger/claviger/api"
)

// SendAgain is Send for an operation that may be performed twice, such as a
// signature or a search: it is tried again, and at the next address, wherever that
// may help.
func (c *Client) SendAgain(ctx context.Context, method, path string, body any) (*api.Envelope, error) {
	r, err := anyPath(method, path, body)
	if err != nil {
		return nil, err
	}
	r.repeat = true
	return c.exchange(ctx, r)
}
