package token

import "context"

// Padding is how a symmetric key is encrypted under the RSA key of another token.
type Padding string

// Paddings, the best first.
const (
	OAEPSHA256 Padding = "oaep-sha256" // RFC 8017 section 7.1, MGF1 with the same hash, empty label
	OAEPSHA1   Padding = "oaep-sha1"   // the same
	PKCS1      Padding = "pkcs1"       // RFC 8017 section 7.2
)

// Bounds of a KEKEK's modulus in bits.
const (
	MinKEKEK = 3072
	MaxKEKEK = 4096
)

// KEKEK is the RSA pair of a destination token under which keys come in, with its
// attributes as the token showed them when they were read back.
type KEKEK struct {
	ID     ID     // CKA_ID of both halves
	Label  string // CKA_LABEL
	Public []byte // PKIX DER
	// Attributes of the private half, by their name ("CKA_SENSITIVE"). One that the
	// module does not show is absent.
	Attributes map[string]bool
	// Paddings are those with which the token proved to unwrap a key.
	Paddings []Padding
}

// Carried is a wrapped key on its way, with what is public of it.
type Carried struct {
	Type   Type   `json:"type"`
	Size   int    `json:"size,omitempty"` // bytes; HMAC keys only
	Blob   []byte `json:"blob"`           // under RFC 5649
	Public []byte `json:"public,omitempty"`
}

// Freight is keys under one AES key of the moment, and that under a KEKEK.
type Freight struct {
	Padding Padding   `json:"padding"`
	Key     []byte    `json:"key"` // the AES key under the KEKEK
	Keys    []Carried `json:"keys"`
}

// WrappedKEK is a KEK under the KEKEK of another token.
type WrappedKEK struct {
	Padding Padding `json:"padding"`
	Blob    []byte  `json:"blob"`
	// Proof is an AES-256 key under the KEK: only who opens it has the right KEK.
	Proof []byte `json:"proof"`
}

// Carrier is a token that hands its KEK, or the keys under it, to another token,
// and takes them from one. Secrets are wrapped and unwrapped inside the tokens. All
// methods can be repeated with the same arguments.
type Carrier interface {
	// MakeCarrier makes an RSA pair of MinKEKEK to MaxKEKEK bits, a multiple of 256,
	// that unwraps and decrypts, does nothing else, and can't leave the token.
	// ErrUnsupported says which mechanism the module lacks.
	MakeCarrier(ctx context.Context, bits int, id ID, label string) (KEKEK, error)
	// CarryKEK wraps the KEK for a KEKEK, whose public half is PKIX DER, with the
	// first padding of the list that the module has. ErrUnsupported if the KEK was
	// not made transferable.
	CarryKEK(ctx context.Context, kekek []byte, with []Padding) (WrappedKEK, error)
	// TakeKEK makes the KEK of a token that has none. ErrOpen for everything that is
	// wrong with w; the token then holds nothing of it. ErrExists if the token has
	// another KEK; nil if it has this one. transferable decides for ever whether it
	// may go on from here.
	TakeKEK(ctx context.Context, id ID, label string, w WrappedKEK, transferable bool) error
	// Carry wraps the secrets of keys for a KEKEK. ErrUnsupported if the KEK was not
	// made transferable, for objects that are not CKA_EXTRACTABLE, and for types that
	// the module does not wrap.
	Carry(ctx context.Context, kekek []byte, with []Padding, keys []Stored) (Freight, error)
	// TryCarry wraps the secrets of keys as Carry does, for nobody, and keeps nothing:
	// nil if Carry can take them, its error if not. ErrNotFound for an object that is
	// not there.
	TryCarry(ctx context.Context, keys []Stored) error
	// Take unwraps keys and wraps them under the KEK of this token. The result has
	// the order of f.Keys, IDs of its own, and PlaceWrapped. ErrOpen for everything
	// that is wrong with f, a key that has another public half than f says too.
	Take(ctx context.Context, id ID, label string, f Freight) ([]Stored, error)
}
