package keys

import (
	"context"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

// OpenBytes decrypts a ciphertext of the operation encrypt for the server's own
// use, as part of a call that has been allowed and recorded. mount has its slash.
// Errors are those of decrypt. The caller wipes the result.
func (s *Service) OpenBytes(ctx context.Context, mount, name, ciphertext string, aad []byte) ([]byte, error) {
	r, err := s.decrypt(ctx, &op.Call{Mount: mount}, &api.Decrypt{Name: name, Ciphertext: ciphertext, AssociatedData: aad})
	if err != nil {
		return nil, err
	}
	return *r.Plaintext, nil
}
