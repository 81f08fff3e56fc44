package custody

import (
	"context"

	"github.com/claviger/claviger/internal/store"
)

// Description is what the seal record of a store says openly.
type Description struct {
	ClusterID   string // the identity of the store
	Kind        string // KindShares or KindPIN
	Shares      int
	Threshold   int
	TokenLabel  string
	TokenSerial string
	Term        int // of the newest storage key
}

// Describe reads the seal record of a store that need not be open; nil if the store
// was never initialised.
func Describe(ctx context.Context, s store.Store) (*Description, error) {
	r, err := loadRecord(ctx, s)
	if r == nil || err != nil {
		return nil, err
	}
	return r.describe(), nil
}

// Describe returns the same of this server's store.
func (c *Custody) Describe() *Description {
	if r := c.record(); r != nil {
		return r.describe()
	}
	return nil
}

func (r *record) describe() *Description {
	d := &Description{ClusterID: r.ClusterID, Kind: r.Kind, Shares: r.Shares, Threshold: r.Threshold,
		TokenLabel: r.TokenLabel, TokenSerial: r.TokenSerial}
	if d.Kind == "" {
		d.Kind = KindShares
	}
	d.Term, _ = r.term()
	return d
}
