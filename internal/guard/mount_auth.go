package guard

import (
	"cmp"
	"context"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

const authPrefix = "auth/"

func (g *Guard) authMountOperations() []*op.Operation {
	meta := func(name, path string, verb op.Verb, help string) op.Meta {
		return op.Meta{Name: "sys.auth." + name, Mount: kindSys, Path: "auth" + path, Verb: verb, Sudo: path != "",
			TopLevel: verb == op.Read, Help: help}
	}
	return []*op.Operation{
		op.Define(meta("list", "", op.Read, "List the ways to log in."), g.listAuth),
		op.Define(meta("read", "/{path...}", op.Read, "Describe a way to log in."), g.readAuth),
		op.Define(meta("create", "/{path...}", op.Write, "Make a way to log in: refused, as there is none beside client tokens."), g.createAuth),
		op.Define(meta("delete", "/{path...}", op.Delete, "Remove a way to log in; client tokens can't be removed."), g.deleteAuth),
		op.Define(meta("tuning", "/{path...}/tune", op.Read, "Show the tuning of a way to log in."), g.readAuthTuning),
		op.Define(meta("tune", "/{path...}/tune", op.Write, "Change the tuning of a way to log in."), g.tuneAuth),
	}
}

// authAt is the path of an auth mount as the table of mounts has it.
func authAt(path string) string { return authPrefix + strings.Trim(path, "/") + "/" }

func (g *Guard) listAuth(context.Context, *op.Call, *api.Empty) (*api.Mounts, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	mounts := api.Mounts{}
	for path, m := range *l.mounts.table.Load() {
		if below, ok := strings.CutPrefix(path, authPrefix); ok {
			mounts[below] = m.wire()
		}
	}
	return &mounts, nil
}

func (g *Guard) readAuth(_ context.Context, _ *op.Call, req *api.AuthPath) (*api.Mount, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	m := (*l.mounts.table.Load())[authAt(req.Path)]
	if m == nil {
		return nil, fault.New(fault.Invalid, "No auth engine at %s/", strings.Trim(req.Path, "/"))
	}
	mount := m.wire()
	return &mount, nil
}

func (g *Guard) createAuth(_ context.Context, _ *op.Call, req *api.EnableAuth) (*api.Empty, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	if (*l.mounts.table.Load())[authAt(req.Path)] != nil {
		return nil, fault.New(fault.Invalid, "path is already in use at %s/", strings.Trim(req.Path, "/"))
	}
	kind := cmp.Or(req.Type, req.PluginName)
	switch kind {
	case "":
		return nil, errNoKind
	case "token":
		return nil, fault.New(fault.Invalid, "token credential backend cannot be instantiated").
			WithHint("client tokens are there from the beginning, at auth/token")
	}
	return nil, unknownKind(kind).WithHint("callers identify themselves by client tokens, at auth/token; there is no other way to log in")
}

func (g *Guard) deleteAuth(_ context.Context, _ *op.Call, req *api.AuthPath) (*api.Empty, error) {
	if authAt(req.Path) == kindToken+"/" {
		return nil, fault.New(fault.Invalid, "token credential backend cannot be disabled")
	}
	return nil, nil // there is none, and so it stays
}

func (g *Guard) readAuthTuning(_ context.Context, _ *op.Call, req *api.AuthPath) (*api.MountTuning, error) {
	return g.tuningOf(authAt(req.Path))
}

func (g *Guard) tuneAuth(ctx context.Context, c *op.Call, req *api.TuneAuth) (*api.Empty, error) {
	return nil, g.tune(ctx, c, authAt(req.Path), &api.TuneMount{Description: req.Description,
		DefaultLeaseTTL: req.DefaultLeaseTTL, MaxLeaseTTL: req.MaxLeaseTTL, MountSettings: req.MountSettings})
}

// tokenTTL is the time of client tokens for which nothing else is said, and the
// longest of those without a period, as the tuning of their mount has them.
func (l *loaded) tokenTTL() (byDefault, longest api.Seconds) {
	c := (*l.mounts.table.Load())[kindToken+"/"].config()
	return c.DefaultLeaseTTL, c.MaxLeaseTTL
}

// visibleMounts lists the mounts that a caller may use something of. Who shows no
// client token that counts sees those only that are meant for everybody.
func (g *Guard) visibleMounts(ctx context.Context, _ *op.Call, _ *api.Empty) (*api.UIMounts, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	visible := (*mountRecord).visibleWithoutToken
	if c, ok := ctx.Value(callerKey{}).(*call); ok && c.req.Token != "" {
		switch err := c.identify(ctx); {
		case err == nil:
			acl := l.policies.of(c.entry)
			visible = func(m *mountRecord) bool { return m.visibleWithoutToken() || acl.touches(m.Path) }
		case fault.KindOf(err) != fault.Denied:
			return nil, err
		}
	}
	mounts := &api.UIMounts{Auth: map[string]api.UIMountEntry{}, Secret: map[string]api.UIMountEntry{}}
	for path, m := range *l.mounts.table.Load() {
		if !visible(m) {
			continue
		}
		w := m.wire()
		entry := api.UIMountEntry{Type: w.Type, Description: w.Description, Options: w.Options}
		if below, ok := strings.CutPrefix(path, authPrefix); ok {
			mounts.Auth[below] = entry
		} else {
			mounts.Secret[path] = entry
		}
	}
	return mounts, nil
}
