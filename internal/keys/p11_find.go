package keys

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
)

// p11Class is CKA_CLASS of a stored object.
type p11Class uint64

const (
	classData        p11Class = 0
	classCertificate p11Class = 1
	classPublicKey   p11Class = 2
)

const (
	defaultFound = 256
	maxFound     = 1000

	// What a cursor begins with; keys stand before objects.
	afterKey    = "k/"
	afterObject = "o/"
)

// p11Find answers from the index; what the caller may not see is passed over as if
// it were not there. An empty question looks at every entry in memory, any other
// at those that fit only.
func (s *Service) p11Find(ctx context.Context, c *op.Call, r *api.P11Find) (*api.P11Found, error) {
	if err := checkFind(r); err != nil {
		return nil, err
	}
	if _, err := s.token.Get(); err != nil {
		return nil, tokenFault(err, "find keys")
	}
	stamp := uint64(0)
	if c.Judge != nil {
		stamp = c.Judge.Stamp()
	}
	ix, err := s.ready(ctx, c.Mount, c.At)
	if err != nil {
		return nil, err
	}
	// Read before the entries, so that a change that they miss shows later.
	out := &api.P11Found{Change: ix.change.Load() + stamp}
	if r.Changed == out.Change {
		out.Unchanged = true
		return out, nil
	}
	found := ix.find(c, r)
	if limit := findLimit(r); len(found) > limit {
		found = found[:limit]
		out.Next = found[limit-1].cursor()
	}
	return out, s.show(ctx, c, found, out)
}

func checkFind(r *api.P11Find) error {
	switch r.Class {
	case "", "key", "certificate", "data":
	default:
		return invalid("class %q: it is key, certificate or data, or absent for all", r.Class)
	}
	if r.Limit < 0 || r.Limit > maxFound {
		return invalid("limit %d: it is from 1 to %d", r.Limit, maxFound)
	}
	if r.After != "" && !strings.HasPrefix(r.After, afterKey) && !strings.HasPrefix(r.After, afterObject) {
		return invalid("after is no next of an earlier answer")
	}
	return nil
}

func findLimit(r *api.P11Find) int {
	if r.Limit == 0 {
		return defaultFound
	}
	return r.Limit
}

func (l *listed) cursor() string {
	if l.object {
		return afterObject + l.name
	}
	return afterKey + l.name
}

// find returns the entries that fit a question and that the caller may see, in
// order, at most one more than the limit.
func (ix *index) find(c *op.Call, r *api.P11Find) []*listed {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	most := findLimit(r) + 1
	var found []*listed
	for _, some := range ix.candidates(r) {
		for _, l := range some {
			if r.After != "" && l.cursor() <= r.After || !l.fits(r) || !l.seen(c) {
				continue
			}
			if found = append(found, l); len(found) == most {
				return found
			}
		}
	}
	return found
}

// candidates are the entries among which the answer is, each list in order.
func (ix *index) candidates(r *api.P11Find) [][]*listed {
	switch {
	case r.Object != "":
		if l := ix.records[r.Object]; l != nil {
			return [][]*listed{{l}}
		}
		return nil
	case len(r.ID) > 0:
		return [][]*listed{inOrder(ix.ids[string(r.ID)])}
	case r.Label != nil:
		return [][]*listed{inOrder(ix.labels[*r.Label])}
	}
	name, objects := strings.CutPrefix(r.After, afterObject)
	if objects {
		return [][]*listed{ix.objects[position(ix.objects, name):]}
	}
	return [][]*listed{ix.keys[position(ix.keys, strings.TrimPrefix(r.After, afterKey)):], ix.objects}
}

func position(list []*listed, name string) int {
	at, _ := slices.BinarySearchFunc(list, name, byName)
	return at
}

func inOrder(list []*listed) []*listed {
	if len(list) < 2 {
		return list
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *listed) int { return strings.Compare(a.cursor(), b.cursor()) })
	return list
}

// fits tells whether an entry is what a question asks for.
func (l *listed) fits(r *api.P11Find) bool {
	return (r.Label == nil || l.label == *r.Label) && (len(r.ID) == 0 || slices.Contains(l.ids, string(r.ID))) && l.hasClass(r.Class)
}

func (l *listed) hasClass(class string) bool {
	switch class {
	case "key":
		return !l.object || l.class == classPublicKey
	case "certificate":
		return l.certs || l.object && l.class == classCertificate
	case "data":
		return l.object && l.class == classData
	}
	return true
}

// seen tells whether the caller's policies allow anything with an entry.
func (l *listed) seen(c *op.Call) bool {
	if l.object {
		path := objectPath(l.name)
		return c.May(op.Read, path) || c.May(op.Write, path) || c.May(op.Delete, path)
	}
	if c.May(op.Read, "keys/"+l.name) {
		return true
	}
	for i := range p11Uses {
		if u := &p11Uses[i]; c.May(u.verb, u.before+l.name+u.behind) {
			return true
		}
	}
	return false
}

// p11Uses are the words of api.P11Key.May, and the operation that each stands for.
var p11Uses = [...]struct {
	word           string
	verb           op.Verb
	before, behind string
	of             func(*keyRecord) bool // nil: of every key
}{
	{"sign", op.Write, "sign/", "", func(m *keyRecord) bool { return canSign(m.Type) && m.PKCS11.signs() }},
	{"hmac", op.Write, "hmac/", "", func(m *keyRecord) bool { return m.Type == token.HMAC }},
	{"encrypt", op.Write, "pkcs11/", "/encrypt", func(m *keyRecord) bool { return m.PKCS11.bare() }},
	{"decrypt", op.Write, "pkcs11/", "/decrypt", func(m *keyRecord) bool { return m.PKCS11.bare() || m.Type.Class() == token.ClassRSA }},
	{"agree", op.Write, "pkcs11/", "/agree", func(m *keyRecord) bool { return m.PKCS11.agrees() }},
	{"change", op.Write, "pkcs11/", "/settings", nil},
	{"delete", op.Delete, "keys/", "", nil},
}

// show describes what was found. What was removed meanwhile is left out.
func (s *Service) show(ctx context.Context, c *op.Call, found []*listed, out *api.P11Found) error {
	for _, l := range found {
		if l.object {
			o, err := s.p11Object(ctx, c, l.name)
			if err != nil && fault.KindOf(err) != fault.NotFound {
				return err
			}
			if err == nil {
				out.Objects = append(out.Objects, *o)
			}
			continue
		}
		k, err := s.key(ctx, keyName{c.Mount, l.name})
		if errors.Is(err, errNoKey) || err == nil && (k.meta.ID != l.record || !k.meta.visible()) {
			continue
		}
		if err != nil {
			return err
		}
		key, err := s.p11Key(ctx, c, k)
		if err != nil {
			return err
		}
		out.Keys = append(out.Keys, *key)
	}
	return nil
}

// p11Key describes a key to a caller.
func (s *Service) p11Key(ctx context.Context, c *op.Call, k *key) (*api.P11Key, error) {
	m := &k.meta
	out := &api.P11Key{
		Name: k.name.name, KeyID: m.ID, Type: m.Type.String(), KeySize: m.Size, Protection: m.Protection,
		Imported: m.Imported || m.Adopted, Deletable: m.DeletionAllowed, Session: m.PKCS11.session(), May: []string{},
	}
	if m.PKCS11 != nil {
		out.Label, out.ID, out.Subject = m.PKCS11.Label, m.PKCS11.ID, m.PKCS11.Subject
	}
	for i := range p11Uses {
		if u := &p11Uses[i]; (u.of == nil || u.of(m)) && c.May(u.verb, u.before+k.name.name+u.behind) {
			out.May = append(out.May, u.word)
		}
	}
	for n := m.Latest; n >= k.oldest(); n-- {
		v, err := s.faceOf(ctx, k, n)
		if s.unreadableVersion(err, k.name, n) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out.Versions = append(out.Versions, api.P11Version{
			Version: n, ID: m.versionID(n, v.public), Public: v.public, Certificates: v.certificates,
			Signs: n >= m.MinEncryption, Created: v.created,
		})
	}
	return out, nil
}
