package custody

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/fault"
)

// The vectors were computed by an independent implementation of ristretto255
// (its encoding of the generator is the one of RFC 9496 appendix A.1) and HKDF:
// the polynomial's coefficient i is SHA-512("coefficient i"), little endian,
// modulo the group's order.
const (
	vectorSet    = "b0922226122df13e"
	vectorKey    = "05bc232485517b8cb5daf61d16e86b3dc8741d5289995d1029e6cfd715bf870a"
	vectorBase64 = "AbCSIiYSLfE+ASoqbIb29pwwlGbBrkfSOPYzxySyvKvf3X4Wdz5rxmgPcrLaQ4hx"
)

var vectorCommitments = []string{
	"9853bc48bee658be5e51e56c21e3e6c5e48a5a80d81d9a26b7f73a9704ad1a08",
	"3467f2cdc7b96149b05ba77cf87de8862a968c10d93b492a5b58ec80b90aca30",
	"8cda419b9884c38e490a1f495903ec9e2357f7b273fb6114281a5584c6049b6e",
}

var vectorShares = []string{
	"01b0922226122df13e012a2a6c86f6f69c309466c1ae47d238f633c724b2bcabdfdd7e16773e6bc6680f72b2da438871",
	"01b0922226122df13e0298cdf1e1c930f65374d966684952f04b71b96bee89ff3ceef0b1d5db31c6a2007d1603ed9d46",
	"01b0922226122df13e03308c78a4838c98d7fb50d692c8dd11a044899296277bda5332def2fddc74900e6c16f4f18fd0",
	"01b0922226122df13e042bea1eb7d4e04cb3a7f62845298700b4ad3699aa951eb80e439bcea46cd2310925c575cff428",
	"01b0922226122df13e0576bbda76d790253f4e6756224a489b9cacc17f2ad4e9d51e23e968d0e0de860073eaaa895124",
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestShareVector(t *testing.T) {
	t.Parallel()
	for i, text := range vectorShares {
		s, err := ParseShare(text)
		if err != nil {
			t.Fatal(err)
		}
		if s.Set.String() != vectorSet || int(s.X) != i+1 {
			t.Errorf("share %d: set %v, x %d", i+1, s.Set, s.X)
		}
		if s.Hex() != text {
			t.Errorf("share %d: encoded as %s", i+1, s.Hex())
		}
	}
	s, err := ParseShare(vectorBase64)
	if err != nil || s.Hex() != vectorShares[0] || s.Base64() != vectorBase64 {
		t.Errorf("base64: %v, %v", s.Hex(), err)
	}
}

func TestShareTextForms(t *testing.T) {
	t.Parallel()
	raw := unhex(t, vectorShares[1])
	for name, text := range map[string]string{
		"hex":                vectorShares[1],
		"upper-case hex":     strings.ToUpper(vectorShares[1]),
		"white space around": " \t" + vectorShares[1] + "\r\n",
		"base64":             base64.StdEncoding.EncodeToString(raw),
		"base64url":          base64.URLEncoding.EncodeToString(raw),
		"base64url unpadded": base64.RawURLEncoding.EncodeToString(raw) + "\n",
	} {
		s, err := ParseShare(text)
		if err != nil || s.Hex() != vectorShares[1] {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestShareMalformed(t *testing.T) {
	t.Parallel()
	good := vectorShares[0]
	// resum gives changed bytes a fitting checksum.
	resum := func(change func(b []byte)) string {
		b := unhex(t, good)
		change(b)
		sum := shareSum(b[:ShareSize-sumSize])
		copy(b[ShareSize-sumSize:], sum[:])
		return hex.EncodeToString(b)
	}
	for name, c := range map[string]struct{ text, word string }{
		"empty":           {"", "0 characters"},
		"one digit short": {good[1:], "95 characters"},
		"one too many":    {good + "0", "97 characters"},
		"no hex":          {"g" + good[1:], "no hexadecimal digit"},
		"no base64":       {"!" + vectorBase64[1:], "not of base64"},
		"newline inside":  {vectorBase64[:32] + "\n" + vectorBase64[33:], "not of base64"},
		"padding inside":  {vectorBase64[:62] + "==", "not of base64"},
		"swapped digits":  {good[:40] + good[41:42] + good[40:41] + good[42:], "checksum"},
		"format":          {resum(func(b []byte) { b[0] = 2 }), "format is 2"},
		"x is 0":          {resum(func(b []byte) { b[9] = 0 }), "value that no share has"},
		"not reduced":     {resum(func(b []byte) { copy(b[10:42], bytes.Repeat([]byte{0xff}, 32)) }), "value that no share has"},
	} {
		_, err := ParseShare(c.text)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantFault(t, err, fault.Invalid, "not a share", c.word)
		if len(c.text) > 8 && strings.Contains(err.Error(), c.text[10:20]) {
			t.Errorf("%s: the error shows the share: %v", name, err)
		}
	}
}

func TestShareEveryBit(t *testing.T) {
	t.Parallel()
	set := vectorSetOf(t)
	for i := range ShareSize * 8 {
		b := unhex(t, vectorShares[2])
		b[i/8] ^= 1 << (i % 8)
		if _, err := decodeShare(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("bit %d flipped: %v", i, err)
		}
		if i/8 >= ShareSize-sumSize {
			continue
		}
		// Somebody who alters a share on purpose corrects the sum too.
		sum := shareSum(b[:ShareSize-sumSize])
		copy(b[ShareSize-sumSize:], sum[:])
		s, err := decodeShare(b)
		if err == nil {
			err = set.Check(&s)
		}
		want := ErrAltered
		if i/8 >= 1 && i/8 <= 8 {
			want = ErrForeign
		}
		if !errors.Is(err, want) && !errors.Is(err, ErrMalformed) {
			t.Errorf("bit %d flipped with a right sum: %v, want %v", i, err, want)
		}
	}
}

func FuzzParseShare(f *testing.F) {
	for _, s := range vectorShares {
		f.Add(s)
		f.Add(strings.ToUpper(s[:50]))
	}
	f.Add(vectorBase64)
	f.Add(strings.ReplaceAll(vectorBase64, "+", "-"))
	f.Add(strings.Repeat("=", 64))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseShare(text)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || fault.KindOf(err) != fault.Invalid {
				t.Fatalf("error without its cause: %v", err)
			}
			return
		}
		again, err := ParseShare(s.Hex())
		if err != nil || again != s {
			t.Fatalf("a share that was read is written otherwise: %v", err)
		}
	})
}

func FuzzDecodeShare(f *testing.F) {
	for _, s := range vectorShares {
		f.Add(unhex(f, s)[:ShareSize-sumSize])
	}
	set := vectorSetOf(f)
	genuine := map[string]bool{}
	for _, s := range vectorShares {
		genuine[s] = true
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := shareSum(body)
		s, err := decodeShare(append(bytes.Clone(body), sum[:]...))
		if err != nil {
			return
		}
		if err := set.Check(&s); err == nil && !genuine[s.Hex()] {
			t.Fatalf("a share that nobody gave out is accepted: %s", s.Hex())
		}
	})
}
