// Package token is the seam to the HSM: what Claviger needs of a token, free of
// PKCS#11 numbers, and what every driver promises.
//
// Promise: the secret of a key that a driver generates is never returned in
// clear text by anything in this package but Software, which exists for keys
// that are asked to live in server memory.
//
// Drivers: token/soft (embedded, pure Go) and token/worker (any PKCS#11 module,
// in processes of its own). One suite, token/tokentest, holds for both.
package token

import (
	"context"
	"crypto"
	"errors"
)

// Errors that drivers return, wrapped or not. Everything else is an internal
// failure of the driver.
var (
	// ErrOpen: a ciphertext, tag or padding is not authentic. There is one
	// error for all of these, so that an answer is no oracle (promise P7).
	ErrOpen = errors.New("message authentication failed")
	// ErrUnsupported: the token has no mechanism for this and it can't be composed.
	ErrUnsupported = errors.New("not supported by the HSM token")
	// ErrNotFound: the token object or system key does not exist.
	ErrNotFound = errors.New("no such object in the HSM token")
	// ErrBlob: a wrapped key can't be unwrapped: it was altered, or the KEK is another one.
	ErrBlob = errors.New("wrapped key is not authentic")
	// ErrPIN: the token refuses the PIN. It must not be tried again: real HSMs lock.
	ErrPIN = errors.New("the HSM token refuses this PIN")
	// ErrLocked: the token refuses every PIN after too many wrong ones.
	ErrLocked = errors.New("the PIN of the HSM token is locked")
	// ErrExists: Create was asked for a token that is there already.
	ErrExists = errors.New("the HSM token is initialised already")
	// ErrAbsent: the module shows no such token.
	ErrAbsent = errors.New("no such HSM token")
	// ErrModule: the PKCS#11 module is not there, is none, or can't be loaded;
	// the text says which.
	ErrModule = errors.New("the PKCS#11 module can't be used")
	// ErrUnavailable: the token did not answer within the caller's deadline.
	ErrUnavailable = errors.New("the HSM token does not answer")
	// ErrSealed: no token is open.
	ErrSealed = errors.New("sealed")
	// ErrClosed: the driver was closed.
	ErrClosed = errors.New("the HSM token is closed")
)

// ID names a key object or wrapped key: 16 random bytes, CKA_ID in the token.
type ID [16]byte

// Place is where a secret lives.
type Place uint8

const (
	// PlaceAuto lets the driver choose: Wrapped, or Object if the module can't
	// wrap keys of the type. It is valid in Spec only.
	PlaceAuto Place = iota
	// PlaceObject is a token object of the HSM.
	PlaceObject
	// PlaceWrapped is a blob wrapped by the KEK, opened only inside the HSM.
	PlaceWrapped
)

// Spec asks for a new key.
type Spec struct {
	Type  Type
	Size  int // bytes; HMAC keys only (32 to 512), 0 elsewhere
	Place Place
	ID    ID     // chosen by the caller beforehand, so that Generate can be repeated
	Label string // CKA_LABEL of a PlaceObject key, for people who list the token
	// Name, if not nil, makes a PlaceObject key in the form that other programs
	// find it in: with this CKA_LABEL and CKA_ID instead, and with the public half
	// of a pair as an object beside it. Class does not count. ErrTaken if there is one.
	Name *ObjectName
	// Agree makes a key of an ECDSA type that can be used with Agree too.
	Agree bool
}

// Stored is a key as it is kept: everything needed to use it again, nothing secret.
type Stored struct {
	Type   Type
	Size   int // bytes; HMAC keys only
	Place  Place
	ID     ID
	Blob   []byte // the wrapped secret of a PlaceWrapped key
	Public []byte // PKIX (SubjectPublicKeyInfo) DER of an asymmetric key
	// Name, if not nil, is how a PlaceObject key is found, in place of ID.
	Name *ObjectName
	// Agree: it was made with the Agree of Spec.
	Agree bool
}

// Kind is what an Op does.
type Kind uint8

const (
	_          Kind = iota
	Seal            // AEAD: In plaintext, Out ciphertext ‖ tag; Nonce and AAD given
	Open            // AEAD: In ciphertext ‖ tag, Out plaintext; ErrOpen if not authentic
	Sign            // In digest (or message for Ed25519), Out signature
	MAC             // HMAC: In message, Out the full-length code
	Decrypt         // RSA: In ciphertext, AAD the OAEP label, Out plaintext; ErrOpen if not authentic
	EncryptCBC      // AES: In plaintext, Nonce the IV of 16 bytes, Out ciphertext with PKCS #7 padding
	DecryptCBC      // AES: the reverse; ErrOpen if the padding is wrong, which is an oracle by nature
	Agree           // ECDSA types: In the other's public key, an uncompressed point (SEC 1 section 2.3.3) that is on the curve; Out the x-coordinate of the shared point, as long as the field
)

// Scheme is the padding of an RSA operation.
type Scheme uint8

const (
	NoScheme Scheme = iota
	PKCS1v15        // RFC 8017 section 8.2 (Sign), 7.2 (Decrypt)
	PSS             // RFC 8017 section 8.1 (Sign)
	OAEP            // RFC 8017 section 7.1 (Decrypt), MGF1 with the same hash
)

// Op is one operation with its parameters; which fields count depends on Kind
// and on the key's type.
//
//	Seal, Open   nothing else
//	Sign         RSA: Scheme, Hash (0 with PKCS1v15: In is signed without a DigestInfo), Salt
//	             ECDSA: nothing; In is the digest; Out is r ‖ s, each of the curve's size
//	             Ed25519: nothing; In is the message
//	MAC          Hash
//	Decrypt      Scheme OAEP, Hash; or PKCS1v15 with Hash 0: see OpenPKCS1v15
//	EncryptCBC, DecryptCBC  nothing else; for what older systems encrypted
type Op struct {
	Kind   Kind
	Scheme Scheme
	Hash   crypto.Hash
	Salt   int // PSS salt length in bytes, ≥ 0
}

// Item is one unit of work of an operation. The driver appends the result to
// Out, so that a caller can give room for it and a prefix of its own, or sets
// Err. In, AAD and Nonce are not kept after Do returns, nor changed.
type Item struct {
	Nonce []byte // 12 bytes for AES-GCM and ChaCha20-Poly1305, 24 for XChaCha20-Poly1305
	AAD   []byte
	In    []byte
	Out   []byte
	Err   error
}

// Key is a key that is ready for use. Its methods are safe for concurrent use.
type Key interface {
	// Do performs op on every item; an item's own failure is in its Err. The
	// error is for failures of the whole (ErrUnavailable, ErrUnsupported,
	// ErrNotFound, ErrBlob, ErrClosed) and then no item is valid. It returns
	// within ctx's deadline.
	Do(ctx context.Context, op Op, items []Item) error
}

// Token is an open (logged in) token. All methods are safe for concurrent use
// and return within ctx's deadline.
type Token interface {
	// Info describes the token; it does not talk to it.
	Info() Info
	// Provision makes the system keys (KEK, storage key, audit key) that do not
	// exist yet. It is an explicit act, of initialisation only. transferable
	// decides for ever whether the KEK may be wrapped by another HSM's KEKEK.
	Provision(ctx context.Context, transferable bool) error
	// SealSecret encrypts up to 64 bytes under the token's storage key, bound
	// to aad; OpenSecret reverses it (ErrOpen if altered, ErrNotFound without Provision).
	SealSecret(ctx context.Context, secret, aad []byte) ([]byte, error)
	OpenSecret(ctx context.Context, sealed, aad []byte) ([]byte, error)
	// AuditKey returns the ECDSA P-256 system key that signs audit checkpoints.
	AuditKey(ctx context.Context) (Stored, error)
	// Generate makes a key. Calling it again with the same ID replaces what an
	// interrupted call left, so it is safe to repeat until it was acknowledged.
	// ErrUnsupported if the module can't hold the type at all, or not at that place.
	Generate(ctx context.Context, spec Spec) (Stored, error)
	// Import makes a key of a secret that was wrapped elsewhere; spec.Size does
	// not matter. The secret is unwrapped inside the token and never outside it.
	// ErrOpen for everything that is wrong with the blob, a secret of another
	// type too, and then the token holds nothing of it. It can be repeated as
	// Generate can. ErrUnsupported if the token can't do it; see Hold.Import.
	Import(ctx context.Context, spec Spec, p Package) (Stored, error)
	// Key returns a handle of a stored key. It does not talk to the token:
	// what is wrong with the key shows at its first use.
	Key(s Stored) (Key, error)
	// Destroy removes a PlaceObject key, but for one whose Name says Keep; nil if
	// it is gone already. For all others it only drops what is cached of it.
	Destroy(ctx context.Context, s Stored) error
	// Objects returns the private and secret keys of the token that fit a name, no
	// more than limit, whoever made them.
	Objects(ctx context.Context, like ObjectName, limit int) ([]Object, error)
	// Adopt finds the one key that fits a name and returns how to use it from now
	// on; its Name is complete. ErrNotFound, ErrAmbiguous; ErrUnsupported if
	// Claviger can't use such a key, and for system keys.
	Adopt(ctx context.Context, like ObjectName) (Stored, error)
	// Random fills p with random bytes of the token.
	Random(ctx context.Context, p []byte) error
	// Close logs out by ending the driver's processes and sessions. Keys of a
	// closed token return ErrClosed.
	Close() error
}

// State is what a device shows without a PIN.
type State struct {
	Present     bool // the module shows a token of the configured label, or for Create a free slot
	Initialized bool // it has a user PIN
	Label       string
	Serial      string
	PINLocked   bool // CKF_USER_PIN_LOCKED
	MinPIN      int  // length in bytes
	MaxPIN      int  // length in bytes
}

// Device is a token before login.
type Device interface {
	// State looks at the token without logging in. A module that can't be
	// loaded or that is no PKCS#11 module is an error that says so.
	State(ctx context.Context) (State, error)
	// Create initialises a new token with the configured label. It refuses with
	// ErrExists if there is one of that label already.
	Create(ctx context.Context, soPIN, userPIN []byte) error
	// Open logs in. ErrPIN is final: the caller must not try the same PIN again.
	// Neither Open nor Create keeps the slices: the caller wipes them, so a
	// driver copies a PIN that it needs for later logins and wipes the copy at Close.
	Open(ctx context.Context, userPIN []byte) (Token, error)
}

// Software makes and opens keys whose secrets are in server memory, for the
// protection "software". The secret's form: raw bytes for symmetric and HMAC
// keys, PKCS #8 DER for asymmetric ones. Open keeps no reference to secret: the
// caller wipes it.
type Software interface {
	Generate(spec Spec) (secret, public []byte, err error)
	Open(t Type, secret []byte) (Key, error)
	// Unwrap is AES key unwrap with padding (RFC 5649) under kek, 16, 24 or 32
	// bytes, for the import of secrets. ErrOpen if wrapped is not authentic. The
	// caller wipes the result.
	Unwrap(kek, wrapped []byte) (secret []byte, err error)
	// Wrap is the reverse, for 1 to 65536 bytes.
	Wrap(kek, secret []byte) (wrapped []byte, err error)
}

// Hold says how a token can hold keys of a type.
type Hold struct {
	Wrapped bool   // as wrapped keys
	Object  bool   // as token objects
	Import  bool   // a wrapped secret of the type can be unwrapped inside the token
	Note    string // what is composed or a quirk, "" if all is native
}

// Info describes an open token.
type Info struct {
	Driver       string // "soft" or "pkcs11"
	Module       string // path of the PKCS#11 module
	Label        string
	Serial       string
	Manufacturer string
	Model        string
	Firmware     string
	Embedded     bool          // the embedded software token, no PKCS#11 module
	Holds        map[Type]Hold // types that are absent can't be held
	Agree        bool          // the token does Agree
	Transferable bool          // the KEK may leave under another HSM's KEKEK
	Quirks       []string      // departures from PKCS#11 that the driver works around
}
