package guard

import (
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/op"
)

const (
	kindSys   = "sys"
	kindToken = "auth/token"
	// kindTransit is the engine that Genesis mounts.
	kindTransit = "transit"

	// maxParams bounds the parameters of a pattern, so that a route needs no
	// allocation.
	maxParams = 6
	// maxPath bounds the paths that are looked at, in bytes.
	maxPath = 4096
	// maxMountPath bounds the path of a mount with its trailing slash.
	maxMountPath = 128
)

// node is a segment position in the tree of one kind's patterns.
type node struct {
	literals map[string]*node
	param    *node
	rest     *leaf
	tails    map[string]*leaf // by the literal that follows the rest
	leaf     leaf
}

// leaf holds the operations of one pattern, by verb.
type leaf [op.Patch + 1]*op.Operation

func (l *leaf) empty() bool { return *l == leaf{} }

// table is what Register builds: the operations, and a tree of patterns for each
// kind of mount.
type table struct {
	ops   []*op.Operation // in the order of mount, path, verb
	names map[string]bool
	trees map[string]*node
}

func newTable() *table {
	return &table{names: map[string]bool{}, trees: map[string]*node{}}
}

func (t *table) add(o *op.Operation) error {
	if t.names[o.Name] {
		return fmt.Errorf("operation %s is declared twice", o.Name)
	}
	if o.Verb < op.Read || o.Verb > op.Patch {
		return fmt.Errorf("operation %s: %v", o.Name, o.Verb)
	}
	l, err := t.place(o)
	if err != nil {
		return fmt.Errorf("operation %s: %w", o.Name, err)
	}
	if other := l[o.Verb]; other != nil {
		return fmt.Errorf("operations %s and %s both %s %s/%s", other.Name, o.Name, o.Verb, o.Mount, o.Path)
	}
	l[o.Verb] = o
	t.names[o.Name] = true
	t.ops = append(t.ops, o)
	slices.SortFunc(t.ops, compareOperations)
	return nil
}

// place finds or makes the leaf of an operation's pattern.
func (t *table) place(o *op.Operation) (*leaf, error) {
	n := t.trees[o.Mount]
	if n == nil {
		n = &node{}
		t.trees[o.Mount] = n
	}
	params := 0
	var end *leaf
	for i, s := range o.Segments {
		if end != nil {
			break // what follows the rest is in its leaf's place already
		}
		switch {
		case s.Rest:
			params++
			end = n.restLeaf(o.Segments[i+1:])
		case s.Param != "":
			if params++; n.param == nil {
				n.param = &node{}
			}
			n = n.param
		case s.Literal == "":
			return nil, fmt.Errorf("the path %q has an empty segment", o.Path)
		default:
			if n.literals[s.Literal] == nil {
				if n.literals == nil {
					n.literals = map[string]*node{}
				}
				n.literals[s.Literal] = &node{}
			}
			n = n.literals[s.Literal]
		}
	}
	if params > maxParams {
		return nil, fmt.Errorf("the path %q has more than %d parameters", o.Path, maxParams)
	}
	if end != nil {
		return end, nil
	}
	return &n.leaf, nil
}

// restLeaf finds or makes the leaf of a pattern that takes the rest here, and
// after it the literal in tail, if there is one.
func (n *node) restLeaf(tail []op.Segment) *leaf {
	if len(tail) == 0 {
		if n.rest == nil {
			n.rest = &leaf{}
		}
		return n.rest
	}
	if n.tails == nil {
		n.tails = map[string]*leaf{}
	}
	literal := tail[0].Literal
	if n.tails[literal] == nil {
		n.tails[literal] = &leaf{}
	}
	return n.tails[literal]
}

func compareOperations(a, b *op.Operation) int {
	if c := strings.Compare(a.Mount, b.Mount); c != 0 {
		return c
	}
	if c := strings.Compare(a.Path, b.Path); c != 0 {
		return c
	}
	return int(a.Verb) - int(b.Verb)
}

// match is what a path led to. The zero op with known set means that the path
// exists for other verbs.
type match struct {
	op     *op.Operation
	params [maxParams]string
	n      int
	known  bool
}

func (m *match) push(value string) { m.params[m.n] = value; m.n++ }

// find looks for the operation of a verb on a path below its mount. A literal
// segment is preferred to a parameter; where it leads nowhere the parameter is
// tried, so that a key may be called like a sub-path of another verb.
func (t *table) find(kind, path string, verb op.Verb, m *match) {
	n := t.trees[kind]
	if n == nil || path == "" || verb < op.Read || verb > op.Patch {
		return
	}
	n.find(path, verb, m)
}

func (n *node) find(path string, verb op.Verb, m *match) bool {
	segment, remainder, more := strings.Cut(path, "/")
	if segment == "" {
		return false
	}
	if next := n.literals[segment]; next != nil && next.follow(remainder, more, verb, m) {
		return true
	}
	if n.param != nil && m.n < maxParams {
		m.push(segment)
		if n.param.follow(remainder, more, verb, m) {
			return true
		}
		m.n--
	}
	return (n.rest != nil || n.tails != nil) && m.n < maxParams && n.findRest(path, verb, m)
}

// findRest takes the whole path. What a literal follows is preferred.
func (n *node) findRest(path string, verb op.Verb, m *match) bool {
	if !wholeSegments(path) && (n.rest == nil || n.rest[verb] == nil || !n.rest[verb].EmptySegments) {
		return false
	}
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		if l := n.tails[path[i+1:]]; l != nil && l.take(verb, m) {
			m.push(path[:i])
			return true
		}
	}
	if n.rest != nil && n.rest.take(verb, m) {
		m.push(path)
		return true
	}
	return false
}

func (n *node) follow(remainder string, more bool, verb op.Verb, m *match) bool {
	if more {
		return n.find(remainder, verb, m)
	}
	return n.leaf.take(verb, m)
}

func (l *leaf) take(verb op.Verb, m *match) bool {
	if o := l[verb]; o != nil {
		m.op, m.known = o, true
		return true
	}
	m.known = m.known || !l.empty()
	return false
}

// wholeSegments tells whether no segment of the path is empty.
func wholeSegments(path string) bool {
	return path != "" && path[0] != '/' && path[len(path)-1] != '/' && !strings.Contains(path, "//")
}

// canonical is the form of a path that routing and policies see: without the
// trailing slash, so that "x/" can't be asked for where "x" is denied. Policies
// see the path of a list with the slash.
func canonical(path string) string { return strings.TrimSuffix(path, "/") }

// policyPath is the path that policies see.
func policyPath(path string, verb op.Verb) string {
	if verb == op.List {
		return path + "/"
	}
	return path
}

// mountTable maps the paths of mounts, with their trailing slashes, to them. It
// is never changed once it is in use.
type mountTable map[string]*mountRecord

// locate finds the mount with the longest path that holds path, and what is left.
func (t mountTable) locate(path string) (m *mountRecord, below string) {
	for i := min(len(path), maxMountPath) - 1; i >= 0; i-- {
		if path[i] != '/' {
			continue
		}
		if m := t[path[:i+1]]; m != nil {
			return m, path[i+1:]
		}
	}
	return nil, ""
}
