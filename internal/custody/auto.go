package custody

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// KindAuto: a provider (a TPM, a KMS, another server) keeps the unseal secret, and
// the server opens by itself at start; so does whoever has its database and may use
// the provider. Custodians hold recovery shares of the same secret.
const KindAuto = "auto"

// Provider protects one key for a server that opens by itself. Its errors are
// *fault.Error: of kind fault.Unavailable or fault.Denied if trying again may help.
type Provider interface {
	// Name tells one provider from others, in the record and in the seal status:
	// 1 to 32 characters.
	Name() string
	// Seal protects a key of 32 bytes. It may do so differently each time.
	Seal(ctx context.Context, key []byte) (blob []byte, err error)
	// Open is the reverse of Seal; the caller wipes the key.
	Open(ctx context.Context, blob []byte) (key []byte, err error)
}

const (
	envelopeKeySize = 32
	// providerTimeout bounds one call of a provider.
	providerTimeout = time.Minute
)

// autoRecord is the unseal key as a provider keeps it. Key is what the provider
// made of a random envelope key of 32 bytes. Sealed is
//
//	nonce (12 bytes) ‖ AES-256-GCM(unseal key) ‖ tag (16 bytes)
//
// under the envelope key, with the associated data "claviger auto unseal 1" ‖ length
// of the provider's name (8 bytes, big endian) ‖ the name ‖ the record's binding: in
// another server's record it opens nothing.
type autoRecord struct {
	Provider string `json:"provider"`
	Key      []byte `json:"key"`
	Sealed   []byte `json:"sealed"`
}

func (r *record) autoAAD(provider string) []byte {
	b := []byte("claviger auto unseal 1")
	b = binary.BigEndian.AppendUint64(b, uint64(len(provider)))
	b = append(b, provider...)
	return append(b, r.binding()...)
}

// checkAuto refuses a record whose kind and envelope do not go together.
func (r *record) checkAuto() error {
	switch {
	case r.Kind != KindAuto && r.Auto != nil:
		return errors.New("was altered: only custody by a provider keeps the unseal secret")
	case r.Kind == KindAuto && (r.Auto == nil || r.Auto.Provider == "" || len(r.Auto.Key) == 0):
		return errors.New("was altered: what the provider of its custody keeps is missing")
	}
	return nil
}

// envelope is a key that a provider protects, not yet used.
type envelope struct {
	provider string
	key      []byte
	blob     []byte
}

func (e *envelope) wipe() {
	if e != nil {
		clear(e.key)
	}
}

// newEnvelope lets the provider protect a fresh key, and open it again: whatever
// needs it is only begun when both work.
func (c *Custody) newEnvelope(ctx context.Context) (*envelope, error) {
	ctx, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	p := c.opts.Provider
	e := &envelope{provider: p.Name(), key: make([]byte, envelopeKeySize)}
	rand.Read(e.key)
	var err error
	if e.blob, err = p.Seal(ctx, e.key); err != nil {
		e.wipe()
		return nil, providerFault(p, err, "seal the unseal secret")
	}
	back, err := p.Open(ctx, e.blob)
	if err == nil && string(back) != string(e.key) {
		err = fault.New(fault.Conflict, "it opens another secret than it sealed")
	}
	clear(back)
	if err != nil {
		e.wipe()
		return nil, providerFault(p, err, "open what it just sealed")
	}
	return e, nil
}

// seal puts the unseal key of a record, complete but for Auto, into the envelope.
func (e *envelope) seal(r *record, unsealKey []byte) (*autoRecord, error) {
	aead, err := newGCM(e.key)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	return &autoRecord{Provider: e.provider, Key: e.blob, Sealed: aead.Seal(nonce, nonce, unsealKey, r.autoAAD(e.provider))}, nil
}

// resealAuto lets the provider protect another unseal key. With another kind of
// custody it does nothing.
func (c *Custody) resealAuto(ctx context.Context, r *record, unsealKey []byte) error {
	if r.Kind != KindAuto {
		return nil
	}
	e, err := c.newEnvelope(ctx)
	if err != nil {
		return err
	}
	defer e.wipe()
	r.Auto, err = e.seal(r, unsealKey)
	return err
}

// openAuto returns the unseal key; the caller wipes it.
func (c *Custody) openAuto(ctx context.Context, r *record) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	p := c.opts.Provider
	envelopeKey, err := p.Open(ctx, r.Auto.Key)
	if err != nil {
		return nil, providerFault(p, err, "open the unseal secret")
	}
	defer clear(envelopeKey)
	aead, err := newGCM(envelopeKey)
	if err != nil || len(r.Auto.Sealed) < aead.NonceSize() {
		return nil, foreignEnvelope(p, err)
	}
	n := aead.NonceSize()
	key, err := aead.Open(nil, r.Auto.Sealed[:n], r.Auto.Sealed[n:], r.autoAAD(p.Name()))
	if err != nil {
		return nil, foreignEnvelope(p, err)
	}
	return key, nil
}

func foreignEnvelope(p Provider, cause error) error {
	return (&fault.Error{Kind: fault.Conflict, Err: cause,
		Msg: fmt.Sprintf("what %s opened is not the unseal secret of this server: the seal record in the database was altered, or copied from another server", p.Name())}).
		WithHint("restore the database from a backup")
}

// providerFault says whose error it is.
func providerFault(p Provider, err error, trying string) error {
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Kind == fault.Internal {
		return fault.Wrap(fault.Unavailable, err, "%s could not %s; %s", p.Name(), trying, seeLog)
	}
	c := *e
	c.Msg = fmt.Sprintf("%s could not %s: %s", p.Name(), trying, e.Msg)
	if c.Hint == "" {
		c.Hint = "the recovery shares of the custodians unseal the server too (sys/unseal)"
	}
	return &c
}

// planAuto is planKind for a server with a provider: it tries the provider before
// anything is made.
func (c *Custody) planAuto(ctx context.Context, p *plan, req *api.Init) error {
	if req.SecretShares != 0 || req.SecretThreshold != 0 || len(req.PGPKeys) != 0 {
		return fault.New(fault.Invalid, "parameters secret_shares,secret_threshold,pgp_keys not applicable to seal type %s", c.opts.Provider.Name()).
			WithHint("give recovery_shares, recovery_threshold and perhaps recovery_pgp_keys")
	}
	p.n, p.t = req.RecoveryShares, req.RecoveryThreshold
	if err := checkNumbers(p.n, p.t); err != nil {
		e, _ := errors.AsType[*fault.Error](err)
		return e.WithHint("secret_shares is named recovery_shares and secret_threshold recovery_threshold on a server that opens by itself")
	}
	if n := len(req.RecoveryPGPKeys); n != 0 && n != p.n {
		return fault.New(fault.Invalid, "there are %d recovery_pgp_keys for %d recovery_shares; give one for each share, or none", n, p.n)
	}
	var err error
	p.envelope, err = c.newEnvelope(ctx)
	return err
}

// withoutRecovery refuses recovery shares for custody that has none.
func withoutRecovery(req *api.Init, sealType string) error {
	if req.RecoveryShares == 0 && req.RecoveryThreshold == 0 && len(req.RecoveryPGPKeys) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, "parameters recovery_shares,recovery_threshold,recovery_pgp_keys not applicable to seal type %s", sealType).
		WithHint(`they are for a server that opens by itself: custody.kind "auto" in its configuration`)
}

// asRecovery makes of the shares in the answer recovery shares.
func asRecovery(r *api.InitResult) {
	r.RecoveryKeys, r.RecoveryKeysBase64 = r.Keys, r.KeysBase64
	r.Keys, r.KeysBase64 = []string{}, []string{}
}

// OpenAuto opens the server with what the provider keeps, on a server with KindAuto;
// on one that is open it does nothing. An error of kind fault.Unavailable or
// fault.Denied may pass: then OpenAuto may be called again. A PIN that the HSM token
// refuses is not tried again, not even by the next process, until sys/unseal is called
// with reset.
func (c *Custody) OpenAuto(ctx context.Context) error {
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	return c.openByProvider(ctx)
}

// openByProvider is called by the holder of act.
func (c *Custody) openByProvider(ctx context.Context) error {
	rec := c.record()
	if rec == nil || rec.Kind != KindAuto && c.opts.Kind != KindAuto {
		return fault.New(fault.Invalid, "this server was not initialised with custody by a provider")
	}
	if _, sealed := c.State(); !sealed {
		return nil
	}
	ctx, cancel := deviceContext(ctx)
	defer cancel()
	err := c.enterByProvider(ctx, rec)
	if err != nil {
		c.log.Error("Unsealing failed", "provider", c.providerName(), "error", err, "hint", fault.HintOf(err))
		return err
	}
	c.log.Info("Unsealed by the provider", "provider", c.providerName(), "hsm_token", rec.TokenLabel, "serial", rec.TokenSerial)
	return nil
}

func (c *Custody) enterByProvider(ctx context.Context, rec *record) error {
	switch {
	case c.heldShut:
		return fault.New(fault.Invalid, "the server was sealed on purpose").
			WithHint("restart it, or give the recovery shares to sys/unseal")
	case c.migrating(rec):
		return c.migrationDue(rec)
	case c.refused.Stored != nil:
		return c.storedRefusal(nil)
	}
	if err := c.checkToken(ctx, rec); err != nil {
		return err
	}
	key, err := c.openAuto(ctx, rec)
	if err != nil {
		return err
	}
	defer clear(key)
	ps, err := openPINs(key, rec.PINs, rec.pinAAD())
	if err != nil {
		return fault.Wrap(fault.Conflict, err, "the sealed PINs do not open: the seal record in the database was altered; restore the database from a backup")
	}
	defer ps.wipe()
	tok, err := c.loginWith(ctx, ps)
	switch {
	case errors.Is(err, token.ErrPIN):
		c.refuseStored(ctx, &refusal{Serial: rec.TokenSerial, Time: c.now().UTC()})
		return c.storedRefusal(err)
	case err != nil:
		return deviceFault(err, "log in to the HSM token")
	}
	err, _ = c.enter(ctx, rec, tok)
	return err
}

// providerName is that of the configured provider, "" without one.
func (c *Custody) providerName() string {
	if c.opts.Provider == nil {
		return ""
	}
	return c.opts.Provider.Name()
}

// sealType is the type in the seal status: shamir, pin, or the provider's name.
func (c *Custody) sealType() string {
	kind, provider := c.opts.Kind, c.providerName()
	if c.rec != nil {
		kind = c.rec.Kind
		if c.rec.Auto != nil {
			provider = c.rec.Auto.Provider
		}
	}
	switch kind {
	case KindPIN:
		return KindPIN
	case KindAuto:
		return provider
	}
	return "shamir"
}
