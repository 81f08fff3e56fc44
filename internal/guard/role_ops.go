package guard

import (
	"context"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

func (g *Guard) roleOperations() []*op.Operation {
	meta := func(name, path string, verb op.Verb, help string) op.Meta {
		return op.Meta{Name: "token.roles." + name, Mount: kindToken, Path: path, Verb: verb, Help: help}
	}
	return []*op.Operation{
		op.Define(meta("list", "roles", op.List, "List the roles of client tokens."), g.listRoles),
		op.Define(meta("read", "roles/{name}", op.Read, "Read a role of client tokens."), g.readRole),
		op.WithExists(op.Define(meta("write", "roles/{name}", op.Write, "Make or change a role of client tokens."), g.writeRole), g.roleExists),
		op.Define(meta("delete", "roles/{name}", op.Delete, "Delete a role; its client tokens live on, but are not renewed any more."), g.deleteRole),
		op.Define(meta("create", "create/{role}", op.Write, "Make a client token as a role says."), g.createByRole),
	}
}

func (g *Guard) listRoles(ctx context.Context, _ *op.Call, _ *api.Empty) (*api.Keys, error) {
	out := &api.Keys{Keys: []string{}}
	after := ""
	for {
		page, err := g.store.List(ctx, tableRoles, "", after, rolePage)
		if err != nil {
			return nil, storeFault(err, "listing the roles")
		}
		for _, item := range page {
			after = item.Key
			out.Keys = append(out.Keys, item.Key)
		}
		if len(page) < rolePage {
			return out, nil
		}
	}
}

func (g *Guard) readRole(ctx context.Context, _ *op.Call, req *api.TokenRoleName) (*api.TokenRoleInfo, error) {
	r, _, err := g.role(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, fault.New(fault.NotFound, "")
	}
	return r.describe(req.Name), nil
}

func (g *Guard) roleExists(ctx context.Context, _ *op.Call, req *api.TokenRole) (bool, error) {
	r, _, err := g.role(ctx, req.Name)
	return r != nil, err
}

func (g *Guard) writeRole(ctx context.Context, c *op.Call, req *api.TokenRole) (*api.Empty, error) {
	if err := roleName(req.Name); err != nil {
		return nil, err
	}
	r, version, err := g.role(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	// The check of capabilities may have seen another state.
	if r == nil && !c.MayCreate || r != nil && !c.MayUpdate {
		return nil, errDenied
	}
	if r == nil {
		r = &roleRecord{}
	}
	if err := r.set(req); err != nil {
		return nil, err
	}
	if limit := int64(maxTTL); r.ExplicitMaxTTL > limit && r.Period == 0 {
		c.Warn("Given explicit max TTL of %d is greater than system/mount allowed value of %d seconds; tokens of this role end after the lesser",
			r.ExplicitMaxTTL, limit)
	}
	change, err := g.store.Put(tableRoles, req.Name, version, r)
	if err == nil {
		err = g.store.Apply(ctx, change)
	}
	return nil, storeFault(err, "writing the role %q", req.Name)
}

func (g *Guard) deleteRole(ctx context.Context, _ *op.Call, req *api.TokenRoleName) (*api.Empty, error) {
	r, version, err := g.role(ctx, req.Name)
	if err != nil || r == nil { // deleted already
		return nil, err
	}
	err = g.store.Apply(ctx, g.store.Remove(tableRoles, req.Name, version))
	return nil, storeFault(err, "deleting the role %q", req.Name)
}

func (g *Guard) createByRole(ctx context.Context, _ *op.Call, req *api.CreateToken) (*api.Auth, error) {
	r, _, err := g.role(ctx, req.Role)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, fault.New(fault.Invalid, "unknown role %.140s", req.Role)
	}
	return g.newToken(ctx, req, r.Orphan, r)
}

// revokeOrphan ends a token and leaves its children as orphans.
func (g *Guard) revokeOrphan(ctx context.Context, _ *op.Call, req *api.TokenID) (*api.Empty, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	if req.Token == "" {
		return nil, fault.New(fault.Invalid, "missing token ID")
	}
	e, err := c.loaded.tokens.find(ctx, req.Token)
	if errors.Is(err, store.ErrNotFound) || err == nil && e.ended(c.op.Time) != nil {
		return nil, fault.New(fault.Invalid, "token to revoke not found")
	}
	if err == nil && e.state.Load().Batch {
		return nil, errBatchRevoke
	}
	if err == nil {
		err = c.loaded.tokens.revokeAlone(ctx, e.id)
	}
	return nil, storeFault(err, "revoking a client token")
}

// listAccessors lists the accessors of all client tokens that did not end.
func (g *Guard) listAccessors(ctx context.Context, _ *op.Call, _ *api.Empty) (*api.Keys, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	accessors, err := c.loaded.tokens.accessors(ctx, c.op.Time)
	if err != nil {
		return nil, storeFault(err, "listing client tokens")
	}
	return &api.Keys{Keys: accessors}, nil
}

// tidyTokens starts Tidy; the work goes on after the answer, which may be long
// with many tokens.
func (g *Guard) tidyTokens(ctx context.Context, c *op.Call, _ *api.Empty) (*api.Started, error) {
	if !g.tidying.CompareAndSwap(false, true) {
		c.Warn("Tidy operation already in progress.")
		return &api.Started{}, nil
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer g.tidying.Store(false)
		removed, err := g.Tidy(ctx)
		if err != nil {
			g.log.Warn("tidying client tokens ended early; it can be started again", "removed", removed, "error", err)
			return
		}
		g.log.Info("client tokens tidied", "removed", removed)
	}()
	c.Warn("Tidy operation successfully started. Any information from the operation will be printed to the server's log.")
	return &api.Started{}, nil
}
