package p11

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"encoding/hex"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKnownFrames: bytes that a module sends and gets, written out by hand.
func TestKnownFrames(t *testing.T) {
	t.Parallel()
	_, s := newFake(t)
	for _, f := range []struct{ name, request, answer string }{
		{"SLOTS", "01" + "00001388" + "00000000" + "00000000",
			"00000000" + "00000001" + "00000000" + "00000004" + "74657374"},
		{"SLOTS and one byte", "01" + "00001388" + "00000000" + "00000000" + "ff",
			"00000020" + "0000002a" + hex.EncodeToString([]byte("1 bytes are left over after the last field"))},
		{"FIND of nothing", "04" + "00001388" + "00000000" + "00000004" + "676f6f64" + "00000000" + "00000000" + "0000000a",
			"00000000" + "00000000" + "00000000"},
		{"KEEP of nothing", "14" + "00001388" + "00000000" + "00000004" + "676f6f64" + "00000000", "00000000"},
	} {
		answer := s.Handle(t.Context(), "test", unhex(t, f.request), nil)
		if hex.EncodeToString(answer) != f.answer {
			t.Errorf("%s:\n%x\nwant\n%s", f.name, answer, f.answer)
		}
	}
	for name, request := range map[string]string{
		"nothing": "", "no token": "01000013880000000000000001", "operation 0": "00000013880000000000000000",
		"operation 21": "15000013880000000000000000", "operation 255": "ff000013880000000000000000",
		"an attribute twice": "04" + "00001388" + "00000000" + "00000000" + "00000002" + "000000000000000300" + "00000000" + "000000000000000300" + "00000000" + "00000000" + "00000001",
		"257 attributes":     "04" + "00001388" + "00000000" + "00000000" + "00000101",
		"a withheld one":     "04" + "00001388" + "00000000" + "00000000" + "00000001" + "0000000000000011" + "04" + "00000000" + "00000001",
		"a flag of 2":        "04" + "00001388" + "00000000" + "00000000" + "00000001" + "0000000000000001" + "01" + "02" + "00000000" + "00000001",
	} {
		answer := s.Handle(t.Context(), "test", unhex(t, request), nil)
		if c := NewReader(answer).U32(); Code(c) != CKR_DATA_INVALID && Code(c) != CKR_FUNCTION_NOT_SUPPORTED {
			t.Errorf("%s: %x", name, answer)
		}
	}
}

// TestX963 compares with the vectors of NIST's CAVP (ansx963_2001, SHA-256 and
// SHA-512).
func TestX963(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		hash              crypto.Hash
		z, shared, output string
	}{
		{crypto.SHA256, "96c05619d56c328ab95fe84b18264b08725b85e33fd34f08", "", "443024c3dae66b95e6f5670601558f71"},
		{crypto.SHA256, "22518b10e70f2a3f243810ae3254139efbee04aa57c7af7d", "75eef81aa3041e33b80971203d2c0c52",
			"c498af77161cc59f2962b9a713e2b215152d139766ce34a776df11866a69bf2e52a13d9c7c6fc878c50c5ea0bc7b00e0da2447cfd874f6cf92f30d0097111485500c90c3af8b487872d04685d14c8d1dc8d7fa08beb0ce0ababc11f0bd496269142d43525a78e5bc79a17f59676a5706dc54d54d4d1f0bd7e386128ec26afc21"},
	} {
		want := unhex(t, v.output)
		if got := x963(v.hash, unhex(t, v.z), unhex(t, v.shared), len(want)); !bytes.Equal(got, want) {
			t.Errorf("%x, want %x", got, want)
		}
	}
}

// TestKeyWrapPadded is RFC 5649 section 6.
func TestKeyWrapPadded(t *testing.T) {
	t.Parallel()
	kek, err := aes.NewCipher(unhex(t, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"))
	if err != nil {
		t.Fatal(err)
	}
	for secret, want := range map[string]string{
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		if got := wrapPadded(kek, unhex(t, secret)); hex.EncodeToString(got) != want {
			t.Errorf("%x, want %s", got, want)
		}
	}
}

func TestUnpad(t *testing.T) {
	t.Parallel()
	block := func(fill, last byte) []byte {
		b := bytes.Repeat([]byte{fill}, 32)
		b[31] = last
		return b
	}
	full := append(bytes.Repeat([]byte{9}, 16), bytes.Repeat([]byte{16}, 16)...)
	for _, c := range []struct {
		in   []byte
		left int // -1: refused
	}{
		{block(9, 1), 31}, {block(2, 2), 30}, {full, 16}, {bytes.Repeat([]byte{16}, 16), 0},
		{block(9, 0), -1}, {block(9, 2), -1}, {block(9, 17), -1}, {block(9, 255), -1}, {block(15, 16), -1},
	} {
		out, err := unpad(bytes.Clone(c.in))
		if c.left < 0 && err != errDecrypt || c.left >= 0 && (err != nil || len(out) != c.left) {
			t.Errorf("%x: %x, %v", c.in, out, err)
		}
	}
}

// TestHandles: what they are made of, and that they stay what they are.
func TestHandles(t *testing.T) {
	t.Parallel()
	e := &entry{class: CKO_PRIVATE_KEY, mount: "transit/", record: "0123456789abcdef"}
	seen := map[uint64]bool{e.handleOf(): true}
	for _, o := range []*entry{
		{class: CKO_PUBLIC_KEY, mount: "transit/", record: "0123456789abcdef"}, {class: CKO_PRIVATE_KEY, mount: "transit", record: "/0123456789abcdef"},
		{class: CKO_PRIVATE_KEY, mount: "transit/", record: "0123456789abcdef", chain: 1}, {class: CKO_PRIVATE_KEY, mount: "other/", record: "0123456789abcdef"},
	} {
		if seen[o.handleOf()] || o.handleOf()>>63 != 0 {
			t.Errorf("%+v: %x", o, o.handleOf())
		}
		seen[o.handleOf()] = true
	}
	if got := e.handleOf(); got != knownHandle {
		t.Errorf("the handle is %#x; programs know it as %#x", got, knownHandle)
	}
}

const knownHandle = 0x12ec2fc075673c0d
