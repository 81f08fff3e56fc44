package custody

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// pinSize is the length of a PIN that custody makes: hexadecimal digits with
// four bits each.
const pinSize = 32

// Init makes or adopts the HSM token, its system keys, the shares and the first
// records. It happens once. If it fails nothing is stored, and the error says
// what became of the HSM token. Afterwards the server is sealed; with KindPIN or
// KindAuto it is opened at once.
func (c *Custody) Init(ctx context.Context, req *api.Init) (*api.InitResult, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	p, err := c.plan(ctx, req)
	if err != nil {
		c.log.Warn("Initialisation was refused", "reason", err)
		return nil, err
	}
	defer p.wipe()
	result, err := c.perform(ctx, p)
	if err != nil {
		c.log.Error("Initialisation failed", "error", err, "hint", fault.HintOf(err))
		return nil, err
	}
	rec := c.record()
	c.log.Info("Initialised", "shares", p.n, "threshold", p.t, "share_set", rec.SetID, "hsm_token", rec.TokenLabel,
		"serial", rec.TokenSerial, "adopted", rec.Adopted, "openpgp", len(p.pgpKeys) > 0, "custody", p.kind)
	// The server is initialised whether this works or not; the log says why not.
	switch p.kind {
	case KindPIN:
		_ = c.openByPIN(ctx)
	case KindAuto:
		_ = c.openByProvider(ctx)
	}
	return result, nil
}

// perform makes everything. Only its last step is visible in the store.
func (c *Custody) perform(ctx context.Context, p *plan) (*api.InitResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the caller went away before anything was made")
	}
	caller := ctx
	ctx, cancel := deviceContext(ctx)
	defer cancel()
	pins, err := c.obtain(ctx, p)
	if err != nil {
		return nil, err
	}
	defer pins.wipe()
	b := &birth{plan: p, rec: &record{
		Format: recordFormat, ClusterID: uuid.NewString(), Created: c.now().UTC().Truncate(time.Second),
		TokenLabel: p.state.Label, TokenSerial: p.state.Serial, Adopted: !p.create,
	}}
	tok, err := c.login(ctx, p, b, pins)
	if err != nil {
		return nil, err
	}
	if err := c.settle(caller, ctx, tok, b, pins); err != nil {
		return nil, b.failed(err)
	}
	return &b.result, nil
}

// obtain creates the token, or takes the PIN of the one to adopt.
func (c *Custody) obtain(ctx context.Context, p *plan) (*pins, error) {
	if !p.create {
		return &pins{user: append([]byte(nil), p.pin...)}, nil
	}
	ps := &pins{user: NewPIN(p.state.MinPIN), so: NewPIN(p.state.MinPIN)}
	if p.kind == KindPIN {
		ps.user = append([]byte(nil), p.pin...)
	}
	err := c.opts.Device.Create(ctx, ps.so, ps.user)
	if err == nil {
		return ps, nil
	}
	ps.wipe()
	if errors.Is(err, token.ErrExists) {
		return nil, tokenExists(p.state.Label, err)
	}
	e, _ := errors.AsType[*fault.Error](deviceFault(err, "create the HSM token"))
	return nil, e.WithHint("nothing was stored. If the HSM shows a new token now, it was left half-made: %s", removal(p.state.Label))
}

// NewPIN returns a random PIN: lower-case hexadecimal digits, 128 bits or more, and
// as many as the minimum of the HSM token. The caller wipes it.
func NewPIN(minimum int) []byte {
	n := (max(pinSize, minimum) + 1) / 2
	b := make([]byte, n)
	defer clear(b)
	rand.Read(b)
	return hex.AppendEncode(make([]byte, 0, 2*n), b)
}

// login opens the token and notes in the record which one it is.
func (c *Custody) login(ctx context.Context, p *plan, b *birth, ps *pins) (token.Token, error) {
	if p.create {
		b.doing = "look at the new HSM token"
		st, err := c.opts.Device.State(ctx)
		if err != nil {
			return nil, b.failed(err)
		}
		b.rec.TokenLabel, b.rec.TokenSerial = st.Label, st.Serial
	}
	b.doing = "log in to the HSM token"
	tok, err := c.opts.Device.Open(ctx, ps.user)
	switch {
	case err == nil:
		return tok, nil
	case errors.Is(err, token.ErrPIN) && !p.create:
		c.refuse(ctx, p.state.Serial, p.pin)
		return nil, fault.Wrap(fault.Invalid, err, "%s refuses this PIN; nothing was changed, and it will not be tried again", tokenName(p.state.Label))
	}
	return nil, b.failed(err)
}

// settle goes from the login to the stored record, and seals again.
func (c *Custody) settle(caller, ctx context.Context, tok token.Token, b *birth, ps *pins) error {
	b.doing = "make the system keys in the HSM token"
	if err := tok.Provision(ctx, b.plan.transferable); err != nil {
		c.closeToken(tok)
		return err
	}
	b.doing = "make the shares"
	if err := b.share(ps); err != nil {
		c.closeToken(tok)
		return err
	}
	b.doing = "make the storage key"
	key := make([]byte, store.StorageKeySize)
	defer clear(key)
	rand.Read(key)
	var err error
	if b.rec.StorageKey, err = tok.SealSecret(ctx, key, b.rec.storageAAD()); err != nil {
		c.closeToken(tok)
		return err
	}
	b.doing = "start the services"
	if err := c.start(ctx, tok, store.Keyring{key}); err != nil {
		return err
	}
	if err := c.commit(caller, ctx, tok, b); err != nil {
		c.stop(tok)
		return err
	}
	c.born(tok, b.rec)
	return nil
}

// commit writes everything in one transaction.
func (c *Custody) commit(caller, ctx context.Context, tok token.Token, b *birth) error {
	b.doing = "make the first records"
	root, changes, err := c.opts.Hooks.Genesis(ctx)
	if err != nil {
		return err
	}
	if b.result.RootToken, err = b.plan.handRoot(root); err != nil {
		return err
	}
	statement, err := c.attestInit(ctx, tok, b)
	if err != nil {
		return err
	}
	b.doing = "make the first records"
	mine, err := c.changes(ctx, b.rec)
	if err != nil {
		return err
	}
	if err := caller.Err(); err != nil {
		return fault.Wrap(fault.Unavailable, err, "the caller went away and would not get the shares")
	}
	b.doing = "write to the database"
	if err = c.opts.Store.Apply(ctx, slices.Concat(mine, statement, changes)...); err != nil {
		return c.outcome(ctx, b.rec, err)
	}
	return nil
}

// changes are custody's own: the record is written, and refused PINs are
// forgotten, for the token's PIN is known now.
func (c *Custody) changes(ctx context.Context, rec *record) ([]store.Change, error) {
	data, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encode the seal record: %w", err)
	}
	changes := []store.Change{{Table: table, Key: recordKey, Data: data}}
	version, err := c.refusedVersion(ctx)
	if err != nil {
		return nil, storeFault(err)
	}
	if version > 0 {
		changes = append(changes, store.Change{Table: table, Key: refusedKey, Expect: version})
	}
	return changes, nil
}

// outcome settles what an Apply that returned an error has done.
func (c *Custody) outcome(ctx context.Context, rec *record, failure error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	stored, err := loadRecord(ctx, c.opts.Store)
	switch {
	case err != nil:
		return fault.Wrap(fault.Uncertain, errors.Join(failure, err), "the database failed while it was written and can't be read now; %s", seeLog)
	case stored != nil && stored.ClusterID == rec.ClusterID:
		return nil
	}
	return storeFault(failure)
}

// born makes the new record the server's, and seals.
func (c *Custody) born(tok token.Token, rec *record) {
	c.mu.Lock()
	c.rec = rec
	c.mu.Unlock()
	c.refused.PINs = nil
	c.state.Store(stateInitialized)
	c.stop(tok)
}
