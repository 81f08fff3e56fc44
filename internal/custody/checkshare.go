package custody

import (
	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// CheckShare tells which share of a public set a text is, 1 to the number of shares,
// without the server, the other shares or any secret. An error is a *fault.Error of
// kind Invalid; of the share it shows no more than its number.
func CheckShare(public *api.ShareSet, text string) (x int, err error) {
	set := &Set{N: public.Shares, T: public.Threshold, Commitments: public.Commitments}
	if err := set.Validate(); err != nil {
		return 0, fault.New(fault.Invalid, "this is not a share set: %v", err)
	}
	if id := set.ID().String(); id != public.SetID {
		return 0, fault.New(fault.Invalid, "the share set was altered: its commitments are of set %s, and it says that they are of %q", id, public.SetID)
	}
	share, err := ParseShare(text)
	if err != nil {
		return 0, err
	}
	defer share.Wipe()
	if share.Set != set.ID() {
		e := fault.New(fault.Invalid, "this is share %d of another set: of %s, not of %s", share.X, share.Set, set.ID())
		e.Err = ErrForeign
		return 0, e
	}
	if err := set.Check(&share); err != nil {
		return 0, err
	}
	return int(share.X), nil
}
