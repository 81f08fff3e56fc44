package pgp

import (
	"bytes"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Scratch is a key pair in memory, for rehearsals.
type Scratch struct{ entity *openpgp.Entity }

// NewScratch makes a key pair for that name.
func NewScratch(name string) (*Scratch, error) {
	e, err := openpgp.NewEntity(name, "rehearsal", "", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		return nil, fmt.Errorf("make an OpenPGP key for a rehearsal: %w", err)
	}
	return &Scratch{e}, nil
}

// Public is the public key in binary form.
func (s *Scratch) Public() ([]byte, error) { return (&Key{entity: s.entity}).Public() }

// Decrypt opens a binary message to the key. The caller wipes what it returns.
func (s *Scratch) Decrypt(message []byte) ([]byte, error) {
	m, err := openpgp.ReadMessage(bytes.NewReader(message), openpgp.EntityList{s.entity}, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("open a message to a rehearsal's key: %w", err)
	}
	return io.ReadAll(m.UnverifiedBody)
}
