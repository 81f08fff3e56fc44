package client

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/api"
)

// RekeyStatus shows how far the replacing of the shares is.
func (c *Client) RekeyStatus(ctx context.Context) (*api.RekeyStatus, error) {
	return call[api.RekeyStatus](ctx, c, request{method: http.MethodGet, path: "sys/rekey/init", repeat: true})
}

// StartRekey begins to replace the shares. It is never sent twice.
func (c *Client) StartRekey(ctx context.Context, r api.StartRekey) (*api.RekeyStatus, error) {
	return call[api.RekeyStatus](ctx, c, request{method: http.MethodPut, path: "sys/rekey/init", body: r})
}

// CancelRekey forgets the shares given and made; those in force stay.
func (c *Client) CancelRekey(ctx context.Context) error {
	return c.do(ctx, request{method: http.MethodDelete, path: "sys/rekey/init", repeat: true})
}

// GiveRekeyShare gives a share that is in force; the answer of the last one holds the
// new shares, shown only now. It is never sent twice.
func (c *Client) GiveRekeyShare(ctx context.Context, r api.GiveRekeyShare) (*api.RekeyStatus, error) {
	return call[api.RekeyStatus](ctx, c, request{method: http.MethodPut, path: "sys/rekey/update", body: r})
}

// RekeyVerification shows how far the verification of the new shares is.
func (c *Client) RekeyVerification(ctx context.Context) (*api.RekeyVerifyStatus, error) {
	return call[api.RekeyVerifyStatus](ctx, c, request{method: http.MethodGet, path: "sys/rekey/verify", repeat: true})
}

// VerifyRekeyShare gives a new share; the last one puts the new ones in force. It is
// never sent twice.
func (c *Client) VerifyRekeyShare(ctx context.Context, r api.GiveRekeyShare) (*api.RekeyVerifyStatus, error) {
	return call[api.RekeyVerifyStatus](ctx, c, request{method: http.MethodPut, path: "sys/rekey/verify", body: r})
}

// RestartRekeyVerification forgets the new shares given, and returns the new nonce.
func (c *Client) RestartRekeyVerification(ctx context.Context) (*api.RekeyVerifyStatus, error) {
	return call[api.RekeyVerifyStatus](ctx, c, request{method: http.MethodDelete, path: "sys/rekey/verify"})
}

// RekeyBackup returns the encrypted shares of the last rekey that kept them.
func (c *Client) RekeyBackup(ctx context.Context) (*api.RekeyBackup, error) {
	return call[api.RekeyBackup](ctx, c, request{method: http.MethodGet, path: "sys/rekey/backup", repeat: true})
}

// DeleteRekeyBackup deletes them.
func (c *Client) DeleteRekeyBackup(ctx context.Context) error {
	return c.do(ctx, request{method: http.MethodDelete, path: "sys/rekey/backup", repeat: true})
}

// ShareSet returns what everybody may know of the shares in force. It needs no
// client token, and works while the server is sealed.
func (c *Client) ShareSet(ctx context.Context) (*api.ShareSet, error) {
	return bare[api.ShareSet](ctx, c, request{method: http.MethodGet, path: "sys/share-set", repeat: true})
}
