package p11kit

import (
	"context"

	"github.com/claviger/claviger/internal/p11"
)

// block is the largest that encryption adds to data, in bytes.
const block = 16

func initCipher(kind int) func(*call) error {
	use, permits := uint64(p11.CKF_ENCRYPT), uint64(p11.CKA_ENCRYPT)
	if kind == decrypting {
		use, permits = p11.CKF_DECRYPT, p11.CKA_DECRYPT
	}
	return func(c *call) error {
		s, m, handle := c.session(), c.mechanism(), c.number()
		if err := c.end(); err != nil {
			return err
		}
		_, err := c.beginKey(s, kind, m, handle, use, permits)
		return err
	}
}

func doCipher(kind int) func(*call) error {
	return func(c *call) error {
		s, data, room := c.session(), c.reader.bytes(), c.room()
		if err := c.end(); err != nil {
			return err
		}
		o, err := c.active(s, kind, false)
		if err != nil {
			return err
		}
		return c.cipher(s, kind, o, data, room)
	}
}

// updateCipher collects parts; all of the result comes at the end. With an empty
// buffer it is asked how long the result can become, and nothing is done.
func updateCipher(kind int) func(*call) error {
	return func(c *call) error {
		s, part, room := c.session(), c.reader.bytes(), c.room()
		if err := c.end(); err != nil {
			return err
		}
		if room == 0 && len(part) > 0 {
			_, err := c.active(s, kind, true)
			c.writer.size(len(part) + block)
			return err
		}
		if err := c.add(s, kind, part); err != nil {
			return err
		}
		c.writer.bytes(nil)
		return nil
	}
}

func finalCipher(kind int) func(*call) error {
	return func(c *call) error {
		s, room := c.session(), c.room()
		if err := c.end(); err != nil {
			return err
		}
		o, err := c.active(s, kind, true)
		if err != nil {
			return err
		}
		o.parts = true
		return c.cipher(s, kind, o, nil, room)
	}
}

type cipherFunc func(context.Context, *p11.Caller, p11.Key, *p11.Mechanism, []byte) ([]byte, error)

func (c *call) cipher(s *session, kind int, o *operation, data []byte, room uint32) error {
	do := cipherFunc(c.Service.Encrypt)
	if kind == decrypting {
		do = c.Service.Decrypt
	}
	return c.deliver(s, kind, room, data, func() ([]byte, error) {
		in, _ := o.input(data)
		return do(c.ctx, c.caller(s.slot), o.key, o.mechanism, in)
	})
}
