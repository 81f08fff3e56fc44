package soft

import (
	"bytes"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

func sampleContents() *contents {
	c := &contents{transferable: true}
	for i, o := range []*object{
		{use: useKEK, typ: token.AES256, label: "kek", secret: make([]byte, 32)},
		{use: useAudit, typ: token.P256, secret: []byte("private"), public: []byte("public")},
		{use: useCaller, typ: token.HMAC, size: 512, label: "ключ", secret: bytes.Repeat([]byte{3}, 512)},
	} {
		o.id[0] = byte(9 - i)
		c = c.with(o)
	}
	return c
}

// TestContentsForm pins the form that contents.go draws.
func TestContentsForm(t *testing.T) {
	t.Parallel()
	c := new(contents).with(&object{use: useAudit, typ: token.P256, id: token.ID{15: 9}, label: "ab", secret: []byte("S"), public: []byte("PK")})
	want := "\x00\x00\x00\x00\x01" + "\x03\x0aecdsa-p256\x00\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09" + "\x02ab\x00\x01S\x00\x02PK"
	if got := string(c.encode()); got != want {
		t.Errorf("encoded %q, want %q", got, want)
	}
}

func TestContentsRoundTrip(t *testing.T) {
	t.Parallel()
	for _, c := range []*contents{new(contents), sampleContents()} {
		form := c.encode()
		back, err := parseContents(form)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.encode(), form) || len(back.objects) != len(c.objects) || back.transferable != c.transferable {
			t.Errorf("%x came back as %x", form, back.encode())
		}
		for n := range form {
			if _, err := parseContents(form[:n]); err == nil {
				t.Errorf("contents cut to %d bytes are taken", n)
			}
		}
		if _, err := parseContents(append(form, 0)); err == nil {
			t.Error("contents with a byte more are taken")
		}
	}
}

func TestContentsRefused(t *testing.T) {
	t.Parallel()
	good := sampleContents()
	spoil := map[string]func(b []byte) []byte{
		"unknown flag": func(b []byte) []byte { b[0] = 2; return b },
		"unknown use":  func(b []byte) []byte { b[5] = byte(useCount); return b },
		"unknown type": func(b []byte) []byte { b[7] ^= 1; return b },
		"one ID twice": func([]byte) []byte {
			one := new(contents).with(&object{typ: token.AES256, secret: make([]byte, 32)}).encode()
			two := append(one, one[5:]...)
			two[4] = 2
			return two
		},
		"two KEKs": func([]byte) []byte {
			c := good.with(&object{use: useKEK, typ: token.AES256, secret: make([]byte, 32)})
			return c.encode()
		},
	}
	for what, f := range spoil {
		if _, err := parseContents(f(good.encode())); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

func FuzzParseContents(f *testing.F) {
	f.Add(new(contents).encode())
	f.Add(sampleContents().encode())
	f.Fuzz(func(t *testing.T, form []byte) {
		c, err := parseContents(form)
		if err != nil {
			return
		}
		if again, err := parseContents(c.encode()); err != nil || !bytes.Equal(again.encode(), c.encode()) {
			t.Errorf("%x is taken, but not its own encoding %x: %v", form, c.encode(), err)
		}
	})
}
