package custody

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

const (
	rotationKey = "rotation"        // rotationRecord, sealed
	useKey      = "storage-key-use" // useRecord, sealed

	// maxOperations is nine tenths of what SP 800-38D allows of random nonces
	// under one key, 2^32.
	maxOperations = 3_865_470_566
	minOperations = 1_000_000
	minInterval   = api.Seconds(24 * 3600)
	maxInterval   = api.Seconds(100 * 365 * 24 * 3600)

	useTimeout = 5 * time.Second // sealing does not wait longer for a count
)

// rotationRecord says when the storage key is replaced by itself.
type rotationRecord struct {
	MaxOperations int64 `json:"max_operations"`
	Interval      int64 `json:"interval"` // seconds
	Disabled      bool  `json:"disabled,omitempty"`
}

// useRecord counts what the storage key of a term sealed.
type useRecord struct {
	Term  int    `json:"term"`
	Seals uint64 `json:"seals"`

	here uint64 // of Seals, those that Records.Seals counted
}

func (c *Custody) rotationOperations() []*op.Operation {
	meta := func(name, path string, verb op.Verb, help string) op.Meta {
		return op.Meta{Name: "sys.rotate" + name, Mount: "sys", Path: "rotate" + path, Verb: verb, Sudo: verb == op.Write, TopLevel: true, Help: help}
	}
	const rotate, read, write = "Replace the storage key; what it sealed opens as before.",
		"Show when the storage key is replaced by itself.", "Set when the storage key is replaced by itself."
	const other = " The same under another name."
	return []*op.Operation{
		op.Define(meta("", "", op.Write, rotate), c.opRotate),
		op.Define(meta(".keyring", "/keyring", op.Write, rotate+other), c.opRotate),
		op.Define(meta(".config.read", "/config", op.Read, read), c.opReadRotation),
		op.Define(meta(".config", "/config", op.Write, write), c.opWriteRotation),
		op.Define(meta(".keyring.config.read", "/keyring/config", op.Read, read+other), c.opReadRotation),
		op.Define(meta(".keyring.config", "/keyring/config", op.Write, write+other), c.opWriteRotation),
	}
}

func (c *Custody) opRotate(ctx context.Context, _ *op.Call, _ *api.Empty) (*api.Empty, error) {
	return nil, c.Rotate(ctx)
}

func (c *Custody) opReadRotation(ctx context.Context, _ *op.Call, _ *api.Empty) (*api.RotationConfig, error) {
	r, _, err := c.rotation(ctx)
	if err != nil {
		return nil, storeFault(err)
	}
	return &api.RotationConfig{MaxOperations: r.MaxOperations, Interval: api.Seconds(r.Interval), Enabled: !r.Disabled}, nil
}

func (c *Custody) opWriteRotation(ctx context.Context, _ *op.Call, req *api.WriteRotationConfig) (*api.Empty, error) {
	if n := req.MaxOperations; n != nil && (*n < minOperations || *n > maxOperations) {
		return nil, fault.New(fault.Invalid, "max_operations is %d; it must be %d to %d", *n, minOperations, int64(maxOperations))
	}
	if d := req.Interval; d != nil && *d != 0 && (*d < minInterval || *d > maxInterval) {
		return nil, fault.New(fault.Invalid, "interval is %d seconds; it must be 0 or %d (24h) to %d", *d, minInterval, maxInterval)
	}
	r, version, err := c.rotation(ctx)
	if err != nil {
		return nil, storeFault(err)
	}
	if req.MaxOperations != nil {
		r.MaxOperations = *req.MaxOperations
	}
	if req.Interval != nil {
		r.Interval = int64(*req.Interval)
	}
	if req.Enabled != nil {
		r.Disabled = !*req.Enabled
	}
	put, err := c.opts.Records.Put(table, rotationKey, version, &r)
	if err == nil {
		err = c.opts.Records.Apply(ctx, put)
	}
	if errors.Is(err, store.ErrConflict) {
		return nil, fault.Wrap(fault.Conflict, err, "it was changed meanwhile; read it again and repeat")
	}
	if err != nil {
		return nil, storeFault(err)
	}
	return nil, nil
}

// rotation returns the configuration and the version of its record.
func (c *Custody) rotation(ctx context.Context) (r rotationRecord, version int64, err error) {
	version, err = c.opts.Records.Get(ctx, table, rotationKey, &r)
	if errors.Is(err, store.ErrNotFound) {
		return rotationRecord{MaxOperations: maxOperations}, 0, nil
	}
	return r, version, err
}

// RotationDue keeps the count of seals, and says why the storage key is to be
// replaced now; "" if it is not. Call it every minute.
func (c *Custody) RotationDue(ctx context.Context) (reason string, err error) {
	if _, sealed := c.State(); sealed {
		return "", nil
	}
	c.saveUse(ctx)
	r, _, err := c.rotation(ctx)
	if err != nil || r.Disabled {
		return "", err
	}
	rec := c.record()
	_, installed := rec.term()
	if n := c.seals(ctx); n >= uint64(r.MaxOperations) {
		return fmt.Sprintf("it sealed %d records", n), nil
	}
	if age := c.now().Sub(installed); r.Interval > 0 && age >= time.Duration(r.Interval)*time.Second {
		return fmt.Sprintf("it is in use since %s", installed.UTC().Format(time.RFC3339)), nil
	}
	return "", nil
}

// seals is how many records the storage key of the newest term sealed.
func (c *Custody) seals(ctx context.Context) uint64 {
	u, n := c.use(ctx)
	return u.total(n)
}

// total is the count when Records.Seals counts n.
func (u *useRecord) total(n uint64) uint64 { return u.Seals - u.here + n }

// use returns the count of the newest term as it was stored, and what Records.Seals
// counted. If it can't be read it begins at zero: it is an estimate.
func (c *Custody) use(ctx context.Context) (u useRecord, n uint64) {
	term, n := c.opts.Records.Seals()
	c.mu.Lock()
	u = c.used
	c.mu.Unlock()
	if u.Term == term {
		return u, n
	}
	u = useRecord{}
	_, err := c.opts.Records.Get(ctx, table, useKey, &u)
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrSealed) {
		c.log.Warn("The count of what the storage key sealed can't be read; it begins anew", "error", err)
	}
	if u.Term != term {
		u = useRecord{Term: term}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tok != nil && c.used.Term < term {
		c.used = u
	}
	return u, n
}

// saveUse stores the count if it changed by more than the storing of it.
func (c *Custody) saveUse(ctx context.Context) {
	u, n := c.use(ctx)
	if u.Term == 0 || n <= u.here+1 {
		return
	}
	u.Seals, u.here = u.total(n), n
	ctx, cancel := context.WithTimeout(ctx, useTimeout)
	defer cancel()
	if err := c.putUse(ctx, &u); err != nil {
		c.log.Warn("The count of what the storage key sealed can't be stored", "error", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used.Term == u.Term {
		c.used = u
	}
}

func (c *Custody) putUse(ctx context.Context, u *useRecord) error {
	var before useRecord
	version, err := c.opts.Records.Get(ctx, table, useKey, &before)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	put, err := c.opts.Records.Put(table, useKey, version, u)
	if err != nil {
		return err
	}
	return c.opts.Records.Apply(ctx, put)
}
