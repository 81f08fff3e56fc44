package keys

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

// shortNonce is the length in bytes of nonces that are too short to be drawn
// at random without an end: 2^32 of them collide with a chance of 2^-33, which
// is where SP 800-38D section 8.3 stops. 24 bytes (XChaCha20) need no count.
const shortNonce = 12

// sealLimits says how often a version may seal, and how many seals are
// reserved in the store at a time. The reservation doubles from the first to
// the largest, so that a key that is loaded often and used little does not use
// its life up, and a hot key rarely writes.
type sealLimits struct{ total, firstBlock, lastBlock int64 }

var defaultSealLimits = sealLimits{total: 1 << 32, firstBlock: 1 << 10, lastBlock: 1 << 20}

const reserveTimeout = 30 * time.Second

// counter counts the seals of one version. What it hands out was reserved in
// the store before, so no crash makes a seal uncounted; what was reserved and
// not used is lost.
type counter struct {
	s      *Service
	name   keyName
	keyID  string
	number int

	left   atomic.Int64 // reserved and not yet used
	low    atomic.Int64 // reserve in advance when left falls below
	ahead  atomic.Bool  // an advance reservation is under way
	mu     sync.Mutex   // held while reserving
	block  int64        // size of the next reservation; guarded by mu
	warned bool         // guarded by mu
}

func (s *Service) newCounter(n keyName, keyID string, number int) *counter {
	return &counter{s: s, name: n, keyID: keyID, number: number, block: s.limits.firstBlock}
}

// take counts n seals, or refuses with fault.Exhausted. On the usual path it
// neither locks nor waits.
func (c *counter) take(ctx context.Context, n int64) error {
	if !c.use(n) {
		return c.takeSlow(ctx, n)
	}
	if c.left.Load() < c.low.Load() && c.ahead.CompareAndSwap(false, true) {
		go c.reserveAhead()
	}
	return nil
}

// use takes n of what is left, if it is there.
func (c *counter) use(n int64) bool {
	for {
		left := c.left.Load()
		if left < n {
			return false
		}
		if c.left.CompareAndSwap(left, left-n) {
			return true
		}
	}
}

func (c *counter) takeSlow(ctx context.Context, n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.use(n) {
		if err := c.reserve(ctx, n-c.left.Load()); err != nil {
			return err
		}
	}
	return nil
}

// reserveAhead reserves the next block while the last one is still in use. It
// belongs to no request; its failure shows in the request that needs the block.
func (c *counter) reserveAhead() {
	defer c.ahead.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), reserveTimeout)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left.Load() >= c.low.Load() {
		return
	}
	if err := c.reserve(ctx, 1); err != nil {
		c.low.Store(0) // the request that finds nothing left tries again and reports
		c.s.log.Warn("encryptions of a key version can't be reserved in advance",
			"mount", c.name.mount, "key", c.name.name, "version", c.number, "error", err)
	}
}

// reserve adds at least need seals to what is left. c.mu is held.
func (c *counter) reserve(ctx context.Context, need int64) error {
	for range maxTries {
		granted, err := c.reserveOnce(ctx, max(need, c.block), need)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err != nil {
			return storeFault(err, "count the encryptions of the key version")
		}
		c.block = min(2*c.block, c.s.limits.lastBlock)
		c.low.Store(granted / 2)
		c.left.Add(granted)
		return nil
	}
	return storeFault(store.ErrConflict, "count the encryptions of the key version")
}

// reserveOnce raises the stored count by want, or by what is allowed still if
// that is at least need.
func (c *counter) reserveOnce(ctx context.Context, want, need int64) (int64, error) {
	var r counterRecord
	key := counterKey(c.keyID, c.number)
	rec, err := c.s.store.Get(ctx, tableCounters, key, &r)
	if errors.Is(err, store.ErrNotFound) {
		r, err = counterRecord{Format: recordFormat, KeyID: c.keyID}, nil
	}
	if err == nil {
		err = checkFormat(r.Format)
	}
	if err == nil && r.KeyID != c.keyID {
		err = store.ErrCorrupt
	}
	if err != nil {
		return 0, err
	}
	free := c.s.limits.total - int64(min(r.Reserved, uint64(c.s.limits.total)))
	if free < need {
		return 0, c.exhausted()
	}
	granted := min(want, free)
	r.Reserved += uint64(granted)
	put, err := c.s.store.Put(tableCounters, key, rec, r)
	if err != nil {
		return 0, err
	}
	return granted, c.s.store.Apply(ctx, put)
}

func (c *counter) exhausted() error {
	if !c.warned {
		c.warned = true
		c.s.log.Warn("a key version has made all its encryptions",
			"mount", c.name.mount, "key", c.name.name, "version", c.number)
	}
	return fault.New(fault.Exhausted, "version %d of the key has made %d encryptions with random 96-bit nonces, more are not safe: rotate the key with keys/%s/rotate",
		c.number, c.s.limits.total, c.name.name)
}
