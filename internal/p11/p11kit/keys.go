package p11kit

import (
	"github.com/claviger/claviger/internal/p11"
)

// mechanismOf takes an "M" that must be there.
func (c *call) mechanismOf() *p11.Mechanism {
	m := c.mechanism()
	if m == nil {
		c.refuse(p11.CKR_ARGUMENTS_BAD, "there is no mechanism")
		return &p11.Mechanism{}
	}
	return m
}

// ready ends the taking of values for a call that makes an object.
func (c *call) ready(s *session, templates ...p11.Attributes) error {
	if err := c.end(); err != nil {
		return err
	}
	if !c.may(s.slot) {
		return errLogin
	}
	return writes(s, templates...)
}

func doGenerateKey(c *call) error {
	s, m, template := c.session(), c.mechanismOf(), c.attributes()
	if err := c.ready(s, template); err != nil {
		return err
	}
	o, err := c.Service.Generate(c.ctx, c.caller(s.slot), m, template)
	return c.made(s, o, err)
}

func doGenerateKeyPair(c *call) error {
	s, m, public, private := c.session(), c.mechanismOf(), c.attributes(), c.attributes()
	if err := c.ready(s, public, private); err != nil {
		return err
	}
	pub, priv, err := c.Service.GeneratePair(c.ctx, c.caller(s.slot), m, public, private)
	if err != nil {
		return err
	}
	if err := c.made(s, pub, nil); err != nil {
		return err
	}
	return c.made(s, priv, nil)
}

// doWrapKey always fails: no key leaves. The Service knows how.
func doWrapKey(c *call) error {
	s, m, wrapping, handle, _ := c.session(), c.mechanismOf(), c.number(), c.number(), c.room()
	if err := c.ready(s); err != nil {
		return err
	}
	key, _, err := c.key(s, wrapping)
	if err != nil {
		return err
	}
	_, err = c.Service.Wrap(c.ctx, c.caller(s.slot), key, m, handle)
	return err
}

func doUnwrapKey(c *call) error {
	s, m, handle, wrapped, template := c.session(), c.mechanismOf(), c.number(), c.reader.bytes(), c.attributes()
	if err := c.ready(s, template); err != nil {
		return err
	}
	key, _, err := c.key(s, handle)
	if err != nil {
		return err
	}
	o, err := c.Service.Unwrap(c.ctx, c.caller(s.slot), key, m, wrapped, template)
	return c.made(s, o, err)
}

func doDeriveKey(c *call) error {
	s, o, err := c.derive()
	return c.made(s, o, err)
}

// doDeriveKey2 says besides that all went well, and that the mechanism's parameter
// did not change.
func doDeriveKey2(c *call) error {
	s, o, err := c.derive()
	if err == nil {
		c.writer.U64(uint64(p11.CKR_OK))
		c.writer.U8(0)
	}
	return c.made(s, o, err)
}

func (c *call) derive() (*session, *p11.Object, error) {
	s, m, handle, template := c.session(), c.mechanismOf(), c.number(), c.attributes()
	if err := c.ready(s, template); err != nil {
		return s, nil, err
	}
	key, _, err := c.key(s, handle)
	if err != nil {
		return s, nil, err
	}
	o, err := c.Service.Derive(c.ctx, c.caller(s.slot), key, m, template)
	return s, o, err
}

// doSeedRandom: the HSM token has a source of its own.
func doSeedRandom(c *call) error {
	c.session()
	c.reader.bytes()
	if err := c.end(); err != nil {
		return err
	}
	return refusal(ckrRandomSeedNotSupported, "the HSM token takes no seed")
}

func doGenerateRandom(c *call) error {
	s, n := c.session(), c.room()
	if err := c.end(); err != nil {
		return err
	}
	if !c.may(s.slot) {
		return errLogin
	}
	b, err := c.Service.Random(c.ctx, c.caller(s.slot), n)
	if err != nil {
		return err
	}
	c.writer.bytes(b)
	clear(b)
	return nil
}
