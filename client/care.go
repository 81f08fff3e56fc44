package client

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/api"
)

// SoftDeleteKey makes a key refuse every use until RestoreSoftDeletedKey.
func (c *Client) SoftDeleteKey(ctx context.Context, name string) error {
	path, err := below(c.mount, "keys", name, "soft-delete")
	if err != nil {
		return err
	}
	return c.do(ctx, request{method: http.MethodDelete, path: path, repeat: true})
}

// RestoreSoftDeletedKey brings a soft-deleted key back into use.
func (c *Client) RestoreSoftDeletedKey(ctx context.Context, name string) error {
	return c.act(ctx, repeatable(api.Empty{}), "keys", name, "soft-delete-restore")
}

// SignCSR makes a certificate request in PEM, signed by a key where its secret is.
func (c *Client) SignCSR(ctx context.Context, r api.SignCSR) (*api.SignedCSR, error) {
	return on[api.SignedCSR](ctx, c, repeatable(r), "keys", r.Name, "csr")
}

// SetCertificate keeps a certificate chain beside a version of a key.
func (c *Client) SetCertificate(ctx context.Context, r api.SetCertificate) error {
	return c.act(ctx, repeatable(r), "keys", r.Name, "set-certificate")
}

// BackupKey returns a key as a sealed blob, which only the same cluster opens.
func (c *Client) BackupKey(ctx context.Context, name string) (*api.Backup, error) {
	return on[api.Backup](ctx, c, request{method: http.MethodGet, repeat: true}, "backup", name)
}

// RestoreKey brings a key back from a backup. It is never sent twice: the
// second would find the key there, or replace it again.
func (c *Client) RestoreKey(ctx context.Context, r api.Restore) error {
	return c.act(ctx, single(r), withOption(r.Name, "restore")...)
}

// WrappingKey returns the public key, in PEM, that keys to be imported are
// wrapped with. It is made at the first call.
func (c *Client) WrappingKey(ctx context.Context) (*api.WrappingKey, error) {
	return on[api.WrappingKey](ctx, c, request{method: http.MethodGet, repeat: true}, "wrapping_key")
}

// ImportKey makes a key of a wrapped secret or a public key. It is never sent
// twice: the second would find the key there.
func (c *Client) ImportKey(ctx context.Context, r api.ImportKey) error {
	return c.act(ctx, single(r), "keys", r.Name, "import")
}

// ImportKeyVersion adds a version to an imported key. It is never sent twice.
func (c *Client) ImportKeyVersion(ctx context.Context, r api.ImportKeyVersion) error {
	return c.act(ctx, single(r), "keys", r.Name, "import_version")
}

// act calls an operation that answers nothing.
func (c *Client) act(ctx context.Context, r request, parts ...string) error {
	path, err := below(c.mount, parts...)
	if err != nil {
		return err
	}
	r.path = path
	return c.do(ctx, r)
}
