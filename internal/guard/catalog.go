package guard

import (
	"context"
	"slices"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

const supported = "supported"

func (g *Guard) catalogOperations() []*op.Operation {
	meta := func(name, path string, verb op.Verb, help string) op.Meta {
		return op.Meta{Name: "sys.catalog." + name, Mount: kindSys, Path: "plugins/catalog" + path, Verb: verb, Sudo: path != "", Help: help}
	}
	return []*op.Operation{
		op.Define(meta("read", "", op.Read, "List the engines and ways to log in, which are parts of this program."), g.readCatalog),
		op.Define(meta("list", "/{type}", op.List, "List the engines of a type."), g.listCatalog),
		op.Define(meta("plugin", "/{type}/{name}", op.Read, "Describe an engine."), g.readPlugin),
	}
}

// catalog returns the names of a type; ok is false if there is no such type.
func (g *Guard) catalog(kind string) (names []string, ok bool) {
	switch kind {
	case "secret":
		return g.engines(), true
	case "auth":
		return []string{"token"}, true
	case "database":
		return []string{}, true
	}
	return nil, false
}

func (g *Guard) readCatalog(context.Context, *op.Call, *api.Empty) (*api.Catalog, error) {
	c := &api.Catalog{Detailed: []api.CatalogEntry{}}
	c.Auth, _ = g.catalog("auth")
	c.Secret, _ = g.catalog("secret")
	c.Database, _ = g.catalog("database")
	for _, kind := range []string{"auth", "secret"} {
		names, _ := g.catalog(kind)
		for _, name := range names {
			c.Detailed = append(c.Detailed, api.CatalogEntry{Name: name, Type: kind, Builtin: true, DeprecationStatus: supported})
		}
	}
	return c, nil
}

func (g *Guard) listCatalog(_ context.Context, _ *op.Call, req *api.CatalogType) (*api.Keys, error) {
	names, ok := g.catalog(req.Type)
	if !ok {
		return nil, fault.New(fault.Invalid, "there are no engines of type %.40q; the types are auth, secret and database", req.Type)
	}
	return &api.Keys{Keys: names}, nil
}

func (g *Guard) readPlugin(_ context.Context, _ *op.Call, req *api.CatalogPath) (*api.CatalogPlugin, error) {
	names, _ := g.catalog(req.Type)
	if !slices.Contains(names, req.Name) {
		return nil, fault.New(fault.NotFound, "")
	}
	return &api.CatalogPlugin{Name: req.Name, Args: []string{}, Builtin: true, DeprecationStatus: supported}, nil
}
