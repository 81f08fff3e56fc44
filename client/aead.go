package client

import (
	"context"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// aead is a Sealer as a cipher.AEAD.
type aead struct {
	ctx      context.Context
	sealer   *Sealer
	overhead int
}

// The parts of a ciphertext beside what was encrypted, in bytes.
const (
	aeadVersion = 4 // big endian
	aeadTag     = 16
)

// AEAD returns the key as a cipher.AEAD, for programs that demand one; ctx bounds
// all its calls. It asks the server once, for the type of the key, which must
// exist and be an AEAD without derivation.
//
// As with cipher.NewGCMWithRandomNonce, NonceSize is 0: the nonce is chosen where
// the key is and is part of the ciphertext, which is
//
//	version of the key (4 bytes, big endian) ‖ nonce (12 or 24) ‖ ciphertext ‖ tag (16)
//
// The interface gives Seal no way to say that the server does not answer: it
// panics then. A program that must go on without its server uses Sealer.
func (s *Sealer) AEAD(ctx context.Context) (cipher.AEAD, error) {
	key, err := s.client.ReadKey(ctx, s.name)
	if err != nil {
		return nil, err
	}
	nonce := 0
	switch key.Type {
	case "aes128-gcm96", "aes256-gcm96", "chacha20-poly1305":
		nonce = 12
	case "xchacha20-poly1305":
		nonce = 24
	}
	if nonce == 0 || key.Derived {
		return nil, fmt.Errorf("the key %s is of type %s (derived: %t), which is no AEAD by itself", s.name, key.Type, key.Derived)
	}
	return &aead{ctx, s, aeadVersion + nonce + aeadTag}, nil
}

// NonceSize implements cipher.AEAD.
func (*aead) NonceSize() int { return 0 }

// Overhead implements cipher.AEAD; in bytes.
func (a *aead) Overhead() int { return a.overhead }

// Seal implements cipher.AEAD. It panics if the server does not answer, or
// refuses.
func (a *aead) Seal(dst, nonce, plaintext, additionalData []byte) []byte {
	if len(nonce) != 0 {
		panic("client: this cipher.AEAD chooses its nonces itself; NonceSize is 0")
	}
	text, err := a.sealer.Seal(a.ctx, plaintext, additionalData)
	if err == nil {
		dst, err = a.append(dst, text, len(plaintext))
	}
	if err != nil {
		panic(fmt.Sprintf("client: sealing with the key %s: %v", a.sealer.name, err))
	}
	return dst
}

// append appends the binary form of a ciphertext such as "vault:v1:…".
func (a *aead) append(dst []byte, text string, plain int) ([]byte, error) {
	version, encoded, ok := strings.Cut(strings.TrimPrefix(text, "vault:v"), ":")
	number, err := strconv.ParseUint(version, 10, 32)
	if !ok || err != nil {
		return nil, errors.New("the server's ciphertext has another form than vault:vN:…")
	}
	sealed, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(sealed) != plain+a.overhead-aeadVersion {
		return nil, errors.New("the server's ciphertext has another size than an AEAD's")
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(number)), sealed...), nil
}

// errOpen is the one error for all that does not open.
var errOpen = errors.New("client: message authentication failed")

// Open implements cipher.AEAD. What the server refuses is an *api.Error; what
// can't be a ciphertext of Seal does not reach the server.
func (a *aead) Open(dst, nonce, ciphertext, additionalData []byte) ([]byte, error) {
	if len(nonce) != 0 {
		panic("client: this cipher.AEAD has its nonces in the ciphertext; NonceSize is 0")
	}
	if len(ciphertext) < a.overhead {
		return nil, errOpen
	}
	text := fmt.Sprintf("vault:v%d:%s", binary.BigEndian.Uint32(ciphertext), base64.StdEncoding.EncodeToString(ciphertext[aeadVersion:]))
	plain, err := a.sealer.Open(a.ctx, text, additionalData)
	if err != nil {
		return nil, err
	}
	return append(dst, plain...), nil
}
