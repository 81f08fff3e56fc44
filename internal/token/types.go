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

	// Sizes of RSA keys that are not made any more, or not often. Such keys can be
	// adopted only; Types leaves them out.
	RSA1024
	RSA1280
	RSA1536
	RSA1792
	RSA2560
	RSA5120
	RSA6144
	RSA7168
	RSA8192
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
	RSA1024:   {"rsa-1024", ClassRSA, 1024},
	RSA1280:   {"rsa-1280", ClassRSA, 1280},
	RSA1536:   {"rsa-1536", ClassRSA, 1536},
	RSA1792:   {"rsa-1792", ClassRSA, 1792},
	RSA2560:   {"rsa-2560", ClassRSA, 2560},
	RSA5120:   {"rsa-5120", ClassRSA, 5120},
	RSA6144:   {"rsa-6144", ClassRSA, 6144},
	RSA7168:   {"rsa-7168", ClassRSA, 7168},
	RSA8192:   {"rsa-8192", ClassRSA, 8192},
}

// Types returns every type of which keys can be made, in a fixed order.
func Types() []Type {
	ts := make([]Type, 0, HMAC)
	for t := AES128; t <= HMAC; t++ {
		ts = append(ts, t)
	}
	return ts
}

// RSAType returns the type of RSA keys with a modulus of so many bits, 0 if there
// is none.
func RSAType(bits int) Type {
	for t := AES128; t.Valid(); t++ {
		if t.Class() == ClassRSA && t.Bits() == bits {
			return t
		}
	}
	return 0
}

// ParseType returns the type of a Vault name such as "aes256-gcm96", of those of
// which keys can be made.
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

// Made tells whether keys of the type are made, and not adopted only.
func (t Type) Made() bool { return t.Valid() && t <= HMAC }

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
	for u := AES128; u.Valid(); u++ {
		if types[u].name == string(b) {
			*t = u
			return nil
		}
	}
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
