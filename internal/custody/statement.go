package custody

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// statementDomain begins what is signed, so that no signature of the audit key is
// taken for one of another purpose.
const statementDomain = "claviger ceremony statement 1\n"

const statementFormat = 1

// statementKey is where the last signed statement of an act lies. It is public, and
// whoever alters it breaks its signature.
func statementKey(act string) string { return "ceremony-" + act }

// checkCeremony refuses what is no SHA-256 as a ceremony's name; "" is none.
func checkCeremony(name string) error {
	if b, err := hex.DecodeString(name); name != "" && (err != nil || len(b) != sha256.Size || strings.ToLower(name) != name) {
		return fault.New(fault.Invalid, "ceremony must be a SHA-256: %d hexadecimal digits in lower case", hex.EncodedLen(sha256.Size))
	}
	return nil
}

// attest signs a statement about an act that is done. The caller fills in what is of
// the act; nothing in it but the name of the ceremony is the client's word.
func (c *Custody) attest(ctx context.Context, tok token.Token, rec *record, s *api.ActStatement) (*api.SignedStatement, error) {
	info := tok.Info()
	s.Format, s.Time = statementFormat, c.now().UTC().Truncate(time.Millisecond)
	s.Server = api.StatedServer{Release: c.opts.Version, ClusterID: rec.ClusterID}
	s.Token = api.StatedToken{Driver: info.Driver, Module: info.Module, Label: info.Label, Serial: info.Serial,
		Manufacturer: info.Manufacturer, Model: info.Model, Firmware: info.Firmware}
	s.Recovery = rec.Kind == KindAuto
	if rec.set != nil && rec.SetID != "" {
		s.ShareSet = *publicSet(rec.set)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode the statement of an act: %w", err)
	}
	return signStatement(ctx, tok, text)
}

func signStatement(ctx context.Context, tok token.Token, text []byte) (*api.SignedStatement, error) {
	stored, err := tok.AuditKey(ctx)
	if err != nil {
		return nil, deviceFault(err, "read the HSM token's audit key")
	}
	key, err := tok.Key(stored)
	if err != nil {
		return nil, deviceFault(err, "use the HSM token's audit key")
	}
	digest := sha256.Sum256(append([]byte(statementDomain), text...))
	items := []token.Item{{In: digest[:]}}
	if err = key.Do(ctx, token.Op{Kind: token.Sign}, items); err == nil {
		err = items[0].Err
	}
	if err != nil {
		return nil, deviceFault(err, "sign a statement with the HSM token's audit key")
	}
	return &api.SignedStatement{Statement: text, PublicKey: stored.Public, Signature: items[0].Out}, nil
}

// statementChange puts a signed statement in the place of the last one of its act.
func (c *Custody) statementChange(ctx context.Context, act string, s *api.SignedStatement) (store.Change, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return store.Change{}, fmt.Errorf("encode a signed statement: %w", err)
	}
	raw, err := c.opts.Store.Get(ctx, table, statementKey(act))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return store.Change{}, storeFault(err)
	}
	return store.Change{Table: table, Key: statementKey(act), Expect: raw.Version, Data: data}, nil
}

// attestDone is attest for an act that can't be taken back: what fails is logged, and
// the act stays without a statement.
func (c *Custody) attestDone(ctx context.Context, s *api.ActStatement) *api.SignedStatement {
	if s.Ceremony == "" {
		return nil
	}
	c.mu.Lock()
	rec, tok := c.rec, c.tok
	c.mu.Unlock()
	err := error(fault.New(fault.Sealed, "the server was sealed meanwhile"))
	var signed *api.SignedStatement
	if tok != nil {
		signed, err = c.attest(ctx, tok, rec, s)
	}
	if err == nil {
		var change store.Change
		if change, err = c.statementChange(ctx, s.Act, signed); err == nil {
			err = c.opts.Store.Apply(ctx, change)
		}
	}
	if err != nil {
		c.log.Error("An act of custodians was done, and its statement could not be signed or kept", "act", s.Act, "ceremony", s.Ceremony, "error", err)
	}
	return signed
}

// attestInit makes the statement of an initialisation, before its records are written.
func (c *Custody) attestInit(ctx context.Context, tok token.Token, b *birth) ([]store.Change, error) {
	if b.plan.ceremony == "" {
		return nil, nil
	}
	b.doing = "sign the statement of the initialisation"
	s := &api.ActStatement{Act: api.ActInit, Ceremony: b.plan.ceremony, Adopted: b.rec.Adopted, Given: []int{},
		Shares: handedOver(b.plan.pgpKeys, slices.Concat(b.result.KeysBase64, b.result.RecoveryKeysBase64))}
	if b.plan.rootPGPKey != nil {
		s.Root = handed(b.plan.rootPGPKey.Fingerprint, b.result.RootToken)
	}
	var err error
	if b.result.Statement, err = c.attest(ctx, tok, b.rec, s); err != nil {
		return nil, err
	}
	change, err := c.statementChange(ctx, api.ActInit, b.result.Statement)
	return []store.Change{change}, err
}

// attestRekey makes the statement of new shares that are in force.
func (c *Custody) attestRekey(ctx context.Context, a *rekeyAttempt, f *freshShares) *api.SignedStatement {
	return c.attestDone(ctx, &api.ActStatement{Act: api.ActRekey, Ceremony: a.ceremony, Given: shareNumbers(a.given.shares),
		FormerSet: f.from.set.ID().String(), Verified: shareNumbers(f.given.shares), NewPIN: a.newPIN, Shares: f.handed})
}

// attestRoot makes the statement of a root token.
func (c *Custody) attestRoot(ctx context.Context, a *rootAttempt, encoded string) *api.SignedStatement {
	s := &api.ActStatement{Act: api.ActGenerateRoot, Ceremony: a.ceremony, Given: shareNumbers(a.given.shares),
		FormerSet: a.given.set.ID().String(), Shares: []api.StatedResult{}}
	if a.pgp != nil {
		s.Root = handed(a.pgp.Fingerprint, encoded)
	} else {
		sum := sha256.Sum256([]byte(encoded))
		s.Root = &api.StatedResult{For: api.ForOTP, SHA256: hex.EncodeToString(sum[:])}
	}
	return c.attestDone(ctx, s)
}

// handedOver describes messages to OpenPGP keys; without keys the shares are in clear
// text, and nothing is said of them.
func handedOver(keys []*pgpKey, messages []string) []api.StatedResult {
	all := make([]api.StatedResult, 0, len(keys))
	for i, k := range keys {
		all = append(all, *handed(k.Fingerprint, messages[i]))
	}
	return all
}

func handed(to, message string) *api.StatedResult {
	b, err := base64.StdEncoding.DecodeString(message)
	if err != nil {
		panic("a message that this package made is not base64") // see pgp.Key.Encrypt
	}
	sum := sha256.Sum256(b)
	return &api.StatedResult{For: to, SHA256: hex.EncodeToString(sum[:])}
}

// shareNumbers are the numbers of shares in ascending order, never nil.
func shareNumbers(shares []Share) []int {
	numbers := make([]int, 0, len(shares))
	for i := range shares {
		numbers = append(numbers, int(shares[i].X))
	}
	slices.Sort(numbers)
	return numbers
}

func (c *Custody) statementOperation() *op.Operation {
	return op.Define(op.Meta{Name: "sys.ceremony", Mount: "sys", Path: "ceremony/{act}", Verb: op.Read, MayMiss: true,
		Help: "Show the signed statement of the last ceremony of that act: init, rekey or generate-root."}, c.opStatement)
}

func (c *Custody) opStatement(ctx context.Context, _ *op.Call, req *api.CeremonyAct) (*api.SignedStatement, error) {
	if !slices.Contains([]string{api.ActInit, api.ActRekey, api.ActGenerateRoot}, req.Act) {
		return nil, fault.New(fault.Invalid, "%.40q is no act of custodians: it is %s, %s or %s", req.Act, api.ActInit, api.ActRekey, api.ActGenerateRoot)
	}
	raw, err := c.opts.Store.Get(ctx, table, statementKey(req.Act))
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.New(fault.NotFound, "no ceremony of the act %s was held on this server", req.Act)
	}
	if err != nil {
		return nil, storeFault(err)
	}
	s := new(api.SignedStatement)
	if err := json.Unmarshal(raw.Data, s); err != nil {
		return nil, fmt.Errorf("the statement %s/%s in the database is damaged: %w", table, statementKey(req.Act), err)
	}
	return s, nil
}
