package guard

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

const maxCapabilityPaths = 1000

func (g *Guard) capabilityOperations() []*op.Operation {
	meta := func(path, help string) op.Meta {
		return op.Meta{Name: "sys." + path, Mount: kindSys, Path: path, Verb: op.Write, TopLevel: true, Help: help}
	}
	return []*op.Operation{
		op.Define(meta("capabilities", "Tell what a client token may do on paths."), g.capabilities),
		op.Define(meta("capabilities-self", "Tell what the caller may do on paths."), g.capabilitiesSelf),
		op.Define(meta("capabilities-accessor", "Tell what the client token of an accessor may do on paths."), g.capabilitiesAccessor),
	}
}

func (g *Guard) capabilities(ctx context.Context, c *op.Call, req *api.Capabilities) (*api.CapabilityLists, error) {
	return g.tell(c, req, func(l *loaded) (*entry, error) { return l.tokens.find(ctx, req.Token) })
}

func (g *Guard) capabilitiesSelf(ctx context.Context, c *op.Call, req *api.Capabilities) (*api.CapabilityLists, error) {
	own, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	return g.tell(c, req, func(*loaded) (*entry, error) { return own.entry, nil })
}

func (g *Guard) capabilitiesAccessor(ctx context.Context, c *op.Call, req *api.Capabilities) (*api.CapabilityLists, error) {
	return g.tell(c, req, func(l *loaded) (*entry, error) { return l.tokens.byAccessor(ctx, req.Accessor) })
}

func (g *Guard) tell(c *op.Call, req *api.Capabilities, find func(*loaded) (*entry, error)) (*api.CapabilityLists, error) {
	paths := slices.Concat(req.Paths, req.Path)
	if len(paths) == 0 || len(paths) > maxCapabilityPaths {
		return nil, fault.New(fault.Invalid, "paths: give 1 to %d paths", maxCapabilityPaths)
	}
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	e, err := find(l)
	if errors.Is(err, store.ErrNotFound) || err == nil && e.ended(c.Time) != nil && e.id != c.TokenID {
		return nil, fault.New(fault.Invalid, "invalid token")
	}
	if err != nil {
		return nil, storeFault(err, "looking up a client token")
	}
	a := l.policies.of(e)
	lists := api.CapabilityLists{}
	for _, path := range paths {
		lists[path] = a.names(strings.TrimPrefix(path, "/"))
	}
	if len(paths) == 1 {
		lists["capabilities"] = lists[paths[0]]
	}
	return &lists, nil
}
