package custody

import (
	"context"
	"fmt"
	"os"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func (c *Custody) statusOperations() []*op.Operation {
	meta := func(path, help string) op.Meta {
		return op.Meta{Name: "sys." + path, Mount: "sys", Path: path, Verb: op.Read, TopLevel: true, Help: help}
	}
	return []*op.Operation{
		op.Define(meta("key-status", "Tells since when the storage key is in use."), c.opKeyStatus),
		op.Define(meta("ha-status", "Lists the servers of a cluster: this one stands alone."), c.opHAStatus),
	}
}

func (c *Custody) opKeyStatus(ctx context.Context, _ *op.Call, _ *api.Empty) (*api.KeyStatus, error) {
	r := c.record()
	if r == nil {
		return nil, fault.New(fault.Uninitialized, "Vault is not initialized")
	}
	term, installed := r.term()
	return &api.KeyStatus{Term: term, InstallTime: installed.UTC(), Encryptions: int64(c.seals(ctx))}, nil
}

func (c *Custody) opHAStatus(context.Context, *op.Call, *api.Empty) (*api.HAStatus, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("asking for the name of the machine: %w", err)
	}
	return &api.HAStatus{Nodes: []api.HANode{{Hostname: host, ActiveNode: true, Version: c.opts.Version}}}, nil
}
