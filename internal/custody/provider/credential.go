package provider

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/claviger/claviger/internal/fault"
)

// Sizes of a systemd credential that serves as a secret, in bytes.
const (
	minCredential = 32
	maxCredential = 4096
)

// Credential encrypts under a secret that systemd hands to the service
// (LoadCredentialEncrypted=, systemd.exec(5)), which itself keeps it sealed to the
// machine's TPM or to a key of the machine.
type Credential struct {
	CredentialName string
	Dir            string // "" is what CREDENTIALS_DIRECTORY says
}

// Name returns "systemd-credential".
func (c *Credential) Name() string { return "systemd-credential" }

// Seal returns
//
//	nonce (12 bytes) ‖ AES-256-GCM(key) ‖ tag (16 bytes)
//
// under HKDF-SHA256 (RFC 5869) of the credential's bytes, without salt and with the
// info "claviger credential 1".
func (c *Credential) Seal(_ context.Context, key []byte) ([]byte, error) {
	aead, err := c.aead()
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, key, nil), nil
}

// Open is the reverse of Seal.
func (c *Credential) Open(_ context.Context, blob []byte) ([]byte, error) {
	aead, err := c.aead()
	if err != nil {
		return nil, err
	}
	key, err := aead.Open(nil, nil, blob, nil)
	if err != nil {
		return nil, (&fault.Error{Kind: fault.Conflict, Err: err,
			Msg: "the credential " + c.CredentialName + " is not the one under which it was sealed"}).
			WithHint("put the right credential back, or give the recovery shares with migrate (claviger unseal --migrate)")
	}
	return key, nil
}

func (c *Credential) aead() (cipher.AEAD, error) {
	secret, err := c.read()
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	key, err := hkdf.Key(sha256.New, secret, nil, "claviger credential 1", 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (c *Credential) read() ([]byte, error) {
	dir := c.Dir
	if dir == "" {
		dir = os.Getenv("CREDENTIALS_DIRECTORY")
	}
	if dir == "" {
		return nil, fault.New(fault.Conflict, "there are no systemd credentials: CREDENTIALS_DIRECTORY is not set").
			WithHint("start the server by a systemd unit with LoadCredentialEncrypted=%s", c.CredentialName)
	}
	secret, err := os.ReadFile(filepath.Join(dir, c.CredentialName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, (&fault.Error{Kind: fault.Conflict, Msg: "there is no systemd credential " + c.CredentialName, Err: err}).
			WithHint("add LoadCredentialEncrypted=%s to the unit of the server", c.CredentialName)
	case err != nil:
		return nil, fault.Wrap(fault.Unavailable, err, "the systemd credential %s can't be read", c.CredentialName)
	case len(secret) < minCredential || len(secret) > maxCredential:
		clear(secret)
		return nil, fault.New(fault.Conflict, "the systemd credential %s has %d bytes; it must have %d to %d, all of them random",
			c.CredentialName, len(secret), minCredential, maxCredential)
	}
	return secret, nil
}
