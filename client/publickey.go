package client

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"

	"github.com/claviger/claviger/api"
)

// PublicKey returns the public half of a version of an asymmetric key, an
// *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey; version 0 is the
// newest. The caller needs the right to read the key.
func (c *Client) PublicKey(ctx context.Context, name string, version int) (crypto.PublicKey, error) {
	v, err := c.keyVersion(ctx, name, version)
	if err != nil {
		return nil, err
	}
	return v.public, nil
}

// keyVersion is a version of a named key, as its crypto types use it.
type keyVersion struct {
	client  *Client
	ctx     context.Context // nil for none: the methods of package crypto take no context
	name    string
	version int
	public  crypto.PublicKey
}

// Public returns the public key, as PublicKey does.
func (v *keyVersion) Public() crypto.PublicKey { return v.public }

// Version returns the number of the key's version, from 1.
func (v *keyVersion) Version() int { return v.version }

func (v *keyVersion) context() context.Context {
	if v.ctx == nil {
		return context.Background()
	}
	return v.ctx
}

// prefix begins the texts that the server makes with this version.
func (v *keyVersion) prefix() string { return "vault:v" + strconv.Itoa(v.version) + ":" }

// keyVersion reads a version of an asymmetric key, 0 for the newest.
func (c *Client) keyVersion(ctx context.Context, name string, version int) (*keyVersion, error) {
	k, err := c.ReadKey(ctx, name)
	if err != nil {
		return nil, err
	}
	if version == 0 {
		version = k.LatestVersion
	}
	raw, ok := k.Keys[strconv.Itoa(version)]
	if !ok {
		return nil, fmt.Errorf("key %s has no version %d that may be used; the newest is %d", name, version, k.LatestVersion)
	}
	var shown api.KeyVersion
	if err := json.Unmarshal(raw, &shown); err != nil || shown.PublicKey == "" {
		return nil, fmt.Errorf("key %s is of type %s, which has no public key", name, k.Type)
	}
	public, err := parsePublicKey(shown.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("public key of %s: %w", name, err)
	}
	return &keyVersion{client: c, name: name, version: version, public: public}, nil
}

// parsePublicKey reads PEM of a PKIX key, or the base64 of the 32 bytes of an
// Ed25519 key (RFC 8032 section 5.1.5), as Vault's API shows them.
func parsePublicKey(text string) (crypto.PublicKey, error) {
	if block, _ := pem.Decode([]byte(text)); block != nil {
		return x509.ParsePKIXPublicKey(block.Bytes)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%.40q is neither PEM nor the base64 of %d bytes", text, ed25519.PublicKeySize)
	}
	return ed25519.PublicKey(raw), nil
}
