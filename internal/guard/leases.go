package guard

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/store"
)

// Lessor keeps leases: things that end by themselves and can be ended before. The
// ID of a lease is a path below the mount that gave it.
type Lessor interface {
	// LookupLease describes a lease that did not end, or returns store.ErrNotFound.
	LookupLease(ctx context.Context, id string, now time.Time) (*api.LeaseInfo, error)
	// ListLeases calls yield with the ID of every lease that did not end and whose
	// ID begins with prefix, in no order, until yield returns an error.
	ListLeases(ctx context.Context, prefix string, now time.Time, yield func(id string) error) error
	// RevokeLease ends a lease, durably. One that does not exist has ended already.
	RevokeLease(ctx context.Context, id string) error
}

// lessor returns who keeps the leases of an ID or prefix. Only client tokens have
// leases.
func (l *loaded) lessor() Lessor { return tokenLeases{l.tokens} }

// tokenLeases are the leases of the client tokens that have an end. The ID is the
// path that made the token, "/h", and the token's ID in hex: it tells nothing of
// the token's text.
type tokenLeases struct{ *tokens }

const (
	leaseMark   = "/h"
	tokenIDSize = 64 // hex of HMAC-SHA-256
)

func leaseOf(id string, r *tokenRecord) string { return r.Path + leaseMark + id }

// tokenOf returns the token ID in a lease's.
func tokenOf(lease string) (id string, ok bool) {
	at := len(lease) - tokenIDSize - len(leaseMark)
	if at < 0 || lease[at:at+len(leaseMark)] != leaseMark {
		return "", false
	}
	id = lease[at+len(leaseMark):]
	_, err := hex.DecodeString(id)
	return id, err == nil && id == strings.ToLower(id)
}

// leased returns the token of a lease, or store.ErrNotFound.
func (t tokenLeases) leased(ctx context.Context, lease string, now time.Time) (*entry, error) {
	id, ok := tokenOf(lease)
	if !ok {
		return nil, store.ErrNotFound
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	e, err := t.load(ctx, id)
	if err != nil {
		return nil, err
	}
	r := &e.state.Load().tokenRecord
	if r.Batch || r.Expires == 0 || leaseOf(id, r) != lease || e.ended(now) != nil {
		return nil, store.ErrNotFound
	}
	return e, nil
}

// LookupLease is part of Lessor.
func (t tokenLeases) LookupLease(ctx context.Context, id string, now time.Time) (*api.LeaseInfo, error) {
	e, err := t.leased(ctx, id, now)
	if err != nil {
		return nil, err
	}
	r := &e.state.Load().tokenRecord
	expires := time.Unix(r.Expires, 0).UTC()
	info := &api.LeaseInfo{ID: id, IssueTime: time.Unix(r.Created, 0).UTC(), ExpireTime: &expires, Renewable: r.Renewable, TTL: api.Seconds(r.left(now))}
	if r.Renewed != 0 {
		renewed := time.Unix(r.Renewed, 0).UTC()
		info.LastRenewal = &renewed
	}
	return info, nil
}

// ListLeases is part of Lessor.
func (t tokenLeases) ListLeases(ctx context.Context, prefix string, now time.Time, yield func(id string) error) error {
	return t.each(ctx, func(id string, r *tokenRecord) error {
		if lease := leaseOf(id, r); r.Expires != 0 && !r.over(now) && strings.HasPrefix(lease, prefix) {
			return yield(lease)
		}
		return nil
	})
}

// RevokeLease is part of Lessor: the token ends, and all that were made with it.
func (t tokenLeases) RevokeLease(ctx context.Context, id string) error {
	e, err := t.leased(ctx, id, t.now())
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return t.revoke(ctx, e.id)
}

// each calls yield with every stored token until yield returns an error.
func (t *tokens) each(ctx context.Context, yield func(id string, r *tokenRecord) error) error {
	after := ""
	for {
		page, err := t.store.List(ctx, tableTokens, "", after, tidyPage)
		if err != nil {
			return err
		}
		for _, item := range page {
			after = item.Key
			var r tokenRecord
			if err := item.Decode(&r); err != nil {
				return fmt.Errorf("client token record: %w", err)
			}
			if err := yield(item.Key, &r); err != nil {
				return err
			}
		}
		if len(page) < tidyPage {
			return nil
		}
	}
}
