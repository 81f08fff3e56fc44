package pki

import (
	"context"
	"errors"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/store"
)

// tidyACME removes orders that were over before end, then looks at the accounts:
// a valid one that is older than safety and has no orders is revoked; one that
// ended longer than safety ago and has no orders is removed.
func (s *Service) tidyACME(ctx context.Context, mount string, end time.Time, safety time.Duration, t *tidying, pause time.Duration) error {
	orders := func(n int) { t.count(func(status *api.PKITidyStatus) { status.ACMEOrdersDeletedCount += n }) }
	err := s.sweep(ctx, tableACMEOrders, mount, pause, orders, func(_ string, e *store.Entry) ([]store.Change, error) {
		var o acmeOrder
		if err := e.Decode(&o); err != nil || !o.over().Before(end) {
			return nil, err
		}
		return s.removeOrder(ctx, mount, e.Key, e.Version, &o)
	})
	if err != nil {
		return err
	}
	accounts := func(int) {} // tidyAccount counts by what becomes of them
	return s.sweep(ctx, tableACMEAccounts, mount, pause, accounts, func(_ string, e *store.Entry) ([]store.Change, error) {
		t.count(func(status *api.PKITidyStatus) { status.TotalACMEAccountCount++ })
		return s.tidyAccount(ctx, mount, e, s.now().Add(-safety).UTC(), t)
	})
}

// over is when an order and its certificate, if it has one, are of no use any more.
func (o *acmeOrder) over() time.Time {
	if o.CertEnds.After(o.Expires) {
		return o.CertEnds
	}
	return o.Expires
}

// tidyAccount is what becomes of an account that began or ended before a time.
func (s *Service) tidyAccount(ctx context.Context, mount string, e *store.Entry, before time.Time, t *tidying) ([]store.Change, error) {
	var a acmeAccount
	if err := e.Decode(&a); err != nil {
		return nil, err
	}
	orders, err := s.store.Names(ctx, tableACMEOrders, mount+a.ID+"/", "", 1)
	if err != nil || len(orders) > 0 {
		return nil, err
	}
	switch {
	case a.Status == statusValid && a.Created.Before(before):
		t.count(func(status *api.PKITidyStatus) { status.ACMEAccountRevokedCount++ })
		a.Status, a.Ended = statusRevoked, s.now().UTC()
	case a.Status != statusValid && a.Ended.IsZero():
		// It ended before the time of that was recorded: it counts from now.
		a.Ended = s.now().UTC()
	case a.Status != statusValid && a.Ended.Before(before):
		t.count(func(status *api.PKITidyStatus) { status.ACMEAccountDeletedCount++ })
		return s.removeAccount(ctx, mount, e, &a)
	default:
		return nil, nil
	}
	put, err := s.store.Put(tableACMEAccounts, e.Key, e.Version, &a)
	return []store.Change{put}, err
}

// removeAccount is what deletes an account, and that its key has one.
func (s *Service) removeAccount(ctx context.Context, mount string, e *store.Entry, a *acmeAccount) ([]store.Change, error) {
	changes := []store.Change{s.store.Remove(tableACMEAccounts, e.Key, e.Version)}
	key, err := a.key()
	if err != nil {
		return nil, err
	}
	name, err := keyName(&acmeDir{mount: mount, prefix: a.Directory}, key)
	if err != nil {
		return nil, err
	}
	var owner acmeKeyOwner
	version, err := s.store.Get(ctx, tableACMEKeys, name, &owner)
	if errors.Is(err, store.ErrNotFound) || err == nil && owner.Account != a.ID {
		return changes, nil
	}
	return append(changes, s.store.Remove(tableACMEKeys, name, version)), err
}
