package client

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/api"
)

// FindP11 looks for keys and stored objects as PKCS#11 does; with Next of an answer
// as After it goes on.
func (c *Client) FindP11(ctx context.Context, r api.P11Find) (*api.P11Found, error) {
	return on[api.P11Found](ctx, c, repeatable(r), "pkcs11-find")
}

// CreateP11Key makes a key for PKCS#11. It is never sent twice: the second would
// find the key there.
func (c *Client) CreateP11Key(ctx context.Context, r api.P11Create) (*api.P11Key, error) {
	return on[api.P11Key](ctx, c, single(r), "pkcs11", r.Name, "create")
}

// SetP11Key changes what PKCS#11 shows of a key; with nothing set it only counts as
// a use of a session's key. A request with Keep is never sent twice: the second
// would not find the key under its old name.
func (c *Client) SetP11Key(ctx context.Context, r api.P11Settings) (*api.P11Key, error) {
	send := repeatable(r)
	if r.Keep != "" {
		send = single(r)
	}
	return on[api.P11Key](ctx, c, send, "pkcs11", r.Name, "settings")
}

// EncryptP11 encrypts as a mechanism of PKCS#11 does. The caller chooses the IV.
func (c *Client) EncryptP11(ctx context.Context, r api.P11Cipher) ([]byte, error) {
	out, err := on[api.P11Output](ctx, c, repeatable(r), "pkcs11", r.Name, "encrypt")
	if err != nil {
		return nil, err
	}
	return out.Output, nil
}

// DecryptP11 decrypts as a mechanism of PKCS#11 does.
func (c *Client) DecryptP11(ctx context.Context, r api.P11Cipher) ([]byte, error) {
	out, err := on[api.P11Output](ctx, c, repeatable(r), "pkcs11", r.Name, "decrypt")
	if err != nil {
		return nil, err
	}
	return out.Output, nil
}

// Agree returns the secret that a key shares with another's public key (ECDH),
// without a key derivation function. The caller wipes it.
func (c *Client) Agree(ctx context.Context, r api.P11Agree) ([]byte, error) {
	out, err := on[api.P11Shared](ctx, c, repeatable(r), "pkcs11", r.Name, "agree")
	if err != nil {
		return nil, err
	}
	return out.Secret, nil
}

// PutP11Object stores an object, or replaces its attributes.
func (c *Client) PutP11Object(ctx context.Context, r api.P11PutObject) (*api.P11Object, error) {
	return on[api.P11Object](ctx, c, repeatable(r), "pkcs11-objects", r.ID)
}

// DeleteP11Object deletes a stored object.
func (c *Client) DeleteP11Object(ctx context.Context, id string) error {
	path, err := below(c.mount, "pkcs11-objects", id)
	if err != nil {
		return err
	}
	return c.do(ctx, request{method: http.MethodDelete, path: path, repeat: true})
}
