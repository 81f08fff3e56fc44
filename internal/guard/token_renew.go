package guard

import (
	"context"
	"errors"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

func (g *Guard) renewToken(ctx context.Context, _ *op.Call, req *api.RenewToken) (*api.Auth, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	if req.Token == "" {
		return nil, fault.New(fault.Invalid, "missing token ID")
	}
	e, err := c.named(ctx, req.Token)
	if errors.Is(err, errBadToken) {
		return nil, errNoToken
	}
	if err != nil {
		return nil, err
	}
	return c.renew(ctx, e, req.Token, req.Increment)
}

func (g *Guard) renewSelf(ctx context.Context, _ *op.Call, req *api.RenewToken) (*api.Auth, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	return c.renew(ctx, c.entry, c.req.Token, req.Increment)
}

func (g *Guard) renewAccessor(ctx context.Context, _ *op.Call, req *api.RenewAccessor) (*api.Auth, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	e, err := c.byAccessor(ctx, req.Accessor)
	if err != nil {
		return nil, err
	}
	return c.renew(ctx, e, "", req.Increment)
}

// renew sets the end of a token anew: increment, or what it had at its creation,
// from now; its period, if it has one. Neither goes beyond the token's greatest
// age.
func (c *call) renew(ctx context.Context, e *entry, text string, increment api.Seconds) (*api.Auth, error) {
	if increment < 0 || increment > maxDuration {
		return nil, fault.New(fault.Invalid, "increment: 0 to %d seconds", maxDuration)
	}
	if e.state.Load().Batch {
		return nil, fault.New(fault.Invalid, "batch tokens cannot be renewed")
	}
	period, err := c.guard.rolePeriod(ctx, &e.state.Load().tokenRecord)
	if err != nil {
		return nil, err
	}
	now := c.op.Time
	var renewed tokenRecord
	err = c.loaded.tokens.update(ctx, e, func(r *tokenRecord) error {
		if period != 0 {
			r.Period = period
		}
		if err := c.extend(r, now, int64(increment)); err != nil {
			return err
		}
		renewed = *r
		return nil
	})
	if errors.Is(err, errEnded) || errors.Is(err, store.ErrNotFound) {
		return nil, errBadToken
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return nil, err
	}
	if err != nil {
		return nil, storeFault(err, "renewing a client token")
	}
	return auth(&renewed, text, now), nil
}

func (c *call) extend(r *tokenRecord, now time.Time, increment int64) error {
	if r.Expires == 0 || !r.Renewable {
		return fault.New(fault.Invalid, "lease is not renewable")
	}
	if r.Expires <= now.Unix() {
		return errEnded
	}
	ttl := increment
	if ttl == 0 {
		ttl = r.TTL
	}
	_, longest := c.loaded.tokenTTL()
	limit := r.Created + int64(longest) - now.Unix()
	if r.Period != 0 {
		ttl, limit = r.Period, r.Period
	}
	if r.ExplicitMaxTTL != 0 {
		limit = min(limit, r.Created+r.ExplicitMaxTTL-now.Unix())
	}
	if limit <= 0 {
		return fault.New(fault.Invalid, "past the max TTL, cannot renew")
	}
	if ttl > limit {
		c.op.Warn("TTL of %q exceeded the effective max_ttl of %q; TTL value is capped accordingly",
			time.Duration(ttl)*time.Second, time.Duration(limit)*time.Second)
		ttl = limit
	}
	r.Renewed, r.Expires = now.Unix(), now.Unix()+ttl
	return nil
}
