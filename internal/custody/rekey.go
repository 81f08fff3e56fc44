package custody

import (
	"context"
	"crypto/subtle"
	"errors"

	"github.com/google/uuid"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// rekeyAttempt collects shares to replace them by others. There is one at a time; it
// ends with the new shares in force, its cancellation, or the sealing of the server.
type rekeyAttempt struct {
	nonce  string // "" while there is none
	n, t   int
	keys   []*pgpKey
	backup bool
	verify bool
	newPIN bool
	// ceremony is what its signed statement is to name; "" makes none.
	ceremony string
	given    collection
	fresh    *freshShares // made, and waiting for their verification
}

// freshShares are new shares that are not in force.
type freshShares struct {
	nonce  string // of the verification
	set    *Set
	key    []byte             // that the new shares open
	from   *opening           // what the shares in force open
	backup *backupRec         // nil without
	handed []api.StatedResult // the encrypted shares
	given  collection
}

func (f *freshShares) wipe() {
	if f == nil {
		return
	}
	f.given.wipe()
	clear(f.key)
	f.from.wipe()
}

func (a *rekeyAttempt) wipe() {
	a.given.wipe()
	a.fresh.wipe()
	*a = rekeyAttempt{}
}

func (a *rekeyAttempt) fingerprints() []string {
	var list []string
	for _, k := range a.keys {
		list = append(list, k.Fingerprint)
	}
	return list
}

// rekeyOperations are there under two names: Vault's, and the one that OpenBao gave
// to the form for callers with a client token. Both need one here.
func (c *Custody) rekeyOperations() []*op.Operation {
	var ops []*op.Operation
	// The recovery shares of a server with a provider are shares like others.
	for _, at := range []struct{ name, path, backup string }{
		{"rekey", "rekey/", "rekey/backup"}, {"rotate-root", "rotate/root/", "rotate/root/backup"},
		{"rekey-recovery", "rekey-recovery-key/", "rekey/recovery-key-backup"}, {"rotate-recovery", "rotate/recovery/", "rotate/recovery/backup"},
	} {
		meta := func(name, path string, verb op.Verb, help string) op.Meta {
			if at.name != "rekey" {
				help += " The same as sys/rekey."
			}
			return op.Meta{Name: "sys." + at.name + "." + name, Mount: "sys", Path: path, Verb: verb,
				Sudo: true, TopLevel: true, Help: help}
		}
		ops = append(ops,
			op.Define(meta("status", at.path+"init", op.Read, "Show how far the replacing of the shares is."), given(c.rekeyStatus)),
			op.Define(meta("start", at.path+"init", op.Write, "Begin to replace the shares: other custodians, another threshold, a new PIN."), given(c.startRekey)),
			op.Define(meta("cancel", at.path+"init", op.Delete, "Forget the shares given and made; those in force stay."), given(c.cancelRekey)),
			op.Define(meta("update", at.path+"update", op.Write, "Give a share that is in force; the last one makes the new ones."), given(c.giveRekey)),
			op.Define(meta("verify.status", at.path+"verify", op.Read, "Show how far the verification of the new shares is."), given(c.verifyStatus)),
			op.Define(meta("verify", at.path+"verify", op.Write, "Give a new share; the last one puts the new ones in force."), given(c.giveVerify)),
			op.Define(meta("verify.restart", at.path+"verify", op.Delete, "Forget the new shares given for verification, and begin it anew."), given(c.restartVerify)),
			op.Define(meta("backup", at.backup, op.Read, "Show the encrypted shares of the last rekey that kept them."), given(c.readBackup)),
			op.Define(meta("backup.delete", at.backup, op.Delete, "Delete the encrypted shares."), given(c.deleteBackup)))
	}
	return ops
}

// given makes an operation of f, for which it does not matter who calls.
func given[Req, Resp any](f func(context.Context, *Req) (*Resp, error)) func(context.Context, *op.Call, *Req) (*Resp, error) {
	return func(ctx context.Context, _ *op.Call, req *Req) (*Resp, error) { return f(ctx, req) }
}

func (c *Custody) rekeyStatus(context.Context, *api.Empty) (*api.RekeyStatus, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rekeyState()
}

// rekeyState is called by the holder of mu.
func (c *Custody) rekeyState() (*api.RekeyStatus, error) {
	if c.tok == nil {
		return nil, fault.New(fault.Sealed, "Vault is sealed")
	}
	a := &c.rekey
	s := &api.RekeyStatus{Nonce: a.nonce, Started: a.nonce != "", T: a.t, N: a.n, Progress: len(a.given.shares),
		Required: a.given.needed(c.rec), PGPFingerprints: a.fingerprints(), Backup: a.backup, VerificationRequired: a.verify, NewPIN: a.newPIN, Ceremony: a.ceremony}
	if a.fresh != nil {
		s.VerificationNonce = a.fresh.nonce
	}
	return s, nil
}

func (c *Custody) startRekey(ctx context.Context, req *api.StartRekey) (*api.RekeyStatus, error) {
	a := rekeyAttempt{nonce: uuid.NewString(), n: req.SecretShares, t: req.SecretThreshold, backup: req.Backup,
		verify: req.RequireVerification, newPIN: req.NewPIN, ceremony: req.Ceremony}
	if err := errors.Join(checkNumbers(a.n, a.t), checkCeremony(a.ceremony)); err != nil {
		return nil, err
	}
	switch {
	case a.backup && len(req.PGPKeys) == 0:
		return nil, fault.New(fault.Invalid, "cannot request a backup of the new keys without providing PGP keys for encryption")
	case a.newPIN && !a.verify:
		return nil, fault.New(fault.Invalid, "new_pin needs require_verification: the PIN of the HSM token is replaced only when the new shares are known to open")
	}
	var err error
	if a.keys, err = parsePGPKeys(req.PGPKeys, a.n, c.now()); err != nil {
		return nil, err
	}
	if a.newPIN {
		if err := c.checkRepin(ctx); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.tok == nil:
		return nil, fault.New(fault.Sealed, "Vault is sealed")
	case c.rec.Kind == KindPIN:
		return nil, withoutShares()
	case c.rekey.nonce != "":
		return nil, fault.New(fault.Invalid, "rekey already in progress").
			WithHint("cancel it first, or give shares with its nonce, which the status shows")
	}
	c.rekey = a
	c.log.Warn("The replacing of the shares was begun", "nonce", a.nonce, "shares", a.n, "threshold", a.t,
		"openpgp", len(a.keys) > 0, "verification", a.verify, "new_pin", a.newPIN)
	return c.rekeyState()
}

func (c *Custody) cancelRekey(ctx context.Context, req *api.CancelRekey) (*api.Empty, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.rekeyState(); err != nil {
		return nil, err
	}
	if req != nil && req.Nonce != "" {
		if err := sameNonce("rekey", c.rekey.nonce, req.Nonce); err != nil {
			return nil, err
		}
	}
	if c.rekey.nonce != "" {
		c.log.Warn("The replacing of the shares was cancelled: those in force stay", "nonce", c.rekey.nonce)
	}
	c.rekey.wipe()
	return nil, nil
}

func sameNonce(what, want, got string) error {
	if subtle.ConstantTimeCompare([]byte(want), []byte(got)) == 1 {
		return nil
	}
	return fault.New(fault.Invalid, "incorrect nonce supplied; nonce for this %s operation is %q", what, want)
}

// giveRekey takes one share; the one that completes them makes the new ones. It holds
// the right to act, so that nothing else happens to the seal meanwhile.
func (c *Custody) giveRekey(ctx context.Context, req *api.GiveRekeyShare) (*api.RekeyStatus, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	complete, err := c.collectRekey(req)
	if err != nil {
		c.log.Warn("A share to replace the shares was refused", "reason", err)
		return nil, err
	}
	if !complete {
		return c.rekeyStatus(ctx, nil)
	}
	s, err := c.makeShares(ctx)
	if err != nil {
		c.log.Error("The shares were not replaced", "error", err, "hint", fault.HintOf(err))
	}
	return s, err
}

// shareOf parses the share of a request.
func shareOf(req *api.GiveRekeyShare) (Share, error) {
	if req.Key == "" {
		return Share{}, fault.New(fault.Invalid, "'key' must be specified in request body as JSON")
	}
	return ParseShare(req.Key)
}

func (c *Custody) collectRekey(req *api.GiveRekeyShare) (complete bool, err error) {
	share, err := shareOf(req)
	if err != nil {
		return false, err
	}
	defer share.Wipe()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.tok == nil:
		return false, fault.New(fault.Sealed, "Vault is sealed")
	case c.rekey.nonce == "":
		return false, fault.New(fault.Invalid, "no barrier rekey in progress")
	case c.rekey.fresh != nil:
		return false, fault.New(fault.Invalid, "the new shares are made already").
			WithHint("give them to sys/rekey/verify, or cancel")
	}
	if err := sameNonce("rekey", c.rekey.nonce, req.Nonce); err != nil {
		return false, err
	}
	if err := c.rekey.given.take(&share, c.rec.sets()...); err != nil {
		return false, err
	}
	c.log.Info("A share to replace the shares was accepted", "share", share.X, "progress", len(c.rekey.given.shares), "nonce", c.rekey.nonce)
	return c.rekey.given.enough(), nil
}

// makeShares ends the collecting. Without verification the new shares are in force
// when it returns; an attempt that fails is over.
func (c *Custody) makeShares(ctx context.Context) (_ *api.RekeyStatus, err error) {
	c.mu.Lock()
	rec, tok, a := c.rec, c.tok, c.rekey
	c.mu.Unlock()
	defer func() {
		if err != nil {
			c.endRekey()
		}
	}()
	ctx, cancel := deviceContext(ctx)
	defer cancel()
	from, err := rec.openWith(a.given.shares)
	if err != nil {
		return nil, err
	}
	if err := c.finishPINs(ctx, tok, from.pins); err != nil {
		from.wipe()
		return nil, err
	}
	f, s, err := a.makeFresh(from)
	if err != nil {
		from.wipe()
		return nil, err
	}
	if !a.verify {
		defer f.wipe()
		if err := c.commitRekey(ctx, &a, f, true); err != nil {
			return nil, err
		}
		s.Statement = c.attestRekey(ctx, &a, f)
		c.endRekey()
		return s, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rekey.fresh = f
	c.rekey.given.wipeShares()
	c.log.Info("New shares were made and wait for their verification", "nonce", a.nonce, "verification_nonce", f.nonce, "share_set", f.set.ID())
	return s, nil
}

func (c *Custody) endRekey() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rekey.wipe()
}

// wipeShares forgets the shares, but not how many there were.
func (g *collection) wipeShares() {
	for i := range g.shares {
		g.shares[i].Wipe()
	}
}

// makeFresh makes the new shares and the answer that hands them over. The answer of
// the last share is theirs in any case: when they come in force is another matter.
func (a *rekeyAttempt) makeFresh(from *opening) (*freshShares, *api.RekeyStatus, error) {
	key, set, shares, err := Split(a.n, a.t)
	if err != nil {
		return nil, nil, err
	}
	f := &freshShares{set: set, key: key, from: from}
	needed := a.given.set.T
	s := &api.RekeyStatus{Nonce: a.nonce, Started: true, Complete: true, T: a.t, N: a.n, Progress: needed, Required: needed,
		PGPFingerprints: a.fingerprints(), Backup: a.backup, VerificationRequired: a.verify, NewPIN: a.newPIN, Ceremony: a.ceremony, ShareSet: publicSet(set)}
	if a.verify {
		f.nonce = uuid.NewString()
		s.VerificationNonce = f.nonce
	}
	defer func() {
		for i := range shares {
			shares[i].Wipe()
		}
	}()
	for i := range shares {
		inHex, inBase64, _, err := handOver(a.keys, i, &shares[i])
		if err != nil {
			clear(key)
			return nil, nil, err
		}
		s.Keys, s.KeysBase64 = append(s.Keys, inHex), append(s.KeysBase64, inBase64)
	}
	f.handed = handedOver(a.keys, s.KeysBase64)
	if a.backup {
		f.backup = newBackup(s)
	}
	return f, s, nil
}

func publicSet(s *Set) *api.ShareSet {
	return &api.ShareSet{SetID: s.ID().String(), Shares: s.N, Threshold: s.T, Commitments: s.Commitments}
}
