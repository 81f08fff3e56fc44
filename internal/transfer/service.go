package transfer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/keys"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// Custodians confirm an act with their shares.
type Custodians interface {
	BeginConfirmation() (nonce string, required int, err error)
	Confirmation() (nonce string, progress int)
	CancelConfirmation()
	Confirm(ctx context.Context, nonce, share string) (progress int, complete bool, err error)
}

// Keys are the named keys of the server.
type Keys interface {
	CarryNames(ctx context.Context, mount string) ([]string, error)
	Carriable(ctx context.Context, mount, name string) (secrets int, err error)
	CarryOut(ctx context.Context, mount, name string) (*keys.Cargo, error)
	CarryIn(ctx context.Context, mount string, c *keys.Cargo) (name string, made bool, err error)
}

// Options is what a Service needs; Logger and Now may be nil.
type Options struct {
	Store      *store.Sealed
	Token      *token.Holder
	Keys       Keys
	Custodians Custodians
	// Mounts returns the transit mounts: the name that the keys' service knows by path.
	Mounts func() map[string]string
	Logger *slog.Logger
	Now    func() time.Time
}

// Service exports and imports rings. It is safe for concurrent use.
type Service struct {
	Options
	mu sync.Mutex // one change of a record at a time
}

// New returns a service on a store and an HSM token, both of which may be sealed.
func New(o Options) *Service {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Service{Options: o}
}

// Operations returns the table of everything this service does.
func (s *Service) Operations() []*op.Operation {
	meta := func(name, path string, verb op.Verb, help string) op.Meta {
		return op.Meta{Name: "sys.transfer." + name, Mount: "sys", Path: "transfer/" + path, Verb: verb, Sudo: true,
			MayMiss: true, Help: help}
	}
	return []*op.Operation{
		op.Define(meta("prepare", "prepare", op.Write, "Make a KEKEK in this server's HSM token, and the statement of it, for keys that come here."), s.prepare),
		op.Define(meta("start", "export", op.Write, "Begin to export the KEK or named keys to the destination of a statement."), s.start),
		op.Define(meta("status", "export", op.Read, "Show the export under way and its destination."), s.status),
		op.Define(meta("cancel", "export", op.Delete, "End the export under way."), s.cancel),
		op.Define(meta("confirm", "confirm", op.Write, "Give a custodian's share for an export; as many are needed as unseal."), s.confirm),
		op.Define(meta("fetch", "fetch", op.Write, "Fetch a line of a confirmed export."), s.fetch),
		op.Define(meta("import", "import", op.Write, "Begin or resume the import of a ring."), s.startImport),
		op.Define(meta("import-line", "import/line", op.Write, "Import the next line of a ring."), s.importLine),
	}
}

// table has the record of the export under way, and one of each KEKEK and import.
const (
	table        = "transfer"
	exportKey    = "export"
	recordFormat = 1
)

func stateKey(fingerprint string) string { return "state/" + fingerprint }
func importKey(id string) string         { return "import/" + id }

// hsm returns the open token, if keys can leave and enter it.
func (s *Service) hsm() (Token, error) {
	t, err := s.Token.Get()
	if err != nil {
		return nil, fault.New(fault.Sealed, "Vault is sealed")
	}
	c, ok := t.(Token)
	if !ok {
		return nil, invalid("the embedded token takes part in no transfer").
			WithHint("transfers are between HSM tokens of PKCS#11 modules; single keys move with transit/backup and import")
	}
	return c, nil
}

func storeFault(err error, doing string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrSealed):
		return fault.New(fault.Sealed, "Vault is sealed")
	case errors.Is(err, store.ErrConflict):
		return fault.Wrap(fault.Conflict, err, "it was changed meanwhile; try again")
	}
	return fault.Wrap(fault.Internal, err, "can't %s", doing)
}

// put writes a record in the place of the one of version expect.
func (s *Service) put(ctx context.Context, key string, expect int64, v any) error {
	change, err := s.Store.Put(table, key, expect, v)
	if err == nil {
		err = s.Store.Apply(ctx, change)
	}
	return storeFault(err, "store the state of the transfer")
}

// stateRecord is a KEKEK of this server's token.
type stateRecord struct {
	Format int       `json:"format"`
	Time   time.Time `json:"time"`
	State  *State    `json:"state"`
}

func (s *Service) prepare(ctx context.Context, _ *op.Call, req *api.PrepareTransfer) (*api.PreparedTransfer, error) {
	t, err := s.hsm()
	if err != nil {
		return nil, err
	}
	bits := req.Bits
	if bits == 0 {
		bits = DefaultBits
	}
	line, state, err := Prepare(ctx, t, bits, s.Now())
	if err != nil {
		return nil, err
	}
	to, err := state.statement()
	if err != nil {
		return nil, err
	}
	if err := s.put(ctx, stateKey(to.Fingerprint()), 0, stateRecord{Format: recordFormat, Time: s.Now().UTC(), State: state}); err != nil {
		return nil, errors.Join(err, drop(ctx, t, to.id()))
	}
	s.Logger.Warn("A KEKEK was made: keys can come in under it", "kekek", to.KEKEKFingerprint(), "statement", to.Fingerprint())
	return &api.PreparedTransfer{Statement: string(line), Fingerprint: to.Fingerprint(), KEKEKFingerprint: to.KEKEKFingerprint()}, nil
}
