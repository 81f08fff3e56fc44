package custody

import (
	"context"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// Unseal takes one share as text. With the last one that is needed it logs in
// to the HSM token and starts the services. A share that is refused changes
// nothing. If the HSM or a service fails, the shares given before the last one
// are kept, so that the last one can be given again. Unsealing an unsealed
// server returns its status.
func (c *Custody) Unseal(ctx context.Context, share string) (*api.SealStatus, error) {
	return c.unseal(ctx, share, false)
}

// Migrate is Unseal with a share that is given so that the server gets the custody
// that its configuration says, see migrate.
func (c *Custody) Migrate(ctx context.Context, share string) (*api.SealStatus, error) {
	return c.unseal(ctx, share, true)
}

func (c *Custody) unseal(ctx context.Context, share string, migrate bool) (*api.SealStatus, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	rec := c.record()
	if rec == nil {
		return nil, fault.New(fault.Invalid, "Vault is not initialized").WithHint("call sys/init first")
	}
	if _, sealed := c.State(); !sealed {
		return c.Status(), nil
	}
	if rec.Kind == KindPIN {
		return nil, withoutShares()
	}
	if c.refused.Stored != nil {
		return nil, c.storedRefusal(nil)
	}
	if err := c.checkMigrate(rec, migrate); err != nil {
		return nil, err
	}
	complete, err := c.collect(rec, share, migrate)
	if err != nil {
		c.log.Warn("A share was refused", "reason", err)
		return nil, err
	}
	if !complete {
		return c.Status(), nil
	}
	if err := c.open(ctx, rec); err != nil {
		return nil, err
	}
	c.log.Info("Unsealed", "hsm_token", rec.TokenLabel, "serial", rec.TokenSerial)
	return c.Status(), nil
}

// Reset forgets the shares given so far, and that the HSM token refused the
// stored PIN: then the PIN may be tried once more.
func (c *Custody) Reset(ctx context.Context) (*api.SealStatus, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	c.forget()
	if c.refused.Stored != nil {
		c.log.Warn("The stored PIN of the HSM token may be tried once more", "refused", c.refused.Stored.Time)
		c.refuseStored(ctx, nil)
	}
	c.log.Info("The shares given so far were forgotten")
	return c.Status(), nil
}

// collect checks a share and adds it; complete tells that these are enough.
func (c *Custody) collect(rec *record, text string, migrate bool) (complete bool, err error) {
	share, err := ParseShare(text)
	if err != nil {
		return false, err
	}
	defer share.Wipe()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.sameMigrate(migrate); err != nil {
		return false, err
	}
	if err := c.given.take(&share, rec.sets()...); err != nil {
		return false, err
	}
	c.given.migrate = migrate
	c.log.Info("A share was accepted", "share", share.X, "share_set", share.Set, "progress", len(c.given.shares), "threshold", c.given.set.T, "nonce", c.given.nonce)
	return c.given.enough(), nil
}

// open uses the collected shares. What fails before the PIN is tried, or for a
// reason that may pass, costs only the share that was given last.
func (c *Custody) open(ctx context.Context, rec *record) error {
	ctx, cancel := deviceContext(ctx)
	defer cancel()
	if err := c.checkToken(ctx, rec); err != nil {
		return c.unopened(err, true)
	}
	o, err := c.combine(rec)
	if err != nil {
		return c.unopened(err, false)
	}
	defer o.wipe()
	tok, err := c.loginWith(ctx, o.pins)
	switch {
	case errors.Is(err, token.ErrPIN):
		c.refuseStored(ctx, &refusal{Serial: rec.TokenSerial, Time: c.now().UTC()})
		return c.unopened(c.storedRefusal(err), false)
	case err != nil:
		return c.unopened(deviceFault(err, "log in to the HSM token"), !errors.Is(err, token.ErrLocked))
	}
	if err := c.migrate(ctx, rec, o); err != nil {
		c.closeToken(tok)
		return c.unopened(err, true)
	}
	if err, keep := c.enter(ctx, rec, tok); err != nil {
		return c.unopened(err, keep)
	}
	c.conclude(ctx, o)
	return nil
}

// loginWith tries the PIN, and the one before it if it was being replaced when the
// process ended: one wrong try at most, which the right one takes back.
func (c *Custody) loginWith(ctx context.Context, p *pins) (token.Token, error) {
	tok, err := c.opts.Device.Open(ctx, p.user)
	if p.before != nil && errors.Is(err, token.ErrPIN) {
		return c.opts.Device.Open(ctx, p.before.user)
	}
	return tok, err
}

// enter goes from the login to the running services. It closes the token if that
// fails; keep tells whether the cause may pass.
func (c *Custody) enter(ctx context.Context, rec *record, tok token.Token) (_ error, keep bool) {
	keys, err := rec.openStorageKeys(ctx, tok)
	defer keys.Wipe()
	if err != nil {
		c.closeToken(tok)
		return storageKeyFault(err)
	}
	if err := c.start(ctx, tok, keys); err != nil {
		return err, true
	}
	c.unsealed(tok)
	return nil, false
}

// combine opens the PINs. Every share was verified, so that only a changed
// record can make it fail.
func (c *Custody) combine(rec *record) (*opening, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return rec.openWith(c.given.shares)
}

// checkToken compares the HSM token with the record before any PIN goes to it.
func (c *Custody) checkToken(ctx context.Context, rec *record) error {
	st, err := c.opts.Device.State(ctx)
	if err != nil {
		return deviceFault(err, "look at the HSM token")
	}
	switch {
	case !st.Present || !st.Initialized:
		return fault.New(fault.Unavailable, "%s (serial number %q) is not there", tokenName(rec.TokenLabel), rec.TokenSerial)
	case st.Label != rec.TokenLabel || st.Serial != rec.TokenSerial:
		return fault.New(fault.Conflict, "the HSM shows the token %q with serial number %q, but this server was initialised with %q, serial number %q; no PIN was tried",
			st.Label, st.Serial, rec.TokenLabel, rec.TokenSerial)
	case st.PINLocked:
		return deviceFault(token.ErrLocked, "log in to the HSM token")
	}
	return nil
}

// unopened ends an attempt with err: it forgets the last share, or all of them.
func (c *Custody) unopened(err error, keep bool) error {
	c.log.Error("Unsealing failed", "error", err, "hint", fault.HintOf(err))
	if !keep {
		c.forget()
		return err
	}
	c.mu.Lock()
	c.given.drop()
	kept := len(c.given.shares)
	c.mu.Unlock()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Hint != "" {
		return err
	}
	return e.WithHint("when the cause is removed, give the last share again; the %d shares given before it are kept", kept)
}

func (c *Custody) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.given.wipe()
}

func storageKeyFault(err error) (_ error, keep bool) {
	switch {
	case errors.Is(err, token.ErrOpen):
		return fault.Wrap(fault.Conflict, err, "the HSM token can't open the storage key: the seal record in the database "+
			"was altered, or the token's own storage key was replaced; restore the one or the other from a backup"), false
	case errors.Is(err, token.ErrNotFound):
		return fault.Wrap(fault.Conflict, err, "the HSM token has no storage key any more: its objects were removed; restore the token from a backup"), false
	}
	return deviceFault(err, "open the storage key in the HSM token"), true
}
