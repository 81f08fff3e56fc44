package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

var _ token.Carrier = (*hsm)(nil)

// More requests of frameMove. Behind the first byte is JSON, in the answer too.
const (
	carryKEK  = carryMake + 1
	takeKEK   = carryMake + 2
	carryKeys = carryMake + 3
	takeKeys  = carryMake + 4
	tryKeys   = carryMake + 5
)

// maxCarried bounds the keys of one call.
const maxCarried = 256

// carryRequest is what the requests have; each uses a part of it.
type carryRequest struct {
	KWP          pkcs11.CKM       `json:"kwp"` // RFC 5649
	Bits         int              `json:"bits,omitempty"`
	ID           token.ID         `json:"id"`
	Label        string           `json:"label,omitempty"`
	Public       []byte           `json:"public,omitempty"` // of the KEKEK
	With         []token.Padding  `json:"with,omitempty"`
	KEK          token.WrappedKEK `json:"kek,omitzero"`
	Transferable bool             `json:"transferable,omitempty"`
	Keys         []token.Stored   `json:"keys,omitempty"`
	Freight      token.Freight    `json:"freight,omitzero"`
}

// askCarry sends a request; cost is its share of a worker's time, as in ask.
func askCarry[R any](ctx context.Context, h *hsm, kind byte, req *carryRequest, cost int64) (answer R, err error) {
	req.KWP = h.intake.kwp
	body, err := json.Marshal(req)
	if err != nil {
		return answer, fmt.Errorf("encoding a request to the worker: %w", err)
	}
	err = h.ask(ctx, frameMove, append([]byte{kind}, body...), true, cost, func(_ *proc, r *reader) error {
		body := r.bytes()
		if err := r.end(); err != nil {
			return err
		}
		return json.Unmarshal(body, &answer)
	})
	return answer, seamError(err)
}

// MakeCarrier implements token.Carrier.
func (h *hsm) MakeCarrier(ctx context.Context, bits int, id token.ID, label string) (token.KEKEK, error) {
	defer h.pool.cfg.Observe.call("make carrier", time.Now())
	if bits < token.MinKEKEK || bits > token.MaxKEKEK || bits%256 != 0 {
		return token.KEKEK{}, fmt.Errorf("%w: a KEKEK of %d bits; it can have %d to %d, a multiple of 256", token.ErrUnsupported, bits, token.MinKEKEK, token.MaxKEKEK)
	}
	if err := h.takes(); err != nil {
		return token.KEKEK{}, err
	}
	if !h.has(pkcs11.RSAKeyGen, pkcs11.FlagGenPair) {
		return token.KEKEK{}, fmt.Errorf("%w: the module has no %s", token.ErrUnsupported, pkcs11.RSAKeyGen)
	}
	defer h.one(ctx)()
	return askCarry[token.KEKEK](ctx, h, carryMake, &carryRequest{Bits: bits, ID: id, Label: label}, 600)
}

// takes says what the module lacks to take keys in.
func (h *hsm) takes() error {
	switch {
	case h.intake.kwp == 0:
		return fmt.Errorf("%w: the module unwraps no keys with AES key wrap with padding (RFC 5649), so that nothing can come into this HSM token", token.ErrUnsupported)
	case !h.has(pkcs11.RSAPKCS, pkcs11.FlagUnwrap) && !h.has(pkcs11.RSAOAEP, pkcs11.FlagUnwrap):
		return fmt.Errorf("%w: the module unwraps no keys with RSA, neither with CKM_RSA_PKCS_OAEP nor with CKM_RSA_PKCS", token.ErrUnsupported)
	}
	return nil
}

func (h *hsm) gives() error {
	h.mu.RLock()
	kek, transferable := h.facts.kek, h.facts.transferable
	h.mu.RUnlock()
	switch {
	case !kek:
		return fmt.Errorf("%w: the token has no key-encryption key", token.ErrUnsupported)
	case !transferable:
		return fmt.Errorf("%w: the KEK of this HSM token was not made transferable, which is decided for ever at initialisation", token.ErrUnsupported)
	case h.intake.kwp == 0 || !h.has(h.intake.kwp, pkcs11.FlagWrap):
		return fmt.Errorf("%w: the module wraps no keys with AES key wrap with padding (RFC 5649)", token.ErrUnsupported)
	}
	return nil
}

// CarryKEK implements token.Carrier.
func (h *hsm) CarryKEK(ctx context.Context, kekek []byte, with []token.Padding) (token.WrappedKEK, error) {
	defer h.pool.cfg.Observe.call("carry KEK", time.Now())
	if err := h.gives(); err != nil {
		return token.WrappedKEK{}, err
	}
	return askCarry[token.WrappedKEK](ctx, h, carryKEK, &carryRequest{Public: kekek, With: with}, 20)
}

// TakeKEK implements token.Carrier.
func (h *hsm) TakeKEK(ctx context.Context, id token.ID, label string, w token.WrappedKEK, transferable bool) error {
	defer h.pool.cfg.Observe.call("take KEK", time.Now())
	if err := h.takes(); err != nil {
		return err
	}
	defer h.one(ctx)()
	_, err := askCarry[struct{}](ctx, h, takeKEK, &carryRequest{ID: id, Label: label, KEK: w, Transferable: transferable}, 40)
	return err
}

// Carry implements token.Carrier.
func (h *hsm) Carry(ctx context.Context, kekek []byte, with []token.Padding, keys []token.Stored) (token.Freight, error) {
	defer h.pool.cfg.Observe.call("carry", time.Now())
	if err := h.gives(); err != nil {
		return token.Freight{}, err
	}
	if len(keys) > maxCarried {
		return token.Freight{}, fmt.Errorf("%w: %d keys in one call, at most %d", token.ErrUnsupported, len(keys), maxCarried)
	}
	return askCarry[token.Freight](ctx, h, carryKeys, &carryRequest{Public: kekek, With: with, Keys: keys}, int64(20+20*len(keys)))
}

// TryCarry implements token.Carrier.
func (h *hsm) TryCarry(ctx context.Context, keys []token.Stored) error {
	defer h.pool.cfg.Observe.call("try carry", time.Now())
	if err := h.gives(); err != nil {
		return err
	}
	if len(keys) > maxCarried {
		return fmt.Errorf("%w: %d keys in one call, at most %d", token.ErrUnsupported, len(keys), maxCarried)
	}
	_, err := askCarry[struct{}](ctx, h, tryKeys, &carryRequest{Keys: keys}, int64(5+20*len(keys)))
	return err
}

// Take implements token.Carrier.
func (h *hsm) Take(ctx context.Context, id token.ID, label string, f token.Freight) ([]token.Stored, error) {
	defer h.pool.cfg.Observe.call("take", time.Now())
	if err := h.takes(); err != nil {
		return nil, err
	}
	if len(f.Keys) > maxCarried {
		return nil, token.ErrOpen
	}
	return askCarry[[]token.Stored](ctx, h, takeKeys, &carryRequest{ID: id, Label: label, Freight: f}, int64(20+20*len(f.Keys)))
}
