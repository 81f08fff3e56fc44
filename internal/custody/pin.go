package custody

import (
	"context"
	"errors"
	"fmt"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// Who opens the server (Options.Kind).
const (
	// KindShares: custodians with their shares. Nobody knows the PIN.
	KindShares = "shares"
	// KindPIN: whoever can read the configured PIN. The server opens by itself at
	// start; so does everybody who takes the machine or its backup with the PIN.
	KindPIN = "pin"
)

// checkKind refuses to go on with another kind of custody than the record's.
func (c *Custody) checkKind() error {
	kind, configured := kindOf(c.rec.Kind), kindOf(c.opts.Kind)
	if kind == configured || kind != KindPIN && configured != KindPIN {
		return nil // a server without a PIN can be migrated
	}
	return fault.New(fault.Conflict, "this server was initialised with custody by %s, but its configuration says %s", kind, configured).
		WithHint("set custody.kind to %q; another custody needs another initialisation", kind)
}

// planKind settles who will open the server, and among how many the secret is shared.
func (c *Custody) planKind(ctx context.Context, p *plan, req *api.Init) error {
	p.kind = kindOf(c.opts.Kind)
	if p.kind == KindAuto {
		return c.planAuto(ctx, p, req)
	}
	if err := withoutRecovery(req, c.sealType()); err != nil {
		return err
	}
	switch {
	case p.kind == KindShares:
		return checkNumbers(p.n, p.t)
	case p.n != 0 || p.t != 0 || len(req.PGPKeys) != 0:
		return fault.New(fault.Invalid, "secret_shares, secret_threshold and pgp_keys must be absent: this server is opened by a configured PIN, there are no shares").
			WithHint("claviger init --shares 0 --threshold 0")
	case req.HSMPIN != "":
		return fault.New(fault.Invalid, "hsm_pin must be absent: this server takes the PIN of its configuration, at each start")
	}
	return nil
}

// checkWithoutShares refuses a record of custody without shares that has any.
func (r *record) checkWithoutShares() error {
	if r.Kind != KindPIN {
		return fmt.Errorf("has the unknown custody %q", r.Kind)
	}
	if r.SetID != "" || r.Shares != 0 || r.Threshold != 0 || len(r.Commitments) != 0 || len(r.PINs) != 0 {
		return errors.New("was altered: custody by a PIN has no shares")
	}
	r.set = &Set{}
	return nil
}

func withoutShares() error {
	return fault.New(fault.Invalid, "this server is opened by a configured PIN: there are no shares, and no key to give").
		WithHint("it opens by itself at start; after sys/seal, restart it. Its log says why it is sealed. A root token can't be made anew without shares")
}

// OpenByPIN logs in with the configured PIN and starts the services, on a server
// with KindPIN; on one that is open it does nothing. A PIN that the HSM token
// refuses is not tried again, not even by the next process. An error of kind
// fault.Unavailable may pass by itself: then OpenByPIN may be called again.
func (c *Custody) OpenByPIN(ctx context.Context) error {
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	return c.openByPIN(ctx)
}

// openByPIN is called by the holder of act.
func (c *Custody) openByPIN(ctx context.Context) error {
	rec := c.record()
	if rec == nil || rec.Kind != KindPIN {
		return fault.New(fault.Invalid, "this server was not initialised with custody by a PIN")
	}
	if _, sealed := c.State(); !sealed {
		return nil
	}
	ctx, cancel := deviceContext(ctx)
	defer cancel()
	tok, err := c.loginByPIN(ctx, rec)
	if err == nil {
		err, _ = c.enter(ctx, rec, tok)
	}
	if err != nil {
		c.log.Error("Unsealing failed", "error", err, "hint", fault.HintOf(err))
		return err
	}
	c.log.Info("Unsealed by the configured PIN", "hsm_token", rec.TokenLabel, "serial", rec.TokenSerial)
	return nil
}

func (c *Custody) loginByPIN(ctx context.Context, rec *record) (token.Token, error) {
	if err := c.checkToken(ctx, rec); err != nil {
		return nil, err
	}
	pin, err := c.configuredPIN()
	if err != nil {
		return nil, err
	}
	defer clear(pin)
	if len(pin) == 0 || len(pin) > 255 {
		return nil, fault.New(fault.Invalid, "the configured PIN has %d bytes; it must have 1 to 255. It was not tried", len(pin))
	}
	if err := c.checkRefused(rec.TokenSerial, pin); err != nil {
		return nil, err
	}
	tok, err := c.opts.Device.Open(ctx, pin)
	if errors.Is(err, token.ErrPIN) {
		c.refuse(ctx, rec.TokenSerial, pin)
		return nil, fault.Wrap(fault.Invalid, err, "%s refuses the configured PIN; it will not be tried again", tokenName(rec.TokenLabel))
	}
	if err != nil {
		return nil, deviceFault(err, "log in to the HSM token")
	}
	return tok, nil
}
