package sss

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// knownLines are shares with the threshold 2 of knownSecret, whose key is
// SHA-256("sss-kat-key"), made by an independent program.
var (
	knownSecret = []byte(strings.Repeat("0123456789abcdef", 4) + "\n")
	knownLines  = [][]byte{
		[]byte("0192f729f3828c53c8a0c53a994c8958a3c85a7576c4e5570f67fa7302ebd856e5f9eeba491eedbbe1085dfe3f79f4484f12a5dbc47ebdeef9c05f75aad85117e6f515533333a459be196c52b528cdab704663361da54f5c24a14d4ffaf7549aba32d466d0651d05ae57bb22f40ccf2022b7"),
		[]byte("028ff37d4ac0c916de6cd32bfa7399f5cd2c335cd8095e500b55fc37a1eb35c374f9eeba491eedbbe1085dfe3f79f4484f12a5dbc47ebdeef9c05f75aad85117e6f515533333a459be196c52b528cdab704663361da54f5c24a14d4ffaf7549aba32d466d0651d05ae57bb22f40ccf2022b7"),
		[]byte("038406b8d4fe03dc25282824db6660671e7014b24bbb37a4feb2fe0bc0eb6eb0f2f9eeba491eedbbe1085dfe3f79f4484f12a5dbc47ebdeef9c05f75aad85117e6f515533333a459be196c52b528cdab704663361da54f5c24a14d4ffaf7549aba32d466d0651d05ae57bb22f40ccf2022b7"),
	}
)

func TestKnownShares(t *testing.T) {
	t.Parallel()
	key, coefficient := sha256.Sum256([]byte("sss-kat-key")), sha256.Sum256([]byte("sss-kat-coeff1"))
	for i, line := range split(knownSecret, 3, &key, coefficient[:]) {
		if line != string(knownLines[i]) {
			t.Errorf("share %d is %s", i+1, line)
		}
	}
	for _, pick := range [][]int{{0, 1}, {0, 2}, {2, 1}, {0, 1, 2}, {1, 1, 0}} {
		var lines [][]byte
		for _, i := range pick {
			lines = append(lines, knownLines[i], nil)
		}
		if secret, err := Combine(lines); err != nil || !bytes.Equal(secret, knownSecret) {
			t.Errorf("shares %v: %q %v", pick, secret, err)
		}
	}
	upper := [][]byte{bytes.ToUpper(knownLines[0]), append(slices.Clone(knownLines[1]), "\r\n"...)}
	if _, err := Combine(upper); err != nil {
		t.Errorf("upper case, CRLF: %v", err)
	}
}

// TestAltered changes each hex digit of a share.
func TestAltered(t *testing.T) {
	t.Parallel()
	for i := range knownLines[0] {
		line := slices.Clone(knownLines[0])
		line[i] = "123456789abcdef0"[strings.IndexByte("0123456789abcdef", line[i])]
		if secret, err := Combine([][]byte{line, knownLines[2]}); err == nil {
			t.Fatalf("digit %d changed: %q", i, secret)
		}
		// In both, so that only the tag can tell.
		other := slices.Clone(knownLines[2])
		if other[i] = line[i]; i < 2*headLen {
			continue
		}
		if _, err := Combine([][]byte{line, other}); !errors.Is(err, ErrCombine) {
			t.Fatalf("digit %d changed in both: %v", i, err)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	other, err := Split(knownSecret, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	three, err := Split(knownSecret, 3, 3)
	if err != nil {
		t.Fatal(err)
	}
	number := slices.Clone(knownLines[0])
	number[1] = '2'
	zero := slices.Clone(knownLines[0])
	zero[1] = '0'
	for name, c := range map[string]struct {
		lines [][]byte
		want  string
	}{
		"none":           {nil, "there are 0 shares"},
		"one":            {knownLines[:1], "there are 1 shares"},
		"one twice":      {[][]byte{knownLines[0], knownLines[0]}, "there are 1 shares"},
		"short":          {[][]byte{knownLines[0], []byte("01ab")}, "line 2 is no share"},
		"no hex":         {[][]byte{[]byte(strings.Repeat("x", 228))}, "line 1 is no share"},
		"odd":            {[][]byte{knownLines[0][1:]}, "line 1 is no share"},
		"number 0":       {[][]byte{zero}, "line 1 is no share"},
		"another secret": {[][]byte{knownLines[0], []byte(other[1])}, "do not belong to the same secret"},
		"same number":    {[][]byte{number, knownLines[1]}, "has the number 2 too"},
		"two of three":   {[][]byte{[]byte(three[0]), []byte(three[1])}, "fewer than the threshold"},
	} {
		if _, err := Combine(c.lines); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for _, c := range [][2]int{{1, 1}, {2, 1}, {2, 3}, {256, 2}, {0, 0}, {3, -1}} {
		if _, err := Split(knownSecret, c[0], c[1]); err == nil {
			t.Errorf("%d shares with threshold %d were made", c[0], c[1])
		}
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ n, t, size int }{{2, 2, 0}, {3, 3, 65}, {5, 3, 1}, {255, 2, 65}, {255, 255, 65}, {20, 11, 1000}} {
		secret := bytes.Repeat([]byte{0xa5}, c.size)
		lines, err := Split(secret, c.n, c.t)
		if err != nil {
			t.Fatal(err)
		}
		var picked [][]byte
		for _, l := range lines[c.n-c.t:] {
			picked = append(picked, []byte(l))
			if len(l) != 2*(headLen+16+c.size) {
				t.Errorf("%+v: a line of %d digits", c, len(l))
			}
		}
		if got, err := Combine(picked); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	if mul(0x57, 0x83) != 0xc1 { // FIPS 197 section 4.2
		t.Errorf("57·83 = %02x", mul(0x57, 0x83))
	}
	for a := 1; a < 256; a++ {
		if mul(byte(a), inverse(byte(a))) != 1 {
			t.Errorf("1/%02x is wrong", a)
		}
	}
}

func FuzzCombine(f *testing.F) {
	f.Add(bytes.Join(knownLines, []byte("\n")))
	f.Add(bytes.Join(knownLines[1:], []byte("\r\n\n")))
	f.Add([]byte("01\n02"))
	f.Fuzz(func(t *testing.T, text []byte) {
		lines := bytes.Split(text, []byte("\n"))
		secret, err := Combine(lines)
		if err != nil {
			return
		}
		again, err := Split(secret, 3, 2)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Combine([][]byte{[]byte(again[2]), []byte(again[0])})
		if err != nil || !bytes.Equal(got, secret) {
			t.Fatal(fmt.Errorf("split again: %q %w", got, err))
		}
	})
}
