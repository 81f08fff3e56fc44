package cryptech

import (
	"crypto/sha256"

	"github.com/google/uuid"

	"github.com/claviger/claviger/internal/token"
)

// uuidOf names a key as the file does: by its CKA_ID if that has the size of a
// UUID, and otherwise by one that its CKA_ID or, without, its CKA_LABEL determines
// (RFC 9562 section 5.8). Both halves of a pair have the same.
func uuidOf(h *token.Half) string {
	if len(h.ID) == len(uuid.UUID{}) {
		return uuid.UUID(h.ID).String()
	}
	from := append([]byte("claviger cryptech id\x00"), h.ID...)
	if len(h.ID) == 0 {
		from = append([]byte("claviger cryptech label\x00"), h.Label...)
	}
	sum := sha256.Sum256(from)
	u := uuid.UUID(sum[:16])
	u[6], u[8] = u[6]&0x0F|0x80, u[8]&0x3F|0x80
	return u.String()
}

// newID returns a random CKA_ID, which is a UUID (RFC 9562 section 5.4).
func newID() (token.ID, error) {
	u, err := uuid.NewRandom()
	return token.ID(u), err
}
