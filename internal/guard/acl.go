package guard

import (
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/op"
)

// acl is what a set of policies allows, prepared for the check of a path. It is
// never changed once it is made.
//
// Rules on the same path are united; deny among them wins. A path is then ruled
// by one rule alone: by that on the very path, else by the most specific of
// those with a wildcard (see moreSpecific).
type acl struct {
	root bool
	// generation of the policies that it was made of
	generation uint64
	exact      map[string]grant
	prefixes   map[string]grant // the path before its final *
	lengths    []int            // of the prefixes, longest first
	segmented  []segmentRule    // paths with +
}

// grant is what the rule of a path gives.
type grant struct {
	caps   caps
	limits *limits // nil if any parameters will do
}

// segmentRule is a rule whose path has + segments.
type segmentRule struct {
	path     string // without a final *
	parts    []string
	prefix   bool // the path ended in *
	wildcard int  // where the first + stands in the path
	plus     int  // number of + segments
	grant
}

// newACL unites policies.
func newACL(policies ...[]rule) *acl {
	a := &acl{exact: map[string]grant{}, prefixes: map[string]grant{}}
	segmented := map[string]grant{}
	for _, rules := range policies {
		for _, r := range rules {
			prefix, isPrefix := strings.CutSuffix(r.path, "*")
			switch {
			case r.templated:
			case hasPlus(r.path):
				unite(segmented, r.path, r)
			case isPrefix:
				unite(a.prefixes, prefix, r)
			default:
				unite(a.exact, r.path, r)
			}
		}
	}
	for prefix := range a.prefixes {
		a.lengths = append(a.lengths, len(prefix))
	}
	slices.Sort(a.lengths)
	slices.Reverse(a.lengths)
	a.lengths = slices.Compact(a.lengths)
	for path, g := range segmented {
		a.segmented = append(a.segmented, newSegmentRule(path, g))
	}
	return a
}

// unite adds a rule to those on the same path: all capabilities, but none if one
// of them denies; see limits.with for the rest.
func unite(m map[string]grant, path string, r rule) {
	g := m[path]
	g.caps |= r.caps
	if g.limits = g.limits.with(r.limits); g.caps&capDeny != 0 {
		g = grant{caps: capDeny}
	}
	m[path] = g
}

func hasPlus(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "+" {
			return true
		}
	}
	return false
}

func newSegmentRule(path string, g grant) segmentRule {
	s := segmentRule{grant: g, wildcard: -1}
	s.path, s.prefix = strings.CutSuffix(path, "*")
	s.parts = strings.Split(s.path, "/")
	at := 0
	for _, part := range s.parts {
		if part == "+" {
			if s.plus++; s.wildcard < 0 {
				s.wildcard = at
			}
		}
		at += len(part) + 1
	}
	return s
}

// matches compares segment by segment; + stands for any one segment, and the
// last segment of a rule that ended in * only has to begin the path's.
func (s *segmentRule) matches(path string) bool {
	last := len(s.parts) - 1
	for i, part := range s.parts {
		if i == last && s.prefix {
			return strings.HasPrefix(path, part)
		}
		segment, remainder, more := strings.Cut(path, "/")
		if part != "+" && part != segment {
			return false
		}
		if i == last {
			return !more
		}
		if !more {
			return false
		}
		path = remainder
	}
	return false
}

// moreSpecific is the order in which wildcard rules that match one path prevail,
// as Vault documents it (Policies, "Priority matching"): a rule is weaker if its
// first wildcard comes earlier, if it ends in * and the other does not, if it has
// more + segments, if it is shorter, if it is smaller in the order of bytes.
func (s *segmentRule) moreSpecific(t *segmentRule) bool {
	switch {
	case s.wildcard != t.wildcard:
		return s.wildcard > t.wildcard
	case s.prefix != t.prefix:
		return !s.prefix
	case s.plus != t.plus:
		return s.plus < t.plus
	case len(s.path) != len(t.path):
		return len(s.path) > len(t.path)
	}
	return s.path > t.path
}

// allowed returns the capabilities on a path; see rule.
func (a *acl) allowed(path string) caps { return a.rule(path).caps }

// rule returns what the one rule that rules a path gives. For a list the path
// ends in a slash, and a rule on the path without it counts too.
func (a *acl) rule(path string) grant {
	if a.root {
		return grant{caps: ^capDeny}
	}
	if g, ok := a.exact[path]; ok {
		return g
	}
	if trimmed, ok := strings.CutSuffix(path, "/"); ok {
		if g, ok := a.exact[trimmed]; ok {
			return g
		}
	}
	return a.byWildcard(path)
}

// May implements op.Judge.
func (a *acl) May(verb op.Verb, path string) bool {
	return a.allowed(policyPath(path, verb))&needed(verb, false) != 0
}

// Stamp implements op.Judge.
func (a *acl) Stamp() uint64 { return a.generation }

func (a *acl) byWildcard(path string) grant {
	var best segmentRule
	found := false
	for _, n := range a.lengths {
		if n > len(path) {
			continue
		}
		if g, ok := a.prefixes[path[:n]]; ok {
			best = segmentRule{path: path[:n], prefix: true, wildcard: n, grant: g}
			found = true
			break
		}
	}
	for i := range a.segmented {
		s := &a.segmented[i]
		if s.matches(path) && (!found || s.moreSpecific(&best)) {
			best, found = *s, true
		}
	}
	return best.grant
}

// touches tells whether anything at or below a prefix is allowed, so that the
// caller may know that the mount there exists.
func (a *acl) touches(prefix string) bool {
	if a.root {
		return true
	}
	for path, g := range a.exact {
		if g.caps&^capDeny != 0 && strings.HasPrefix(path, prefix) {
			return true
		}
	}
	for path, g := range a.prefixes {
		if g.caps&^capDeny != 0 && (strings.HasPrefix(path, prefix) || strings.HasPrefix(prefix, path)) {
			return true
		}
	}
	for i := range a.segmented {
		if s := &a.segmented[i]; s.caps&^capDeny != 0 && s.meets(prefix) {
			return true
		}
	}
	return false
}

// meets tells whether a rule with + can match a path that begins with prefix,
// which ends in a slash.
func (s *segmentRule) meets(prefix string) bool {
	wanted := strings.Split(strings.TrimSuffix(prefix, "/"), "/")
	for i, w := range wanted {
		if i >= len(s.parts) {
			return false
		}
		part := s.parts[i]
		if i == len(s.parts)-1 && s.prefix {
			return strings.HasPrefix(w, part)
		}
		if part != "+" && part != w {
			return false
		}
	}
	return len(s.parts) > len(wanted)
}

// names lists capabilities as answers show them: none is "deny".
func (a *acl) names(path string) []string {
	if a.root {
		return []string{"root"}
	}
	c := a.allowed(path)
	if c == 0 {
		c = capDeny
	}
	var names []string
	for _, n := range capNames {
		if c&n.cap != 0 {
			names = append(names, n.name)
		}
	}
	return names
}

// needed returns the capabilities of which one is needed for a verb. A write
// whose operation can tell whether the thing exists needs create or update.
func needed(verb op.Verb, canCreate bool) caps {
	switch verb {
	case op.Read:
		return capRead
	case op.List:
		return capList
	case op.Delete:
		return capDelete
	case op.Patch:
		return capPatch
	}
	if canCreate {
		return capCreate | capUpdate
	}
	return capUpdate
}
