package custody

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/claviger/claviger/internal/fault"
)

// formerSet is the set of shares before the one in force. It opens the seal too
// until the new one is known to: whatever was lost when the shares were replaced,
// one of both sets opens.
//
// PINs are those of the record, sealed under the unseal key of this set with the
// associated data "claviger former pins 1" ‖ length of the set's id (8 bytes, big
// endian) ‖ the id ‖ the record's binding.
type formerSet struct {
	SetID       string   `json:"set_id"`
	Shares      int      `json:"shares"`
	Threshold   int      `json:"threshold"`
	Commitments [][]byte `json:"commitments"`
	PINs        []byte   `json:"pins"`

	set *Set
}

func newFormer(set *Set) *formerSet {
	return &formerSet{SetID: set.ID().String(), Shares: set.N, Threshold: set.T, Commitments: set.Commitments, set: set}
}

func (r *record) formerAAD(f *formerSet) []byte {
	b := []byte("claviger former pins 1")
	b = binary.BigEndian.AppendUint64(b, uint64(len(f.SetID)))
	b = append(b, f.SetID...)
	return append(b, r.binding()...)
}

// checkFormer is checkShares for the former set, if there is one.
func (r *record) checkFormer() error {
	f := r.Former
	if f == nil {
		return nil
	}
	if r.Kind == KindPIN {
		return errors.New("was altered: custody by a PIN has no shares")
	}
	f.set = &Set{N: f.Shares, T: f.Threshold, Commitments: f.Commitments}
	if err := f.set.Validate(); err != nil {
		return fmt.Errorf("was altered: the former set of shares: %w", err)
	}
	if id := f.set.ID().String(); id != f.SetID {
		return fmt.Errorf("was altered: the commitments of the former set are of share set %s, not %s", id, f.SetID)
	}
	return nil
}

// sets returns the sets that open the seal, the one in force first.
func (r *record) sets() []*Set {
	if r.Former == nil {
		return []*Set{r.set}
	}
	return []*Set{r.set, r.Former.set}
}

// opening is what the shares of a set open.
type opening struct {
	set  *Set
	key  []byte // the unseal key
	pins *pins
}

func (o *opening) wipe() {
	clear(o.key)
	o.pins.wipe()
}

// openWith opens the PINs with shares of one set that were checked.
func (r *record) openWith(shares []Share) (*opening, error) {
	o := &opening{set: r.set}
	sealed, aad := r.PINs, r.pinAAD()
	if f := r.Former; f != nil && len(shares) > 0 && shares[0].Set == f.set.ID() {
		o.set, sealed, aad = f.set, f.PINs, r.formerAAD(f)
	}
	var err error
	if o.key, err = o.set.Combine(shares); err != nil {
		return nil, err
	}
	if o.pins, err = openPINs(o.key, sealed, aad); err != nil {
		clear(o.key)
		return nil, fault.Wrap(fault.Conflict, err, "the shares are genuine, but the sealed PINs do not open: "+
			"the seal record in the database was altered; restore the database from a backup")
	}
	return o, nil
}
