package client

import (
	"context"
	"net/http"
	"strings"

	"github.com/claviger/claviger/api"
)

// DisableMount unmounts an engine and deletes all its keys for ever. If the
// server says that not everything is deleted yet, call it again.
func (c *Client) DisableMount(ctx context.Context, path string) error {
	at, err := mountAt(path)
	if err != nil {
		return err
	}
	return c.do(ctx, request{method: http.MethodDelete, path: at, repeat: true})
}

// MountTuning returns the tuning of a mount.
func (c *Client) MountTuning(ctx context.Context, path string) (*api.MountTuning, error) {
	at, err := mountAt(path)
	if err != nil {
		return nil, err
	}
	return call[api.MountTuning](ctx, c, request{method: http.MethodGet, path: at + "/tune", repeat: true})
}

// TuneMount changes the tuning of a mount.
func (c *Client) TuneMount(ctx context.Context, r api.TuneMount) error {
	at, err := mountAt(r.Path)
	if err != nil {
		return err
	}
	return c.do(ctx, request{method: http.MethodPut, path: at + "/tune", body: r, repeat: true})
}

func mountAt(path string) (string, error) {
	return below("sys/mounts", strings.Split(strings.Trim(path, "/"), "/")...)
}
