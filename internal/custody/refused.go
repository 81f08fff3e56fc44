package custody

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

const (
	refusedKey = "refused-pins"
	// maxRefused is beyond what any HSM allows before it locks the PIN.
	maxRefused = 64
)

// refusals are the PINs that the HSM token refused, so that none is tried
// twice: real HSMs lock after a few wrong ones. They are kept as Argon2id
// hashes (RFC 9106; 19 MiB, two passes), because a mistyped PIN is close to the
// right one and PINs are short. JSON, table "custody", key "refused-pins".
type refusals struct {
	Format int       `json:"format"`
	Salt   []byte    `json:"salt"`
	PINs   []refusal `json:"pins,omitempty"`
	// Stored is set when the token refused the PIN of the seal record.
	Stored *refusal `json:"stored,omitempty"`
}

type refusal struct {
	Serial string    `json:"serial"`
	Hash   []byte    `json:"hash,omitempty"`
	Time   time.Time `json:"time"`
}

func loadRefusals(ctx context.Context, s store.Store) (*refusals, error) {
	raw, err := s.Get(ctx, table, refusedKey)
	if errors.Is(err, store.ErrNotFound) {
		r := &refusals{Format: 1, Salt: make([]byte, 16)}
		rand.Read(r.Salt)
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the note of refused PINs: %w", err)
	}
	var r refusals
	if err := json.Unmarshal(raw.Data, &r); err != nil {
		return nil, fmt.Errorf("the note of refused PINs (%s/%s) in the database is damaged: %w", table, refusedKey, err)
	}
	if r.Format != 1 {
		return nil, fmt.Errorf("the note of refused PINs (%s/%s) has format %d; this release reads format 1", table, refusedKey, r.Format)
	}
	return &r, nil
}

// find returns when the token of that serial number refused the PIN.
func (r *refusals) find(serial string, pin []byte) (time.Time, bool) {
	if len(r.PINs) == 0 {
		return time.Time{}, false
	}
	hash := r.hash(pin)
	defer clear(hash)
	for _, p := range r.PINs {
		if p.Serial == serial && subtle.ConstantTimeCompare(p.Hash, hash) == 1 {
			return p.Time, true
		}
	}
	return time.Time{}, false
}

func (r *refusals) hash(pin []byte) []byte {
	defer debug.FreeOSMemory()
	return argon2.IDKey(pin, r.Salt, 2, 19*1024, 1, 32)
}

// refuse adds a PIN. It stays known for this process's life even if it can't be stored.
func (c *Custody) refuse(ctx context.Context, serial string, pin []byte) {
	r := c.refused
	r.PINs = append(r.PINs, refusal{Serial: serial, Hash: r.hash(pin), Time: c.now()})
	if n := len(r.PINs); n > maxRefused {
		r.PINs = slices.Clone(r.PINs[n-maxRefused:])
	}
	c.storeRefusals(ctx)
}

// refuseStored notes whether the token refused the PIN of the seal record.
func (c *Custody) refuseStored(ctx context.Context, stored *refusal) {
	c.refused.Stored = stored
	c.storeRefusals(ctx)
}

func (c *Custody) storeRefusals(ctx context.Context) {
	data, err := json.Marshal(c.refused)
	var version int64
	if err == nil {
		version, err = c.refusedVersion(ctx)
	}
	if err == nil {
		err = c.opts.Store.Apply(ctx, store.Change{Table: table, Key: refusedKey, Expect: version, Data: data})
	}
	if err != nil {
		c.log.Error("The refusal of a PIN could not be stored: it is known until this process ends, not longer", "error", err)
	}
}

// refusedVersion returns 0 if no refusal is stored.
func (c *Custody) refusedVersion(ctx context.Context) (int64, error) {
	r, err := c.opts.Store.Get(ctx, table, refusedKey)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	return r.Version, err
}

// storedRefusal is the error while the PIN of the seal record counts as refused.
func (c *Custody) storedRefusal(cause error) error {
	stored := c.refused.Stored
	e := fault.New(fault.Conflict,
		"the HSM token refused the stored PIN on %s; the PIN will not be tried again until sys/unseal is called with reset",
		stored.Time.UTC().Format(time.RFC3339))
	e.Err = cause
	return e.WithHint("the user PIN of the HSM token (serial number %q) was changed from outside: set it back first, or restore the token. "+
		"Then call sys/unseal with reset and give the shares again: that is one more try, and HSMs lock after a few wrong ones", stored.Serial)
}
