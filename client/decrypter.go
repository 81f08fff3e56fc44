package client

import (
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/claviger/claviger/api"
)

// Decrypter is a version of a named RSA key as a crypto.Decrypter. It is safe
// for concurrent use.
type Decrypter struct{ keyVersion }

var _ crypto.Decrypter = (*Decrypter)(nil)

// Decrypter returns a version of a key of type rsa-… to decrypt with; version 0
// is the one that is the newest now. It reads the key, and stays with the
// version: its public key belongs to that one alone.
func (c *Client) Decrypter(ctx context.Context, name string, version int) (*Decrypter, error) {
	v, err := c.keyVersion(ctx, name, version)
	if err != nil {
		return nil, err
	}
	if _, ok := v.public.(*rsa.PublicKey); !ok {
		return nil, fmt.Errorf("key %s does not decrypt what was encrypted with a public key: it is no RSA key", name)
	}
	return &Decrypter{*v}, nil
}

// WithContext returns a decrypter whose calls end with ctx. Without one a call
// ends after the client's timeout.
func (d *Decrypter) WithContext(ctx context.Context) *Decrypter {
	e := *d
	e.ctx = ctx
	return &e
}

// Decrypt decrypts what rsa.EncryptOAEP made with SHA-256, for the hash and for
// MGF1, and no label (RFC 8017 section 7.1): the one padding that the server
// offers. opts must be &rsa.OAEPOptions{Hash: crypto.SHA256}. The reader is not
// used. Errors do not tell why a ciphertext does not open.
func (d *Decrypter) Decrypt(_ io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if o, ok := opts.(*rsa.OAEPOptions); !ok || o.Hash != crypto.SHA256 || o.MGFHash != 0 && o.MGFHash != crypto.SHA256 || len(o.Label) > 0 {
		return nil, errors.New("only OAEP with SHA-256 and no label is offered: opts must be &rsa.OAEPOptions{Hash: crypto.SHA256}")
	}
	answer, err := d.client.Decrypt(d.context(), api.Decrypt{
		Name: d.name, Ciphertext: d.prefix() + base64.StdEncoding.EncodeToString(msg),
	})
	if err != nil {
		return nil, err
	}
	return plaintextOf(answer)
}

// plaintextOf returns the plaintext of an answer that must have one.
func plaintextOf(answer *api.Decrypted) ([]byte, error) {
	if answer.Plaintext == nil {
		return nil, errors.New("the server's answer has no plaintext")
	}
	return *answer.Plaintext, nil
}
