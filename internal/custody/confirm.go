package custody

import (
	"context"
	"crypto/subtle"

	"github.com/google/uuid"

	"github.com/claviger/claviger/internal/fault"
)

// confirmation collects shares for an act of another service. There is one at a
// time; it ends with the last share, its cancellation, or the sealing of the server.
type confirmation struct {
	nonce string // "" while there is none
	given collection
}

func (a *confirmation) wipe() {
	a.given.wipe()
	a.nonce = ""
}

// BeginConfirmation asks the custodians to confirm an act: as many shares as unseal
// the server. It takes the place of an earlier one that is not complete. The nonce
// binds the shares to what the caller shows under it.
func (c *Custody) BeginConfirmation() (nonce string, required int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.tok == nil:
		return "", 0, fault.New(fault.Sealed, "Vault is sealed")
	case c.rec.Kind == KindPIN:
		return "", 0, withoutShares()
	}
	c.confirm.wipe()
	c.confirm.nonce = uuid.NewString()
	return c.confirm.nonce, c.rec.Threshold, nil
}

// Confirmation tells how many shares were given; nonce is "" if none are asked for.
func (c *Custody) Confirmation() (nonce string, progress int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.confirm.nonce, len(c.confirm.given.shares)
}

// CancelConfirmation forgets the shares given so far.
func (c *Custody) CancelConfirmation() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.confirm.wipe()
}

// Confirm takes one share. complete tells that these were enough, and that they
// open the seal: then the confirmation has ended.
func (c *Custody) Confirm(ctx context.Context, nonce, text string) (progress int, complete bool, err error) {
	end, err := c.begin(ctx)
	if err != nil {
		return 0, false, err
	}
	defer end()
	done, progress, err := c.collectConfirmation(nonce, text)
	if err != nil {
		c.log.Warn("A share for a confirmation was refused", "reason", err)
		return 0, false, err
	}
	if done == nil {
		return progress, false, nil
	}
	defer done.wipe()
	opened, err := c.record().openWith(done.given.shares)
	if err != nil {
		return 0, false, err
	}
	opened.wipe()
	c.log.Warn("Custodians confirmed an act with their shares", "nonce", nonce)
	return progress, true, nil
}

// collectConfirmation checks a share and adds it. It returns the confirmation, which
// has ended then, once the shares are enough.
func (c *Custody) collectConfirmation(nonce, text string) (*confirmation, int, error) {
	if text == "" {
		return nil, 0, fault.New(fault.Invalid, "'key' must be specified in request body as JSON")
	}
	share, err := ParseShare(text)
	if err != nil {
		return nil, 0, err
	}
	defer share.Wipe()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.tok == nil:
		return nil, 0, fault.New(fault.Sealed, "Vault is sealed")
	case c.confirm.nonce == "":
		return nil, 0, fault.New(fault.Invalid, "there is nothing that waits for the shares of custodians")
	case subtle.ConstantTimeCompare([]byte(c.confirm.nonce), []byte(nonce)) != 1:
		return nil, 0, fault.New(fault.Invalid, "incorrect nonce supplied; nonce for this operation is %q", c.confirm.nonce)
	}
	if err := c.confirm.given.take(&share, c.rec.set); err != nil {
		return nil, 0, err
	}
	progress := len(c.confirm.given.shares)
	c.log.Info("A share for a confirmation was accepted", "share", share.X, "progress", progress, "nonce", nonce)
	if progress < c.rec.Threshold {
		return nil, progress, nil
	}
	done := c.confirm
	c.confirm = confirmation{}
	return &done, progress, nil
}
