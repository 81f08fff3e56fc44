package soft

import (
	"bytes"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

// Names survive a write, and a token without names is written as before there
// were any.
func TestNamesInContents(t *testing.T) {
	t.Parallel()
	plain := &object{typ: token.AES256, id: token.ID{1}, label: "a", secret: make([]byte, 32)}
	c := new(contents).with(plain)
	before := c.encode()
	if before[0] != 0 {
		t.Errorf("flags %#x without names", before[0])
	}
	named := &object{typ: token.AES128, id: token.ID{2}, label: "b", secret: make([]byte, 16), named: true, ckaID: []byte{0, 0x80}}
	both := c.with(named)
	both.transferable = true
	encoded := both.encode()
	if encoded[0] != flagTransferable|flagNames {
		t.Errorf("flags %#x", encoded[0])
	}
	got, err := parseContents(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if o := got.objects[named.id]; !o.named || !bytes.Equal(o.ckaID, named.ckaID) || o.label != "b" || got.objects[plain.id].named || !got.transferable {
		t.Errorf("%+v", o)
	}
	if !bytes.Equal(got.encode(), encoded) || !bytes.Equal(both.without(named.id).encode()[1:], before[1:]) {
		t.Error("written in another way")
	}
	for _, bad := range [][]byte{encoded[:len(encoded)-1], append(bytes.Clone(encoded), 0), append([]byte{4}, encoded[1:]...), append([]byte{flagNames}, before[1:]...)} {
		if _, err := parseContents(bad); err == nil {
			t.Errorf("%x was taken", bad[:8])
		}
	}
}
