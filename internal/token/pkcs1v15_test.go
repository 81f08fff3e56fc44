package token

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"testing"
)

// reject computes the message of draft-irtf-cfrg-rsa-guidance section 7.2 step by
// step, in the words of the text and without regard for time.
func reject(k int, secret, ciphertext []byte) []byte {
	sum := func(key []byte, parts ...[]byte) []byte {
		m := hmac.New(sha256.New, key)
		m.Write(bytes.Join(parts, nil))
		return m.Sum(nil)
	}
	padded := append(make([]byte, k-len(ciphertext)), ciphertext...)
	kdk := sum(secret, padded)
	prf := func(label string, bits int) (out []byte) {
		for i := 0; len(out) < bits/8; i++ {
			out = append(out, sum(kdk, []byte{byte(i >> 8), byte(i)}, []byte(label), []byte{byte(bits >> 8), byte(bits)})...)
		}
		return out[:bits/8]
	}
	message, lengths := prf("message", 8*k), prf("length", 8*256)
	limit := k - 10
	mask := uint16(limit)
	for _, s := range []int{1, 2, 4, 8} {
		mask |= mask >> s
	}
	n := 0
	for i := 0; i < 256; i += 2 {
		if c := int(binary.BigEndian.Uint16(lengths[i:]) & mask); c < limit {
			n = c
		}
	}
	return message[k-n:]
}

func TestOpenPKCS1v15(t *testing.T) {
	t.Parallel()
	secret := bytes.Repeat([]byte{9}, 32)
	pad := func(k int, head []byte, fill int, rest string) []byte {
		em := append(bytes.Clone(head), bytes.Repeat([]byte{0xaa}, fill)...)
		em = append(em, rest...)
		return append(em, bytes.Repeat([]byte{0x55}, k-len(em))...)
	}
	for _, k := range []int{128, 256, 384, 512, 1024} {
		ct := bytes.Repeat([]byte{byte(k)}, k)
		for i, c := range []struct {
			em   []byte
			good bool
		}{
			{pad(k, []byte{0, 2}, 8, "\x00"), true},
			{pad(k, []byte{0, 2}, k-3, "\x00"), true}, // empty
			{pad(k, []byte{0, 2}, 20, "\x00m\x00m"), true},
			{pad(k, []byte{0, 2}, 7, "\x00"), false},
			{pad(k, []byte{0, 2}, 0, "\x00"), false},
			{pad(k, []byte{0, 1}, 8, "\x00"), false},
			{pad(k, []byte{1, 2}, 8, "\x00"), false},
			{pad(k, []byte{0, 2}, k-2, ""), false}, // no end
			{make([]byte, k), false},
		} {
			want := reject(k, secret, ct)
			if c.good {
				want = c.em[2+bytes.IndexByte(c.em[2:], 0)+1:]
				want = bytes.Clone(want)
			}
			got := OpenPKCS1v15([]byte("ab"), bytes.Clone(c.em), secret, ct)
			if !bytes.Equal(got, append([]byte("ab"), want...)) {
				t.Errorf("modulus of %d bytes, case %d: %x, want %x", k, i, got, want)
			}
		}
	}
}

// Lengths are spread, and another secret or ciphertext is another message.
func TestImplicitRejectionSpreads(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	var last []byte
	for i := range 200 {
		ct := binary.BigEndian.AppendUint32(make([]byte, 252), uint32(i))
		out := OpenPKCS1v15(nil, make([]byte, 256), bytes.Repeat([]byte{byte(i % 3)}, 32), ct)
		if len(out) > 245 || len(out) > 0 && bytes.Equal(out, last) {
			t.Errorf("%d: %x", i, out)
		}
		seen[len(out)], last = true, out
	}
	if len(seen) < 80 {
		t.Errorf("only %d lengths", len(seen))
	}
}

func FuzzOpenPKCS1v15(f *testing.F) {
	f.Add(make([]byte, 128), make([]byte, 32))
	f.Add(append([]byte{0, 2}, bytes.Repeat([]byte{1}, 126)...), make([]byte, 32))
	f.Fuzz(func(t *testing.T, em, secret []byte) {
		if len(em) < 128 || len(em) > 1024 {
			return
		}
		ct := make([]byte, len(em))
		if out := OpenPKCS1v15(nil, bytes.Clone(em), secret, ct); len(out) > len(em)-11 {
			t.Errorf("%d of %d bytes", len(out), len(em))
		}
	})
}
