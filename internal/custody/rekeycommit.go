package custody

import (
	"context"
	"errors"
	"fmt"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// commitRekey puts new shares in force, in one transaction. keep says that the ones
// before them go on to open the seal until the new ones did: nobody has proved yet
// that the new ones arrived. With a new PIN they stay until it is proved.
func (c *Custody) commitRekey(ctx context.Context, a *rekeyAttempt, f *freshShares, keep bool) error {
	c.mu.Lock()
	rec, tok := c.rec, c.tok
	c.mu.Unlock()
	if tok == nil {
		return fault.New(fault.Sealed, "Vault is sealed")
	}
	ps := f.from.pins
	if a.newPIN {
		st, err := c.opts.Device.State(ctx)
		if err != nil {
			return deviceFault(err, "look at the HSM token")
		}
		ps = &pins{user: NewPIN(st.MinPIN), before: f.from.pins}
		defer clear(ps.user)
		if len(f.from.pins.so) > 0 {
			ps.so = NewPIN(st.MinPIN)
			defer clear(ps.so)
		}
	}
	next, err := rec.withShares(ctx, tok, f, ps, keep || a.newPIN)
	if err != nil {
		return err
	}
	if err := c.resealAuto(ctx, next, f.key); err != nil {
		return err
	}
	more, err := c.backupChanges(ctx, f.backup)
	if err != nil {
		return err
	}
	if err := c.install(ctx, rec, next, more...); err != nil {
		return err
	}
	if a.newPIN {
		if err := c.repin(ctx, tok, rec, next, f, ps); err != nil {
			return err
		}
	}
	c.log.Warn("The shares were replaced", "nonce", a.nonce, "shares", f.set.N, "threshold", f.set.T, "share_set", f.set.ID(),
		"former_set", f.from.set.ID(), "former_set_opens", c.record().Former != nil, "new_pin", a.newPIN)
	return nil
}

// install replaces the record in the store, and then in memory.
func (c *Custody) install(ctx context.Context, rec, next *record, more ...store.Change) error {
	if err := c.replaceRecord(ctx, rec, next, "the new shares", more...); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rec = next
	return nil
}

// withShares returns the record with other shares: all that is bound to the set is
// sealed anew.
func (r *record) withShares(ctx context.Context, tok token.Token, f *freshShares, ps *pins, keep bool) (*record, error) {
	next := *r
	next.set, next.Former = f.set, nil
	next.SetID, next.Shares, next.Threshold, next.Commitments = f.set.ID().String(), f.set.N, f.set.T, f.set.Commitments
	var err error
	if next.StorageKey, err = reseal(ctx, tok, r.StorageKey, r.storageAAD(), next.storageAAD()); err != nil {
		return nil, err
	}
	next.Terms = make([]termRecord, len(r.Terms))
	for i, t := range r.Terms {
		next.Terms[i] = t
		if next.Terms[i].Key, err = reseal(ctx, tok, t.Key, r.termAAD(&t), next.termAAD(&t)); err != nil {
			return nil, err
		}
	}
	if keep {
		next.Former = newFormer(f.from.set)
		if next.Former.PINs, err = sealPINs(f.from.key, ps, next.formerAAD(next.Former)); err != nil {
			return nil, err
		}
	}
	next.PINs, err = sealPINs(f.key, ps, next.pinAAD())
	return &next, err
}

func reseal(ctx context.Context, tok token.Token, sealed, from, to []byte) ([]byte, error) {
	key, err := tok.OpenSecret(ctx, sealed, from)
	if err != nil {
		return nil, deviceFault(err, "open a storage key in the HSM token")
	}
	defer clear(key)
	if sealed, err = tok.SealSecret(ctx, key, to); err != nil {
		return nil, deviceFault(err, "seal a storage key in the HSM token")
	}
	return sealed, nil
}

// checkRepin refuses a new PIN for a token that can't have one.
func (c *Custody) checkRepin(ctx context.Context) error {
	c.mu.Lock()
	tok := c.tok
	c.mu.Unlock()
	if tok == nil {
		return fault.New(fault.Sealed, "Vault is sealed")
	}
	if _, ok := tok.(token.PINChanger); !ok {
		return fault.New(fault.Unsupported, "new_pin: the PINs of this HSM token can't be changed through the server")
	}
	st, err := c.opts.Device.State(ctx)
	if err != nil {
		return deviceFault(err, "look at the HSM token")
	}
	if st.MaxPIN > 0 && st.MaxPIN < pinSize {
		return fault.New(fault.Unsupported, "new_pin: the HSM takes PINs of at most %d characters, and a random one needs %d", st.MaxPIN, pinSize)
	}
	return nil
}

// repin gives the token its new PINs and proves them. next, which is stored, names
// both the old and the new ones: wherever this ends, one of both opens.
func (c *Custody) repin(ctx context.Context, tok token.Token, rec, next *record, f *freshShares, ps *pins) error {
	switch fate, err := changePIN(ctx, tok, token.UserPIN, ps.before.user, ps.user, false); fate {
	case pinKept:
		if undo := c.install(ctx, next, rec); undo != nil {
			return fault.Wrap(fault.Uncertain, errors.Join(err, undo), "the HSM token did not take a new user PIN, and the database failed too; "+
				"the old and the new shares both unseal the server")
		}
		return fault.Wrap(fault.Unavailable, err, "the HSM token did not take a new user PIN; the shares and the PIN are the old ones, the new shares open nothing")
	case pinUnknown:
		return (&fault.Error{Kind: fault.Uncertain, Err: err,
			Msg: "it is unknown whether the HSM token took its new user PIN; the old and the new shares both unseal the server"}).WithHint("seal and unseal the server with the new shares: that finds out, and completes the change")
	}
	final, ok := c.repinSO(ctx, tok, ps, false)
	if !ok {
		return nil // known to the next unsealing
	}
	last := *next
	last.Former = nil
	var err error
	if last.PINs, err = sealPINs(f.key, final, last.pinAAD()); err == nil {
		err = c.install(ctx, next, &last)
	}
	if err != nil {
		c.log.Error("The new PINs are in force, but the record of the old ones could not be removed; the next unsealing with the new shares does it", "error", err)
	}
	return nil
}

// repinSO does the same for the SO PIN. final are the PINs that are in force; ok is
// false if that is unknown.
func (c *Custody) repinSO(ctx context.Context, tok token.Token, ps *pins, again bool) (final *pins, ok bool) {
	final = &pins{user: ps.user, so: ps.so}
	if len(ps.so) == 0 {
		return final, true
	}
	switch fate, err := changePIN(ctx, tok, token.SOPIN, ps.before.so, ps.so, again); fate {
	case pinKept:
		c.log.Error("The HSM token has a new user PIN, but did not take a new SO PIN: the old one stays", "error", err)
		final.so = ps.before.so
	case pinUnknown:
		c.log.Error("The HSM token has a new user PIN, but it is unknown whether it took a new SO PIN; the next unsealing finds out", "error", err)
		return nil, false
	}
	return final, true
}

// pinFate is what became of a PIN.
type pinFate int

const (
	pinChanged pinFate = iota
	pinKept
	pinUnknown
)

// changePIN gives the token a new PIN in the place of the old one. again says that
// this was tried before: then the new one is tried first.
func changePIN(ctx context.Context, tok token.Token, role token.PINRole, old, pin []byte, again bool) (pinFate, error) {
	changer, ok := tok.(token.PINChanger)
	if !ok {
		return pinKept, fmt.Errorf("change a PIN: %w", token.ErrUnsupported)
	}
	if again && changer.ProvePIN(ctx, role, pin) == nil {
		return pinChanged, nil
	}
	err := changer.ChangePIN(ctx, role, old, pin)
	if err == nil {
		return pinChanged, nil
	}
	// What failed late may have been done.
	switch proof := changer.ProvePIN(ctx, role, pin); {
	case proof == nil:
		return pinChanged, nil
	case errors.Is(proof, token.ErrPIN):
		return pinKept, err
	}
	return pinUnknown, err
}

// finishPINs completes a change of the PINs that was broken off, and leaves in ps
// what is in force. An error says that this is unknown.
func (c *Custody) finishPINs(ctx context.Context, tok token.Token, ps *pins) error {
	if ps.before == nil {
		return nil
	}
	fate, err := changePIN(ctx, tok, token.UserPIN, ps.before.user, ps.user, true)
	if fate != pinChanged {
		return (&fault.Error{Kind: fault.Unavailable, Err: err,
			Msg: "the PINs of the HSM token were being changed, and that can't be completed now; nothing was changed"}).WithHint("try again; the old and the new shares both unseal the server until then")
	}
	final, ok := c.repinSO(ctx, tok, ps, true)
	if !ok {
		return fault.New(fault.Unavailable, "the SO PIN of the HSM token was being changed, and that can't be completed now; nothing was changed")
	}
	before := ps.before
	ps.so, ps.before = append([]byte(nil), final.so...), nil
	before.wipe()
	c.log.Info("The change of the PINs of the HSM token was completed")
	return nil
}

// conclude is called after an unsealing. Shares that opened are proved: what is kept
// for the case that they do not is removed. What fails is done at the next unsealing.
func (c *Custody) conclude(ctx context.Context, o *opening) {
	c.mu.Lock()
	rec, tok := c.rec, c.tok
	c.mu.Unlock()
	if rec.Former == nil || tok == nil {
		return
	}
	if err := c.finishPINs(ctx, tok, o.pins); err != nil {
		c.log.Error("A change of the PINs was not completed", "error", err)
		return
	}
	if o.set != rec.set {
		c.log.Warn("The former shares unsealed the server; the new ones never did, and both open it",
			"former_set", o.set.ID(), "share_set", rec.SetID, "hint", "rekey again if the new ones are lost")
		return
	}
	next := *rec
	next.Former = nil
	var err error
	if next.PINs, err = sealPINs(o.key, o.pins, next.pinAAD()); err == nil {
		err = c.install(ctx, rec, &next)
	}
	if err != nil {
		c.log.Error("The new shares opened, but the former ones could not be removed and open too", "error", err)
		return
	}
	c.log.Info("The new shares opened: the former ones open nothing any more", "share_set", rec.SetID)
}
