package custody

import (
	"context"
	"crypto/subtle"

	"github.com/google/uuid"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

func (c *Custody) verifyStatus(context.Context, *api.Empty) (*api.RekeyVerifyStatus, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.verifyState()
}

// verifyState is called by the holder of mu.
func (c *Custody) verifyState() (*api.RekeyVerifyStatus, error) {
	if c.tok == nil {
		return nil, fault.New(fault.Sealed, "Vault is sealed")
	}
	f := c.rekey.fresh
	if f == nil {
		return nil, fault.New(fault.Invalid, "no rekey verification in progress").
			WithHint("it begins when the shares in force made new ones, in an attempt with require_verification")
	}
	return &api.RekeyVerifyStatus{Nonce: f.nonce, Started: true, T: f.set.T, N: f.set.N, Progress: len(f.given.shares)}, nil
}

// restartVerify forgets the new shares given, and returns the new nonce.
func (c *Custody) restartVerify(ctx context.Context, _ *api.Empty) (*api.RekeyVerifyStatus, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.verifyState(); err != nil {
		return nil, err
	}
	c.rekey.fresh.given.wipe()
	c.rekey.fresh.nonce = uuid.NewString()
	return c.verifyState()
}

// giveVerify takes one new share; the one that completes them puts them in force.
func (c *Custody) giveVerify(ctx context.Context, req *api.GiveRekeyShare) (*api.RekeyVerifyStatus, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	a, err := c.collectVerify(req)
	if err != nil {
		c.log.Warn("A new share was refused", "reason", err)
		return nil, err
	}
	if a == nil {
		return c.verifyStatus(ctx, nil)
	}
	defer c.endRekey()
	ctx, cancel := deviceContext(ctx)
	defer cancel()
	if err = a.fresh.prove(); err == nil {
		err = c.commitRekey(ctx, a, a.fresh, false)
	}
	if err != nil {
		c.log.Error("The shares were not replaced", "error", err, "hint", fault.HintOf(err))
		return nil, err
	}
	f := a.fresh
	return &api.RekeyVerifyStatus{Nonce: f.nonce, Started: true, T: f.set.T, N: f.set.N, Progress: f.set.T, Complete: true,
		Statement: c.attestRekey(ctx, a, f)}, nil
}

// collectVerify returns the attempt once the new shares are enough.
func (c *Custody) collectVerify(req *api.GiveRekeyShare) (*rekeyAttempt, error) {
	share, err := shareOf(req)
	if err != nil {
		return nil, err
	}
	defer share.Wipe()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.verifyState(); err != nil {
		return nil, err
	}
	f := c.rekey.fresh
	if err := sameNonce("rekey verification", f.nonce, req.Nonce); err != nil {
		return nil, err
	}
	if err := f.given.take(&share, f.set); err != nil {
		return nil, err
	}
	c.log.Info("A new share was accepted", "share", share.X, "progress", len(f.given.shares), "verification_nonce", f.nonce)
	if !f.given.enough() {
		return nil, nil
	}
	a := c.rekey
	return &a, nil
}

// prove tells whether the shares that came back open what was sealed for them.
func (f *freshShares) prove() error {
	key, err := f.set.Combine(f.given.shares)
	if err != nil {
		return err
	}
	defer clear(key)
	if subtle.ConstantTimeCompare(key, f.key) != 1 {
		return fault.New(fault.Internal, "the new shares do not open what was sealed for them; nothing was changed")
	}
	return nil
}
