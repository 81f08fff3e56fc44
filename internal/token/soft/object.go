package soft

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/token"
)

// name is what a PKCS #11 token would show as class, label and ID.
func (o *object) name() token.ObjectName {
	n := token.ObjectName{Class: token.SecretObject, Label: o.label, ID: bytes.Clone(o.id[:])}
	if len(o.public) > 0 {
		n.Class = token.PrivateObject
	}
	if o.named {
		n.ID = bytes.Clone(o.ckaID)
	}
	return n
}

// fits tells whether an object has a name; an empty part fits all.
func (o *object) fits(like *token.ObjectName) bool {
	n := o.name()
	return (like.Class == token.AnyObject || like.Class == n.Class) && (like.Label == "" || like.Label == n.Label) &&
		(len(like.ID) == 0 || bytes.Equal(like.ID, n.ID))
}

// lookup finds the object of a stored key: by its name, if it has one, or by its ID.
func (c *contents) lookup(s *token.Stored) *object {
	if s.Name == nil {
		return c.objects[s.ID]
	}
	for _, o := range c.objects {
		if n := o.name(); n.Same(s.Name) {
			return o
		}
	}
	return nil
}

// find returns the objects that fit, in the order of their labels and IDs. The
// caller holds mu.
func (t *Token) find(like token.ObjectName) (found []*object) {
	for _, o := range t.contents.objects {
		if o.fits(&like) {
			found = append(found, o)
		}
	}
	slices.SortFunc(found, func(a, b *object) int {
		return cmp.Or(strings.Compare(a.label, b.label), bytes.Compare(a.id[:], b.id[:]))
	})
	return found
}

// Objects implements token.Token.
func (t *Token) Objects(ctx context.Context, like token.ObjectName, limit int) ([]token.Object, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	found := t.find(like)
	list := make([]token.Object, 0, min(limit, len(found)))
	for _, o := range found[:min(limit, len(found))] {
		list = append(list, o.show())
	}
	return list, nil
}

func (o *object) show() token.Object {
	s := token.Object{
		ObjectName: o.name(), Kind: o.typ.String(), Type: o.typ, Size: o.size, System: o.use != useCaller,
		Private: true, Sensitive: true, Public: len(o.public) > 0,
	}
	switch o.typ.Class() {
	case token.ClassAEAD:
		s.Uses = []string{"encrypt", "decrypt"}
	case token.ClassRSA:
		s.Uses = []string{"decrypt", "sign"}
	default:
		s.Uses = []string{"sign"}
	}
	if s.System {
		s.Type, s.Note = 0, "it is a system key of Claviger"
	}
	return s
}

// Adopt implements token.Token.
func (t *Token) Adopt(ctx context.Context, like token.ObjectName) (token.Stored, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.ready(ctx); err != nil {
		return token.Stored{}, err
	}
	found := t.find(like)
	switch {
	case len(found) == 0:
		return token.Stored{}, token.ErrNotFound
	case len(found) > 1:
		return token.Stored{}, token.ErrAmbiguous
	case found[0].use != useCaller:
		return token.Stored{}, fmt.Errorf("%w: it is a system key", token.ErrUnsupported)
	}
	s := found[0].stored()
	name := found[0].name()
	s.Name = &name
	return s, nil
}

// generateNamed makes an object of a name that other programs gave it.
func (t *Token) generateNamed(ctx context.Context, spec token.Spec) (token.Stored, error) {
	name := spec.Name
	switch {
	case spec.Place != token.PlaceObject:
		return token.Stored{}, fmt.Errorf("%w: a name is of objects in the token", token.ErrUnsupported)
	case len(name.ID) > token.MaxObjectID || len(name.Label) > token.MaxObjectLabel || len(name.ID) == 0 && name.Label == "":
		return token.Stored{}, fmt.Errorf("%w: a name has an ID of up to %d bytes and a label of up to %d, and not neither",
			token.ErrUnsupported, token.MaxObjectID, token.MaxObjectLabel)
	}
	o, err := newObject(useCaller, spec)
	if err != nil {
		return token.Stored{}, err
	}
	o.label, o.named, o.ckaID = name.Label, true, bytes.Clone(name.ID)
	if err := t.keepNamed(ctx, o); err != nil {
		clear(o.secret)
		return token.Stored{}, err
	}
	return o.stored(), nil
}

func (t *Token) keepNamed(ctx context.Context, o *object) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(ctx); err != nil {
		return err
	}
	want := o.name()
	for _, there := range t.contents.objects {
		if n := there.name(); n.Same(&want) && there.id != o.id {
			return token.ErrTaken
		}
	}
	old := t.contents.objects[o.id]
	if old != nil && old.use != useCaller {
		return fmt.Errorf("the ID %x is a system key's", o.id)
	}
	if err := t.commit(t.contents.with(o)); err != nil {
		return err
	}
	old.end()
	return nil
}
