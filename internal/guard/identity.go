package guard

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// Identity is a caller that the configuration vouches for: a front whose own
// clients show no client token but something that only the front understands, or
// nothing. It is bound by policy like any caller, stands in the audit log by its
// name, and reaches operations of engines only: never client tokens, policies,
// mounts or the seal.
type Identity struct {
	name     string
	policies []string // stored ones; none if own is used
	own      *acl
}

// NewIdentity makes an identity: name is what the audit log shows
// ("front/hsmdaemon"), 1 to 128 characters of policy names' alphabet and '/'.
// The stored policies that are named bind it, by what they say at the time of
// each call; without any, the text of its own policy does. Only the wiring makes
// identities, and hands each to the one front that may use it. An error is a
// *fault.Error of kind Invalid.
func NewIdentity(name string, policies []string, own string) (*Identity, error) {
	if name == "" || len(name) > maxPolicyName || strings.ContainsFunc(name, func(r rune) bool { return r != '/' && notInPolicyName(r) }) {
		return nil, fault.New(fault.Invalid, "identity %.140q: use 1 to %d of a-z, 0-9 and - _ . : @ + /", name, maxPolicyName)
	}
	id := &Identity{name: name}
	for _, p := range policies {
		p, err := policyName(p)
		if err != nil {
			return nil, err
		}
		if p == policyRoot {
			return nil, fault.New(fault.Invalid, "identity %s: the policy root is for people; write one that allows what is needed", name)
		}
		id.policies = append(id.policies, p)
	}
	slices.Sort(id.policies)
	rules, err := parsePolicy(own)
	if err != nil {
		return nil, fault.New(fault.Invalid, "identity %s: its policy: %v", name, err)
	}
	id.own = newACL(rules)
	return id, nil
}

// Name is what the audit log shows.
func (id *Identity) Name() string { return id.name }

// vouched admits a call of an identity of the configuration.
func (c *call) vouched() (*acl, error) {
	id := c.req.As
	if c.req.Token != "" {
		return nil, fault.New(fault.Invalid, "a call is made by an identity of the configuration or with a client token, not both")
	}
	if c.req.WrapTTL != 0 {
		return nil, fault.New(fault.Invalid, "an answer to an identity of the configuration can't be wrapped")
	}
	c.op.Caller = op.Caller{DisplayName: id.name, Policies: id.policies}
	if c.match.op != nil && (c.match.op.Mount == kindSys || c.match.op.Mount == kindToken) {
		return nil, errDenied
	}
	if len(id.policies) == 0 {
		return id.own, nil
	}
	return c.loaded.policies.acl(id.policies), nil
}

// Call performs one operation as an identity, for fronts whose wire format does
// not decode into the operation's request by itself. path begins with the mount:
// "transit/decrypt/k"; remote is the caller's network address. Req and Resp are
// the operation's own types; the answer is nil if it says nothing. Errors are
// those of Door.Handle.
func Call[Resp, Req any](ctx context.Context, d Door, as *Identity, verb op.Verb, path, remote string, req *Req) (*Resp, error) {
	answer, err := d.Handle(ctx, &Request{Verb: verb, Path: path, As: as, Remote: remote, Decode: func(into any) ([]string, error) {
		r, ok := into.(*Req)
		if !ok {
			return nil, fmt.Errorf("%v %s takes a %T, not a %T", verb, path, into, req)
		}
		*r = *req
		return nil, nil
	}})
	if err != nil || answer.Data == nil {
		return nil, err
	}
	resp, ok := answer.Data.(*Resp)
	if !ok {
		return nil, fmt.Errorf("%v %s answers a %T, not a %T", verb, path, answer.Data, resp)
	}
	return resp, nil
}
