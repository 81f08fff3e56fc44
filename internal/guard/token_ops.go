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

func (g *Guard) tokenOperations() []*op.Operation {
	meta := func(path string, verb op.Verb, help string) op.Meta {
		return op.Meta{Name: "token." + path, Mount: kindToken, Path: path, Verb: verb, Help: help}
	}
	revokeOrphan := meta("revoke-orphan", op.Write, "End a client token and leave those made with it as orphans.")
	accessors := meta("accessors", op.List, "List the accessors of all client tokens.")
	revokeOrphan.Sudo, accessors.Sudo = true, true
	readSelf := meta("lookup-self", op.Read, "Describe the caller's client token.")
	return []*op.Operation{
		op.Define(meta("create", op.Write, "Make a client token below the caller's."), g.createToken),
		op.Define(meta("create-orphan", op.Write, "Make a client token that does not end with the caller's."), g.createOrphan),
		op.Define(meta("lookup", op.Write, "Describe a client token."), g.lookupToken),
		op.Define(readSelf, g.lookupSelf),
		op.Define(meta("lookup-accessor", op.Write, "Describe the client token of an accessor."), g.lookupAccessor),
		op.Define(meta("renew", op.Write, "Give a client token more time."), g.renewToken),
		op.Define(meta("renew-self", op.Write, "Give the caller's client token more time."), g.renewSelf),
		op.Define(meta("renew-accessor", op.Write, "Give the client token of an accessor more time."), g.renewAccessor),
		op.Define(meta("revoke", op.Write, "End a client token and all that were made with it."), g.revokeToken),
		op.Define(meta("revoke-self", op.Write, "End the caller's client token and all that were made with it."), g.revokeSelf),
		op.Define(meta("revoke-accessor", op.Write, "End the client token of an accessor and all that were made with it."), g.revokeAccessor),
		op.Define(revokeOrphan, g.revokeOrphan),
		op.Define(accessors, g.listAccessors),
		op.Define(meta("tidy", op.Write, "Remove the client tokens that expired, in the background."), g.tidyTokens),
	}
}

// caller returns the call that the context belongs to: the entry of the caller's
// token, its text, and what is loaded.
func caller(ctx context.Context) (*call, error) {
	c, ok := ctx.Value(callerKey{}).(*call)
	if !ok || c.entry == nil {
		return nil, errors.New("operation of a client token called without one")
	}
	return c, nil
}

// errBadToken is what Vault answers if the token in the request is unknown.
var errBadToken = fault.New(fault.Denied, "bad token")

// errNoToken is what Vault answers if the token to be renewed is unknown.
var errNoToken = fault.New(fault.Invalid, "token not found")

// errBadAccessor is what Vault answers if no token has the accessor.
var errBadAccessor = fault.New(fault.Invalid, "invalid accessor")

// errBatchRevoke: nothing is stored of a batch token that could be removed.
var errBatchRevoke = fault.New(fault.Invalid, "batch tokens cannot be revoked")

// named finds the token of a text; the caller's own if the text is empty.
func (c *call) named(ctx context.Context, text string) (*entry, error) {
	if text == "" {
		return c.entry, nil
	}
	e, err := c.loaded.tokens.find(ctx, text)
	if errors.Is(err, store.ErrNotFound) || err == nil && e.ended(c.op.Time) != nil {
		return nil, errBadToken
	}
	return e, storeFault(err, "looking up a client token")
}

func (c *call) byAccessor(ctx context.Context, accessor string) (*entry, error) {
	if accessor == "" {
		return nil, fault.New(fault.Invalid, "missing accessor")
	}
	e, err := c.loaded.tokens.byAccessor(ctx, accessor)
	if errors.Is(err, store.ErrNotFound) || err == nil && e.ended(c.op.Time) != nil {
		return nil, errBadAccessor
	}
	return e, storeFault(err, "looking up a client token")
}

func (g *Guard) lookupToken(ctx context.Context, _ *op.Call, req *api.TokenID) (*api.TokenInfo, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	e, err := c.named(ctx, req.Token)
	if err != nil {
		return nil, err
	}
	text := req.Token
	if text == "" {
		text = c.req.Token
	}
	return describe(e, text, c.op.Time), nil
}

func (g *Guard) lookupSelf(ctx context.Context, _ *op.Call, _ *api.Empty) (*api.TokenInfo, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	return describe(c.entry, c.req.Token, c.op.Time), nil
}

func (g *Guard) lookupAccessor(ctx context.Context, _ *op.Call, req *api.Accessor) (*api.TokenInfo, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	e, err := c.byAccessor(ctx, req.Accessor)
	if err != nil {
		return nil, err
	}
	return describe(e, "", c.op.Time), nil
}

// describe shows a token; text is "" where the caller does not know it.
func describe(e *entry, text string, now time.Time) *api.TokenInfo {
	r := e.state.Load().tokenRecord
	info := &api.TokenInfo{
		ID: text, Accessor: r.Accessor, CreationTime: r.Created, CreationTTL: api.Seconds(r.TTL),
		DisplayName: r.DisplayName, ExplicitMaxTTL: api.Seconds(r.ExplicitMaxTTL), Meta: r.Meta,
		NumUses: r.UsesLeft, Orphan: r.Parent == "", Path: r.Path, Period: api.Seconds(r.Period),
		Policies: r.Policies, Renewable: r.Renewable, TTL: api.Seconds(r.left(now)), Type: r.kind(),
		Role: r.Role,
	}
	if r.Expires != 0 {
		expires, issued := time.Unix(r.Expires, 0).UTC(), time.Unix(r.Created, 0).UTC()
		info.ExpireTime, info.IssueTime = &expires, &issued
	}
	if r.Renewed != 0 {
		renewed := time.Unix(r.Renewed, 0).UTC()
		info.LastRenewal, info.LastRenewedAt = &renewed, r.Renewed
	}
	return info
}

// auth shows a token as the answers of create and renew do.
func auth(r *tokenRecord, text string, now time.Time) *api.Auth {
	return &api.Auth{
		ClientToken: text, Accessor: r.Accessor, Policies: r.Policies, TokenPolicies: r.Policies, Metadata: r.Meta,
		LeaseDuration: api.Seconds(r.left(now)), Renewable: r.Renewable, TokenType: r.kind(),
		Orphan: r.Parent == "", NumUses: r.UsesLeft,
	}
}

func (g *Guard) revokeToken(ctx context.Context, _ *op.Call, req *api.TokenID) (*api.Empty, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	if req.Token == "" {
		return nil, fault.New(fault.Invalid, "missing token ID")
	}
	e, err := c.loaded.tokens.find(ctx, req.Token)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil // revoked already
	}
	if err != nil {
		return nil, storeFault(err, "looking up a client token")
	}
	return nil, c.revoke(ctx, e)
}

func (g *Guard) revokeSelf(ctx context.Context, _ *op.Call, _ *api.Empty) (*api.Empty, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	return nil, c.revoke(ctx, c.entry)
}

func (g *Guard) revokeAccessor(ctx context.Context, _ *op.Call, req *api.Accessor) (*api.Empty, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	e, err := c.byAccessor(ctx, req.Accessor)
	if errors.Is(err, errBadAccessor) {
		c.op.Warn("No token found with this accessor")
		return nil, nil // revoked already
	}
	if err != nil {
		return nil, err
	}
	return nil, c.revoke(ctx, e)
}

func (c *call) revoke(ctx context.Context, e *entry) error {
	if e.state.Load().Batch {
		return errBatchRevoke
	}
	return storeFault(c.loaded.tokens.revoke(ctx, e.id), "revoking a client token")
}
