package custody

import (
	"context"

	"github.com/claviger/claviger/internal/fault"
)

// What the configuration says about shares and provider may change after the
// initialisation: then the server stays sealed until the custodians, with a threshold
// of shares and migrate, make the record follow. The shares stay the same: they are
// called recovery shares while a provider opens the server.

// migrating tells whether the record has another custody than the configuration.
func (c *Custody) migrating(rec *record) bool {
	return rec != nil && (kindOf(rec.Kind) != kindOf(c.opts.Kind) ||
		rec.Kind == KindAuto && rec.Auto.Provider != c.providerName())
}

func kindOf(kind string) string {
	if kind == "" {
		return KindShares
	}
	return kind
}

// custodyName names a kind of custody to people.
func custodyName(kind, provider string) string {
	if kind == KindAuto {
		return "custody by the provider " + provider
	}
	return "custody by " + kindOf(kind)
}

func (r *record) custodyName() string {
	if r.Auto != nil {
		return custodyName(r.Kind, r.Auto.Provider)
	}
	return custodyName(r.Kind, "")
}

func (c *Custody) migrationDue(rec *record) error {
	return fault.New(fault.Conflict, "this server has %s, but its configuration says %s: it stays sealed until it is migrated",
		rec.custodyName(), custodyName(c.opts.Kind, c.providerName())).
		WithHint("give the custodians' shares with migrate (claviger unseal --migrate), or change the configuration back and restart")
}

// checkMigrate tells whether a share may be given with or without migrate.
func (c *Custody) checkMigrate(rec *record, migrate bool) error {
	switch {
	case !migrate && c.migrating(rec):
		return c.migrationDue(rec)
	case migrate && rec.Kind != KindAuto && !c.migrating(rec):
		return fault.New(fault.Invalid, "migrate must be false: this server has custody by shares, and so its configuration says").
			WithHint("to let the server open by itself set custody.kind and custody.provider in its configuration, restart it, and repeat")
	}
	return nil
}

// sameMigrate refuses to mix shares that were given for different ends. It is called
// by the holder of mu.
func (c *Custody) sameMigrate(migrate bool) error {
	if len(c.given.shares) > 0 && c.given.migrate != migrate {
		return fault.New(fault.Invalid, "migrate is %v, but the %d shares before were given with migrate %v", migrate, len(c.given.shares), c.given.migrate).
			WithHint("give all with the same, or begin anew with reset")
	}
	return nil
}

// migrate gives the record the custody of the configuration, if the shares were
// given for that. The PIN was proved, so that the shares are known to open. A
// provider that has the secret already gets it anew: what it kept may be of no use
// any more.
func (c *Custody) migrate(ctx context.Context, rec *record, o *opening) error {
	c.mu.Lock()
	asked := c.given.migrate
	c.mu.Unlock()
	if !asked {
		return nil
	}
	if o.set != rec.set {
		return fault.New(fault.Invalid, "these shares are of the former set %s, which can't migrate the custody", o.set.ID()).
			WithHint("give those of set %s", rec.SetID)
	}
	next := *rec
	if next.Kind, next.Auto = "", nil; c.opts.Kind == KindAuto {
		next.Kind = KindAuto
		if err := c.resealAuto(ctx, &next, o.key); err != nil {
			return err
		}
	}
	if err := c.install(ctx, rec, &next); err != nil {
		return err
	}
	c.log.Warn("The custody was migrated with the shares of custodians", "from", rec.custodyName(), "to", next.custodyName())
	return nil
}
