package p11kit

import (
	"slices"

	"github.com/claviger/claviger/internal/p11"
)

// page is how many objects one question to the server brings at most.
const page = 256

// search is a search under way.
type search struct {
	template p11.Attributes
	found    []uint64 // not yet handed out
	own      []uint64
	next     []byte
	more     bool
}

func doFindObjectsInit(c *call) error {
	s, template := c.session(), c.attributes()
	if err := c.end(); err != nil {
		return err
	}
	o, err := c.begin(s, finding)
	if err != nil {
		return err
	}
	f := &search{template: deep(template)}
	for key, mine := range c.owned {
		if key.slot == s.slot && mine.Attributes.Matches(f.template) {
			f.own = append(f.own, key.handle)
		}
	}
	slices.Sort(f.own)
	f.found = slices.Clone(f.own)
	// Without a login, where one is needed, only objects of this program are seen.
	if c.may(s.slot) && template.Flag(p11.CKA_TOKEN, true) {
		if err := c.page(s, f); err != nil {
			return err
		}
	}
	o.search = f
	s.ops[finding] = o
	return nil
}

// page asks the server for the objects after those that came.
func (c *call) page(s *session, f *search) error {
	got, err := c.Service.Find(c.ctx, c.caller(s.slot), f.template, f.next, page)
	if err != nil {
		return err
	}
	for _, o := range got.Objects {
		if !slices.Contains(f.own, o.Handle) {
			f.found = append(f.found, o.Handle)
		}
	}
	f.next, f.more = got.Next, len(got.Next) > 0
	return nil
}

func doFindObjects(c *call) error {
	s, most := c.session(), c.room()
	if err := c.end(); err != nil {
		return err
	}
	o := s.ops[finding]
	if o == nil {
		return errNoOperation
	}
	f := o.search
	for f.more && len(f.found) < int(most) {
		if err := c.page(s, f); err != nil {
			return err
		}
	}
	n := min(len(f.found), int(most))
	c.numbers(f.found[:n], most)
	f.found = f.found[n:]
	return nil
}

func doFindObjectsFinal(c *call) error {
	s := c.session()
	if err := c.end(); err != nil {
		return err
	}
	if s.ops[finding] == nil {
		return errNoOperation
	}
	c.drop(s, finding)
	return nil
}
