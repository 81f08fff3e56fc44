package client

import (
	"context"
	"net/http"
	"strings"

	"github.com/claviger/claviger/api"
)

// LookupLease describes a lease.
func (c *Client) LookupLease(ctx context.Context, id string) (*api.LeaseInfo, error) {
	return call[api.LeaseInfo](ctx, c, request{method: http.MethodPut, path: "sys/leases/lookup", body: api.LookupLease{LeaseID: id}, repeat: true})
}

// ListLeases returns what stands below a path in the IDs of leases: the last part
// of an ID, or a further path, with a slash at its end. "" is the top.
func (c *Client) ListLeases(ctx context.Context, prefix string) ([]string, error) {
	path, err := leasePath("sys/leases/lookup", prefix)
	if err != nil {
		return nil, err
	}
	return c.list(ctx, path)
}

// RevokeLease ends a lease; that of a client token ends its children too.
func (c *Client) RevokeLease(ctx context.Context, id string) error {
	return c.do(ctx, request{method: http.MethodPut, path: "sys/leases/revoke", body: api.RevokeLease{LeaseID: id}, repeat: true})
}

// RevokeLeases ends all leases below a path.
func (c *Client) RevokeLeases(ctx context.Context, prefix string) error {
	path, err := below("sys/leases/revoke-prefix", segments(prefix)...)
	if err != nil {
		return err
	}
	return c.do(ctx, request{method: http.MethodPut, path: path, body: api.Empty{}, repeat: true})
}

func leasePath(path, prefix string) (string, error) {
	if strings.Trim(prefix, "/") == "" {
		return path, nil
	}
	return below(path, segments(prefix)...)
}

func segments(prefix string) []string { return strings.Split(strings.Trim(prefix, "/"), "/") }
