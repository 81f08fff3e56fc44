package p11kit

import (
	"context"
	"slices"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/p11"
)

// heldBit marks the handles of objects that only this connection has.
const heldBit = 1 << 63

type ownKey struct {
	slot   uint32
	handle uint64
}

// own is an object of a session: one that only this connection has, or a key that the
// server keeps as long as the session lives.
type own struct {
	*p11.Object
	session uint64
	slot    uint32
	size    int
}

func (o *own) held() bool { return o.Handle&heldBit != 0 }

// adopt notes an object that was made, if it is one of the session, and returns its
// handle.
func (c *call) adopt(s *session, o *p11.Object) (uint64, error) {
	if o.Handle != 0 && o.Attributes.Flag(p11.CKA_TOKEN, true) {
		return o.Handle, nil
	}
	n := &own{Object: o, session: s.handle, slot: s.slot}
	if o.Handle == 0 {
		c.last++
		n.Object = &p11.Object{Handle: heldBit | c.last, Attributes: deep(o.Attributes)}
		n.size = sizeOf(n.Attributes)
	}
	if len(c.owned) >= maxOwned || c.held+n.size > maxHeld {
		c.destroy(c.ctx, n)
		return 0, refusal(ckrHostMemory, "a program has 4096 objects of sessions at most, of 16 MiB together: destroy some")
	}
	c.held += n.size
	c.owned[ownKey{s.slot, n.Handle}] = n
	if !n.held() && !c.keeping {
		c.keeping = true
		go c.program.keepAlive(keepEvery)
	}
	return n.Handle, nil
}

// deep copies attributes out of the frame.
func deep(as p11.Attributes) p11.Attributes {
	out := slices.Clone(as)
	for i := range out {
		out[i].Value = slices.Clone(out[i].Value)
	}
	return out
}

// sizeOf is about what an object takes, in bytes.
func sizeOf(as p11.Attributes) int {
	n := 0
	for i := range as {
		n += 16 + len(as[i].Value)
	}
	return n
}

// keepAlive keeps the server's objects of sessions from ending for want of use, until
// the connection ends.
func (p *program) keepAlive(every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-p.keep.Done():
			return
		case <-ticker.C:
		}
		p.mu.Lock()
		bySlot := map[uint32][]uint64{}
		for key, o := range p.owned {
			if !o.held() {
				bySlot[key.slot] = append(bySlot[key.slot], key.handle)
			}
		}
		ctx, cancel := context.WithTimeout(p.keep, callTime)
		for slot, handles := range bySlot {
			if err := p.Service.Keep(ctx, p.caller(slot), handles); err != nil {
				p.Logger.Debug("objects of sessions may end", "error", err, "caller", p.remote)
			}
		}
		cancel()
		p.mu.Unlock()
	}
}

// destroy ends an object of a session.
func (p *program) destroy(ctx context.Context, o *own) {
	if o.held() {
		for i := range o.Attributes {
			clear(o.Attributes[i].Value)
		}
		return
	}
	if err := p.Service.Destroy(ctx, p.caller(o.slot), o.Handle); err != nil {
		p.Logger.Debug("an object of a session ends by itself", "error", err, "caller", p.remote)
	}
}

// disown destroys the objects of sessions that which names.
func (p *program) disown(ctx context.Context, which func(*own) bool) {
	for key, o := range p.owned {
		if which(o) {
			p.forget(key)
			p.destroy(ctx, o)
		}
	}
}

func (p *program) forget(key ownKey) {
	if o := p.owned[key]; o != nil {
		p.held -= o.size
		delete(p.owned, key)
	}
}

// object returns an object that the session sees.
func (c *call) object(s *session, handle uint64) (*p11.Object, error) {
	if o := c.owned[ownKey{s.slot, handle}]; o != nil && o.held() {
		return o.Object, nil
	}
	if !c.may(s.slot) {
		return nil, errLogin
	}
	return c.Service.Get(c.ctx, c.caller(s.slot), handle)
}

// key returns a key as the Service takes it, with its attributes.
func (c *call) key(s *session, handle uint64) (p11.Key, p11.Attributes, error) {
	o, err := c.object(s, handle)
	if err != nil {
		if e, ok := err.(*p11.Error); ok && e.Code == p11.CKR_OBJECT_HANDLE_INVALID {
			err = refusal(p11.CKR_KEY_HANDLE_INVALID, e.Msg)
		}
		return p11.Key{}, nil, err
	}
	if handle&heldBit != 0 {
		return p11.Key{Attributes: o.Attributes}, o.Attributes, nil
	}
	return p11.Key{Handle: handle}, o.Attributes, nil
}

// writes refuses objects of the token in a session that only reads.
func writes(s *session, as ...p11.Attributes) error {
	for _, a := range as {
		if !s.rw && a.Flag(p11.CKA_TOKEN, false) {
			return refusal(ckrSessionReadOnly, "the session reads only: open it with CKF_RW_SESSION")
		}
	}
	return nil
}

// made puts the handle of an object that was made.
func (c *call) made(s *session, o *p11.Object, err error) error {
	if err != nil {
		return err
	}
	handle, err := c.adopt(s, o)
	if err != nil {
		return err
	}
	c.writer.U64(handle)
	return nil
}

func doCreateObject(c *call) error {
	s, template := c.session(), c.attributes()
	if err := c.end(); err != nil {
		return err
	}
	if err := writes(s, template); err != nil {
		return err
	}
	o, err := c.create(s, template)
	return c.made(s, o, err)
}

func (c *call) create(s *session, template p11.Attributes) (*p11.Object, error) {
	class, ok := template.Number(p11.CKA_CLASS)
	token := template.Flag(p11.CKA_TOKEN, false)
	if ok && !token && class != p11.CKO_PRIVATE_KEY && class != p11.CKO_SECRET_KEY {
		return p11.Held(template)
	}
	if token && !c.may(s.slot) {
		return nil, errLogin
	}
	return c.Service.Create(c.ctx, c.caller(s.slot), template)
}

// unborn are attributes that an object gets when it is made.
var unborn = []uint64{p11.CKA_LOCAL, p11.CKA_KEY_GEN_MECHANISM, p11.CKA_ALWAYS_SENSITIVE, p11.CKA_NEVER_EXTRACTABLE, p11.CKA_UNIQUE_ID}

func doCopyObject(c *call) error {
	s, handle, template := c.session(), c.number(), c.attributes()
	if err := c.end(); err != nil {
		return err
	}
	if err := writes(s, template); err != nil {
		return err
	}
	key := ownKey{s.slot, handle}
	mine := c.owned[key]
	if mine != nil && mine.held() {
		as := slices.DeleteFunc(slices.Clone(mine.Attributes), func(a api.P11Attribute) bool { return slices.Contains(unborn, a.Type) })
		for _, a := range template {
			as.Set(a)
		}
		o, err := c.create(s, as)
		return c.made(s, o, err)
	}
	if !c.may(s.slot) {
		return errLogin
	}
	o, err := c.Service.Copy(c.ctx, c.caller(s.slot), handle, template)
	if err == nil && mine != nil {
		c.forget(key) // it stays now, under its new handle
	}
	return c.made(s, o, err)
}

func doDestroyObject(c *call) error {
	s, handle := c.session(), c.number()
	if err := c.end(); err != nil {
		return err
	}
	key := ownKey{s.slot, handle}
	if o := c.owned[key]; o != nil && o.held() {
		c.forget(key)
		c.destroy(c.ctx, o)
		return nil
	}
	o, err := c.object(s, handle)
	if err == nil {
		err = writes(s, o.Attributes)
	}
	if err == nil {
		err = c.Service.Destroy(c.ctx, c.caller(s.slot), handle)
	}
	if err == nil {
		c.forget(key)
	}
	return err
}

func doGetObjectSize(c *call) error {
	s, handle := c.session(), c.number()
	if err := c.end(); err != nil {
		return err
	}
	o, err := c.object(s, handle)
	if err != nil {
		return err
	}
	c.writer.U64(uint64(sizeOf(o.Attributes)))
	return nil
}

func doGetAttributeValue(c *call) error {
	s, handle, want := c.session(), c.number(), c.reader.wanted()
	if err := c.end(); err != nil {
		return err
	}
	o, err := c.object(s, handle)
	if err != nil {
		return err
	}
	c.answer(o.Attributes, want)
	return nil
}

// changeable are the attributes that can be set of an object that only this
// connection has.
var changeable = []uint64{p11.CKA_LABEL, p11.CKA_ID, p11.CKA_SUBJECT, p11.CKA_START_DATE, p11.CKA_END_DATE}

func doSetAttributeValue(c *call) error {
	s, handle, template := c.session(), c.number(), c.attributes()
	if err := c.end(); err != nil {
		return err
	}
	o, err := c.object(s, handle)
	if err != nil {
		return err
	}
	if err := writes(s, o.Attributes); err != nil {
		return err
	}
	if handle&heldBit == 0 {
		_, err = c.Service.Set(c.ctx, c.caller(s.slot), handle, template)
		return err
	}
	for i := range template {
		if !slices.Contains(changeable, template[i].Type) && !o.Attributes.Matches(template[i:i+1]) {
			return refusal(p11.CKR_ATTRIBUTE_READ_ONLY, "label, CKA_ID, subject and dates of an object of a session can be changed")
		}
	}
	for _, a := range deep(template) {
		o.Attributes.Set(a)
	}
	mine := c.owned[ownKey{s.slot, handle}]
	c.held += sizeOf(o.Attributes) - mine.size
	mine.size = sizeOf(o.Attributes)
	return nil
}
