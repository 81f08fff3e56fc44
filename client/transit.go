package client

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"

	"github.com/claviger/claviger/api"
)

// on calls an operation of the transit engine with what at names.
func on[T any](ctx context.Context, c *Client, r request, parts ...string) (*T, error) {
	path, err := below(c.mount, parts...)
	if err != nil {
		return nil, err
	}
	r.path = path
	return call[T](ctx, c, r)
}

// repeatable is a write that may be sent twice, single one that may not.
func repeatable(body any) request { return request{method: http.MethodPut, body: body, repeat: true} }
func single(body any) request     { return request{method: http.MethodPut, body: body} }

// CreateKey makes a key. If it exists nothing changes, and a warning says so.
func (c *Client) CreateKey(ctx context.Context, r api.CreateKey) (*api.Key, error) {
	return on[api.Key](ctx, c, repeatable(r), "keys", r.Name)
}

// ReadKey describes a key.
func (c *Client) ReadKey(ctx context.Context, name string) (*api.Key, error) {
	return on[api.Key](ctx, c, request{method: http.MethodGet, repeat: true}, "keys", name)
}

// ReadKeyFor describes a derived key, with the public keys for a context.
func (c *Client) ReadKeyFor(ctx context.Context, name string, keyContext []byte) (*api.Key, error) {
	query := url.Values{"context": {base64.StdEncoding.EncodeToString(keyContext)}}
	return on[api.Key](ctx, c, request{method: http.MethodGet, query: query.Encode(), repeat: true}, "keys", name)
}

// ListKeys returns the names of all keys, none if there are none.
func (c *Client) ListKeys(ctx context.Context) ([]string, error) {
	path, err := below(c.mount, "keys")
	if err != nil {
		return nil, err
	}
	return c.list(ctx, path)
}

// RotateKey adds a version to a key. It is never sent twice.
func (c *Client) RotateKey(ctx context.Context, name string) (*api.Key, error) {
	return on[api.Key](ctx, c, single(api.Empty{}), "keys", name, "rotate")
}

// ConfigKey changes the rules of a key.
func (c *Client) ConfigKey(ctx context.Context, r api.ConfigKey) (*api.Key, error) {
	return on[api.Key](ctx, c, repeatable(r), "keys", r.Name, "config")
}

// DeleteKey deletes a key with all its versions, if its rules allow it. It is
// never sent twice: the second would not find it.
func (c *Client) DeleteKey(ctx context.Context, name string) error {
	path, err := below(c.mount, "keys", name)
	if err != nil {
		return err
	}
	return c.do(ctx, request{method: http.MethodDelete, path: path})
}

// PublicKeys returns the public halves of a key's versions; version is a
// number, "latest", or "" for all.
func (c *Client) PublicKeys(ctx context.Context, name, version string) (*api.ExportedKey, error) {
	parts := []string{"export", "public-key", name}
	if version != "" {
		parts = append(parts, version)
	}
	return on[api.ExportedKey](ctx, c, request{method: http.MethodGet, repeat: true}, parts...)
}

// Encrypt encrypts one plaintext or a batch. A batch in which items fail is an
// answer, not an error: look at each item's Error.
func (c *Client) Encrypt(ctx context.Context, r api.Encrypt) (*api.Encrypted, error) {
	return on[api.Encrypted](ctx, c, repeatable(r), "encrypt", r.Name)
}

// Decrypt decrypts one ciphertext or a batch, see Encrypt.
func (c *Client) Decrypt(ctx context.Context, r api.Decrypt) (*api.Decrypted, error) {
	return on[api.Decrypted](ctx, c, repeatable(r), "decrypt", r.Name)
}

// Rewrap encrypts ciphertext again with another version of its key.
func (c *Client) Rewrap(ctx context.Context, r api.Rewrap) (*api.Encrypted, error) {
	return on[api.Encrypted](ctx, c, repeatable(r), "rewrap", r.Name)
}

// DataKey returns a random key, encrypted under a named key. Kind is
// "plaintext" or "wrapped".
func (c *Client) DataKey(ctx context.Context, r api.DataKey) (*api.DataKeyResult, error) {
	return on[api.DataKeyResult](ctx, c, repeatable(r), "datakey", r.Kind, r.Name)
}

// Sign signs one input or a batch.
func (c *Client) Sign(ctx context.Context, r api.Sign) (*api.Signature, error) {
	return on[api.Signature](ctx, c, repeatable(r), withOption(r.URLHash, "sign", r.Name)...)
}

// Verify checks signatures or HMACs.
func (c *Client) Verify(ctx context.Context, r api.Verify) (*api.Verified, error) {
	return on[api.Verified](ctx, c, repeatable(r), withOption(r.URLHash, "verify", r.Name)...)
}

// HMAC makes message authentication codes.
func (c *Client) HMAC(ctx context.Context, r api.HMAC) (*api.HMACResult, error) {
	return on[api.HMACResult](ctx, c, repeatable(r), withOption(r.URLAlgorithm, "hmac", r.Name)...)
}

// Random returns random bytes of the HSM token.
func (c *Client) Random(ctx context.Context, r api.Random) (*api.RandomBytes, error) {
	return on[api.RandomBytes](ctx, c, repeatable(r), withOption(r.Source, "random")...)
}

// withOption appends a last segment that may be absent.
func withOption(option string, parts ...string) []string {
	if option == "" {
		return parts
	}
	return append(parts, option)
}
