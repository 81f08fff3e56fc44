package guard

import (
	"context"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func (g *Guard) policyOperations() []*op.Operation {
	meta := func(name, path string, verb op.Verb, help string) op.Meta {
		return op.Meta{Name: "sys.policy." + name, Mount: kindSys, Path: path, Verb: verb, Help: help}
	}
	old := func(name, path string, verb op.Verb, help string) op.Meta {
		m := meta("old."+name, path, verb, help+" Old form.")
		m.TopLevel = true
		return m
	}
	const list, read, write, remove = "List the policies.", "Read a policy.", "Make or replace a policy.", "Delete a policy."
	return []*op.Operation{
		op.Define(meta("list", "policies/acl", op.List, list), g.listPolicies),
		op.Define(meta("read", "policies/acl/{name}", op.Read, read), g.readPolicy),
		op.Define(meta("write", "policies/acl/{name}", op.Write, write), g.writePolicy),
		op.Define(meta("delete", "policies/acl/{name}", op.Delete, remove), g.deletePolicy),
		op.Define(old("list", "policy", op.List, list), g.listOldPolicies),
		op.Define(old("list-by-read", "policy", op.Read, list), g.listOldPolicies),
		op.Define(old("read", "policy/{name}", op.Read, read), g.readOldPolicy),
		op.Define(old("write", "policy/{name}", op.Write, write), g.writePolicy),
		op.Define(old("delete", "policy/{name}", op.Delete, remove), g.deletePolicy),
	}
}

// open returns what is loaded, or "sealed" if the server was sealed since the
// call was admitted.
func (g *Guard) open() (*loaded, error) {
	l := g.loaded.Load()
	if l == nil {
		return nil, fault.New(fault.Sealed, msgSealed)
	}
	return l, nil
}

func (g *Guard) listPolicies(context.Context, *op.Call, *api.Empty) (*api.Keys, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	return &api.Keys{Keys: l.policies.names()}, nil
}

func (g *Guard) listOldPolicies(context.Context, *op.Call, *api.Empty) (*api.Policies, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	names := l.policies.names()
	return &api.Policies{Keys: names, Policies: names}, nil
}

func (g *Guard) readPolicy(_ context.Context, _ *op.Call, req *api.PolicyName) (*api.Policy, error) {
	name, text, err := g.policy(req.Name)
	return &api.Policy{Name: name, Policy: text}, err
}

func (g *Guard) readOldPolicy(_ context.Context, _ *op.Call, req *api.PolicyName) (*api.Policy, error) {
	name, text, err := g.policy(req.Name)
	return &api.Policy{Name: name, Rules: text}, err
}

func (g *Guard) policy(name string) (lower, text string, err error) {
	if lower, err = policyName(name); err != nil {
		return "", "", err
	}
	l, err := g.open()
	if err != nil {
		return "", "", err
	}
	text, ok := l.policies.get(lower)
	if !ok {
		return "", "", fault.New(fault.NotFound, "")
	}
	return lower, text, nil
}

func (g *Guard) writePolicy(ctx context.Context, _ *op.Call, req *api.WritePolicy) (*api.Empty, error) {
	name, err := policyName(req.Name)
	if err != nil {
		return nil, err
	}
	if name == policyRoot {
		return nil, fault.New(fault.Invalid, "cannot update %q policy", name)
	}
	text := req.Policy
	if text == "" {
		text = req.Rules
	}
	if text == "" {
		return nil, fault.New(fault.Invalid, "'policy' parameter not supplied or empty")
	}
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	return nil, l.policies.put(ctx, name, policyText(text))
}

func (g *Guard) deletePolicy(ctx context.Context, _ *op.Call, req *api.PolicyName) (*api.Empty, error) {
	name, err := policyName(req.Name)
	if err != nil {
		return nil, err
	}
	if name == policyRoot || name == policyDefault {
		return nil, fault.New(fault.Invalid, "cannot delete %q policy", name)
	}
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	return nil, l.policies.remove(ctx, name)
}
