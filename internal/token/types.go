package token

import (
	"fmt"
)

// Type is a key type. Its name is Vault's (transit key types).
type Type uint8

const (
	_ Type = iota
	AES128
	AES256
	ChaCha20
	XChaCha20
	Ed25519
	P256
	P384
	P521
	RSA2048
	RSA3072
	RSA4096
	HMAC
)

// Class groups types by what can be done with them.
type Class uint8

const (
	ClassAEAD Class = iota + 1
	ClassEd25519
	ClassECDSA
	ClassRSA
	ClassHMAC
)

var types = [...]struct {
	name  string
	class Class
	bits  int
}{
	AES128:    {"aes128-gcm96", ClassAEAD, 128},
	AES256:    {"aes256-gcm96", ClassAEAD, 256},
	ChaCha20:  {"chacha20-poly1305", ClassAEAD, 256},
	XChaCha20: {"xchacha20-poly1305", ClassAEAD, 256},
	Ed25519:   {"ed25519", ClassEd25519, 256},
	P256:      {"ecdsa-p256", ClassECDSA, 256},
	P384:      {"ecdsa-p384", ClassECDSA, 384},
	P521:      {"ecdsa-p521", ClassECDSA, 521},
	RSA2048:   {"rsa-2048", ClassRSA, 2048},
	RSA3072:   {"rsa-3072", ClassRSA, 3072},
	RSA4096:   {"rsa-4096", ClassRSA, 4096},
	HMAC:      {"hmac", ClassHMAC, 0},
}

// Types returns every type, in a fixed order.
func Types() []Type {
	ts := make([]Type, 0, len(types)-1)
	for t := AES128; int(t) < len(types); t++ {
		ts = append(ts, t)
	}
	return ts
}

// ParseType returns the type of a Vault name such as "aes256-gcm96".
func ParseType(name string) (Type, error) {
	for _, t := range Types() {
		if types[t].name == name {
			return t, nil
		}
	}
	return 0, fmt.Errorf("unknown key type %q", name)
}

// Valid tells whether t is one of the types above.
func (t Type) Valid() bool { return t > 0 && int(t) < len(types) }

// String returns Vault's name of the type.
func (t Type) String() string {
	if !t.Valid() {
		return fmt.Sprintf("type %d", uint8(t))
	}
	return types[t].name
}

// MarshalText and UnmarshalText use the name, so that records stay readable
// when the order of the constants changes.
func (t Type) MarshalText() ([]byte, error) {
	if !t.Valid() {
		return nil, fmt.Errorf("no key type: %d", uint8(t))
	}
	return []byte(types[t].name), nil
}

// UnmarshalText is the reverse of MarshalText.
func (t *Type) UnmarshalText(b []byte) (err error) {
	*t, err = ParseType(string(b))
	return err
}

// Class returns the group of t.
func (t Type) Class() Class {
	if !t.Valid() {
		return 0
	}
	return types[t].class
}

// Bits returns the key size in bits, see Type.Bits.
func (s *Stored) Bits() int { return s.Type.Bits() }

// Bits returns the key size: of the secret for AEADs, of the field or modulus
// for asymmetric types, 0 for HMAC.
func (t Type) Bits() int {
	if !t.Valid() {
		return 0
	}
	return types[t].bits
}

// NonceSize returns the length of an AEAD type's nonce in bytes.
func (t Type) NonceSize() int {
	switch {
	case t == XChaCha20:
		return 24
	case t.Class() == ClassAEAD:
		return 12
	}
	return 0
}
