package guard

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func (g *Guard) mountOperations() []*op.Operation {
	list := op.Meta{Name: "sys.mount.list", Mount: kindSys, Path: "mounts", Verb: op.Read, TopLevel: true, Help: "List the mounts."}
	holders := op.Meta{Name: "sys.mount.holders", Mount: kindSys, Path: "internal/ui/mounts", Verb: op.Read, Public: true,
		Help: "List the mounts that the caller may use something of; without a client token those with listing_visibility=unauth."}
	read := op.Meta{Name: "sys.mount.read", Mount: kindSys, Path: "mounts/{path...}", Verb: op.Read, TopLevel: true, Help: "Describe a mount."}
	create := op.Meta{Name: "sys.mount.create", Mount: kindSys, Path: "mounts/{path...}", Verb: op.Write, Help: "Mount an engine."}
	holder := op.Meta{Name: "sys.mount.holder", Mount: kindSys, Path: "internal/ui/mounts/{path...}", Verb: op.Read,
		Help: "Describe the mount that holds a path."}
	return []*op.Operation{
		op.Define(list, g.listMounts),
		op.Define(read, g.readMount),
		op.Define(create, g.createMount),
		op.Define(holder, g.holdingMount),
		op.Define(holders, g.visibleMounts),
	}
}

// listMounts shows the engines; ways to log in are listed by listAuth.
func (g *Guard) listMounts(context.Context, *op.Call, *api.Empty) (*api.Mounts, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	mounts := api.Mounts{}
	for path, m := range *l.mounts.table.Load() {
		if !strings.HasPrefix(path, "auth/") {
			mounts[path] = m.wire()
		}
	}
	return &mounts, nil
}

func (g *Guard) readMount(_ context.Context, _ *op.Call, req *api.MountPath) (*api.Mount, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	path := strings.TrimSuffix(req.Path, "/") + "/"
	m := (*l.mounts.table.Load())[path]
	if m == nil || strings.HasPrefix(path, "auth/") {
		return nil, fault.New(fault.Invalid, "No secret engine mount at %s", path)
	}
	mount := m.wire()
	return &mount, nil
}

func (g *Guard) createMount(ctx context.Context, c *op.Call, req *api.CreateMount) (*api.Empty, error) {
	path, err := mountPath(req.Path)
	if err != nil {
		return nil, err
	}
	kind := cmp.Or(req.Type, req.PluginName)
	if kind == "" {
		return nil, errNoKind
	}
	if kinds := g.engines(); !slices.Contains(kinds, kind) {
		return nil, unknownKind(kind).WithHint("the types of engines are: %s", strings.Join(kinds, ", "))
	}
	m := newMount(path, kind, req.Description, c.Time)
	if err := m.begin(c, &req.NewMountFlags); err != nil {
		return nil, err
	}
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	return nil, l.mounts.create(ctx, m)
}

// errNoKind is what Vault answers to a mount without a type.
var errNoKind = fault.New(fault.Invalid, "backend type must be specified as a string")

// unknownKind is the error that Vault's clients know.
func unknownKind(kind string) *fault.Error {
	return fault.New(fault.Invalid, "plugin not found in the catalog: %.80s", kind)
}

// engines are the kinds that can be mounted: those with operations that are not
// mounted by themselves.
func (g *Guard) engines() []string {
	kinds := slices.Collect(maps.Keys(g.table.trees))
	kinds = slices.DeleteFunc(kinds, func(k string) bool { return k == kindSys || k == kindToken })
	slices.Sort(kinds)
	return kinds
}

// holdingMount answers only where the caller may do something, and does not tell
// a mount that is not there from one that the caller may not know.
func (g *Guard) holdingMount(_ context.Context, c *op.Call, req *api.MountPath) (*api.UIMount, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	m, _ := l.mounts.table.Load().locate(strings.TrimSuffix(req.Path, "/") + "/")
	if m == nil || !l.policies.acl(c.Caller.Policies).touches(m.Path) {
		return nil, fault.New(fault.Denied, "preflight capability check returned 403, "+
			"please ensure client's policies grant access to path %q", strings.TrimSuffix(req.Path, "/")+"/")
	}
	w := m.wire()
	return &api.UIMount{Path: m.Path, Type: w.Type, Description: w.Description, Accessor: w.Accessor, UUID: w.UUID,
		Config: w.Config, Options: w.Options}, nil
}
