package guard

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

const (
	tableRoles = "token-roles" // by name

	maxRoleName   = 128
	maxPathSuffix = 128
	rolePage      = 500

	typeService        = "service"
	typeDefaultService = "default-service"
)

// roleRecord is a role of client tokens. Durations are seconds. What it allows
// is decided when a token is made, but for its existence and its period, which
// are looked at when a token is renewed.
type roleRecord struct {
	AllowedPolicies        []string `json:"allowed_policies,omitempty"`
	AllowedPoliciesGlob    []string `json:"allowed_policies_glob,omitempty"`
	DisallowedPolicies     []string `json:"disallowed_policies,omitempty"`
	DisallowedPoliciesGlob []string `json:"disallowed_policies_glob,omitempty"`
	Orphan                 bool     `json:"orphan,omitempty"`
	NotRenewable           bool     `json:"not_renewable,omitempty"`
	PathSuffix             string   `json:"path_suffix,omitempty"`
	TokenType              string   `json:"token_type,omitempty"` // "" is default-service
	Period                 int64    `json:"period,omitempty"`
	ExplicitMaxTTL         int64    `json:"explicit_max_ttl,omitempty"`
	NumUses                int      `json:"num_uses,omitempty"`
	NoDefaultPolicy        bool     `json:"no_default_policy,omitempty"`
	// Whether the old names were used to set them: then they are shown there too.
	OldPeriod bool `json:"old_period,omitempty"`
	OldMaxTTL bool `json:"old_max_ttl,omitempty"`
}

// rulesPolicies tells whether the role says which policies its tokens may have,
// in place of those of the token that makes them.
func (r *roleRecord) rulesPolicies() bool {
	return len(r.AllowedPolicies)+len(r.AllowedPoliciesGlob)+len(r.DisallowedPolicies)+len(r.DisallowedPoliciesGlob) > 0
}

func (r *roleRecord) allows(policy string) bool {
	return slices.Contains(r.AllowedPolicies, policy) || matchesGlob(r.AllowedPoliciesGlob, policy)
}

func (r *roleRecord) disallows(policy string) bool {
	return slices.Contains(r.DisallowedPolicies, policy) || matchesGlob(r.DisallowedPoliciesGlob, policy)
}

// matchesGlob tells whether a name matches one of the patterns, in which * stands
// for any text.
func matchesGlob(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return globMatches(p, name) })
}

func globMatches(pattern, name string) bool {
	first, more, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, first)
	for ok {
		part, rest, again := strings.Cut(more, "*")
		if !again {
			return strings.HasSuffix(name, part)
		}
		_, name, ok = strings.Cut(name, part)
		more = rest
	}
	return false
}

// describe shows the role as it is answered.
func (r *roleRecord) describe(name string) *api.TokenRoleInfo {
	list := func(s []string) []string { return append([]string{}, s...) } // [] where there is none
	info := &api.TokenRoleInfo{
		Name: name, AllowedPolicies: list(r.AllowedPolicies), AllowedPoliciesGlob: list(r.AllowedPoliciesGlob),
		DisallowedPolicies: list(r.DisallowedPolicies), DisallowedPoliciesGlob: list(r.DisallowedPoliciesGlob),
		Orphan: r.Orphan, Renewable: !r.NotRenewable, PathSuffix: r.PathSuffix, TokenType: r.TokenType,
		TokenPeriod: api.Seconds(r.Period), TokenExplicitMaxTTL: api.Seconds(r.ExplicitMaxTTL),
		TokenNumUses: r.NumUses, TokenNoDefaultPolicy: r.NoDefaultPolicy,
	}
	if r.TokenType == "" {
		info.TokenType = typeDefaultService
	}
	if r.OldPeriod {
		info.Period = info.TokenPeriod
	}
	if r.OldMaxTTL {
		info.ExplicitMaxTTL = info.TokenExplicitMaxTTL
	}
	return info
}

// set changes the role as a request says.
func (r *roleRecord) set(q *api.TokenRole) error {
	if len(q.TokenBoundCIDRs)+len(q.BoundCIDRs) > 0 {
		return fault.New(fault.Invalid, "token_bound_cidrs is not supported: client tokens are not bound to addresses, leave it out")
	}
	if len(q.AllowedEntityAliases) > 0 {
		return fault.New(fault.Invalid, "allowed_entity_aliases is not supported: there are no entities, leave it out")
	}
	for _, set := range []func(*api.TokenRole) error{r.setPolicies, r.setTimes, r.setPath, r.setType} {
		if err := set(q); err != nil {
			return err
		}
	}
	if q.TokenNumUses != nil {
		if *q.TokenNumUses < 0 {
			return fault.New(fault.Invalid, "'token_num_uses' cannot be negative")
		}
		r.NumUses = *q.TokenNumUses
	}
	if q.Orphan != nil {
		r.Orphan = *q.Orphan
	}
	if q.Renewable != nil {
		r.NotRenewable = !*q.Renewable
	}
	if q.TokenNoDefaultPolicy != nil {
		r.NoDefaultPolicy = *q.TokenNoDefaultPolicy
	}
	if err := r.checkBatch(); err != nil {
		return fault.New(fault.Invalid, "%v", err)
	}
	return nil
}

func (r *roleRecord) setPolicies(q *api.TokenRole) error {
	for _, f := range []struct {
		given []string
		to    *[]string
		glob  bool
	}{
		{q.AllowedPolicies, &r.AllowedPolicies, false}, {q.AllowedPoliciesGlob, &r.AllowedPoliciesGlob, true},
		{q.DisallowedPolicies, &r.DisallowedPolicies, false}, {q.DisallowedPoliciesGlob, &r.DisallowedPoliciesGlob, true},
	} {
		if f.given == nil {
			continue
		}
		if len(f.given) > maxTokenPolicies {
			return fault.New(fault.Invalid, "a role has at most %d policies of each kind", maxTokenPolicies)
		}
		var names []string
		for _, name := range f.given {
			checked := name
			if f.glob {
				checked = strings.ReplaceAll(name, "*", "_")
			}
			if _, err := policyName(checked); err != nil {
				return err
			}
			names = append(names, strings.ToLower(strings.TrimSpace(name)))
		}
		slices.Sort(names)
		*f.to = slices.Compact(names)
	}
	return nil
}

// setTimes sets period and greatest age, each under its new or its old name.
func (r *roleRecord) setTimes(q *api.TokenRole) error {
	for _, f := range []struct {
		name       string
		value, old *api.Seconds
		to         *int64
		isOld      *bool
	}{
		{"period", q.TokenPeriod, q.Period, &r.Period, &r.OldPeriod},
		{"explicit_max_ttl", q.TokenExplicitMaxTTL, q.ExplicitMaxTTL, &r.ExplicitMaxTTL, &r.OldMaxTTL},
	} {
		value := f.value
		if value == nil {
			value = f.old
		}
		if value == nil {
			continue
		}
		if *value < 0 || *value > maxDuration {
			return fault.New(fault.Invalid, "%s: 0 to %d seconds", f.name, maxDuration)
		}
		*f.to, *f.isOld = int64(*value), f.old != nil
	}
	return nil
}

func (r *roleRecord) setPath(q *api.TokenRole) error {
	if q.PathSuffix == nil {
		return nil
	}
	s := *q.PathSuffix
	switch {
	case s != "" && (len(s) < 3 || len(s) > maxPathSuffix || strings.ContainsFunc(s, notInPathSuffix) || strings.Trim(s, "-.") != s):
		return fault.New(fault.Invalid, `given role path suffix contains invalid characters; must match \w[\w-.]+\w`)
	case strings.Contains(s, ".."):
		return fault.New(fault.Invalid, "error registering path suffix: path cannot contain parent references")
	}
	r.PathSuffix = s
	return nil
}

func notInPathSuffix(r rune) bool { return !isWord(r) && r != '-' && r != '.' }

func isWord(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_'
}

func (r *roleRecord) setType(q *api.TokenRole) error {
	if q.TokenType == nil {
		return nil
	}
	switch *q.TokenType {
	case "", typeDefaultService:
		r.TokenType = ""
	case typeService, typeBatch, typeDefaultBatch:
		r.TokenType = *q.TokenType
	default:
		return fault.New(fault.Invalid, "invalid 'token_type' value %.40q", *q.TokenType)
	}
	return nil
}

// roleName checks the name of a role.
func roleName(name string) error {
	odd := func(r rune) bool { return !isWord(r) && !strings.ContainsRune("-.@", r) }
	if name == "" || len(name) > maxRoleName || strings.ContainsFunc(name, odd) || strings.Trim(name, "-.@") != name {
		return fault.New(fault.Invalid, "role name %.140q: use 1 to %d of a-z, A-Z, 0-9, _ and, inside, - . @", name, maxRoleName)
	}
	return nil
}

// role returns a role with the version of its record; nil if there is none.
func (g *Guard) role(ctx context.Context, name string) (*roleRecord, int64, error) {
	var r roleRecord
	version, err := g.store.Get(ctx, tableRoles, name, &r)
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, storeFault(err, "reading the role %q", name)
	}
	return &r, version, nil
}

// apply limits a new token to what the role gives. Where the request has a limit
// too the lesser counts.
func (r *roleRecord) apply(m *tokenMaker, t *tokenRecord) {
	t.Role = m.req.Role
	if r.PathSuffix != "" {
		t.Path += "/" + r.PathSuffix
	}
	if r.NumUses > 0 && (!t.Limited || r.NumUses < t.UsesLeft) {
		t.Limited, t.UsesLeft = true, r.NumUses
	}
	lesser := func(what string, own *int64, ofRole int64) {
		switch {
		case ofRole == 0:
		case *own == 0:
			*own = ofRole
		default:
			*own = min(*own, ofRole)
			m.op.Warn("%s specified both during creation call and in role; using the lesser value of %d seconds", what, *own)
		}
	}
	lesser("Explicit max TTL", &t.ExplicitMaxTTL, r.ExplicitMaxTTL)
	lesser("Period", &t.Period, r.Period)
}

// rolePolicies returns a new token's policies under a role that rules them: what
// was asked for, else what the role allows, else its maker's. The maker's own
// policies are no limit; whoever may write the role decided that.
func (m *tokenMaker) rolePolicies(asked []string) ([]string, error) {
	r := m.role
	addDefault := !m.req.NoDefaultPolicy && !r.NoDefaultPolicy && !r.disallows(policyDefault)
	withDefault := func(names []string) []string {
		names = append([]string{}, names...)
		if addDefault {
			names = append(names, policyDefault)
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	limited := len(r.AllowedPolicies)+len(r.AllowedPoliciesGlob) > 0
	names := withDefault(asked)
	switch {
	case len(asked) == 0 && limited:
		names = withDefault(r.AllowedPolicies)
	case len(asked) == 0:
		names = withDefault(m.parent.Policies)
	case limited:
		for _, name := range names {
			if !r.allows(name) && !(addDefault && name == policyDefault) {
				return nil, fault.New(fault.Invalid, "token policies (%q) must be subset of the role's allowed policies (%q) or glob policies (%q)",
					names, withDefault(r.AllowedPolicies), r.AllowedPoliciesGlob)
			}
		}
	}
	for _, name := range names {
		if r.disallows(name) {
			return nil, fault.New(fault.Invalid, "token policy %q is disallowed by this role", name)
		}
	}
	return names, nil
}

// rolePeriod returns the period that a token of a role has when it is renewed
// now, in seconds: the role's of today, 0 if that has none or there is no role.
// If the role is gone the token is not renewed.
func (g *Guard) rolePeriod(ctx context.Context, r *tokenRecord) (int64, error) {
	if r.Role == "" {
		return 0, nil
	}
	role, _, err := g.role(ctx, r.Role)
	if err != nil {
		return 0, err
	}
	if role == nil {
		return 0, fault.New(fault.Invalid, "original token role %q could not be found, not renewing", r.Role)
	}
	return role.Period, nil
}
