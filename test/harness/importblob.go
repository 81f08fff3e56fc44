package harness

import (
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	be "encoding/binary"
	"encoding/pem"
	"testing"
)

// WrappingKey is the public key that imports into the mount "transit" are
// wrapped with.
func (s *Server) WrappingKey(t testing.TB) *rsa.PublicKey {
	t.Helper()
	text, _ := s.OK(t, "GET", "transit/wrapping_key", nil)["public_key"].(string)
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("the wrapping key is no PEM: %q", text)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return public.(*rsa.PublicKey)
}

// ImportBlob is the field "ciphertext" of an import: RSA-OAEP with SHA-256 of
// kek, followed by what was wrapped with kek.
func ImportBlob(t testing.TB, public *rsa.PublicKey, kek, wrapped []byte) []byte {
	t.Helper()
	first, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, kek, nil)
	if err != nil {
		t.Fatal(err)
	}
	return append(first, wrapped...)
}

// KeyWrap is AES-KWP (RFC 5649 section 4.1) of a secret of more than 8 bytes.
func KeyWrap(t testing.TB, kek, secret []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(kek)
	if err != nil {
		t.Fatal(err)
	}
	out := be.BigEndian.AppendUint64(nil, 0xa65959a6<<32|uint64(len(secret)))
	out = append(append(out, secret...), make([]byte, -len(secret)&7)...)
	blocks := uint64(len(out)/8 - 1)
	b := make([]byte, 16)
	for step := range 6 * blocks {
		at := 8 + 8*(step%blocks)
		copy(b, out[:8])
		copy(b[8:], out[at:at+8])
		block.Encrypt(b, b)
		be.BigEndian.PutUint64(out, be.BigEndian.Uint64(b)^(step+1))
		copy(out[at:], b[8:])
	}
	return out
}
