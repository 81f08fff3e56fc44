package guard

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

const leaseIrrevocable = "irrevocable"

func (g *Guard) leaseOperations() []*op.Operation {
	meta := func(name, path string, verb op.Verb, help string) op.Meta {
		return op.Meta{Name: "sys.leases." + name, Mount: kindSys, Path: path, Verb: verb, Help: help}
	}
	sudo := func(name, path string, verb op.Verb, help string) op.Meta {
		m := meta(name, path, verb, help)
		m.Sudo = true
		return m
	}
	const renew, revoke = "Give a lease more time. Client tokens are renewed under auth/token/.", "End a lease; that of a client token ends all that were made with it."
	const prefix, force, old = "End the leases of a path.", "End the leases of a path, whatever else fails.", " Old form."
	return []*op.Operation{
		op.Define(meta("lookup", "leases/lookup", op.Write, "Describe a lease."), g.lookupLease),
		op.Define(sudo("list", "leases/lookup", op.List, "List the first parts of the IDs of leases."), g.listLeases),
		op.Define(sudo("list-below", "leases/lookup/{prefix...}", op.List, "List the leases of a path, and the paths below it that have any."), g.listLeases),
		op.Define(meta("count", "leases/count", op.Read, "Count the leases."), g.countLeases),
		op.Define(meta("renew", "leases/renew", op.Write, renew), g.renewLease),
		op.Define(meta("renew.named", "leases/renew/{url_lease_id...}", op.Write, renew), g.renewLease),
		op.Define(meta("old.renew", "renew", op.Write, renew+old), g.renewLease),
		op.Define(meta("old.renew.named", "renew/{url_lease_id...}", op.Write, renew+old), g.renewLease),
		op.Define(meta("revoke", "leases/revoke", op.Write, revoke), g.revokeLease),
		op.Define(meta("revoke.named", "leases/revoke/{url_lease_id...}", op.Write, revoke), g.revokeLease),
		op.Define(meta("old.revoke", "revoke", op.Write, revoke+old), g.revokeLease),
		op.Define(meta("old.revoke.named", "revoke/{url_lease_id...}", op.Write, revoke+old), g.revokeLease),
		op.Define(sudo("revoke-prefix", "leases/revoke-prefix/{prefix...}", op.Write, prefix), g.revokeLeases),
		op.Define(sudo("old.revoke-prefix", "revoke-prefix/{prefix...}", op.Write, prefix+old), g.revokeLeases),
		op.Define(sudo("revoke-force", "leases/revoke-force/{prefix...}", op.Write, force), g.revokeLeases),
		op.Define(sudo("old.revoke-force", "revoke-force/{prefix...}", op.Write, force+old), g.revokeLeases),
		op.Define(meta("tidy", "leases/tidy", op.Write, "Remove the leases that ended, in the background."), g.tidyTokens),
	}
}

func (g *Guard) lookupLease(ctx context.Context, c *op.Call, req *api.LookupLease) (*api.LeaseInfo, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	if req.LeaseID == "" {
		return nil, fault.New(fault.Invalid, "lease_id must be specified")
	}
	info, err := l.lessor().LookupLease(ctx, req.LeaseID, c.Time)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.New(fault.Invalid, "invalid lease")
	}
	return info, storeFault(err, "looking up a lease")
}

// listLeases shows one level: IDs of leases, and paths with a slash.
func (g *Guard) listLeases(ctx context.Context, c *op.Call, req *api.LeasePrefix) (*api.Keys, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	prefix := ""
	if req.Prefix != "" {
		prefix = strings.TrimSuffix(req.Prefix, "/") + "/"
	}
	keys := map[string]bool{}
	err = l.lessor().ListLeases(ctx, prefix, c.Time, func(id string) error {
		part, _, below := strings.Cut(strings.TrimPrefix(id, prefix), "/")
		if below {
			part += "/"
		}
		keys[part] = true
		return nil
	})
	return &api.Keys{Keys: slices.Sorted(maps.Keys(keys))}, storeFault(err, "listing the leases")
}

// countLeases counts by mount. No lease is irrevocable: what can't be revoked now
// stays as it is and can be revoked again.
func (g *Guard) countLeases(ctx context.Context, c *op.Call, req *api.CountLeases) (*api.LeaseCount, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	count := &api.LeaseCount{Counts: map[string]int{}}
	switch req.Type {
	case "":
	case leaseIrrevocable:
		return count, nil
	default:
		return nil, fault.New(fault.Invalid, "type %.40q: leave it out, or use %q", req.Type, leaseIrrevocable)
	}
	mounts := *l.mounts.table.Load()
	err = l.lessor().ListLeases(ctx, "", c.Time, func(id string) error {
		count.LeaseCount++
		if m, _ := mounts.locate(id); m != nil {
			count.Counts[m.Accessor]++
		}
		return nil
	})
	return count, storeFault(err, "counting the leases")
}

// renewLease refuses in the words of Vault: a client token's lease is renewed with
// the token.
func (g *Guard) renewLease(ctx context.Context, c *op.Call, req *api.RenewLease) (*api.Empty, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	id := cmp.Or(req.URLLeaseID, req.LeaseID)
	if id == "" {
		return nil, fault.New(fault.Invalid, "lease_id must be specified")
	}
	info, err := l.lessor().LookupLease(ctx, id, c.Time)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, fault.New(fault.Invalid, "lease not found")
	case err != nil:
		return nil, storeFault(err, "looking up a lease")
	case !info.Renewable:
		return nil, fault.New(fault.Invalid, "lease is not renewable")
	}
	return nil, fault.New(fault.Invalid, "tokens cannot be renewed through this endpoint").
		WithHint("renew a client token at auth/token/renew, renew-self or renew-accessor")
}

func (g *Guard) revokeLease(ctx context.Context, _ *op.Call, req *api.RevokeLease) (*api.Empty, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	id := cmp.Or(req.URLLeaseID, req.LeaseID)
	if id == "" {
		return nil, fault.New(fault.Invalid, "lease_id must be specified")
	}
	return nil, storeFault(l.lessor().RevokeLease(ctx, id), "revoking a lease")
}

// revokeLeases revokes the one lease of an ID, or all below a path.
func (g *Guard) revokeLeases(ctx context.Context, c *op.Call, req *api.LeasePrefix) (*api.Empty, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	lessor := l.lessor()
	ids := []string{strings.TrimSuffix(req.Prefix, "/")}
	err = lessor.ListLeases(ctx, ids[0]+"/", c.Time, func(id string) error {
		ids = append(ids, id)
		return nil
	})
	if err != nil {
		return nil, storeFault(err, "listing the leases")
	}
	for _, id := range ids {
		if err := lessor.RevokeLease(ctx, id); err != nil {
			return nil, storeFault(err, "revoking a lease; it can be repeated")
		}
	}
	return nil, nil
}
