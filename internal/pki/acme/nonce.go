package acme

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"time"
)

const (
	// nonceLife is for how long a nonce is good. Clients fetch one right before
	// they need it.
	nonceLife  = 15 * time.Minute
	nonceSeed  = 16                 // bytes
	nonceBytes = 8 + nonceSeed + 16 // time, seed, tag
)

// Nonces makes and takes nonces (RFC 8555 section 6.5). A nonce is
//
//	seconds since 1970 (8 bytes, big endian) ‖ 16 random bytes ‖ 16 bytes of HMAC-SHA256
//
// in base64url, under a key of this process, bound to a scope. Unused nonces
// need no memory; used ones are remembered for as long as they would be good.
type Nonces struct {
	key [32]byte

	mu     sync.Mutex
	used   map[[nonceSeed]byte]struct{} // since turned
	before map[[nonceSeed]byte]struct{} // of the nonceLife before
	turned time.Time
}

// NewNonces makes a key of its own.
func NewNonces() *Nonces {
	n := &Nonces{used: map[[nonceSeed]byte]struct{}{}}
	rand.Read(n.key[:])
	return n
}

// Issue makes a nonce for a scope.
func (n *Nonces) Issue(scope string, now time.Time) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, nonceBytes), uint64(now.Unix()))
	b = b[:8+nonceSeed]
	rand.Read(b[8:])
	return base64.RawURLEncoding.EncodeToString(append(b, n.tag(scope, b)...))
}

func (n *Nonces) tag(scope string, b []byte) []byte {
	m := hmac.New(sha256.New, n.key[:])
	m.Write(b)
	m.Write([]byte(scope))
	return m.Sum(nil)[:16]
}

// Take tells whether a nonce is good for a scope. It is good once.
func (n *Nonces) Take(scope, text string, now time.Time) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != nonceBytes || !hmac.Equal(n.tag(scope, b[:8+nonceSeed]), b[8+nonceSeed:]) {
		return false
	}
	made := time.Unix(int64(binary.BigEndian.Uint64(b)), 0)
	if now.Sub(made) > nonceLife || made.Sub(now) > nonceLife {
		return false
	}
	seed := [nonceSeed]byte(b[8:])
	n.mu.Lock()
	defer n.mu.Unlock()
	// A used nonce is in one of the maps until two lives after its use.
	if d := now.Sub(n.turned); d > 2*nonceLife || d < 0 {
		n.before, n.used, n.turned = n.used, map[[nonceSeed]byte]struct{}{}, now
	}
	_, a := n.used[seed]
	_, z := n.before[seed]
	if a || z {
		return false
	}
	n.used[seed] = struct{}{}
	return true
}
