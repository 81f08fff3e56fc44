package custody

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// What sys/init does with the HSM token (Options.HSMToken, api.Init.HSMToken).
const (
	Create = "create" // make a new token, with PINs that nobody knows
	Adopt  = "adopt"  // take over a token that exists, by its user PIN
)

// deviceTimeout bounds an act at the HSM. It does not end with the caller's
// connection: a login that is broken off half-way has perhaps used up a try.
const deviceTimeout = 5 * time.Minute

// Hooks start and stop what lives behind the seal.
type Hooks struct {
	// Unsealed starts the services. It copies what it keeps of the storage keys,
	// and makes Options.Records use them. During Init it is called while State still
	// says "not initialised": the store is empty then, and must stay so until
	// Init is done. If it fails, Sealed is called to undo what it began.
	Unsealed func(ctx context.Context, t token.Token, keys store.Keyring) error
	// Sealed stops the services and forgets the storage key; the token is
	// closed after it returns. State says "sealed" before it is called, so
	// nothing new begins. It runs outside of any operation and may wait until
	// those under way have ended, so that their audit records are complete.
	Sealed func()
	// Genesis makes the records of a new server, sealed under the storage key
	// that Unsealed got. Init writes them in one transaction with its own.
	Genesis func(ctx context.Context) (rootToken string, changes []store.Change, err error)
	// RootToken makes a root token, durably, and returns its text.
	RootToken func(ctx context.Context) (text string, err error)
}

// Options say what custody works on.
type Options struct {
	Store store.Store // not the sealed view
	// Records is the sealed view of Store, for what custody keeps while unsealed.
	Records *store.Sealed
	Device  token.Device // the HSM token before login
	// HSMToken is what Init does when the request does not say: Create, Adopt,
	// or "" to refuse.
	HSMToken string
	// Kind is who opens the server, KindShares, KindPIN or KindAuto; "" is KindShares.
	// Unless it is what the server was initialised with, the server stays sealed
	// until it is migrated, or is refused with KindPIN.
	Kind string
	// Provider keeps the unseal secret with KindAuto.
	Provider Provider
	// PIN returns the user PIN of the token to adopt when the request does not
	// say; may be nil. With KindPIN it is asked at each opening. Custody wipes
	// what it returned.
	PIN   func() ([]byte, error)
	Hooks Hooks
	// RootTokenLength is how many characters the text of a root token has.
	RootTokenLength int
	// OpenGenerateRoot lets callers without a client token begin, cancel and
	// complete the making of a root token, which needs the shares in any case.
	OpenGenerateRoot bool
	Version          string // semantic version, as clients parse it
	BuildDate        string
	StorageType      string // for people: "sqlite"
	ClusterName      string
	Logger           *slog.Logger
	Now              func() time.Time // nil: time.Now
}

// Custody is the seal of one server. Its methods are safe for concurrent use.
type Custody struct {
	opts Options
	log  *slog.Logger
	now  func() time.Time

	// act holds the right to initialise, unseal or seal, one at a time. It is a
	// channel so that waiting for it ends with the caller's deadline.
	act     chan struct{}
	refused *refusals // guarded by act
	// heldShut says that the server was sealed on purpose: the provider does not
	// open it again. Guarded by act.
	heldShut bool
	state    atomic.Uint32

	mu      sync.Mutex // guards what follows; never held while the HSM or the store works
	rec     *record
	given   collection
	tok     token.Token
	used    useRecord // of the storage key in use; of no term until it is asked for
	root    rootAttempt
	rekey   rekeyAttempt
	confirm confirmation
	closed  bool
}

const (
	stateInitialized = 1 << iota
	stateUnsealed
)

var semver = regexp.MustCompile(`^\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?$`)

// New reads the seal record, if there is one. The server is sealed then.
func New(o Options) (*Custody, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	c := &Custody{opts: o, log: o.Logger, now: o.Now, act: make(chan struct{}, 1)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if c.rec, err = loadRecord(ctx, o.Store); err != nil {
		return nil, err
	}
	if c.refused, err = loadRefusals(ctx, o.Store); err != nil {
		return nil, err
	}
	if c.rec != nil {
		c.state.Store(stateInitialized)
		if err := c.checkKind(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (o *Options) validate() error {
	switch {
	case o.Store == nil, o.Records == nil, o.Device == nil:
		return errors.New("custody needs a store, its sealed view and an HSM device")
	case o.Hooks.Unsealed == nil, o.Hooks.Sealed == nil, o.Hooks.Genesis == nil, o.Hooks.RootToken == nil:
		return errors.New("custody needs all of its hooks")
	case !semver.MatchString(o.Version):
		return fmt.Errorf("version %q is not of the form 1.2.3; clients can't parse it", o.Version)
	case o.HSMToken != "" && o.HSMToken != Create && o.HSMToken != Adopt:
		return fmt.Errorf("HSM token at initialisation: %q is neither %q nor %q nor empty", o.HSMToken, Create, Adopt)
	case o.Kind != "" && o.Kind != KindShares && o.Kind != KindPIN && o.Kind != KindAuto:
		return fmt.Errorf("custody: %q is neither %q nor %q nor %q nor empty", o.Kind, KindShares, KindPIN, KindAuto)
	case (o.Kind == KindAuto) != (o.Provider != nil):
		return fmt.Errorf("custody %q needs a provider, and no other does", KindAuto)
	case o.Kind == KindPIN && o.PIN == nil:
		return errors.New("custody by a PIN needs a PIN")
	}
	return nil
}

// State tells whether the server was initialised and whether it is sealed. It
// costs one atomic load.
func (c *Custody) State() (initialized, sealed bool) {
	s := c.state.Load()
	return s&stateInitialized != 0, s&stateUnsealed == 0
}

// Status describes the seal. It never waits for the HSM or the store.
func (c *Custody) Status() *api.SealStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	initialized, sealed := c.State()
	s := &api.SealStatus{
		Type:        c.sealType(),
		Initialized: initialized,
		Sealed:      sealed,
		Progress:    len(c.given.shares),
		Nonce:       c.given.nonce,
		Version:     c.opts.Version,
		BuildDate:   c.opts.BuildDate,
		StorageType: c.opts.StorageType,
	}
	s.RecoverySeal = s.Type != "shamir"
	s.Migration = c.migrating(c.rec)
	if c.rec != nil {
		s.T, s.N = c.rec.Threshold, c.rec.Shares
		if g := c.given.set; g != nil {
			s.T, s.N = g.T, g.N
		}
		if !sealed {
			s.ClusterName, s.ClusterID = c.opts.ClusterName, c.rec.ClusterID
		}
	}
	return s
}

// begin takes the right to act; the caller calls end.
func (c *Custody) begin(ctx context.Context) (end func(), err error) {
	select {
	case c.act <- struct{}{}:
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Unavailable, ctx.Err(), "another call is initialising, unsealing or sealing this server; try again")
	}
	end = func() { <-c.act }
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		end()
		return nil, fault.New(fault.Unavailable, "this server is shutting down")
	}
	return end, nil
}

func (c *Custody) record() *record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec
}

// start hands the open token to the services. If they can't start, they are
// stopped and the token is closed.
func (c *Custody) start(ctx context.Context, t token.Token, keys store.Keyring) error {
	if err := c.opts.Hooks.Unsealed(ctx, t, keys); err != nil {
		c.stop(t)
		return serviceFault(err)
	}
	return nil
}

// stop ends the services and then the login that they used.
func (c *Custody) stop(t token.Token) {
	c.opts.Hooks.Sealed()
	c.closeToken(t)
}

func (c *Custody) closeToken(t token.Token) {
	if err := t.Close(); err != nil {
		c.log.Error("The HSM token could not be closed", "error", err)
	}
}

// unsealed makes the open token the server's, in one step with the state.
func (c *Custody) unsealed(t token.Token) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tok = t
	c.used = useRecord{}
	c.given.wipe()
	c.heldShut = false
	c.state.Store(stateInitialized | stateUnsealed)
}

// deviceContext outlives the caller's connection, but not deviceTimeout.
func deviceContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), deviceTimeout)
}

// collection is the shares given so far.
type collection struct {
	nonce   string // names this round of collecting
	set     *Set   // of the shares; nil before the first one
	shares  []Share
	migrate bool // what the shares are given for, see Custody.migrate
}

func (g *collection) has(x uint8) bool {
	for i := range g.shares {
		if g.shares[i].X == x {
			return true
		}
	}
	return false
}

// take checks a share of one of the sets, the first one in force, and adds it.
func (g *collection) take(s *Share, sets ...*Set) error {
	set := sets[0]
	for _, o := range sets[1:] {
		if o.ID() == s.Set {
			set = o
		}
	}
	if err := set.Check(s); err != nil {
		return err
	}
	if len(g.shares) > 0 && g.shares[0].Set != s.Set {
		e := fault.New(fault.Invalid, "this share belongs to set %s, and the %d given before it to set %s: they do not open together",
			s.Set, len(g.shares), g.shares[0].Set)
		e.Err = ErrForeign
		return e.WithHint("begin anew (reset or cancel), and give shares of one set")
	}
	if g.has(s.X) {
		e := fault.New(fault.Invalid, "share %d was given already: %d of %d different shares are there", s.X, len(g.shares), set.T)
		e.Err = ErrRepeated
		return e
	}
	g.set = set
	g.add(*s)
	return nil
}

// needed is how many shares there must be: of their set, or of the one in force.
func (g *collection) needed(rec *record) int {
	if g.set != nil {
		return g.set.T
	}
	return rec.Threshold
}

// enough tells whether the shares open their set.
func (g *collection) enough() bool { return g.set != nil && len(g.shares) >= g.set.T }

func (g *collection) add(s Share) {
	if len(g.shares) == 0 {
		g.nonce = uuid.NewString()
	}
	if g.shares == nil {
		// Room for all of them: a slice that grows would leave copies behind.
		g.shares = make([]Share, 0, MaxShares)
	}
	g.shares = append(g.shares, s)
}

// drop forgets the share that was added last.
func (g *collection) drop() {
	last := len(g.shares) - 1
	g.shares[last].Wipe()
	g.shares = g.shares[:last]
	if last == 0 {
		g.nonce, g.set = "", nil
	}
}

func (g *collection) wipe() {
	for i := range g.shares {
		g.shares[i].Wipe()
	}
	*g = collection{}
}
