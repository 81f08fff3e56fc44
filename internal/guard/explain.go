package guard

import (
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// HelpPath is the path, below sys/, under which calls for help find the operation
// that explains a path: HelpPath/{path...}.
const HelpPath = "internal/specs/help"

// Mounts returns the mounts in which the caller may do something: path, with its
// trailing slash, to kind.
func (g *Guard) Mounts(c *op.Call) (map[string]string, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	a := l.policies.acl(c.Caller.Policies)
	mounts := map[string]string{}
	for path, m := range *l.mounts.table.Load() {
		if a.touches(path) {
			mounts[path] = m.Kind
		}
	}
	return mounts, nil
}

// Explain returns the operations that a path leads to, whatever the verb; for the
// path of a mount all of the mount. Where the caller may do nothing in the mount
// it does not tell whether there is one.
func (g *Guard) Explain(c *op.Call, path string) (mount, kind string, ops []*op.Operation, err error) {
	l, err := g.open()
	if err != nil {
		return "", "", nil, err
	}
	path = strings.TrimSuffix(path, "/") + "/"
	m, below := l.mounts.table.Load().locate(path)
	if m == nil || !l.policies.acl(c.Caller.Policies).touches(m.Path) {
		return "", "", nil, errDenied
	}
	below = strings.TrimSuffix(below, "/")
	for _, o := range g.table.ops {
		if o.Mount == m.Kind && (below == "" || g.leadsTo(o, below)) {
			ops = append(ops, o)
		}
	}
	if len(ops) == 0 {
		return "", "", nil, fault.New(fault.NotFound, "no operation has the path %q", strings.TrimSuffix(path, "/"))
	}
	return m.Path, m.Kind, ops, nil
}

// leadsTo tells whether a path below a mount is one of an operation: as a path
// that is called, or as the pattern that documents show.
func (g *Guard) leadsTo(o *op.Operation, below string) bool {
	if o.Path == below || strings.ReplaceAll(o.Path, "...}", "}") == below {
		return true
	}
	var m match
	g.table.find(o.Mount, below, o.Verb, &m)
	return m.op == o && !slices.Contains(strings.Split(below, "/"), "")
}
