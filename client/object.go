package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/claviger/claviger/api"
)

// AdoptKey makes a named key of a key that lies in the HSM token already. It may be
// repeated.
func (c *Client) AdoptKey(ctx context.Context, r api.AdoptKey) (*api.Key, error) {
	path, err := below(c.mount, "keys", r.Name, "adopt")
	if err != nil {
		return nil, err
	}
	return call[api.Key](ctx, c, request{method: http.MethodPut, path: path, body: r, repeat: true})
}

// HSMObjects lists the private and secret keys that lie in the HSM token.
func (c *Client) HSMObjects(ctx context.Context, r api.HSMObjects) (*api.HSMObjectList, error) {
	q := url.Values{}
	for name, value := range map[string]string{"label": r.Label, "id": r.ID, "class": r.Class} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if r.Limit != 0 {
		q.Set("limit", strconv.Itoa(r.Limit))
	}
	return call[api.HSMObjectList](ctx, c, request{method: http.MethodGet, path: "sys/hsm/objects", query: q.Encode(), repeat: true})
}
