package token

import "context"

// KEKSize is the size in bytes of the key-encryption key under which a private key
// moves from one HSM token to another.
const KEKSize = 32

// MaxHalves bounds the keys of one token that Halves lists, of each class and type.
const MaxHalves = 1 << 20

// Use is what a key may be used for, as a set of bits. Each is one thing for both
// halves of a pair: the private half signs and the public one verifies.
type Use uint8

const (
	UseSign    Use = 1 << iota // CKA_SIGN, CKA_VERIFY
	UseWrap                    // CKA_UNWRAP, CKA_WRAP
	UseEncrypt                 // CKA_DECRYPT, CKA_ENCRYPT
)

// Half is a private or a public RSA or EC key (CKO_PRIVATE_KEY, CKO_PUBLIC_KEY) in
// an HSM token.
type Half struct {
	Label   string // CKA_LABEL
	ID      []byte // CKA_ID
	Private bool   // it is a private key
	RSA     bool   // it is an RSA key; otherwise one on an elliptic curve
	Type    Type   // 0 if Claviger can't use such a key
	Kind    string // for people: "RSA-2048", "EC P-256"
	Public  []byte // PKIX DER of the public half, nil if the object does not show it
	Uses    Use
	// Visible: CKA_PRIVATE is false, so that everybody sees the object.
	Visible bool
	// Extractable: CKA_EXTRACTABLE is true, and CKA_WRAP_WITH_TRUSTED is not. Of
	// private keys only.
	Extractable bool
}

// NewHalf is how a key is to be kept that comes into an HSM token.
type NewHalf struct {
	ID    ID     // new to the token
	Label string // "" for none
	Uses  Use
	// Visible makes a public key one that is seen without login. A private key is
	// never that.
	Visible bool
	// Extractable lets a private key leave the token again, wrapped.
	Extractable bool
}

// Parcel is a private key on its way: PKCS #8 DER under AES key wrap with padding
// (RFC 5649) with a KEK of KEKSize bytes.
type Parcel struct {
	RSA     bool   // it is an RSA key; otherwise one on an elliptic curve
	Wrapped []byte // the private key under the KEK
	// WrappedKEK is the KEK under the RSA key KEKEK of the receiving token, with
	// PKCS #1 v1.5 (RFC 8017 section 7.2). KEKEK is nil if KEK is given in clear.
	WrappedKEK []byte
	KEKEK      *Half
	KEK        []byte
}

// Mover is a token that hands private keys to another token and takes such keys
// from one. Keys are wrapped and unwrapped inside the tokens. All methods can be
// repeated with the same arguments.
type Mover interface {
	// Halves lists the RSA and EC keys in the token, whoever made them.
	Halves(ctx context.Context) ([]Half, error)
	// MakeKEKEK makes an RSA pair of 2048 to 4096 bits, a multiple of 256, that
	// unwraps and does nothing else, and can't leave the token. It returns the
	// public half as PKIX DER.
	MakeKEKEK(ctx context.Context, bits int, id ID, label string) (public []byte, err error)
	// MoveOut wraps an extractable private key under a new KEK, and that under the
	// KEKEK of another token, whose public half is PKIX DER. ErrUnsupported if the
	// token won't or can't.
	MoveOut(ctx context.Context, kekek []byte, key Half) (wrapped, wrappedKEK []byte, err error)
	// MoveIn unwraps a private key into an object of the token, and returns the
	// public half as PKIX DER. ErrOpen for everything that is wrong with the parcel,
	// another padding, KEK or key type alike; the token then holds nothing of it.
	MoveIn(ctx context.Context, p Parcel, as NewHalf) (public []byte, err error)
	// PutPublic makes a public key object of PKIX DER of an RSA, P-256, P-384 or
	// P-521 key.
	PutPublic(ctx context.Context, public []byte, as NewHalf) error
	// Remove destroys the private and public key objects of exactly this ID and
	// label; nil if there are none.
	Remove(ctx context.Context, id ID, label string) error
}
