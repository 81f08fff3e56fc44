package p11kit

import (
	"context"
	"slices"
	"testing"

	"github.com/claviger/claviger/internal/p11"
)

// FuzzMessages: whatever arrives is answered, and what a program holds stays bounded.
func FuzzMessages(f *testing.F) {
	for _, e := range readRecord(f) {
		f.Add(uint8(0), e.request)
	}
	f.Add(uint8(2), message("C_SignUpdate", 1, []byte("data")))
	f.Add(uint8(2), message("C_CreateObject", 1, attrs(p11.CKA_CLASS, p11.CKO_SECRET_KEY, p11.CKA_VALUE, "0123456789abcdef", p11.CKA_SENSITIVE, false)))
	f.Add(uint8(2), message("C_GenerateKeyPair", 1, raw{0, 0, 0x10, 0x40}, attrs(p11.CKA_EC_PARAMS, "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"), attrs()))
	f.Add(uint8(1), message("C_DeriveKey", 1, raw{0, 0, 0x10, 0x50}, 1, attrs()))
	f.Fuzz(func(t *testing.T, version uint8, m []byte) {
		c := newClient(t, min(version, newest))
		s := c.open()
		c.ok("C_DigestInit", s, raw{0, 0, 2, 0x50}, raw(end(c)))
		for range 2 {
			b := c.p.handle(context.Background(), slices.Clone(m), nil)
			if len(b) < 8 || len(b) > maxFrame {
				t.Fatalf("an answer of %d bytes", len(b))
			}
		}
		held := 0
		for _, s := range c.p.sessions {
			for _, o := range s.ops {
				if o != nil {
					held += len(o.data)
				}
			}
		}
		for _, o := range c.p.owned {
			held += o.size
		}
		if held != c.p.held || held > maxHeld {
			t.Errorf("%d bytes are held, and %d counted", held, c.p.held)
		}
	})
}

// end is the parameter that a mechanism without one has in the client's version.
func end(c *client) []byte {
	if c.p.version < 2 {
		return []byte{0xff, 0xff, 0xff, 0xff}
	}
	return nil
}
