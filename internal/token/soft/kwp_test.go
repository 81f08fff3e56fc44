package soft

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"testing"
)

func testKEK(t testing.TB) cipher.Block {
	t.Helper()
	kek, err := aes.NewCipher(bytes.Repeat([]byte{5}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

// TestKWPSizes: every length, with every bit and every cut refused for some.
func TestKWPSizes(t *testing.T) {
	t.Parallel()
	kek := testKEK(t)
	for n := 1; n <= 200; n++ {
		secret := randomBytes(n)
		wrapped, err := wrapKWP(kek, secret)
		if err != nil || len(wrapped) != 8+(n+7)/8*8 {
			t.Fatalf("%d bytes were wrapped to %d: %v", n, len(wrapped), err)
		}
		back, err := unwrapKWP(kek, wrapped)
		if err != nil || !bytes.Equal(back, secret) {
			t.Fatalf("%d bytes came back as %x: %v", n, back, err)
		}
		if n > 40 {
			continue
		}
		for bit := range len(wrapped) * 8 {
			bad := bytes.Clone(wrapped)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := unwrapKWP(kek, bad); err != errKWP {
				t.Fatalf("%d bytes, bit %d altered: %v", n, bit, err)
			}
		}
		for cut := range wrapped {
			if _, err := unwrapKWP(kek, wrapped[:cut]); err != errKWP {
				t.Fatalf("%d bytes, cut to %d: %v", n, cut, err)
			}
		}
	}
	for _, n := range []int{0, kwpMax + 1} {
		if _, err := wrapKWP(kek, make([]byte, n)); err == nil {
			t.Errorf("%d bytes were wrapped", n)
		}
	}
}

func FuzzUnwrapKWP(f *testing.F) {
	kek := testKEK(f)
	for _, n := range []int{1, 8, 9, 32, 138} {
		wrapped, err := wrapKWP(kek, make([]byte, n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wrapped)
	}
	f.Fuzz(func(t *testing.T, wrapped []byte) {
		secret, err := unwrapKWP(kek, wrapped)
		if err != nil {
			return
		}
		if again, err := wrapKWP(kek, secret); err != nil || !bytes.Equal(again, wrapped) {
			t.Errorf("%x unwraps to %x, which wraps to %x", wrapped, secret, again)
		}
	})
}
