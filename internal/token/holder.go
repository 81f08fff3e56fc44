package token

import "sync/atomic"

// Holder gives services the token that is open now. It is empty while the
// server is sealed.
type Holder struct {
	p atomic.Pointer[Token]
}

// Get returns the open token, or ErrSealed.
func (h *Holder) Get() (Token, error) {
	p := h.p.Load()
	if p == nil {
		return nil, ErrSealed
	}
	return *p, nil
}

// Set makes t the open token; nil empties the holder. It returns the one
// before, for the caller to close.
func (h *Holder) Set(t Token) (before Token) {
	var next *Token
	if t != nil {
		next = &t
	}
	if p := h.p.Swap(next); p != nil {
		return *p
	}
	return nil
}
