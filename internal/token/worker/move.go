package worker

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

var _ token.Mover = (*hsm)(nil)

// Requests of frameMove: the first byte of its payload.
const (
	moveList   = 1
	moveKEKEK  = 2
	moveOut    = 3
	moveIn     = 4
	movePublic = 5
	carryMake  = 6 // these and more: see carry.go
)

// Bounds of a KEKEK's modulus in bits.
const (
	minKEKEK = 2048
	maxKEKEK = 4096
)

// minExponent is the least public exponent of a KEKEK (NIST SP 800-56B Rev. 2 section
// 6.2): with 1 a key would leave in clear.
const minExponent = 65537

// Halves implements token.Mover.
func (h *hsm) Halves(ctx context.Context) (list []token.Half, err error) {
	defer h.pool.cfg.Observe.call("halves", time.Now())
	err = h.ask(ctx, frameMove, []byte{moveList}, true, 10, func(_ *proc, r *reader) (err error) {
		list, err = parseHalves(r)
		return err
	})
	return list, seamError(err)
}

// MakeKEKEK implements token.Mover.
func (h *hsm) MakeKEKEK(ctx context.Context, bits int, id token.ID, label string) (public []byte, err error) {
	defer h.pool.cfg.Observe.call("kekek", time.Now())
	if bits < minKEKEK || bits > maxKEKEK || bits%256 != 0 {
		return nil, fmt.Errorf("%w: a KEKEK of %d bits; it can have %d to %d, a multiple of 256", token.ErrUnsupported, bits, minKEKEK, maxKEKEK)
	}
	if err := h.unwrapsParcels(true); err != nil {
		return nil, err
	}
	if !h.has(pkcs11.RSAKeyGen, pkcs11.FlagGenPair) {
		return nil, fmt.Errorf("%w: the module has no %s", token.ErrUnsupported, pkcs11.RSAKeyGen)
	}
	defer h.one(ctx)()
	b := appendU32([]byte{moveKEKEK}, uint32(bits))
	b = appendNewHalf(b, &token.NewHalf{ID: id, Label: label})
	err = h.ask(ctx, frameMove, b, true, 300, func(_ *proc, r *reader) error {
		public = slices.Clone(r.bytes())
		return r.end()
	})
	return public, seamError(err)
}

// unwrapsParcels says what the module lacks to take parcels in; inside if the KEK
// is unwrapped in the token too.
func (h *hsm) unwrapsParcels(inside bool) error {
	switch {
	case h.intake.kwp == 0:
		return fmt.Errorf("%w: the module unwraps no keys with AES key wrap with padding (RFC 5649)", token.ErrUnsupported)
	case inside && !h.has(pkcs11.RSAPKCS, pkcs11.FlagUnwrap):
		return fmt.Errorf("%w: the module unwraps no keys with CKM_RSA_PKCS", token.ErrUnsupported)
	case !inside && !h.intake.creates:
		return fmt.Errorf("%w: the module takes no AES key from outside", token.ErrUnsupported)
	}
	return nil
}

// MoveOut implements token.Mover.
func (h *hsm) MoveOut(ctx context.Context, kekek []byte, key token.Half) (wrapped, wrappedKEK []byte, err error) {
	defer h.pool.cfg.Observe.call("move out", time.Now())
	parsed, err := x509.ParsePKIXPublicKey(kekek)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the KEKEK: %w", token.ErrUnsupported, err)
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok || public.N.BitLen() < minKEKEK || public.N.BitLen() > maxKEKEK {
		return nil, nil, fmt.Errorf("%w: a KEKEK is an RSA key of %d to %d bits", token.ErrUnsupported, minKEKEK, maxKEKEK)
	}
	for _, m := range []pkcs11.CKM{pkcs11.RSAPKCS, h.intake.kwp} {
		if !h.has(m, pkcs11.FlagWrap) || m == 0 {
			return nil, nil, fmt.Errorf("%w: the module does not wrap keys with CKM_RSA_PKCS and AES key wrap with padding (RFC 5649)", token.ErrUnsupported)
		}
	}
	b := appendU32([]byte{moveOut}, uint32(h.intake.kwp))
	b = appendName(b, &token.ObjectName{Label: key.Label, ID: key.ID})
	b = appendBytes(b, kekek)
	err = h.ask(ctx, frameMove, b, true, 10, func(_ *proc, r *reader) error {
		wrapped, wrappedKEK = slices.Clone(r.bytes()), slices.Clone(r.bytes())
		return r.end()
	})
	return wrapped, wrappedKEK, seamError(err)
}

// MoveIn implements token.Mover.
func (h *hsm) MoveIn(ctx context.Context, p token.Parcel, as token.NewHalf) (public []byte, err error) {
	defer h.pool.cfg.Observe.call("move in", time.Now())
	if err := h.unwrapsParcels(p.KEKEK != nil); err != nil {
		return nil, err
	}
	n := len(p.Wrapped)
	if n < token.ImportMin || n > maxPackage || n%8 != 0 || p.KEKEK == nil && len(p.KEK) != token.KEKSize {
		return nil, token.ErrOpen
	}
	defer h.one(ctx)()
	b := appendParcel(appendU32([]byte{moveIn}, uint32(h.intake.kwp)), &p)
	b = appendNewHalf(b, &as)
	defer clear(b)
	err = h.ask(ctx, frameMove, b, true, 40, func(_ *proc, r *reader) error {
		public = slices.Clone(r.bytes())
		return r.end()
	})
	return public, seamError(err)
}

// PutPublic implements token.Mover.
func (h *hsm) PutPublic(ctx context.Context, public []byte, as token.NewHalf) error {
	defer h.pool.cfg.Observe.call("put public", time.Now())
	defer h.one(ctx)()
	b := appendNewHalf([]byte{movePublic}, &as)
	return seamError(h.ask(ctx, frameMove, appendBytes(b, public), true, 5, nil))
}

// Remove implements token.Mover.
func (h *hsm) Remove(ctx context.Context, id token.ID, label string) error {
	defer h.one(ctx)()
	name := token.ObjectName{Class: token.PrivateObject, Label: label, ID: id[:]}
	return seamError(h.ask(ctx, frameErase, appendName(nil, &name), true, 5, nil))
}

func appendNewHalf(b []byte, n *token.NewHalf) []byte {
	b = append(append(b, n.ID[:]...), byte(n.Uses))
	b = appendBool(appendBool(b, n.Visible), n.Extractable)
	return appendBytes(b, n.Label)
}

func (r *reader) newHalf() (n token.NewHalf) {
	copy(n.ID[:], r.take(len(n.ID)))
	n.Uses, n.Visible, n.Extractable, n.Label = token.Use(r.u8()), r.u8() != 0, r.u8() != 0, r.str()
	return n
}

func appendParcel(b []byte, p *token.Parcel) []byte {
	b = appendBytes(appendBool(b, p.RSA), p.Wrapped)
	if p.KEKEK == nil {
		return appendBytes(appendBool(b, false), p.KEK)
	}
	b = appendBytes(appendBool(b, true), p.WrappedKEK)
	return appendName(b, &token.ObjectName{Label: p.KEKEK.Label, ID: p.KEKEK.ID})
}

func (r *reader) parcel() token.Parcel {
	p := token.Parcel{RSA: r.u8() != 0, Wrapped: r.bytes()}
	if r.u8() == 0 {
		p.KEK = r.bytes()
		return p
	}
	p.WrappedKEK = r.bytes()
	name := r.name()
	p.KEKEK = &token.Half{Label: name.Label, ID: name.ID, Private: true, RSA: true}
	return p
}

func appendHalves(b []byte, list []token.Half) []byte {
	b = appendU32(b, uint32(len(list)))
	for i := range list {
		h := &list[i]
		b = appendBytes(appendBytes(b, h.Label), h.ID)
		for _, f := range []bool{h.Private, h.RSA, h.Visible, h.Extractable} {
			b = appendBool(b, f)
		}
		b = append(b, byte(h.Type), byte(h.Uses))
		b = appendBytes(appendBytes(b, h.Kind), h.Public)
	}
	return b
}

func parseHalves(r *reader) (list []token.Half, err error) {
	for n := r.u32(); n > 0 && !r.bad; n-- {
		h := token.Half{Label: r.str(), ID: slices.Clone(r.bytes())}
		for _, f := range []*bool{&h.Private, &h.RSA, &h.Visible, &h.Extractable} {
			*f = r.u8() != 0
		}
		h.Type, h.Uses = token.Type(r.u8()), token.Use(r.u8())
		h.Kind, h.Public = r.str(), slices.Clone(r.bytes())
		list = append(list, h)
	}
	return list, r.end()
}
