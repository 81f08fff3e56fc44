package transfer

import (
	"context"
	"crypto/mlkem"
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/claviger/claviger/internal/token"
)

// newHeader makes the header of a ring and its stream key, which the caller wipes.
func newHeader(ctx context.Context, t Token, to *Statement, contents string, keys, chunks int, now time.Time) (h *Header, line, stream []byte, err error) {
	signer, role, err := signingKey(ctx, t)
	if err != nil {
		return nil, nil, nil, err
	}
	id := make([]byte, 16)
	rand.Read(id)
	h = &Header{ID: hex.EncodeToString(id), Created: now.UTC().Truncate(time.Second), Contents: contents, Source: deviceOf(t),
		Statement: to.Fingerprint(), Keys: keys, Chunks: chunks, Signer: Signer{Role: role, Public: signer.Public}}
	if stream, err = h.lock(to); err != nil {
		return nil, nil, nil, err
	}
	if line, h.body, err = signJSON(ctx, t, signer, kindHeader, h); err != nil {
		clear(stream)
		return nil, nil, nil, err
	}
	return h, line, stream, nil
}

// kekLoad wraps the KEK for a destination.
func kekLoad(ctx context.Context, t Token, to *Statement) (*load, error) {
	w, err := t.CarryKEK(ctx, to.KEKEK, to.with())
	if err != nil {
		return nil, hsmFault(err, "wrap the KEK for the destination")
	}
	return &load{KEK: &w}, nil
}

// unlock opens the stream key of a ring in the destination.
func (s *State) unlock(ctx context.Context, t token.Token, h *Header) ([]byte, *Statement, error) {
	to, err := s.statement()
	if err != nil {
		return nil, nil, err
	}
	if to.Fingerprint() != h.Statement {
		return nil, nil, invalid("the ring was made for another destination: its statement has the fingerprint %s, and the one of this state %s", h.Statement, to.Fingerprint())
	}
	seed, err := to.decrypt(ctx, t, labelSeed, s.Seed)
	if err != nil {
		return nil, nil, err
	}
	defer clear(seed)
	secret, err := to.decrypt(ctx, t, labelSecret, h.RSA)
	if err != nil {
		return nil, nil, err
	}
	defer clear(secret)
	key, err := mlkem.NewDecapsulationKey768(seed)
	if err != nil {
		return nil, nil, errNotAuthentic()
	}
	shared, err := key.Decapsulate(h.KEM)
	if err != nil {
		return nil, nil, errNotAuthentic()
	}
	defer clear(shared)
	stream, err := h.streamKey(shared, secret, to)
	return stream, to, err
}

// ImportKEK makes the KEK of a token that has none, of a ring with the KEK alone:
// its header and its one chunk. transferable decides for ever whether the KEK may
// go on from there. The KEKEK is destroyed then. It can be repeated until it says
// that the KEKEK is not there.
func ImportKEK(ctx context.Context, t Token, s *State, header, line []byte, transferable bool) (*Header, error) {
	h, err := ParseHeader(header)
	if err != nil {
		return nil, err
	}
	if h.Contents != ContentsKEK {
		return nil, invalid("the ring holds named keys, which are imported by a server").WithHint("claviger transfer import without --module")
	}
	c, err := h.parseChunk(line)
	if err != nil {
		return nil, err
	}
	stream, to, err := s.unlock(ctx, t, h)
	if err != nil {
		return nil, err
	}
	defer clear(stream)
	l, err := c.open(stream)
	if err != nil {
		return nil, err
	}
	if l.KEK == nil || len(l.Keys) > 0 {
		return nil, invalid("the ring's chunk has no KEK")
	}
	if err := t.TakeKEK(ctx, to.id(), labelKEKEK, *l.KEK, transferable); err != nil {
		return nil, hsmFault(err, "take the KEK into the HSM token")
	}
	return h, hsmFault(drop(ctx, t, to.id()), "destroy the KEKEK")
}
