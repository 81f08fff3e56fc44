package keys

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

// Schemes of older programs.
const (
	// schemePKCS1v15 is RSAES-PKCS1-v1_5 (RFC 8017 section 7.2), for decryption only.
	schemePKCS1v15 = "rsa-pkcs1v15"
	// schemeOAEPSHA1 is RSAES-OAEP (section 7.1) with SHA-1 for both hashes.
	schemeOAEPSHA1 = "rsa-oaep-sha1"
	// schemeCBC is AES-CBC with PKCS #7 padding, CKM_AES_CBC_PAD.
	schemeCBC = "aes-cbc"
)

// Older programs' keys are one object: of a key that was rotated since, they mean the
// first version.
const legacyVersion = 1

func (s *Service) legacyEncrypt(ctx context.Context, c *op.Call, r *api.LegacyEncrypt) (*api.LegacyEncrypted, error) {
	ref := Ref{Mount: c.Mount, Name: r.Name, Version: legacyVersion}
	var ciphertext []byte
	var err error
	switch r.Scheme {
	case schemeOAEPSHA1:
		ciphertext, err = s.encryptOAEPSHA1(ctx, ref, r.Plaintext)
	case schemeCBC:
		ciphertext, err = s.EncryptCBC(ctx, ref, r.IV, r.Plaintext)
	default:
		return nil, invalid("scheme %q: it must be %s or %s", r.Scheme, schemeOAEPSHA1, schemeCBC)
	}
	if err != nil {
		return nil, err
	}
	return &api.LegacyEncrypted{Ciphertext: ciphertext}, nil
}

// encryptOAEPSHA1 encrypts with the public half of a key, outside the HSM token.
func (s *Service) encryptOAEPSHA1(ctx context.Context, r Ref, plaintext []byte) ([]byte, error) {
	public, err := s.PublicKey(ctx, r)
	if err != nil {
		return nil, err
	}
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		return nil, invalid("the key %s is no RSA key", r.Name)
	}
	ciphertext, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key, plaintext, nil)
	if errors.Is(err, rsa.ErrMessageTooLong) {
		return nil, invalid("the plaintext has %d bytes; a key of this size encrypts at most %d", len(plaintext), key.Size()-2*sha1.Size-2)
	}
	return ciphertext, err
}

func (s *Service) legacyDecrypt(ctx context.Context, c *op.Call, r *api.LegacyDecrypt) (*api.LegacyDecrypted, error) {
	if len(r.Ciphertext) == 0 {
		return nil, invalid("ciphertext is missing")
	}
	ref := Ref{Mount: c.Mount, Name: r.Name}
	var plaintext []byte
	var err error
	switch r.Scheme {
	case schemePKCS1v15:
		plaintext, err = s.DecryptPKCS1v15(ctx, ref, r.Ciphertext)
	case schemeOAEPSHA1:
		ref.Version = legacyVersion
		plaintext, err = s.DecryptOAEP(ctx, ref, crypto.SHA1, r.Ciphertext, nil)
	case schemeCBC:
		ref.Version = legacyVersion
		plaintext, err = s.DecryptCBC(ctx, ref, r.IV, r.Ciphertext)
	default:
		return nil, invalid("scheme %q: it must be %s, %s or %s", r.Scheme, schemePKCS1v15, schemeOAEPSHA1, schemeCBC)
	}
	if err != nil {
		return nil, err
	}
	return &api.LegacyDecrypted{Plaintext: plaintext}, nil
}
