package client

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/api"
)

// MoveMount moves an engine with all its keys to another path; it is done when
// MoveMount returns. It is never sent twice.
func (c *Client) MoveMount(ctx context.Context, from, to string) error {
	_, err := call[api.Remounted](ctx, c, request{method: http.MethodPut, path: "sys/remount", body: api.Remount{From: from, To: to}})
	return err
}

// AuditHash returns how the audit log shows a value.
func (c *Client) AuditHash(ctx context.Context, value string) (string, error) {
	h, err := call[api.AuditHashed](ctx, c, request{method: http.MethodPut, path: "sys/audit-hash/file",
		body: api.AuditHash{Input: value}, repeat: true})
	if err != nil {
		return "", err
	}
	return h.Hash, nil
}
