package guard

import (
	"context"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

func (g *Guard) stepDownOperation() *op.Operation {
	return op.Define(op.Meta{Name: "sys.step-down", Mount: kindSys, Path: "step-down", Verb: op.Write, Sudo: true,
		Help: "Give up the active role to another server. A server that stands alone keeps it."}, g.stepDown)
}

// stepDown has nothing to give up.
func (g *Guard) stepDown(context.Context, *op.Call, *api.Empty) (*api.Empty, error) { return nil, nil }
