package guard

import (
	"context"

	"github.com/claviger/claviger/internal/fault"
)

// EnsureMount mounts an engine that the configuration asks for, at a path with or
// without its slash. It does nothing if an engine of that kind is there already,
// and refuses if it is another one or is being removed. The server must be
// initialised and unsealed.
func (g *Guard) EnsureMount(ctx context.Context, path, kind, description string) error {
	l, err := g.current(ctx)
	if err != nil {
		return err
	}
	if l == nil {
		return fault.New(fault.Sealed, msgSealed)
	}
	path, err = mountPath(path)
	if err != nil {
		return err
	}
	m := (*l.mounts.table.Load())[path]
	switch {
	case m == nil:
		return l.mounts.create(ctx, newMount(path, kind, description, g.now()))
	case m.Kind != kind:
		return fault.New(fault.Conflict, "at %s an engine of type %s is mounted, not %s", path, m.Kind, kind)
	case m.Removing:
		return fault.New(fault.Conflict, "the mount %s is being removed", path)
	}
	return nil
}
