package p11kit

import (
	"slices"

	"github.com/claviger/claviger/internal/p11"
)

func doSignInit(c *call) error {
	return initSignature(c, signing, p11.CKF_SIGN, p11.CKA_SIGN)
}

func doVerifyInit(c *call) error {
	return initSignature(c, verifying, p11.CKF_VERIFY, p11.CKA_VERIFY)
}

func initSignature(c *call, kind int, use, permits uint64) error {
	s, m, handle := c.session(), c.mechanism(), c.number()
	if err := c.end(); err != nil {
		return err
	}
	o, err := c.beginKey(s, kind, m, handle, use, permits)
	if err != nil || o == nil {
		return err
	}
	if h := p11.HashOf(m.Number); h != 0 {
		o.hash = h.New()
	}
	return nil
}

func doSign(c *call) error {
	s, data, room := c.session(), c.reader.bytes(), c.room()
	if err := c.end(); err != nil {
		return err
	}
	o, err := c.active(s, signing, false)
	if err != nil {
		return err
	}
	return c.signature(s, o, data, room)
}

func doSignFinal(c *call) error {
	s, room := c.session(), c.room()
	if err := c.end(); err != nil {
		return err
	}
	o, err := c.active(s, signing, true)
	if err != nil {
		return err
	}
	o.parts = true
	return c.signature(s, o, nil, room)
}

func (c *call) signature(s *session, o *operation, data []byte, room uint32) error {
	return c.deliver(s, signing, room, data, func() ([]byte, error) {
		in, digested := o.input(data)
		return c.Service.Sign(c.ctx, c.caller(s.slot), o.key, o.mechanism, digested, in)
	})
}

func doSignUpdate(c *call) error { return update(c, signing) }

func doVerifyUpdate(c *call) error { return update(c, verifying) }

func doDigestUpdate(c *call) error { return update(c, digesting) }

func update(c *call, kind int) error {
	s, part := c.session(), c.reader.bytes()
	if err := c.end(); err != nil {
		return err
	}
	return c.add(s, kind, part)
}

func doVerify(c *call) error {
	s, data, signature := c.session(), c.reader.bytes(), c.reader.bytes()
	if err := c.end(); err != nil {
		return err
	}
	return c.verify(s, data, signature, false)
}

func doVerifyFinal(c *call) error {
	s, signature := c.session(), c.reader.bytes()
	if err := c.end(); err != nil {
		return err
	}
	return c.verify(s, nil, signature, true)
}

// verify ends the operation, whatever the outcome.
func (c *call) verify(s *session, data, signature []byte, parts bool) error {
	o, err := c.active(s, verifying, parts)
	if err != nil {
		return err
	}
	o.parts = parts
	defer c.drop(s, verifying)
	in, digested := o.input(data)
	return c.Service.Verify(c.ctx, c.caller(s.slot), o.key, o.mechanism, digested, in, signature)
}

func doDigestInit(c *call) error {
	s, m := c.session(), c.mechanism()
	if err := c.end(); err != nil {
		return err
	}
	if m == nil {
		c.drop(s, digesting)
		return nil
	}
	o, err := c.begin(s, digesting)
	switch {
	case err != nil:
		return err
	case !slices.Contains(digests, m.Number):
		return refusal(p11.CKR_MECHANISM_INVALID, "the mechanism makes no digests")
	case len(m.Raw) > 0:
		return refusal(p11.CKR_MECHANISM_PARAM_INVALID, "the mechanism has no parameter")
	}
	h := p11.DigestOf(m.Number)
	o.hash, o.size = h.New(), h.Size()
	s.ops[digesting] = o
	return nil
}

func doDigest(c *call) error {
	s, data, room := c.session(), c.reader.bytes(), c.room()
	if err := c.end(); err != nil {
		return err
	}
	return c.digest(s, data, room, false)
}

func doDigestFinal(c *call) error {
	s, room := c.session(), c.room()
	if err := c.end(); err != nil {
		return err
	}
	return c.digest(s, nil, room, true)
}

func (c *call) digest(s *session, data []byte, room uint32, parts bool) error {
	o, err := c.active(s, digesting, parts)
	if err != nil {
		return err
	}
	return c.deliver(s, digesting, room, data, func() ([]byte, error) {
		sum, _ := o.input(data)
		return sum, nil
	})
}
