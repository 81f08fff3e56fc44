package worker

import (
	"context"
	"slices"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

var _ token.PINChanger = (*hsm)(nil)

// ChangePIN implements token.PINChanger. Both steps are done by processes of their
// own, so that workers keep their sessions and the proof is a login from nothing.
func (h *hsm) ChangePIN(ctx context.Context, role token.PINRole, old, pin []byte) error {
	if h.pool.ended.Load() {
		return token.ErrClosed
	}
	return h.dev.alone(ctx, func(ctx context.Context) error {
		if err := h.dev.pinFrame(ctx, frameSetPIN, role, old, pin); err != nil {
			return err
		}
		return h.provePIN(ctx, role, pin)
	})
}

// ProvePIN implements token.PINChanger.
func (h *hsm) ProvePIN(ctx context.Context, role token.PINRole, pin []byte) error {
	if h.pool.ended.Load() {
		return token.ErrClosed
	}
	return h.dev.alone(ctx, func(ctx context.Context) error { return h.provePIN(ctx, role, pin) })
}

// provePIN is for one at a time: no worker starts with the old PIN meanwhile.
func (h *hsm) provePIN(ctx context.Context, role token.PINRole, pin []byte) error {
	err := h.dev.pinFrame(ctx, frameTryPIN, role, pin)
	if err == nil && role == token.UserPIN {
		h.pool.repin(pin)
	}
	return err
}

// pinFrame lets a process of its own do one thing with PINs.
func (d *Device) pinFrame(ctx context.Context, kind byte, role token.PINRole, pins ...[]byte) error {
	c, _, err := look(ctx, &d.cfg, true, false)
	if err != nil {
		return err
	}
	defer c.end()
	b := append(make([]byte, 0, 1024), byte(role))
	for _, pin := range pins {
		b = appendBytes(b, pin)
	}
	defer clear(b)
	if _, err := c.ask(ctx, kind, b); err != nil {
		return seamError(err)
	}
	return nil
}

// repin makes pin the one that workers log in with from now on.
func (p *pool) repin(pin []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.dead != nil {
		return
	}
	clear(p.pin)
	p.pin = slices.Clone(pin)
}

// setPIN changes a PIN: whose it is, the old and the new one are in the payload.
func (p *process) setPIN(payload []byte) error {
	r := reader{b: payload}
	role, old, pin := token.PINRole(r.u8()), r.bytes(), r.bytes()
	if err := r.end(); err != nil {
		return malformedPIN
	}
	s, v, err := p.pinSession(role)
	if err != nil {
		return err
	}
	if err := checkPIN("the new", len(pin), &v.token); err != nil {
		return err
	}
	if role == token.SOPIN {
		// Without a login C_SetPIN is about the user's PIN (PKCS #11 v2.40 section 5.5).
		if err := s.Login(pkcs11.UserSO, old); err != nil {
			return failf(reasonCall, err, "logging in as security officer")
		}
	}
	if err := s.SetPIN(old, pin); err != nil {
		return failf(reasonCall, err, "changing a PIN")
	}
	return nil
}

// tryPIN logs in: whose PIN it is and the PIN are in the payload.
func (p *process) tryPIN(payload []byte) error {
	r := reader{b: payload}
	role, pin := token.PINRole(r.u8()), r.bytes()
	if err := r.end(); err != nil {
		return malformedPIN
	}
	s, _, err := p.pinSession(role)
	if err != nil {
		return err
	}
	user := uint64(pkcs11.UserNormal)
	if role == token.SOPIN {
		user = pkcs11.UserSO
	}
	if err := s.Login(user, pin); err != nil {
		return failf(reasonCall, err, "logging in")
	}
	return nil
}

var malformedPIN = &failure{reason: reasonFrame, msg: "PIN: malformed or before setup"}

func (p *process) pinSession(role token.PINRole) (*pkcs11.Session, *slotView, error) {
	if p.mod == nil || role != token.UserPIN && role != token.SOPIN {
		return nil, nil, malformedPIN
	}
	v, err := p.look()
	if err != nil {
		return nil, nil, err
	}
	at := p.find(v)
	if at == nil {
		return nil, nil, p.absent(v)
	}
	s, err := p.mod.OpenSession(at.id)
	if err != nil {
		return nil, nil, failf(reasonCall, err, "opening a session")
	}
	return s, at, nil
}
