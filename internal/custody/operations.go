package custody

import (
	"context"
	"slices"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// Operations returns the table of custody's operations. Those that run while
// the server is sealed have no audit record, because the audit key is sealed
// too; all that change something are written to the server's log.
func (c *Custody) Operations() []*op.Operation {
	return append(slices.Concat(c.statusOperations(), c.rotationOperations(), c.generateRootOperations(), c.rekeyOperations()),
		c.statementOperation(),
		op.Define(open("sys.share-set", "share-set", op.Read, "Shows what everybody may know of the shares: with it a custodian checks a share without the server."), c.opShareSet),
		op.Define(open("sys.init-status", "init", op.Read, "Tells whether the server was initialised."), c.opInitStatus),
		op.Define(open("sys.init", "init", op.Write, "Initialises the server, once: makes or adopts the HSM token, shares the unseal secret, returns the shares and the root token."), c.opInit),
		op.Define(open("sys.seal-status", "seal-status", op.Read, "Describes the seal: whether it is open, and how many shares are there."), c.opSealStatus),
		op.Define(open("sys.unseal", "unseal", op.Write, "Gives one share of the unseal secret, or forgets those given so far."), c.opUnseal),
		op.Define(open("sys.health", "health", op.Read, "Tells load balancers by its status whether the server is of use: 200, or 501 not initialised, 503 sealed."), c.opHealth),
		op.Define(open("sys.leader", "leader", op.Read, "Tells which server of a cluster leads: this one stands alone."), c.opLeader),
		op.Define(op.Meta{Name: "sys.seal", Mount: "sys", Path: "seal", Verb: op.Write, Sudo: true, Audit: op.AuditIntent,
			Help: "Seals the server: forgets the PIN and logs out of the HSM token."}, c.opSeal),
		op.Define(op.Meta{Name: "sys.hsm", Mount: "sys", Path: "hsm", Verb: op.Read,
			Help: "Describes the HSM token and which key types it holds."}, c.opHSM),
	)
}

// open describes an operation that everybody may call at any time.
func open(name, path string, verb op.Verb, help string) op.Meta {
	return op.Meta{Name: name, Mount: "sys", Path: path, Verb: verb, Help: help,
		Public: true, Sealed: true, Audit: op.AuditNone, Bare: true}
}

func (c *Custody) opInitStatus(context.Context, *op.Call, *api.Empty) (*api.InitStatus, error) {
	initialized, _ := c.State()
	return &api.InitStatus{Initialized: initialized}, nil
}

func (c *Custody) opInit(ctx context.Context, _ *op.Call, req *api.Init) (*api.InitResult, error) {
	return c.Init(ctx, req)
}

func (c *Custody) opSealStatus(context.Context, *op.Call, *api.Empty) (*api.SealStatus, error) {
	return c.Status(), nil
}

func (c *Custody) opUnseal(ctx context.Context, _ *op.Call, req *api.Unseal) (*api.SealStatus, error) {
	switch {
	case req.Reset:
		return c.Reset(ctx)
	case req.Key == "":
		return nil, fault.New(fault.Invalid, "'key' must be specified in request body as JSON, or 'reset' set to true")
	}
	return c.unseal(ctx, req.Key, req.Migrate)
}

func (c *Custody) opSeal(ctx context.Context, _ *op.Call, _ *api.Empty) (*api.Empty, error) {
	return nil, c.Seal(ctx)
}

func (c *Custody) opLeader(context.Context, *op.Call, *api.Empty) (*api.Leader, error) {
	return &api.Leader{}, nil
}
