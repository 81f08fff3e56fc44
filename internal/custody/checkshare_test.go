package custody

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// Every share of the smallest, the largest and other sets is told by its number.
func TestCheckShare(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ n, t int }{{1, 1}, {2, 1}, {2, 2}, {5, 3}, {255, 1}, {255, 2}, {255, 255}} {
		t.Run(fmt.Sprintf("%d of %d", x.t, x.n), func(t *testing.T) {
			t.Parallel()
			_, set, shares, err := Split(x.n, x.t)
			if err != nil {
				t.Fatal(err)
			}
			public := publicSet(set)
			for _, i := range slices.Compact([]int{0, x.n / 2, x.n - 1}) {
				for _, text := range []string{shares[i].Hex(), shares[i].Base64(), " " + strings.ToUpper(shares[i].Hex()) + "\n"} {
					if got, err := CheckShare(public, text); err != nil || got != i+1 {
						t.Errorf("share %d: %d, %v", i+1, got, err)
					}
				}
				altered := shares[i]
				altered.Value[0] ^= 1
				_, err := CheckShare(public, altered.Hex())
				wantFault(t, err, fault.Invalid, "was altered")
				altered = shares[i]
				altered.X = byte(i+1)%255 + 1
				if _, err := CheckShare(public, altered.Hex()); x.t > 1 && !errors.Is(err, ErrAltered) {
					t.Errorf("another number: %v", err)
				}
			}
		})
	}
}

func TestCheckShareRefused(t *testing.T) {
	t.Parallel()
	_, set, shares, err := Split(3, 2)
	if err != nil {
		t.Fatal(err)
	}
	_, err = CheckShare(publicSet(set), vectorShares[0])
	wantFault(t, err, fault.Invalid, "of another set", set.ID().String())
	_, err = CheckShare(publicSet(set), shares[0].Hex()[1:])
	wantFault(t, err, fault.Invalid, "not a share")
	for name, change := range map[string]func(s *api.ShareSet){
		"number":      func(s *api.ShareSet) { s.Shares = 4 },
		"threshold":   func(s *api.ShareSet) { s.Threshold = 1 },
		"nothing":     func(s *api.ShareSet) { *s = api.ShareSet{} },
		"id":          func(s *api.ShareSet) { s.SetID = "" },
		"commitments": func(s *api.ShareSet) { s.Commitments = [][]byte{s.Commitments[1], s.Commitments[0]} },
		"too many":    func(s *api.ShareSet) { s.Shares = 256 },
	} {
		public := publicSet(set)
		change(public)
		_, err := CheckShare(public, shares[0].Hex())
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(fault.Message(err), "share set") {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(fmt.Sprint(err), shares[0].Hex()[20:50]) {
			t.Errorf("%s: the error shows the share", name)
		}
	}
}

func FuzzCheckShare(f *testing.F) {
	_, set, shares, err := Split(3, 2)
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(publicSet(set))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, shares[1].Hex())
	f.Add(bytes.Replace(good, []byte(`"threshold":2`), []byte(`"threshold":1`), 1), shares[1].Base64())
	f.Add([]byte(`{}`), "")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		var public api.ShareSet
		if json.Unmarshal(data, &public) != nil {
			return
		}
		x, err := CheckShare(&public, text)
		if err == nil && (x < 1 || x > public.Shares) {
			t.Errorf("share %d of %d", x, public.Shares)
		}
		if err != nil && fault.KindOf(err) != fault.Invalid {
			t.Error(err)
		}
	})
}
