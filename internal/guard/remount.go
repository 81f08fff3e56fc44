package guard

import (
	"context"
	"maps"
	"strings"

	"github.com/google/uuid"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// mountMove is the last move of a mount.
type mountMove struct {
	ID   string `json:"id"`
	From string `json:"from"`
	To   string `json:"to"`
	Time int64  `json:"time"` // Unix seconds
}

func (g *Guard) remountOperations() []*op.Operation {
	move := op.Meta{Name: "sys.remount", Mount: kindSys, Path: "remount", Verb: op.Write, Sudo: true, TopLevel: true,
		Help: "Move an engine with all its keys to another path. Policies stay as they are."}
	status := op.Meta{Name: "sys.remount.status", Mount: kindSys, Path: "remount/status/{id}", Verb: op.Read,
		Help: "Tell how the last move of a mount ended."}
	return []*op.Operation{op.Define(move, g.remount), op.Define(status, g.remountStatus)}
}

func (g *Guard) remount(ctx context.Context, c *op.Call, req *api.Remount) (*api.Remounted, error) {
	if req.From == "" || req.To == "" {
		return nil, fault.New(fault.Invalid, "both 'from' and 'to' path must be specified as a string")
	}
	from := strings.Trim(req.From, "/") + "/"
	if isBuiltin(from) {
		return nil, fault.New(fault.Invalid, "cannot remount %q", from)
	}
	to, err := mountPath(req.To)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Msg: "'to' " + fault.Message(err)}
	}
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	move := &mountMove{ID: uuid.NewString(), From: from, To: to, Time: c.Time.Unix()}
	if err := l.mounts.move(ctx, move); err != nil {
		return nil, err
	}
	return &api.Remounted{MigrationID: move.ID}, nil
}

// move gives a mount another path, in one transaction. The engine's records stay
// where they are, under the mount's name, so calls under way are not disturbed:
// they came before the move.
func (ms *mounts) move(ctx context.Context, move *mountMove) error {
	ms.removing.Lock()
	defer ms.removing.Unlock()
	ms.write.Lock()
	defer ms.write.Unlock()
	table := *ms.table.Load()
	m := table[move.From]
	if m == nil || m.Removing {
		return fault.New(fault.Invalid, "no matching mount at %q", move.From)
	}
	for path, other := range table {
		if (other != m || path == move.To) && (strings.HasPrefix(move.To, path) || strings.HasPrefix(path, move.To)) {
			return fault.New(fault.Invalid, "path already in use at %q", path)
		}
	}
	moved := *m
	moved.Path, moved.Store, moved.Moved, moved.version = move.To, m.name(), move, 1
	put, err := ms.store.Put(tableMounts, move.To, 0, &moved)
	if err == nil {
		err = ms.store.Apply(ctx, ms.store.Remove(tableMounts, move.From, m.version), put)
	}
	if err != nil {
		return storeFault(err, "moving %s to %s", move.From, move.To)
	}
	next := maps.Clone(table)
	delete(next, move.From)
	next[move.To] = &moved
	ms.table.Store(&next)
	return nil
}

func (g *Guard) remountStatus(_ context.Context, _ *op.Call, req *api.MigrationID) (*api.RemountStatus, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	for _, m := range *l.mounts.table.Load() {
		if m.Moved != nil && m.Moved.ID == req.ID {
			return &api.RemountStatus{MigrationID: req.ID,
				MigrationInfo: api.MigrationInfo{SourceMount: m.Moved.From, TargetMount: m.Moved.To, Status: "success"}}, nil
		}
	}
	return nil, fault.New(fault.NotFound, "")
}
