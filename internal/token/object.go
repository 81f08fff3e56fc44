package token

import (
	"bytes"
	"errors"
)

// ErrAmbiguous: more than one object of the token has the name.
var ErrAmbiguous = errors.New("more than one object of the HSM token has this name")

// ErrTaken: an object is to be made under a name that one of the token has already.
var ErrTaken = errors.New("the HSM token has an object of this name already")

// ObjectClass is what kind of object a key is, CKA_CLASS.
type ObjectClass uint8

const (
	AnyObject     ObjectClass = iota // either of the others; for searches only
	PrivateObject                    // CKO_PRIVATE_KEY, with its public half where there is one
	SecretObject                     // CKO_SECRET_KEY
)

// MaxObjectID and MaxObjectLabel bound CKA_ID and CKA_LABEL, in bytes.
const (
	MaxObjectID    = 64
	MaxObjectLabel = 255
)

// ObjectName is how other programs name a key in the token: by CKA_LABEL and
// CKA_ID. In a search an empty one fits all.
type ObjectName struct {
	Class ObjectClass
	Label string
	ID    []byte // at most MaxObjectID
	// Keep: Destroy leaves the object in the token. It is no part of the name.
	Keep bool
}

// Same tells whether both name the same object.
func (n *ObjectName) Same(o *ObjectName) bool {
	return n.Class == o.Class && n.Label == o.Label && bytes.Equal(n.ID, o.ID)
}

// Object is a key in the token, as its attributes show it.
type Object struct {
	ObjectName
	Kind string // for people: "RSA-2048", "AES-128"
	Type Type   // 0 if Claviger can't use the key; Note says why
	Size int    // bytes; HMAC keys only
	Note string
	// System: it is the KEK, the storage key or the audit key.
	System bool
	// Attributes of the same names. Public tells whether the public half is
	// there as an object of the same name.
	Private, Sensitive, Extractable, Public bool
	Uses                                    []string // "encrypt", "decrypt", "sign", "wrap", "unwrap", "derive"
}
