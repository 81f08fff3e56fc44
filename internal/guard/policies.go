package guard

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

const (
	tablePolicies = "policies" // by name

	policyRoot    = "root"
	policyDefault = "default"

	maxPolicyName = 128
	// maxCachedACLs bounds the prepared sets of policies.
	maxCachedACLs = 4096
)

const defaultPolicyText = `# What every client token may do, unless it was made without this policy.

# Look at, renew and give up itself.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# Ask what it may do.
path "sys/capabilities-self" {
  capabilities = ["update"]
}

# Look at and renew leases whose ID it knows.
path "sys/leases/lookup" {
  capabilities = ["update"]
}
path "sys/leases/renew" {
  capabilities = ["update"]
}
path "sys/renew" {
  capabilities = ["update"]
}

# Keep data under a wrapping token, and open those of others.
path "sys/wrapping/wrap" {
  capabilities = ["update"]
}
path "sys/wrapping/unwrap" {
  capabilities = ["update"]
}
path "sys/wrapping/lookup" {
  capabilities = ["update"]
}

# Ask which mount holds a path. Answers only where it may do something.
path "sys/internal/ui/mounts/*" {
  capabilities = ["read"]
}
`

// policyRecord is a policy as it is stored: the text as it was written.
type policyRecord struct {
	Text string `json:"text"`
}

type policy struct {
	text    string
	version int64 // of the record
	rules   []rule
}

// policies keeps all policies in memory, and for each set of them that a token
// has the prepared acl.
type policies struct {
	store *store.Sealed

	write      sync.Mutex // held by changes
	generation atomic.Uint64

	mu     sync.RWMutex
	byName map[string]policy
	acls   map[string]*acl // by the names, joined
}

// loadPolicies reads all policies.
func loadPolicies(ctx context.Context, s *store.Sealed) (*policies, error) {
	p := &policies{store: s, byName: map[string]policy{}, acls: map[string]*acl{}}
	items, err := s.List(ctx, tablePolicies, "", "", 0)
	if err != nil {
		return nil, fmt.Errorf("reading the policies: %w", err)
	}
	for _, item := range items {
		var r policyRecord
		if err := item.Decode(&r); err != nil {
			return nil, fmt.Errorf("reading the policy %q: %w", item.Key, err)
		}
		rules, err := parsePolicy(r.Text)
		if err != nil {
			return nil, fmt.Errorf("reading the policy %q: %w", item.Key, err)
		}
		p.byName[item.Key] = policy{r.Text, item.Version, rules}
	}
	return p, nil
}

// of returns what a token's policies allow now.
func (p *policies) of(e *entry) *acl {
	if a := e.acl.Load(); a != nil && a.generation == p.generation.Load() {
		return a
	}
	a := p.acl(e.state.Load().Policies)
	e.acl.Store(a)
	return a
}

// acl prepares a set of policies. Names without a policy allow nothing.
func (p *policies) acl(names []string) *acl {
	key := strings.Join(names, ",")
	p.mu.RLock()
	a := p.acls[key]
	p.mu.RUnlock()
	if a != nil {
		return a
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var sets [][]rule
	for _, name := range names {
		sets = append(sets, p.byName[name].rules)
	}
	a = newACL(sets...)
	a.root = slices.Contains(names, policyRoot)
	a.generation = p.generation.Load()
	if len(p.acls) >= maxCachedACLs {
		clear(p.acls)
	}
	p.acls[key] = a
	return a
}

func (p *policies) get(name string) (text string, ok bool) {
	if name == policyRoot {
		return "", true
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	r, ok := p.byName[name]
	return r.text, ok
}

// names lists the policies, root included.
func (p *policies) names() []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	names := slices.AppendSeq([]string{policyRoot}, maps.Keys(p.byName))
	slices.Sort(names)
	return names
}

// put makes or replaces a policy.
func (p *policies) put(ctx context.Context, name, text string) error {
	rules, err := parsePolicy(text)
	if err != nil {
		return fault.New(fault.Invalid, "failed to parse policy: %v", err)
	}
	p.write.Lock()
	defer p.write.Unlock()
	p.mu.RLock()
	version := p.byName[name].version
	p.mu.RUnlock()
	change, err := p.store.Put(tablePolicies, name, version, &policyRecord{text})
	if err != nil {
		return storeFault(err, "writing the policy %q", name)
	}
	if err := p.store.Apply(ctx, change); err != nil {
		return storeFault(err, "writing the policy %q", name)
	}
	p.changed(func() { p.byName[name] = policy{text, version + 1, rules} })
	return nil
}

// remove deletes a policy; one that does not exist is deleted already.
func (p *policies) remove(ctx context.Context, name string) error {
	p.write.Lock()
	defer p.write.Unlock()
	p.mu.RLock()
	old, ok := p.byName[name]
	p.mu.RUnlock()
	if !ok {
		return nil
	}
	if err := p.store.Apply(ctx, p.store.Remove(tablePolicies, name, old.version)); err != nil {
		return storeFault(err, "deleting the policy %q", name)
	}
	p.changed(func() { delete(p.byName, name) })
	return nil
}

// changed makes every prepared acl stale.
func (p *policies) changed(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	clear(p.acls)
	p.generation.Add(1)
}

// policyName checks the name of a policy and returns it in lower case, as it is
// stored and compared.
func policyName(name string) (string, error) {
	name = strings.ToLower(strings.TrimSpace(name))
	if name == "" || len(name) > maxPolicyName || strings.ContainsFunc(name, notInPolicyName) {
		return "", fault.New(fault.Invalid, "policy name %.140q: use 1 to %d of a-z, 0-9 and - _ . : @ +", name, maxPolicyName)
	}
	return name, nil
}

func notInPolicyName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:@+", r)
}

// policyText returns the text of a policy that may be in base64, as old clients
// send it. A policy is never base64 by itself: it has spaces and quotes.
func policyText(text string) string {
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text)); err == nil {
		return string(raw)
	}
	return text
}

// storeFault tells the caller what an error of the store means.
func storeFault(err error, format string, args ...any) error {
	doing := fmt.Sprintf(format, args...)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrSealed):
		return &fault.Error{Kind: fault.Sealed, Msg: msgSealed, Err: err}
	case errors.Is(err, store.ErrConflict):
		return fault.Wrap(fault.Conflict, err, "%s: it was changed meanwhile; read it again and repeat", doing)
	case errors.Is(err, store.ErrCorrupt):
		e := &fault.Error{Kind: fault.Internal, Msg: doing, Err: err}
		return e.WithHint("the record was altered in the database; restore it from a backup")
	}
	// What the database says of itself helps more than that it does not answer.
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return &fault.Error{Kind: e.Kind, Msg: doing + ": " + e.Msg, Hint: e.Hint, Err: e.Err}
	}
	return fault.Wrap(fault.Unavailable, err, "%s: the store does not answer", doing)
}
