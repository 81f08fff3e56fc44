package soft

import (
	"context"

	"github.com/claviger/claviger/internal/token"
)

var _ token.PINChanger = (*Token)(nil)

// ChangePIN implements token.PINChanger.
func (t *Token) ChangePIN(ctx context.Context, r token.PINRole, old, pin []byte) error {
	if err := checkPIN("new", pin); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(ctx); err != nil {
		return err
	}
	if err := t.provePIN(r, old); err != nil {
		return err
	}
	before := t.header
	if err := t.header.setPIN(roleOf(r), t.device.kdf, pin, t.fileKey); err != nil {
		t.header = before
		return err
	}
	if err := t.commit(t.contents); err != nil {
		// A write that failed late may have been made: the file says.
		if t.provePIN(r, pin) == nil {
			return nil
		}
		t.header = before
		return err
	}
	return t.provePIN(r, pin)
}

// ProvePIN implements token.PINChanger.
func (t *Token) ProvePIN(ctx context.Context, r token.PINRole, pin []byte) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.ready(ctx); err != nil {
		return err
	}
	return t.provePIN(r, pin)
}

// provePIN opens the slot of the file as it lies there now.
func (t *Token) provePIN(r token.PINRole, pin []byte) error {
	f, err := t.device.load()
	if err != nil {
		return err
	}
	key, err := f.fileKey(roleOf(r), pin)
	clear(key)
	return err
}

func roleOf(r token.PINRole) role {
	if r == token.SOPIN {
		return roleSO
	}
	return roleUser
}
