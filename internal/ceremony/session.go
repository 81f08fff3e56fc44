package ceremony

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/keys"
	"github.com/claviger/claviger/internal/token"
)

// Key is a key pair of the HSM token that signs in a ceremony.
type Key struct {
	crypto.Signer
	PKIX []byte // its public key

	stored token.Stored
	made   bool
}

// Session is what an act works with: the document, the open token, the time.
type Session struct {
	Document  *Document
	Rehearsal bool // the token is a scratch one: keys that should be there are made
	Now       time.Time

	token      token.Token
	keys       []*Key
	transcript *Key
}

// NewKey makes a key pair in the token, not extractable, that other programs find by
// its label too. It is destroyed again if the ceremony does not come to its intent.
func (s *Session) NewKey(ctx context.Context, label string, t token.Type) (*Key, error) {
	name := &token.ObjectName{Class: token.PrivateObject, Label: label}
	found, err := s.token.Objects(ctx, *name, 1)
	if err != nil {
		return nil, tokenFault(err, "look for keys of the label "+label)
	}
	if len(found) > 0 {
		return nil, fault.New(fault.Conflict, "the HSM token has a key of the label %q already", label).
			WithHint("choose another label; if an interrupted ceremony left that key, destroy it with the tools of the HSM")
	}
	spec := token.Spec{Type: t, Place: token.PlaceObject, Label: label, Name: name}
	rand.Read(spec.ID[:])
	name.ID = spec.ID[:]
	stored, err := s.token.Generate(ctx, spec)
	if err != nil {
		return nil, tokenFault(err, fmt.Sprintf("make the key %q of type %s", label, t))
	}
	return s.key(ctx, stored, true)
}

// FindKey finds a key pair of the token by label or CKA_ID, one of which may be
// empty. In a rehearsal it makes one of type t in its place.
func (s *Session) FindKey(ctx context.Context, label string, id []byte, t token.Type) (*Key, error) {
	if s.Rehearsal {
		for _, k := range s.keys {
			if k.stored.Name.Label == label && label != "" {
				return k, nil
			}
		}
		return s.NewKey(ctx, label+hex.EncodeToString(id), t)
	}
	stored, err := s.token.Adopt(ctx, token.ObjectName{Class: token.PrivateObject, Label: label, ID: id})
	switch {
	case errors.Is(err, token.ErrNotFound):
		return nil, invalid("the HSM token has no private key with the label %q and the ID %x", label, id)
	case errors.Is(err, token.ErrAmbiguous):
		return nil, invalid("the HSM token has more than one private key with the label %q and the ID %x; give both", label, id)
	case err != nil:
		return nil, tokenFault(err, "look for the key "+label)
	}
	return s.key(ctx, stored, false)
}

func (s *Session) key(ctx context.Context, stored token.Stored, made bool) (*Key, error) {
	k := &Key{PKIX: stored.Public, stored: stored, made: made}
	s.keys = append(s.keys, k) // before anything can fail: it may have to be destroyed
	var err error
	k.Signer, err = keys.TokenSigner(ctx, s.token, stored)
	return k, err
}

// ready finds or makes the key that signs the transcript.
func (s *Session) ready(ctx context.Context) (err error) {
	label := s.Document.Token.TranscriptKey
	found, err := s.token.Objects(ctx, token.ObjectName{Class: token.PrivateObject, Label: label}, 1)
	if err != nil {
		return tokenFault(err, "look for the key of the transcript")
	}
	if len(found) == 0 {
		s.transcript, err = s.NewKey(ctx, label, token.P256)
	} else {
		s.transcript, err = s.FindKey(ctx, label, nil, token.P256)
	}
	return err
}

// undoTime is how long the destruction of keys may take.
const undoTime = time.Minute

// undo destroys the keys that the ceremony made; keep is spared. It works when the
// ceremony was interrupted too.
func (s *Session) undo(ctx context.Context, keep *Key, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	for _, k := range s.keys {
		if !k.made || k == keep {
			continue
		}
		if err := s.token.Destroy(ctx, k.stored); err != nil {
			cause = fault.Wrap(fault.KindOf(cause), errors.Join(cause, err), "%s; and the new key %q can't be destroyed",
				describe(cause), k.stored.Name.Label)
		}
	}
	return cause
}

// describe is what an error says to people.
func describe(err error) string {
	if fault.KindOf(err) == fault.Internal {
		return err.Error()
	}
	return fault.Message(err)
}

func tokenFault(err error, doing string) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	kind := fault.Internal
	switch {
	case errors.Is(err, token.ErrUnavailable), errors.Is(err, token.ErrClosed):
		kind = fault.Unavailable
	case errors.Is(err, token.ErrUnsupported):
		kind = fault.Invalid
	}
	return fault.Wrap(kind, err, "the HSM token can't %s", doing)
}

func (k *Key) used() *KeyUsed {
	return &KeyUsed{
		Label: k.stored.Name.Label, ID: hex.EncodeToString(k.stored.Name.ID), Type: k.stored.Type.String(), Made: k.made,
		PublicKey: fingerprint(k.PKIX),
	}
}
