package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// Options are what a guard needs. All are required but Logger,
// Observe, Unmount and Now.
type Options struct {
	Store *store.Sealed
	// Recorder returns the open audit log, nil while there is none.
	Recorder func() Recorder
	// State tells how the server is; it is asked at every call.
	State  func() (initialized, sealed bool)
	Logger *slog.Logger
	// Observe is told of every call: the operation's name, "" if the path led to
	// none; the kind of its error unless ok; how long it took.
	Observe func(operation string, kind fault.Kind, ok bool, d time.Duration)
	// Unmount deletes everything that an engine of a kind keeps for a mount, by
	// the mount's name (op.Call.Mount). No call of the mount is under way, and
	// none comes. If it fails it is called again with the next try to unmount.
	Unmount func(ctx context.Context, kind, mount string) error
	Now     func() time.Time
}

// Guard is the door. Make it with New, Register all operations, then Handle.
type Guard struct {
	store    *store.Sealed
	recorder func() Recorder
	state    func() (initialized, sealed bool)
	log      *slog.Logger
	observe  func(string, fault.Kind, bool, time.Duration)
	unmount  func(ctx context.Context, kind, path string) error
	now      func() time.Time

	tidying atomic.Bool // tidyTokens is at work

	table  *table
	fixed  mountTable // what is routed while nothing is loaded
	loadMu sync.Mutex
	loaded atomic.Pointer[loaded]
}

// loaded is what the guard knows while the server is unsealed.
type loaded struct {
	tokens   *tokens
	policies *policies
	mounts   *mounts
	wraps    *wraps
}

var _ Door = (*Guard)(nil)

// New makes a guard without operations.
func New(o Options) (*Guard, error) {
	if o.Store == nil || o.Recorder == nil || o.State == nil {
		return nil, errors.New("a guard needs a store, a recorder and the seal's state")
	}
	g := &Guard{store: o.Store, recorder: o.Recorder, state: o.State, log: o.Logger, observe: o.Observe, unmount: o.Unmount, now: o.Now,
		table: newTable(), fixed: builtin()}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.observe == nil {
		g.observe = func(string, fault.Kind, bool, time.Duration) {}
	}
	if g.unmount == nil {
		g.unmount = func(context.Context, string, string) error { return nil }
	}
	if g.now == nil {
		g.now = time.Now
	}
	return g, nil
}

// Register adds operations to the table, the guard's own (Operations) as those
// of the services. It refuses a name or a pattern and verb that is taken. It must
// be done before the first Handle.
func (g *Guard) Register(ops ...*op.Operation) error {
	for _, o := range ops {
		if err := g.table.add(o); err != nil {
			return err
		}
	}
	return nil
}

// Table returns all operations in the order of mount, path and verb.
func (g *Guard) Table() []*op.Operation { return g.table.ops }

// Load reads the salt of client tokens, policies and mounts. Call it when the
// storage key is known. It does nothing if they are loaded already, or if the
// store does not have Genesis' records yet: then the first call of an operation
// tries again.
func (g *Guard) Load(ctx context.Context) error {
	g.loadMu.Lock()
	defer g.loadMu.Unlock()
	return g.load(ctx)
}

// load reads everything. The caller holds loadMu.
func (g *Guard) load(ctx context.Context) error {
	if g.loaded.Load() != nil {
		return nil
	}
	var s saltRecord
	_, err := g.store.Get(ctx, tableGuard, keySalt, &s)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the salt of client tokens: %w", err)
	}
	if len(s.Salt) != saltSize {
		return fmt.Errorf("the salt of client tokens has %d bytes, not %d", len(s.Salt), saltSize)
	}
	p, err := loadPolicies(ctx, g.store)
	if err != nil {
		return err
	}
	m, err := loadMounts(ctx, g.store)
	if err != nil {
		return err
	}
	t, err := newTokens(g.store, g.now, s.Salt)
	if err != nil {
		return err
	}
	g.loaded.Store(&loaded{t, p, m, &wraps{store: g.store, tokens: t}})
	return nil
}

// Reset forgets everything that came from the store. Call it when the server is
// sealed.
func (g *Guard) Reset() {
	g.loadMu.Lock()
	defer g.loadMu.Unlock()
	if before := g.loaded.Swap(nil); before != nil {
		before.tokens.close()
	}
}

// current returns what is loaded, loading it if it is not; nil if there is
// nothing to load.
func (g *Guard) current(ctx context.Context) (*loaded, error) {
	if l := g.loaded.Load(); l != nil {
		return l, nil
	}
	g.loadMu.Lock()
	defer g.loadMu.Unlock()
	if _, sealed := g.state(); sealed {
		return nil, nil
	}
	if err := g.load(ctx); err != nil {
		return nil, err
	}
	return g.loaded.Load(), nil
}

// Tidy removes the client tokens and wrapped answers that expired unused since. The wiring calls it
// now and then; expired tokens are refused without it as well.
func (g *Guard) Tidy(ctx context.Context) (removed int, err error) {
	l := g.loaded.Load()
	if l == nil {
		return 0, nil
	}
	if err := l.wraps.tidy(ctx, g.now()); err != nil {
		return 0, err
	}
	return l.tokens.tidy(ctx)
}

// Operations returns the guard's own operations: client tokens, their roles, policies,
// mounts, capabilities, wrapped answers.
func (g *Guard) Operations() []*op.Operation {
	var all []*op.Operation
	for _, ops := range [][]*op.Operation{
		g.tokenOperations(), g.roleOperations(), g.policyOperations(), g.mountOperations(), g.capabilityOperations(),
		g.mountTuneOperations(), g.authMountOperations(), g.remountOperations(), g.catalogOperations(), g.wrapOperations(),
		g.leaseOperations(), {g.stepDownOperation()},
	} {
		all = append(all, ops...)
	}
	return all
}
