package custody

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/claviger/claviger/internal/fault"
)

func vectorSetOf(t testing.TB) *Set {
	s := &Set{N: 5, T: 3}
	for _, c := range vectorCommitments {
		s.Commitments = append(s.Commitments, unhex(t, c))
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	return s
}

func parseShares(t testing.TB, texts ...string) []Share {
	t.Helper()
	var shares []Share
	for _, text := range texts {
		s, err := ParseShare(text)
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, s)
	}
	return shares
}

func TestSetVector(t *testing.T) {
	t.Parallel()
	set := vectorSetOf(t)
	if set.ID().String() != vectorSet {
		t.Fatalf("set id %v", set.ID())
	}
	all := parseShares(t, vectorShares...)
	for i := range all {
		if err := set.Check(&all[i]); err != nil {
			t.Errorf("share %d: %v", i+1, err)
		}
	}
	for a := range 5 {
		for b := range 5 {
			for c := range 5 {
				if a == b || b == c || a == c {
					continue
				}
				key, err := set.Combine([]Share{all[a], all[b], all[c]})
				if err != nil || hex.EncodeToString(key) != vectorKey {
					t.Fatalf("shares %d, %d, %d: %x, %v", a+1, b+1, c+1, key, err)
				}
			}
		}
	}
	if _, err := set.Combine(all[:2]); err == nil {
		t.Error("two shares of three were enough")
	}
	if _, err := set.Combine([]Share{all[0], all[1], all[0]}); !errors.Is(err, ErrRepeated) {
		t.Errorf("a share counted twice: %v", err)
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]int{{1, 1}, {2, 1}, {2, 2}, {3, 2}, {5, 3}, {255, 2}, {255, 255}} {
		n, threshold := c[0], c[1]
		t.Run(fmt.Sprintf("%d of %d", threshold, n), func(t *testing.T) {
			t.Parallel()
			key, set, shares, err := Split(n, threshold)
			if err != nil {
				t.Fatal(err)
			}
			if len(key) != unsealKeySize || len(shares) != n || len(set.Commitments) != threshold {
				t.Fatalf("%d bytes of key, %d shares, %d commitments", len(key), len(shares), len(set.Commitments))
			}
			for _, i := range []int{0, n / 2, n - 1} {
				if err := set.Check(&shares[i]); err != nil {
					t.Errorf("share %d: %v", i+1, err)
				}
			}
			last, err := set.Combine(shares[n-threshold:])
			if err != nil || !bytes.Equal(last, key) {
				t.Errorf("the last %d shares open nothing: %v", threshold, err)
			}
		})
	}
	for _, c := range [][2]int{{0, 0}, {1, 0}, {1, 2}, {256, 1}, {-1, -1}} {
		if _, _, _, err := Split(c[0], c[1]); err == nil {
			t.Errorf("%d of %d was accepted", c[1], c[0])
		}
	}
}

func TestSplitIsRandom(t *testing.T) {
	t.Parallel()
	key1, set1, shares1, err1 := Split(3, 2)
	key2, set2, _, err2 := Split(3, 2)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if bytes.Equal(key1, key2) || set1.ID() == set2.ID() {
		t.Error("two sets are the same")
	}
	wantFault(t, set2.Check(&shares1[0]), fault.Invalid, "another set")
}

func TestCheckBeyondTheSet(t *testing.T) {
	t.Parallel()
	// A genuine point of the polynomial that was never given out as a share.
	_, set, shares, err := Split(4, 1)
	if err != nil {
		t.Fatal(err)
	}
	s := shares[0]
	s.X = 5
	if err := set.Check(&s); !errors.Is(err, ErrAltered) {
		t.Errorf("share 5 of 4: %v", err)
	}
}

func TestSetValidate(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *Set){
		"threshold above shares": func(s *Set) { s.N = 2 },
		"threshold 0":            func(s *Set) { s.T = 0 },
		"256 shares":             func(s *Set) { s.N = 256 },
		"commitment missing":     func(s *Set) { s.Commitments = s.Commitments[1:] },
		"commitment too short":   func(s *Set) { s.Commitments[0] = s.Commitments[0][1:] },
		"no point":               func(s *Set) { s.Commitments[1] = bytes.Repeat([]byte{0xff}, 32) },
		"not canonical":          func(s *Set) { s.Commitments[1][31] |= 0x80 },
	} {
		s := vectorSetOf(t)
		change(s)
		if s.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{3, 255} {
		_, set, shares, err := Split(n, n)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if err := set.Check(&shares[0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
