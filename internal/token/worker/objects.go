package worker

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/claviger/claviger/internal/token"
)

// Objects implements token.Token.
func (h *hsm) Objects(ctx context.Context, like token.ObjectName, limit int) (list []token.Object, err error) {
	defer h.pool.cfg.Observe.call("objects", time.Now())
	err = h.ask(ctx, frameObjects, appendU32(appendName(nil, &like), uint32(limit)), true, 10, func(_ *proc, r *reader) (err error) {
		list, err = parseObjects(r)
		return err
	})
	return list, seamError(err)
}

// Adopt implements token.Token.
func (h *hsm) Adopt(ctx context.Context, like token.ObjectName) (st token.Stored, err error) {
	defer h.pool.cfg.Observe.call("adopt", time.Now())
	err = h.ask(ctx, frameAdopt, appendName(nil, &like), true, 10, func(pr *proc, r *reader) error {
		name := r.name()
		if st, err = parseStored(r); err != nil {
			return err
		}
		st.Name = &name
		return nil
	})
	if err != nil {
		return token.Stored{}, seamError(err)
	}
	_, err = rand.Read(st.ID[:])
	return st, err
}

// checkName refuses a name that an object of the token has. The caller holds
// what h.one gives, so that what a worker finds of the name afterwards is what an
// interrupted attempt of the same call left.
func (h *hsm) checkName(ctx context.Context, spec *token.Spec) error {
	name := *spec.Name
	switch {
	case spec.Place != token.PlaceObject:
		return fmt.Errorf("%w: a name is of objects in the token", token.ErrUnsupported)
	case len(name.ID) > token.MaxObjectID || len(name.Label) > token.MaxObjectLabel || len(name.ID) == 0 && name.Label == "":
		return fmt.Errorf("%w: a name has an ID of up to %d bytes and a label of up to %d, and not neither",
			token.ErrUnsupported, token.MaxObjectID, token.MaxObjectLabel)
	}
	name.Class = objectClassOf(spec.Type)
	name.ID = slices.Clone(name.ID)
	spec.Name = &name
	like := name
	list, err := h.Objects(ctx, like, 2)
	if err != nil {
		return err
	}
	for i := range list {
		if list[i].Same(&name) {
			return token.ErrTaken
		}
	}
	return nil
}

func objectClassOf(t token.Type) token.ObjectClass {
	if c := t.Class(); c == token.ClassAEAD || c == token.ClassHMAC {
		return token.SecretObject
	}
	return token.PrivateObject
}

func appendName(b []byte, n *token.ObjectName) []byte {
	b = append(b, byte(n.Class))
	return appendBytes(appendBytes(b, n.Label), n.ID)
}

func (r *reader) name() token.ObjectName {
	return token.ObjectName{Class: token.ObjectClass(r.u8()), Label: r.str(), ID: slices.Clone(r.bytes())}
}

func appendObjects(b []byte, list []token.Object) []byte {
	b = appendU32(b, uint32(len(list)))
	for i := range list {
		o := &list[i]
		b = appendName(b, &o.ObjectName)
		b = appendBytes(b, o.Kind)
		b = append(b, byte(o.Type))
		b = appendU32(b, uint32(o.Size))
		b = appendBytes(b, o.Note)
		for _, f := range []bool{o.System, o.Private, o.Sensitive, o.Extractable, o.Public} {
			b = appendBool(b, f)
		}
		b = appendStrs(b, o.Uses)
	}
	return b
}

func parseObjects(r *reader) (list []token.Object, err error) {
	for n := r.u32(); n > 0 && !r.bad; n-- {
		o := token.Object{ObjectName: r.name(), Kind: r.str(), Type: token.Type(r.u8()), Size: int(r.u32()), Note: r.str()}
		for _, f := range []*bool{&o.System, &o.Private, &o.Sensitive, &o.Extractable, &o.Public} {
			*f = r.u8() != 0
		}
		o.Uses = r.strs()
		list = append(list, o)
	}
	return list, r.end()
}
