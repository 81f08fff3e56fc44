package p11

import (
	"context"
	"encoding/binary"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

const (
	// maxFind bounds an answer's objects, and maxFindSize about its bytes.
	maxFind     = 1000
	maxFindSize = 2 << 20
)

// cursor is where a search goes on: at an object of a page of a mount.
type cursor struct {
	mount uint16 // index; behind the last: the authorities
	skip  uint32 // objects of the page that were there already
	after string // begin of the page
}

func (k *cursor) encode() []byte {
	b := binary.BigEndian.AppendUint16(nil, k.mount)
	b = binary.BigEndian.AppendUint32(b, k.skip)
	return append(b, k.after...)
}

func parseCursor(b []byte) (k cursor, err error) {
	if len(b) == 0 {
		return k, nil
	}
	r := NewReader(b)
	k.mount, k.skip = r.U16(), r.U32()
	k.after = string(r.Rest())
	if len(k.after) > 1024 {
		r.Fail("a search goes on where none was: its place has %d bytes", len(b))
	}
	return k, r.End()
}

// Found is a part of what a search finds.
type Found struct {
	Objects []*Object
	Next    []byte // where to go on, empty: no more
}

// Find looks for the objects that have all attributes of a template, which may be
// empty: at most so many, from a Next on.
func (s *Service) Find(ctx context.Context, c *Caller, template Attributes, from []byte, most uint32) (*Found, error) {
	sl, err := s.slot(c)
	if err != nil {
		return nil, err
	}
	k, err := parseCursor(from)
	if err != nil {
		return nil, err
	}
	f := &finder{s: s, c: c, slot: sl, view: s.view(c), template: template, most: int(min(max(most, 1), maxFind))}
	for more := true; more; {
		if more, err = f.step(ctx, &k); err != nil {
			return nil, s.explain(ctx, c, err, CKR_FUNCTION_FAILED)
		}
	}
	return &f.found, nil
}

// finder is one search.
type finder struct {
	s        *Service
	c        *Caller
	slot     *slot
	view     *view
	template Attributes
	most     int
	size     int
	found    Found
}

// step takes one page, and tells whether there is room and something left.
func (f *finder) step(ctx context.Context, k *cursor) (more bool, err error) {
	var es []*entry
	next := cursor{mount: k.mount + 1}
	switch {
	case int(k.mount) < len(f.slot.Mounts):
		q := question(f.template)
		q.After = k.after
		found, err := f.s.ask(ctx, f.c, f.slot.Mounts[k.mount], q)
		if fault.KindOf(err) == fault.Denied && err != nil && len(f.slot.Mounts)+len(f.slot.Issuers) > 1 {
			break // other mounts may be for this caller
		}
		if err != nil {
			return false, err
		}
		es = f.view.learn(f.slot.Mounts[k.mount], found, f.s.now())
		if found.Next != "" {
			next = cursor{mount: k.mount, after: found.Next}
		}
	case int(k.mount) == len(f.slot.Mounts):
		if es, err = f.s.authorities(ctx, f.c, f.view); err != nil {
			return false, err
		}
	default:
		f.found.Next = nil
		return false, nil
	}
	for i, e := range es {
		if i < int(k.skip) {
			continue
		}
		if len(f.found.Objects) >= f.most || f.size > maxFindSize {
			f.found.Next = (&cursor{k.mount, uint32(i), k.after}).encode()
			return false, nil
		}
		f.take(e)
	}
	*k = next
	if int(k.mount) > len(f.slot.Mounts) {
		return false, nil
	}
	if len(f.found.Objects) >= f.most {
		f.found.Next = k.encode()
		return false, nil
	}
	return true, nil
}

func (f *finder) take(e *entry) {
	if class, ok := f.template.Number(CKA_CLASS); ok && class != e.class || e.clash {
		return
	}
	o := e.show()
	if !o.Attributes.Matches(f.template) {
		return
	}
	f.found.Objects = append(f.found.Objects, o)
	for i := range o.Attributes {
		f.size += 16 + len(o.Attributes[i].Value)
	}
}

// question is what of a template the server's index knows.
func question(template Attributes) *api.P11Find {
	q := &api.P11Find{Limit: page}
	class, ok := template.Number(CKA_CLASS)
	switch {
	case ok && (class == CKO_PRIVATE_KEY || class == CKO_SECRET_KEY):
		q.Class = "key"
	case ok && class == CKO_DATA:
		q.Class = "data"
	}
	if a := template.Find(CKA_LABEL); a != nil && len(a.Value) > 0 {
		label := string(a.Value)
		q.Label = &label
	}
	q.ID = template.Bytes(CKA_ID)
	return q
}

// Get returns an object.
func (s *Service) Get(ctx context.Context, c *Caller, handle uint64) (*Object, error) {
	e, err := s.resolve(ctx, c, handle, CKR_OBJECT_HANDLE_INVALID)
	if err != nil {
		return nil, err
	}
	return e.show(), nil
}
