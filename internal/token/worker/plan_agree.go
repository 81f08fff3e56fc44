package worker

import (
	"crypto/ecdh"
	"errors"
	"fmt"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

var curvesECDH = map[token.Type]ecdh.Curve{token.P256: ecdh.P256(), token.P384: ecdh.P384(), token.P521: ecdh.P521()}

var errNotForAgreement = errors.New("the key was not made for key agreement")

// planAgree is CKM_ECDH1_DERIVE without a KDF (v2.40 section 2.3.9). A point that
// is not on the curve never reaches the module: some don't look, and would give
// the private key away.
func (k *key) planAgree() (plan, error) {
	if !k.stored.Agree {
		return plan{}, fmt.Errorf("%w: %w", token.ErrUnsupported, errNotForAgreement)
	}
	size := (k.stored.Type.Bits() + 7) / 8
	p := plan{op: pkcs11.Op{Func: pkcs11.Derive, Mech: pkcs11.ECDH1Derive, Salt: uint32(size)}, cost: 8, chunk: 16}
	if k.stored.Type != token.P256 {
		p.cost = 40
	}
	curve := curvesECDH[k.stored.Type]
	p.prep = func(it *token.Item) (unit, error) {
		if _, err := curve.NewPublicKey(it.In); err != nil {
			return unit{}, fmt.Errorf("the other's public key: %w", err)
		}
		return unit{in: it.In, room: size}, nil
	}
	p.after = func(it *token.Item, out []byte) error {
		if len(out) != size {
			return fmt.Errorf("the module made a shared secret of %d bytes instead of %d", len(out), size)
		}
		it.Out = append(it.Out, out...)
		return nil
	}
	return p, k.need(pkcs11.ECDH1Derive, pkcs11.FlagDerive)
}
