package keys

import (
	"context"
	"crypto"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// What older systems ask of keys, for services that speak for their fronts. What
// of it can be called is in legacyOperations, apart from the paths of transit.

// Ref names a version of a key: the mount's path with the slash, the key's name,
// and the number of the version, 0 for the newest.
type Ref struct {
	Mount, Name string
	Version     int
}

// CreateObject makes a named key whose secret is an object of the HSM token with a
// label and ID of the caller's choice, where other programs find it; the public
// half of a pair is an object beside it. Deleting the key destroys both. A
// fault.Conflict if there is such an object or such a key already.
func (s *Service) CreateObject(ctx context.Context, mount, name string, t token.Type, size int, object token.ObjectName) error {
	n := keyName{mount, name}
	if err := checkName(name); err != nil {
		return err
	}
	if object.Label == "" && len(object.ID) == 0 || len(object.ID) > token.MaxObjectID || len(object.Label) > token.MaxObjectLabel {
		return invalid("an object needs a label of up to %d bytes, or an ID of up to %d", token.MaxObjectLabel, token.MaxObjectID)
	}
	tok, err := s.token.Get()
	if err != nil {
		return tokenFault(err, "make a key")
	}
	if !tok.Info().Holds[t].Object {
		return cantHold(tok.Info(), t, api.ProtectionToken)
	}
	if existed, err := s.exists(ctx, n); err != nil || existed {
		return orConflict(err, "the key %s exists already", name)
	}
	object.Class, object.Keep = token.SecretObject, false
	if canSign(t) {
		object.Class = token.PrivateObject
	}
	// Before an intent is written: what is there must not be taken for ours.
	if taken, err := nameTaken(ctx, tok, &object); err != nil || taken {
		return orConflict(tokenFault(err, "look for key objects"), "the HSM token has an object with label %q and ID %x already", object.Label, object.ID)
	}
	p := plan{name: n, typ: t, size: size, protection: api.ProtectionToken, adopted: true}
	m := &material{}
	m.main, err = s.makeObject(ctx, m, n, token.Spec{Type: t, Size: size, ID: newID(), Label: object.Label, Name: &object}, token.Token.Generate)
	if err == nil {
		err = s.macBeside(ctx, m, p, tok)
	}
	if err != nil {
		s.discard(ctx, m)
		if errors.Is(err, token.ErrTaken) {
			return orConflict(nil, "the HSM token has an object with label %q and ID %x already", object.Label, object.ID)
		}
		return tokenFault(err, "make a key of type "+t.String())
	}
	_, existed, err := s.place(ctx, p, m)
	if err != nil || existed {
		return orConflict(err, "the key %s exists already", name)
	}
	return nil
}

// orConflict returns err, or a conflict where that is nil.
func orConflict(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return fault.New(fault.Conflict, format, args...)
}

// nameTaken tells whether an object has exactly this name.
func nameTaken(ctx context.Context, tok token.Token, object *token.ObjectName) (bool, error) {
	list, err := tok.Objects(ctx, *object, maxObjects)
	for i := range list {
		if list[i].Same(object) {
			return true, nil
		}
	}
	return false, err
}

// PublicKey returns the public half of an asymmetric key.
func (s *Service) PublicKey(ctx context.Context, r Ref) (crypto.PublicKey, error) {
	_, v, err := s.refer(ctx, r)
	if err != nil {
		return nil, err
	}
	if v.public == nil {
		return nil, invalid("the key %s has no public half", r.Name)
	}
	return v.public, nil
}

// DecryptPKCS1v15 decrypts what was encrypted for an RSA key with the padding of
// PKCS #1 v1.5. Wrong padding is no error where the token has raw RSA, but a
// message that looks random (see token.OpenPKCS1v15); elsewhere it is the one
// fault that every failure of decryption is.
func (s *Service) DecryptPKCS1v15(ctx context.Context, r Ref, ciphertext []byte) ([]byte, error) {
	return s.perform(ctx, r, token.ClassRSA, token.Op{Kind: token.Decrypt, Scheme: token.PKCS1v15}, token.Item{In: ciphertext}, "decrypt")
}

// DecryptOAEP decrypts with the padding of RSA-OAEP, both of whose hashes are hash.
func (s *Service) DecryptOAEP(ctx context.Context, r Ref, hash crypto.Hash, ciphertext, label []byte) ([]byte, error) {
	return s.perform(ctx, r, token.ClassRSA, token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: hash}, token.Item{In: ciphertext, AAD: label}, "decrypt")
}

// SignPKCS1v15 signs a digest with an RSA key.
func (s *Service) SignPKCS1v15(ctx context.Context, r Ref, hash crypto.Hash, digest []byte) ([]byte, error) {
	return s.perform(ctx, r, token.ClassRSA, token.Op{Kind: token.Sign, Scheme: token.PKCS1v15, Hash: hash}, token.Item{In: digest}, "sign")
}

// EncryptCBC encrypts with an AES key in CBC mode with PKCS #7 padding; iv has 16
// bytes and must be random. Nothing authenticates the ciphertext.
func (s *Service) EncryptCBC(ctx context.Context, r Ref, iv, plaintext []byte) ([]byte, error) {
	return s.performCBC(ctx, r, token.EncryptCBC, iv, plaintext, "encrypt")
}

// DecryptCBC is the reverse of EncryptCBC. That an answer tells right padding from
// wrong is in the nature of the mode: who may ask often can decrypt by asking.
func (s *Service) DecryptCBC(ctx context.Context, r Ref, iv, ciphertext []byte) ([]byte, error) {
	return s.performCBC(ctx, r, token.DecryptCBC, iv, ciphertext, "decrypt")
}

func (s *Service) performCBC(ctx context.Context, r Ref, kind token.Kind, iv, in []byte, doing string) ([]byte, error) {
	if len(iv) != 16 {
		return nil, invalid("an initialisation vector of %d bytes: AES-CBC needs 16", len(iv))
	}
	return s.perform(ctx, r, token.ClassAEAD, token.Op{Kind: kind}, token.Item{Nonce: iv, In: in}, doing)
}

// refer finds a version of a key that may be used.
func (s *Service) refer(ctx context.Context, r Ref) (*key, *version, error) {
	k, err := s.key(ctx, keyName{r.Mount, r.Name})
	if errors.Is(err, errNoKey) {
		return nil, nil, fault.New(fault.NotFound, "no key named %s", r.Name)
	}
	if err == nil {
		err = k.usable()
	}
	if err != nil {
		return nil, nil, err
	}
	v, err := s.inUse(ctx, k, r.Version)
	return k, v, err
}

func (s *Service) perform(ctx context.Context, r Ref, class token.Class, o token.Op, it token.Item, doing string) ([]byte, error) {
	k, v, err := s.refer(ctx, r)
	if err != nil {
		return nil, err
	}
	if k.meta.Type.Class() != class || v.main == nil {
		return nil, invalid("a key of type %v can't %s in this way", k.meta.Type, doing)
	}
	return s.one(ctx, k.name, v, o, it, doing)
}
