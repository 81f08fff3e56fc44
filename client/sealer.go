package client

import (
	"context"
	"errors"

	"github.com/claviger/claviger/api"
)

// Sealer is a named key of an AEAD type (aes256-gcm96 and its like) for
// authenticated encryption. It is safe for concurrent use.
//
// The server chooses the nonces, as the safety of the key depends on them, and a
// call over the network may fail: AEAD gives a cipher.AEAD for programs that need
// that interface nevertheless. Versions are the server's business too:
// Seal uses the newest and Open the one that the ciphertext names, so a rotation
// needs no change in the program.
type Sealer struct {
	client *Client
	name   string
}

// Sealer returns a key to seal and open with. It does not call the server.
func (c *Client) Sealer(name string) *Sealer { return &Sealer{c, name} }

// Seal encrypts and authenticates plaintext, and authenticates associatedData,
// which may be nil and is needed to open. The ciphertext is a text without
// spaces, "vault:v1:…". If there is no key of the name and the client may create
// one, the server makes it.
func (s *Sealer) Seal(ctx context.Context, plaintext, associatedData []byte) (string, error) {
	if plaintext == nil {
		plaintext = []byte{} // nil would not be sent
	}
	answer, err := s.client.Encrypt(ctx, api.Encrypt{Name: s.name, Plaintext: plaintext, AssociatedData: associatedData})
	if err != nil {
		return "", err
	}
	if answer.Ciphertext == "" {
		return "", errors.New("the server's answer has no ciphertext")
	}
	return answer.Ciphertext, nil
}

// Open checks and decrypts what Seal made with the same associatedData. A
// ciphertext that was altered, or belongs to other associated data or another
// key, is an *api.Error of status 400; it does not tell which.
func (s *Sealer) Open(ctx context.Context, ciphertext string, associatedData []byte) ([]byte, error) {
	answer, err := s.client.Decrypt(ctx, api.Decrypt{Name: s.name, Ciphertext: ciphertext, AssociatedData: associatedData})
	if err != nil {
		return nil, err
	}
	return plaintextOf(answer)
}
