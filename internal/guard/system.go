package guard

import (
	"context"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// systemName is the display name of the server itself in records. Its calls
// have no accessor, which every caller has.
const systemName = "system"

// task is what the server does by itself.
type task struct {
	request any
	do      func(context.Context, *op.Call) (any, error)
}

// System performs what the server does by itself, such as a rotation that is
// due, under the rules of a call from outside but without a caller: path and
// verb must lead to an operation, whose mount can't be unmounted meanwhile; the
// intent with the request, which is of that operation's type, is recorded; then
// do is called and its outcome is recorded. If the intent can't be recorded, do
// is not called. No policy is asked. Errors are as those of Handle.
func (g *Guard) System(ctx context.Context, verb op.Verb, path string, request any, do func(context.Context, *op.Call) (any, error)) error {
	_, err := g.pass(ctx, &Request{Verb: verb, Path: path}, &task{request, do})
	return err
}

// Mounted returns the mounts of a kind: the path of each, and what its engine
// knows it by, both with a trailing slash. There are none while the server is sealed.
func (g *Guard) Mounted(kind string) map[string]string {
	l, err := g.open()
	if err != nil {
		return nil
	}
	found := map[string]string{}
	for path, m := range *l.mounts.table.Load() {
		if m.Kind == kind && !m.Removing {
			found[path] = m.name()
		}
	}
	return found
}

// admitTask takes the place of admit for a task.
func (c *call) admitTask() (*op.Operation, any, error) {
	c.op.Caller = op.Caller{DisplayName: systemName}
	if c.match.op == nil {
		return nil, nil, c.nowhere()
	}
	if o := c.match.op; o.Audit != op.AuditFull {
		return o, nil, fault.New(fault.Internal, "%s is no operation for the server itself: it would not be recorded", o.Name)
	}
	return c.match.op, c.task.request, nil
}
