package guard

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

const (
	maxTokenPolicies = 256
	maxMetaEntries   = 64
	maxMetaSize      = 512 // bytes, of a key or a value
	maxDisplayName   = 128
	minChosenText    = 4
	maxDuration      = api.Seconds(100 * 365 * 24 * 3600)
)

func (g *Guard) createToken(ctx context.Context, _ *op.Call, req *api.CreateToken) (*api.Auth, error) {
	return g.newToken(ctx, req, req.NoParent, nil)
}

func (g *Guard) createOrphan(ctx context.Context, _ *op.Call, req *api.CreateToken) (*api.Auth, error) {
	return g.newToken(ctx, req, true, nil)
}

// newToken makes a token, as a role says unless that is nil.
func (g *Guard) newToken(ctx context.Context, req *api.CreateToken, orphan bool, role *roleRecord) (*api.Auth, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	maker := tokenMaker{call: c, req: req, parent: &c.entry.state.Load().tokenRecord, orphan: orphan, role: role,
		sudo: c.loaded.policies.of(c.entry).allowed(c.path)&capSudo != 0}
	r, err := maker.record()
	if err != nil {
		return nil, err
	}
	parent := c.entry
	if orphan {
		parent = nil
	}
	text, err := maker.create(ctx, r, parent)
	switch {
	case errors.Is(err, errEnded):
		return nil, errDenied
	case errors.Is(err, store.ErrConflict):
		return nil, fault.New(fault.Invalid, "cannot create a token with a duplicate ID")
	case err != nil:
		return nil, storeFault(err, "making a client token")
	}
	for _, name := range r.Policies {
		if _, ok := c.loaded.policies.get(name); !ok {
			c.op.Warn("Policy %q does not exist", name)
		}
	}
	return auth(r, text, c.op.Time), nil
}

// create writes the token, unless it is a batch token, and returns its text.
func (m *tokenMaker) create(ctx context.Context, r *tokenRecord, parent *entry) (text string, err error) {
	if r.Batch {
		return m.loaded.tokens.createBatch(r, parent)
	}
	if text = m.req.ID; text == "" {
		text = newText(textPrefix)
	}
	return text, m.loaded.tokens.create(ctx, text, r, parent)
}

// tokenMaker makes the record of a new token from what its maker may give.
type tokenMaker struct {
	*call
	req    *api.CreateToken
	parent *tokenRecord
	orphan bool
	role   *roleRecord // nil without
	sudo   bool        // the caller has sudo on the path, or is root
}

func (m *tokenMaker) record() (*tokenRecord, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	batch, err := m.batchType()
	if err != nil {
		return nil, err
	}
	r := &tokenRecord{
		Batch: batch, Accessor: newText(""), DisplayName: displayName(m.req.DisplayName), Path: m.path, Meta: maps.Clone(m.req.Meta),
		Created: m.op.Time.Unix(), Period: int64(m.req.Period), ExplicitMaxTTL: int64(m.req.ExplicitMaxTTL),
		Limited: m.req.NumUses > 0, UsesLeft: m.req.NumUses,
	}
	if m.role != nil {
		m.role.apply(m, r)
	}
	if r.Policies, err = m.policies(); err != nil {
		return nil, err
	}
	if r.Batch {
		if err := m.checkBatch(r); err != nil {
			return nil, err
		}
		r.Accessor = ""
	}
	return r, m.times(r)
}

// check refuses what does not depend on policies and times.
func (m *tokenMaker) check() error {
	q := m.req
	invalid := func(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }
	switch {
	case m.parent.Batch:
		return invalid("batch tokens cannot create more tokens")
	case m.parent.Limited:
		return invalid("restricted use token cannot generate child tokens")
	case q.EntityAlias != "" && m.role == nil:
		return invalid("'entity_alias' is only allowed in combination with token role")
	case q.EntityAlias != "": // no role has allowed_entity_aliases
		return invalid("invalid 'entity_alias' value")
	case q.NumUses < 0:
		return invalid("number of uses cannot be negative")
	case q.NoParent && !m.sudo && m.role == nil: // a policy on create-orphan says enough
		return invalid("root or sudo privileges required to create orphan token")
	case !m.orphan && m.parent.Depth >= maxTokenDepth:
		return invalid("the token would be more than %d generations below an orphan token", maxTokenDepth)
	case q.Period != 0 && !m.sudo:
		return invalid("root or sudo privileges required to create periodic token")
	case q.ID != "" && !m.sudo:
		return invalid("root or sudo privileges required to specify token id")
	case len(q.DisplayName) > maxDisplayName:
		return invalid("display_name has more than %d bytes", maxDisplayName)
	case len(q.Meta) > maxMetaEntries:
		return invalid("meta has more than %d entries", maxMetaEntries)
	}
	for name, d := range map[string]api.Seconds{"ttl": q.TTL, "lease": q.Lease, "explicit_max_ttl": q.ExplicitMaxTTL, "period": q.Period} {
		if d < 0 || d > maxDuration {
			return invalid("%s: 0 to %d seconds", name, maxDuration)
		}
	}
	for k, v := range q.Meta {
		if len(k) > maxMetaSize || len(v) > maxMetaSize {
			return invalid("meta: keys and values have at most %d bytes", maxMetaSize)
		}
	}
	if q.ID != "" {
		return checkChosenText(q.ID)
	}
	return nil
}

// checkChosenText checks a token text that a person chose.
func checkChosenText(id string) error {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	switch {
	case strings.HasPrefix(id, textPrefix), strings.HasPrefix(id, batchPrefix):
		return fault.New(fault.Invalid, "custom token ID cannot have the '%s' prefix", id[:2])
	case len(id) < minChosenText || len(id) > maxTokenText || strings.ContainsFunc(id, odd):
		return fault.New(fault.Invalid, "a token ID has %d to %d visible ASCII characters", minChosenText, maxTokenText)
	}
	return nil
}

// policies returns the new token's policies: never more than its parent's,
// unless the caller has sudo or a role rules them; root only from root.
func (m *tokenMaker) policies() ([]string, error) {
	if len(m.req.Policies) > maxTokenPolicies {
		return nil, fault.New(fault.Invalid, "a token has at most %d policies", maxTokenPolicies)
	}
	var names []string
	for _, w := range m.req.Policies {
		name, err := policyName(w)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	ruled := m.role != nil && m.role.rulesPolicies()
	switch {
	case ruled:
		var err error
		if names, err = m.rolePolicies(names); err != nil {
			return nil, err
		}
	case len(names) == 0:
		names = slices.Clone(m.parent.Policies)
	}
	root := m.parent.isRoot()
	if slices.Contains(names, policyRoot) {
		if !root {
			return nil, fault.New(fault.Invalid, "root tokens may not be created without parent token being root")
		}
		return []string{policyRoot}, nil
	}
	if ruled {
		return names, nil
	}
	if !root && !m.sudo {
		for _, name := range names {
			if !slices.Contains(m.parent.Policies, name) {
				return nil, fault.New(fault.Invalid, "child policies must be subset of parent")
			}
		}
	}
	return m.withDefault(names), nil
}

// withDefault adds the policy default, unless it is not wanted, or the parent
// lacks it and may not give more than it has.
func (m *tokenMaker) withDefault(names []string) []string {
	unwanted := m.req.NoDefaultPolicy || m.role != nil && m.role.NoDefaultPolicy
	if len(m.req.Policies) == 0 && unwanted {
		names = slices.DeleteFunc(names, func(n string) bool { return n == policyDefault })
	}
	lacking := !m.sudo && !slices.Contains(m.parent.Policies, policyDefault)
	if !unwanted && !lacking {
		names = append(names, policyDefault)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// times sets when the token ends and whether it may be renewed.
func (m *tokenMaker) times(r *tokenRecord) error {
	now := m.op.Time
	asked := cmp.Or(m.req.TTL, m.req.Lease)
	ttl := asked
	if r.isRoot() {
		if ttl == 0 && r.Period == 0 && r.ExplicitMaxTTL == 0 {
			if m.parent.Expires != 0 {
				return fault.New(fault.Invalid, "expiring root tokens cannot create non-expiring root tokens")
			}
			return nil
		}
	}
	if r.Period != 0 {
		ttl = api.Seconds(r.Period)
	}
	byDefault, limit := m.loaded.tokenTTL()
	if ttl == 0 {
		ttl = byDefault
	}
	if r.Period != 0 {
		limit = maxDuration
	}
	if r.ExplicitMaxTTL != 0 {
		limit = min(limit, api.Seconds(r.ExplicitMaxTTL))
	}
	if ttl > limit {
		if asked != 0 || r.Period != 0 {
			m.op.Warn("TTL of %q exceeded the effective max_ttl of %q; TTL value is capped accordingly",
				ttl.Duration(), limit.Duration())
		}
		ttl = limit
	}
	r.TTL = int64(ttl)
	r.Expires = now.Unix() + int64(ttl)
	r.Renewable = !r.Batch && (m.req.Renewable == nil || *m.req.Renewable) && (m.role == nil || !m.role.NotRenewable)
	return nil
}

// displayName is the name as the audit log shows it: it begins with "token", and
// has only letters, digits and dashes.
func displayName(name string) string {
	if name == "" {
		return "token"
	}
	plain := strings.Map(func(r rune) rune {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
			return '-'
		}
		return r
	}, name)
	return strings.TrimSuffix("token-"+plain, "-")
}
