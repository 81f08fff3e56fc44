package keys

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/subtle"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
)

// Schemes of PKCS#11 beside schemePKCS1v15, which is CKM_RSA_PKCS.
const (
	schemeOAEP   = "rsa-oaep"    // CKM_RSA_PKCS_OAEP
	schemeGCM    = "aes-gcm"     // CKM_AES_GCM
	schemeRawCBC = "aes-cbc"     // CKM_AES_CBC
	schemePadCBC = "aes-cbc-pad" // CKM_AES_CBC_PAD
)

const (
	minTag   = 12 // bytes; SP 800-38D appendix C advises against shorter ones
	nonceGCM = 12 // bytes
)

func (s *Service) p11Encrypt(ctx context.Context, c *op.Call, r *api.P11Cipher) (*api.P11Output, error) {
	k, err := s.findThis(ctx, c.Mount, r.Name, r.KeyID, msgNoEncryptionKey)
	if err != nil {
		return nil, err
	}
	if r.Scheme == schemePKCS1v15 || r.Scheme == schemeOAEP {
		return nil, invalid("scheme %s: encryption needs the public key only, which pkcs11-find and keys/%s show", r.Scheme, r.Name).
			WithHint("encrypt where the plaintext is")
	}
	if err := checkCipher(k, r); err != nil {
		return nil, err
	}
	number, err := k.forNew(r.Version, "encryption")
	if err != nil {
		return nil, err
	}
	v, err := s.version(ctx, k, number)
	if err != nil {
		return nil, err
	}
	out, err := s.encryptBare(ctx, k.name, v, r)
	if err != nil {
		return nil, err
	}
	return &api.P11Output{Output: out}, nil
}

func (s *Service) encryptBare(ctx context.Context, n keyName, v *version, r *api.P11Cipher) ([]byte, error) {
	switch r.Scheme {
	case schemeGCM:
		out, err := s.sealBare(ctx, n, v, r.IV, r.AAD, r.Input)
		if err != nil {
			return nil, err
		}
		return out[:len(out)-aeadTag+tagLength(r)], nil // SP 800-38D section 7.1 step 6
	case schemePadCBC:
		return s.one(ctx, n, v, token.Op{Kind: token.EncryptCBC}, token.Item{Nonce: r.IV, In: r.Input}, "encrypt")
	}
	if len(r.Input) == 0 {
		return []byte{}, nil
	}
	// Padding adds a block of its own to whole blocks, on which no other depends.
	out, err := s.one(ctx, n, v, token.Op{Kind: token.EncryptCBC}, token.Item{Nonce: r.IV, In: r.Input}, "encrypt")
	if err != nil {
		return nil, err
	}
	return out[:len(r.Input)], nil
}

// sealBare is GCM with a whole tag under the caller's nonce.
func (s *Service) sealBare(ctx context.Context, n keyName, v *version, nonce, aad, in []byte) ([]byte, error) {
	if err := v.seals.take(ctx, 1); err != nil {
		return nil, err
	}
	return s.one(ctx, n, v, token.Op{Kind: token.Seal}, token.Item{Nonce: nonce, AAD: aad, In: in}, "encrypt")
}

func (s *Service) p11Decrypt(ctx context.Context, c *op.Call, r *api.P11Cipher) (*api.P11Output, error) {
	k, err := s.findThis(ctx, c.Mount, r.Name, r.KeyID, msgNoEncryptionKey)
	if err != nil {
		return nil, err
	}
	if err := checkCipher(k, r); err != nil {
		return nil, err
	}
	v, err := s.inUse(ctx, k, r.Version)
	if err != nil {
		return nil, err
	}
	out, err := s.decryptBare(ctx, k.name, v, r)
	if err != nil {
		return nil, err
	}
	return &api.P11Output{Output: out}, nil
}

func (s *Service) decryptBare(ctx context.Context, n keyName, v *version, r *api.P11Cipher) ([]byte, error) {
	switch r.Scheme {
	case schemePKCS1v15:
		return s.one(ctx, n, v, token.Op{Kind: token.Decrypt, Scheme: token.PKCS1v15}, token.Item{In: r.Input}, "decrypt")
	case schemeOAEP:
		hash, err := oaepHash(r.Hash)
		if err != nil {
			return nil, err
		}
		return s.one(ctx, n, v, token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: hash}, token.Item{In: r.Input, AAD: r.Label}, "decrypt")
	case schemePadCBC:
		return s.one(ctx, n, v, token.Op{Kind: token.DecryptCBC}, token.Item{Nonce: r.IV, In: r.Input}, "decrypt")
	case schemeRawCBC:
		return s.openRawCBC(ctx, n, v, r)
	}
	if tagLength(r) == aeadTag && len(r.Input) >= aeadTag {
		return s.one(ctx, n, v, token.Op{Kind: token.Open}, token.Item{Nonce: r.IV, AAD: r.AAD, In: r.Input}, "decrypt")
	}
	return s.openShortTag(ctx, n, v, r)
}

// openRawCBC appends a block that decrypts to a whole block of padding, which the
// token takes off again.
func (s *Service) openRawCBC(ctx context.Context, n keyName, v *version, r *api.P11Cipher) ([]byte, error) {
	if len(r.Input) == 0 {
		return []byte{}, nil
	}
	last := r.Input[len(r.Input)-aes.BlockSize:]
	padding, err := s.one(ctx, n, v, token.Op{Kind: token.EncryptCBC}, token.Item{Nonce: last}, "decrypt")
	if err != nil {
		return nil, err
	}
	in := append(append(make([]byte, 0, len(r.Input)+len(padding)), r.Input...), padding...)
	return s.one(ctx, n, v, token.Op{Kind: token.DecryptCBC}, token.Item{Nonce: r.IV, In: in}, "decrypt")
}

// openShortTag opens GCM with a tag that was cut: sealing the ciphertext under its
// nonce undoes it, since the keystream is the same, and sealing the plaintext again
// makes the whole tag. Nothing is shown unless what is left of the tag is right.
func (s *Service) openShortTag(ctx context.Context, n keyName, v *version, r *api.P11Cipher) ([]byte, error) {
	size := len(r.Input) - tagLength(r)
	if size < 0 {
		return nil, invalid(msgOpen)
	}
	opened, err := s.one(ctx, n, v, token.Op{Kind: token.Seal}, token.Item{Nonce: r.IV, In: r.Input[:size]}, "decrypt")
	if err != nil {
		return nil, err
	}
	sealed, err := s.one(ctx, n, v, token.Op{Kind: token.Seal}, token.Item{Nonce: r.IV, AAD: r.AAD, In: opened[:size]}, "decrypt")
	if err == nil && subtle.ConstantTimeCompare(sealed[size:size+tagLength(r)], r.Input[size:]) != 1 {
		err = invalid(msgOpen)
	}
	if err != nil {
		clear(opened)
		return nil, err
	}
	return opened[:size], nil
}

// one performs an operation of a version on one item.
func (s *Service) one(ctx context.Context, n keyName, v *version, o token.Op, it token.Item, doing string) ([]byte, error) {
	items := []token.Item{it}
	err := v.main.Do(ctx, o, items)
	if err == nil {
		err = items[0].Err
	}
	if err != nil {
		return nil, s.logged(tokenFault(err, doing), n)
	}
	return items[0].Out, nil
}

// inUse returns a version that still decrypts, 0 for the newest.
func (s *Service) inUse(ctx context.Context, k *key, number int) (*version, error) {
	if number == 0 {
		number = k.meta.Latest
	}
	if number < k.oldest() || number > k.meta.Latest {
		return nil, invalid("the key has no version %d that is in use: they are %d to %d", number, k.oldest(), k.meta.Latest)
	}
	return s.version(ctx, k, number)
}

func tagLength(r *api.P11Cipher) int {
	if r.TagLength == 0 {
		return aeadTag
	}
	return r.TagLength
}

func oaepHash(name string) (crypto.Hash, error) {
	hash, err := parseHash(name)
	if err != nil || hash == noHash || hash.Size() == 0 {
		return 0, invalid("hash %q: for rsa-oaep it is sha1, sha2-224, sha2-256, sha2-384 or sha2-512", name)
	}
	return hash, nil
}

// checkCipher refuses what does not fit together, before anything is done.
func checkCipher(k *key, r *api.P11Cipher) error {
	if r.Input == nil {
		return invalid("missing input")
	}
	switch r.Scheme {
	case schemePKCS1v15, schemeOAEP:
		return checkRSACipher(k, r)
	case schemeGCM, schemeRawCBC, schemePadCBC:
		return checkAESCipher(k, r)
	}
	return invalid("scheme %q: it is %s, %s, %s, %s or %s", r.Scheme, schemePKCS1v15, schemeOAEP, schemeGCM, schemeRawCBC, schemePadCBC)
}

func checkRSACipher(k *key, r *api.P11Cipher) error {
	switch {
	case k.meta.Type.Class() != token.ClassRSA:
		return invalid("scheme %s needs an RSA key, this one is of type %v", r.Scheme, k.meta.Type)
	case len(r.IV)+len(r.AAD)+r.TagLength != 0:
		return invalid("iv, aad and tag_length are for AES, not for scheme %s", r.Scheme)
	case r.Scheme == schemePKCS1v15 && (r.Hash != "" || len(r.Label) > 0):
		return invalid("hash and label are for scheme %s", schemeOAEP)
	}
	_, err := oaepHash(r.Hash)
	return err
}

func checkAESCipher(k *key, r *api.P11Cipher) error {
	switch {
	case k.meta.Type != token.AES128 && k.meta.Type != token.AES256:
		return invalid("scheme %s needs an AES key, this one is of type %v", r.Scheme, k.meta.Type)
	case !k.meta.PKCS11.bare():
		return invalid("the key %s was not made for PKCS#11: an IV of the caller's choice could undo what is encrypted with it", k.name.name).
			WithHint("make a key with pkcs11/:name/create, or use encrypt/%s and decrypt/%s", k.name.name, k.name.name)
	case r.Hash != "" || len(r.Label) > 0:
		return invalid("hash and label are for scheme %s", schemeOAEP)
	}
	if r.Scheme == schemeGCM {
		switch {
		case len(r.IV) != nonceGCM:
			return invalid("iv has %d bytes: for %s it has %d", len(r.IV), schemeGCM, nonceGCM)
		case r.TagLength != 0 && (r.TagLength < minTag || r.TagLength > aeadTag):
			return invalid("tag_length %d: it is %d to %d bytes", r.TagLength, minTag, aeadTag)
		}
		return nil
	}
	switch {
	case len(r.IV) != aes.BlockSize:
		return invalid("iv has %d bytes: for %s it has %d", len(r.IV), r.Scheme, aes.BlockSize)
	case len(r.AAD) > 0 || r.TagLength != 0:
		return invalid("aad and tag_length are for scheme %s: nothing authenticates %s", schemeGCM, r.Scheme)
	case r.Scheme == schemeRawCBC && len(r.Input)%aes.BlockSize != 0:
		return invalid("input has %d bytes: for %s they must be whole blocks of %d", len(r.Input), schemeRawCBC, aes.BlockSize)
	}
	return nil
}
