package tokentest

import (
	"bytes"
	"crypto"
	"errors"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

func (k subject) useHMAC(t *testing.T) {
	t.Helper()
	op := token.Op{Kind: token.MAC}
	sample := func(crypto.Hash) token.Item { return token.Item{In: []byte("x")} }
	seen := make(map[string]bool)
	k.eachHash(t, op, sample, func(h crypto.Hash) {
		op.Hash = h
		if _, err := k.try(t, op, sample(h)); k.size < h.Size() && errors.Is(err, token.ErrUnsupported) {
			return // some modules want keys as long as the code
		}
		for _, n := range []int{0, 1, 63, 64, 65, 136, 1000, 70000} {
			msg := randomBytes(n)
			code := k.one(t, op, token.Item{In: msg, Out: []byte("ab")})
			if !bytes.HasPrefix(code, []byte("ab")) || len(code) != 2+h.Size() || seen[string(code)] {
				t.Fatalf("HMAC with %s of %d bytes: %x", h, n, code)
			}
			seen[string(code)] = true
			wantEqual(t, "the same code again", k.one(t, op, token.Item{In: msg}), code[2:])
			msg = append(msg, 1)
			if other := k.one(t, op, token.Item{In: msg}); bytes.Equal(other, code[2:]) {
				t.Errorf("HMAC with %s: two messages have one code", h)
			}
		}
	})
	k.refused(t, "no hash", token.Op{Kind: token.MAC}, token.Item{In: []byte("x")})
}
