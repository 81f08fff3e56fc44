package custody

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// plan is a request that was found good, before anything is made.
type plan struct {
	kind         string // KindShares, KindPIN or KindAuto
	n, t         int
	create       bool
	pin          []byte // of the token to adopt, or the configured one
	transferable bool
	pgpKeys      []*pgpKey // none, or n
	rootPGPKey   *pgpKey
	ceremony     string
	state        token.State
	envelope     *envelope // with KindAuto
}

// plan checks everything that can be checked without making anything.
func (c *Custody) plan(ctx context.Context, req *api.Init) (_ *plan, err error) {
	if err := c.checkFresh(ctx); err != nil {
		return nil, err
	}
	p := &plan{n: req.SecretShares, t: req.SecretThreshold, transferable: req.TransferableKEK, ceremony: req.Ceremony}
	defer func() {
		if err != nil {
			p.wipe()
		}
	}()
	if err := checkCeremony(p.ceremony); err != nil {
		return nil, err
	}
	if err := c.planKind(ctx, p, req); err != nil {
		return nil, err
	}
	if err := p.readPGPKeys(req, c.now()); err != nil {
		return nil, err
	}
	mode, err := c.mode(req)
	if err != nil {
		return nil, err
	}
	p.create = mode == Create
	if p.state, err = c.opts.Device.State(ctx); err != nil {
		return nil, deviceFault(err, "look at the HSM token")
	}
	if p.create {
		err = c.planCreate(p)
	} else {
		err = c.planAdopt(p, req.HSMPIN)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *plan) wipe() {
	clear(p.pin)
	p.envelope.wipe()
}

// checkFresh refuses a second initialisation, and one that could not be stored.
func (c *Custody) checkFresh(ctx context.Context) error {
	initialized := errors.New("there is a seal record")
	if c.record() == nil {
		rec, err := loadRecord(ctx, c.opts.Store)
		if err != nil {
			return storeFault(err)
		}
		if rec == nil {
			return storeFault(c.opts.Store.Check(ctx))
		}
		initialized = errors.New("another server initialised this database")
	}
	return fault.Wrap(fault.Invalid, initialized, "Vault is already initialized")
}

func checkNumbers(n, t int) error {
	const prefix = "invalid seal configuration: "
	switch {
	case n < 1:
		return fault.New(fault.Invalid, prefix+"shares must be at least one; secret_shares is %d", n)
	case n > MaxShares:
		return fault.New(fault.Invalid, prefix+"shares must be less than 256; secret_shares is %d", n)
	case t < 1:
		return fault.New(fault.Invalid, prefix+"threshold must be at least one; secret_threshold is %d", t)
	case t > n:
		return fault.New(fault.Invalid, prefix+"threshold cannot be larger than shares; secret_threshold is %d and secret_shares %d", t, n)
	}
	return nil
}

func (c *Custody) mode(req *api.Init) (string, error) {
	mode := req.HSMToken
	if mode == "" {
		mode = c.opts.HSMToken
	}
	switch mode {
	case Create, Adopt:
	case "":
		return "", fault.New(fault.Invalid, "neither the request nor the configuration says what to do with the HSM token").
			WithHint("set hsm_token to create (a new token, with PINs that nobody knows) or to adopt (an initialised one, by its user PIN in hsm_pin)")
	default:
		return "", fault.New(fault.Invalid, "hsm_token is neither create nor adopt")
	}
	if mode == Create && req.HSMPIN != "" {
		return "", fault.New(fault.Invalid, "hsm_pin is for a token to adopt; the PINs of a new token are made at random")
	}
	return mode, nil
}

func (c *Custody) planCreate(p *plan) (err error) {
	if p.state.Initialized {
		return tokenExists(p.state.Label, nil)
	}
	if p.state.MaxPIN > 0 && p.state.MaxPIN < pinSize {
		return fault.New(fault.Unsupported, "the HSM takes PINs of at most %d characters, and a random one needs %d; initialise the token with the HSM's own tool and adopt it",
			p.state.MaxPIN, pinSize)
	}
	if p.kind != KindPIN {
		return nil
	}
	if p.pin, err = c.configuredPIN(); err != nil {
		return err
	}
	return checkLength(p.state, p.pin)
}

func checkLength(st token.State, pin []byte) error {
	if n := len(pin); n < max(st.MinPIN, 1) || st.MaxPIN > 0 && n > st.MaxPIN || n > 255 {
		return fault.New(fault.Invalid, "the PIN has a length that the HSM token can't have: it takes %d to %d characters; it was not tried",
			st.MinPIN, st.MaxPIN)
	}
	return nil
}

func tokenExists(label string, cause error) error {
	e := fault.New(fault.Conflict, "%s is initialised already; nothing was changed", tokenName(label))
	e.Err = cause
	return e.WithHint("use hsm_token adopt with its user PIN, or configure another label. If an interrupted initialisation left it: %s", removal(label))
}

// removal says how to get rid of a token whose PINs nobody knows.
func removal(label string) string {
	if label == "" {
		label = "LABEL"
	}
	return fmt.Sprintf("remove it with the HSM's own tool (SoftHSM2: softhsm2-util --delete-token --token %q; embedded token: delete its directory) and initialise again", label)
}

func (c *Custody) planAdopt(p *plan, given string) (err error) {
	switch {
	case !p.state.Present || !p.state.Initialized:
		return fault.New(fault.Invalid, "there is no initialised HSM token to adopt").
			WithHint("check the configured module and label, or use hsm_token create")
	case p.state.PINLocked:
		return deviceFault(token.ErrLocked, "adopt the HSM token")
	}
	if p.pin, err = c.adoptPIN(given); err != nil {
		return err
	}
	if err := checkLength(p.state, p.pin); err != nil {
		return err
	}
	return c.checkRefused(p.state.Serial, p.pin)
}

// checkRefused refuses a PIN that the token of that serial number refused before.
func (c *Custody) checkRefused(serial string, pin []byte) error {
	at, found := c.refused.find(serial, pin)
	if !found {
		return nil
	}
	return fault.New(fault.Invalid, "the HSM token refused this PIN on %s; it was not tried again, because tokens lock after a few wrong PINs",
		at.UTC().Format(time.RFC3339)).WithHint("if the token's user PIN was set to it since, set it to another one")
}

func (c *Custody) adoptPIN(given string) ([]byte, error) {
	if given != "" {
		return []byte(given), nil
	}
	if c.opts.PIN == nil {
		return nil, fault.New(fault.Invalid, "the user PIN of the HSM token to adopt is missing").WithHint("give it in hsm_pin, or configure a PIN file")
	}
	return c.configuredPIN()
}

func (c *Custody) configuredPIN() ([]byte, error) {
	pin, err := c.opts.PIN()
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the configured user PIN of the HSM token can't be read; the server's log has the details")
	}
	return pin, nil
}
