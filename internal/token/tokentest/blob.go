package tokentest

import (
	"bytes"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

// testBlobs: a wrapped key that was altered is never used.
func (s *suite) testBlobs(t *testing.T, tok token.Token) {
	var made []token.Stored
	for typ, places := range s.held(tok) {
		if places[0] == token.PlaceWrapped && typ != token.RSA3072 && typ != token.RSA4096 {
			made = append(made, s.generate(t, tok, token.Spec{Type: typ, Place: token.PlaceWrapped, ID: newID()}))
		}
	}
	for _, stored := range made {
		step := 1 // every bit of the small blobs
		if len(stored.Blob) > 48 {
			step = len(stored.Blob)*8/32 | 1
		}
		for bit := 0; bit < len(stored.Blob)*8; bit += step {
			bad := bytes.Clone(stored.Blob)
			bad[bit/8] ^= 1 << (bit % 8)
			s.refuseBlob(t, tok, stored, bad)
		}
		for n := 0; n < len(stored.Blob); n += 1 + len(stored.Blob)/40 {
			s.refuseBlob(t, tok, stored, stored.Blob[:n])
		}
		s.refuseBlob(t, tok, stored, append(bytes.Clone(stored.Blob), make([]byte, 8)...))
		s.refuseBlob(t, tok, stored, randomBytes(len(stored.Blob)))
		s.subject(t, tok, stored).works(t)
	}
	for _, x := range made {
		for _, y := range made {
			s.swapBlobs(t, tok, x, y)
		}
	}
}

func (s *suite) refuseBlob(t *testing.T, tok token.Token, stored token.Stored, blob []byte) {
	t.Helper()
	stored.Blob = blob
	_, err := s.attempt(t, tok, stored)
	wantErr(t, stored.Type.String()+": altered blob", err, token.ErrBlob)
}

// swapBlobs puts y's blob into x's record. A driver may not be able to tell
// secrets of one form from each other, and an HMAC key can be any bytes; else
// the blob is refused.
func (s *suite) swapBlobs(t *testing.T, tok token.Token, x, y token.Stored) {
	if x.Type == token.HMAC || x.Type.Class() == y.Type.Class() {
		return
	}
	x.Blob = y.Blob
	if out, err := s.attempt(t, tok, x); err == nil {
		t.Errorf("a blob of type %s was used as %s and gave %x", y.Type, x.Type, out)
	}
}

// attempt uses a record that may be spoilt: a driver may refuse it as soon as
// it makes the handle.
func (s *suite) attempt(t *testing.T, tok token.Token, stored token.Stored) ([]byte, error) {
	t.Helper()
	key, err := tok.Key(stored)
	if err != nil {
		return nil, err
	}
	return subject{key, stored.Type, stored.Size, stored.Public, s}.attempt(t)
}
