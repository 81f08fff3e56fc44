package keys

import (
	"slices"

	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
)

// What programs that speak PKCS#11 need beside transit's own operations. The front
// and the agent translate their numbers; here keys have names and versions.

// p11Record is what PKCS#11 has of a key and transit has not. It is never changed
// in place; nil is a key that was not made for PKCS#11 and has nothing set.
type p11Record struct {
	Label   string `json:"label,omitempty"` // empty: the key's name
	ID      []byte `json:"id,omitempty"`    // of the newest version; empty: see versionID
	Subject []byte `json:"subject,omitempty"`
	Session bool   `json:"session,omitempty"` // it ends when it is not used
	// Bare: an AES key for ciphers whose IV the caller chooses. One of these on a
	// key of transit would undo its other ciphertexts: a second message under one
	// nonce, or one block through CBC, gives away GCM's authentication key.
	Bare   bool `json:"bare,omitempty"`
	Agree  bool `json:"agree,omitempty"`   // an EC key for ECDH
	NoSign bool `json:"no_sign,omitempty"` // and for nothing else
}

func (r *p11Record) session() bool { return r != nil && r.Session }
func (r *p11Record) bare() bool    { return r != nil && r.Bare }
func (r *p11Record) agrees() bool  { return r != nil && r.Agree }
func (r *p11Record) signs() bool   { return r == nil || !r.NoSign }

// copy returns a record that may be changed.
func (r *p11Record) copy() *p11Record {
	if r == nil {
		return new(p11Record)
	}
	c := *r
	return &c
}

// kept is the record of a key that does not end with its session.
func (r *p11Record) kept() *p11Record {
	if !r.session() {
		return r
	}
	c := r.copy()
	c.Session = false
	return c
}

// mayTransit refuses the AEADs of transit with a key for bare ciphers.
func (r *p11Record) mayTransit(name string) error {
	if !r.bare() {
		return nil
	}
	return invalid("the key %s was made for PKCS#11, whose callers choose the IV: nothing else may be encrypted with it", name).
		WithHint("encrypt with pkcs11/%s/encrypt, or make another key with keys/:name", name)
}

// maySign refuses signatures of a key for key agreement only.
func (r *p11Record) maySign(name string) error {
	if r.signs() {
		return nil
	}
	return invalid("the key %s was made for key agreement only", name).
		WithHint("make another key for signatures, or one with the uses sign and agree")
}

// visible tells whether PKCS#11 shows a key. A derived one is many keys, one for
// each context, which PKCS#11 has no words for.
func (r *keyRecord) visible() bool { return !r.Derived && !r.SoftDeleted }

// p11Types are the types of keys that PKCS#11 has mechanisms for here.
func p11Types() []token.Type {
	return slices.DeleteFunc(token.Types(), func(t token.Type) bool { return t == token.ChaCha20 || t == token.XChaCha20 })
}

func (s *Service) p11Operations() []*op.Operation {
	return []*op.Operation{
		op.Define(meta("pkcs11.find", "pkcs11-find", op.Write, "Find keys and objects as PKCS#11 does, by label, identifier and class."), s.p11Find),
		op.Define(meta("pkcs11.create", "pkcs11/{name}/create", op.Write, "Make a key for PKCS#11, for good or for a session."), s.p11Create),
		op.Define(meta("pkcs11.settings", "pkcs11/{name}/settings", op.Write, "Change what PKCS#11 shows of a key; an empty request only counts as a use."), s.p11Settings),
		op.Define(meta("pkcs11.encrypt", "pkcs11/{name}/encrypt", op.Write, "Encrypt as a mechanism of PKCS#11 does, with an IV of the caller's choice."), s.p11Encrypt),
		op.Define(meta("pkcs11.decrypt", "pkcs11/{name}/decrypt", op.Write, "Decrypt as a mechanism of PKCS#11 does."), s.p11Decrypt),
		op.Define(meta("pkcs11.agree", "pkcs11/{name}/agree", op.Write, "Compute the secret that a key shares with another's public key (ECDH)."), s.p11Agree),
		op.WithExists(op.Define(meta("pkcs11.objects.put", "pkcs11-objects/{id}", op.Write, "Store a certificate, data or a public key as an object."), s.p11PutObject), s.p11ObjectExists),
		op.Define(meta("pkcs11.objects.delete", "pkcs11-objects/{id}", op.Delete, "Delete a stored object."), s.p11DeleteObject),
	}
}
