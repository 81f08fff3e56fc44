package custody

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"

	"github.com/google/uuid"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/pgp"
)

// rootAttempt collects shares for a new root token. There is one at a time; it
// ends with the token, its cancellation, or the sealing of the server.
type rootAttempt struct {
	nonce string // "" while there is none
	otp   []byte // nil with pgp
	pgp   *pgpKey
	// ceremony is what its signed statement is to name; "" makes none.
	ceremony string
	given    collection
}

func (a *rootAttempt) wipe() {
	a.given.wipe()
	clear(a.otp)
	*a = rootAttempt{}
}

// generateRootOperations are there twice: for callers with a client token that may
// use them, and for everybody, which is off unless Options.OpenGenerateRoot is set.
func (c *Custody) generateRootOperations() []*op.Operation {
	var ops []*op.Operation
	for _, public := range []bool{false, true} {
		meta := func(name, path string, verb op.Verb, help string) op.Meta {
			m := op.Meta{Name: "sys.generate-root-token." + name, Mount: "sys", Path: "generate-root-token/" + path, Verb: verb,
				Sudo: true, TopLevel: true, Help: help}
			if public {
				m.Name, m.Path = "sys.generate-root."+name, "generate-root/"+path
				m.Public, m.Sudo, m.TopLevel, m.Bare = true, false, false, true
				m.Help += " Without a client token; refused unless the configuration allows it."
			}
			return m
		}
		ops = append(ops,
			op.Define(meta("status", "attempt", op.Read, "Show how far the making of a root token is."), asked(c, public, c.rootStatus)),
			op.Define(meta("start", "attempt", op.Write, "Begin to make a root token, which needs as many shares as unsealing."), asked(c, public, c.startRoot)),
			op.Define(meta("cancel", "attempt", op.Delete, "Forget the shares given for a root token."), asked(c, public, c.cancelRoot)),
			op.Define(meta("update", "update", op.Write, "Give a share for a root token; the last one makes it."), asked(c, public, c.giveRoot)))
	}
	return ops
}

// asked makes an operation of f, which the unauthenticated form refuses unless it
// is allowed: anybody could cancel, or begin, an attempt.
func asked[Req, Resp any](c *Custody, public bool, f func(context.Context, *Req) (*Resp, error)) func(context.Context, *op.Call, *Req) (*Resp, error) {
	return func(ctx context.Context, _ *op.Call, req *Req) (*Resp, error) {
		if public && !c.opts.OpenGenerateRoot {
			return nil, fault.New(fault.Denied, "permission denied").
				WithHint("sys/generate-root is off: use sys/generate-root-token with a client token that may, " +
					"or set generate_root_without_token = true in the section [custody] of the configuration")
		}
		return f(ctx, req)
	}
}

func (c *Custody) rootStatus(context.Context, *api.Empty) (*api.GenerateRootStatus, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rootState()
}

// rootState is called by the holder of mu.
func (c *Custody) rootState() (*api.GenerateRootStatus, error) {
	if c.tok == nil {
		return nil, fault.New(fault.Sealed, "Vault is sealed")
	}
	s := &api.GenerateRootStatus{Nonce: c.root.nonce, Started: c.root.nonce != "", Progress: len(c.root.given.shares),
		Required: c.root.given.needed(c.rec), OTPLength: c.opts.RootTokenLength, Ceremony: c.root.ceremony}
	if c.root.pgp != nil {
		s.PGPFingerprint = c.root.pgp.Fingerprint
	}
	return s, nil
}

func (c *Custody) startRoot(_ context.Context, req *api.StartGenerateRoot) (*api.GenerateRootStatus, error) {
	attempt, err := c.newAttempt(req)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.rootState(); err != nil {
		attempt.wipe()
		return nil, err
	}
	if c.rec.Kind == KindPIN {
		attempt.wipe()
		return nil, withoutShares()
	}
	if c.root.nonce != "" {
		attempt.wipe()
		return nil, fault.New(fault.Invalid, "root generation already in progress").
			WithHint("cancel it first, or give shares with its nonce, which the status shows")
	}
	c.root = *attempt
	c.log.Warn("The making of a root token was begun", "nonce", c.root.nonce, "openpgp", c.root.pgp != nil)
	s, err := c.rootState()
	if err == nil && req.OTP == "" {
		s.OTP = string(c.root.otp)
	}
	return s, err
}

func (c *Custody) newAttempt(req *api.StartGenerateRoot) (*rootAttempt, error) {
	if err := checkCeremony(req.Ceremony); err != nil {
		return nil, err
	}
	a := &rootAttempt{nonce: uuid.NewString(), ceremony: req.Ceremony}
	n := c.opts.RootTokenLength
	switch {
	case req.OTP != "" && req.PGPKey != "":
		return nil, fault.New(fault.Invalid, "otp and pgp_key exclude each other: give one of both, or none")
	case req.PGPKey != "":
		var err error
		if a.pgp, err = pgp.Parse(req.PGPKey, c.now()); err != nil {
			return nil, fault.New(fault.Invalid, "pgp_key: %v", err)
		}
	case req.OTP != "":
		if len(req.OTP) != n {
			return nil, fault.New(fault.Invalid, "otp string is wrong length: it has %d characters, and a one-time pad has %d", len(req.OTP), n)
		}
		a.otp = []byte(req.OTP)
	default:
		a.otp = newOTP(n)
	}
	return a, nil
}

// newOTP returns n random letters and digits. A token is XORed with it, so what is
// shown needs as many random bits as the token has, and has them.
func newOTP(n int) []byte {
	const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	otp := make([]byte, 0, n)
	var b [1]byte
	for len(otp) < n {
		rand.Read(b[:])
		if b[0] < 4*62 { // more would favour the first letters
			otp = append(otp, letters[b[0]%62])
		}
	}
	return otp
}

func (c *Custody) cancelRoot(context.Context, *api.Empty) (*api.Empty, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.rootState(); err != nil {
		return nil, err
	}
	if c.root.nonce != "" {
		c.log.Warn("The making of a root token was cancelled", "nonce", c.root.nonce)
	}
	c.root.wipe()
	return nil, nil
}

// giveRoot takes one share; the one that completes them makes the token. It holds
// the right to act, so that the server is not sealed meanwhile.
func (c *Custody) giveRoot(ctx context.Context, req *api.GiveRootShare) (*api.GenerateRootStatus, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	attempt, err := c.collectRoot(req)
	if err != nil {
		c.log.Warn("A share for a root token was refused", "reason", err)
		return nil, err
	}
	if attempt == nil {
		return c.rootStatus(ctx, nil)
	}
	defer attempt.wipe()
	return c.makeRoot(ctx, attempt)
}

// collectRoot checks a share and adds it. It returns the attempt, which has ended
// then, once the shares are enough.
func (c *Custody) collectRoot(req *api.GiveRootShare) (*rootAttempt, error) {
	if req.Key == "" {
		return nil, fault.New(fault.Invalid, "'key' must be specified in request body as JSON")
	}
	share, err := ParseShare(req.Key)
	if err != nil {
		return nil, err
	}
	defer share.Wipe()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.tok == nil:
		return nil, fault.New(fault.Sealed, "Vault is sealed")
	case c.root.nonce == "":
		return nil, fault.New(fault.Invalid, "no root generation in progress")
	case subtle.ConstantTimeCompare([]byte(c.root.nonce), []byte(req.Nonce)) != 1:
		return nil, fault.New(fault.Invalid, "incorrect nonce supplied; nonce for this root generation operation is %q", c.root.nonce)
	}
	if err := c.root.given.take(&share, c.rec.sets()...); err != nil {
		return nil, err
	}
	c.log.Info("A share for a root token was accepted", "share", share.X, "progress", len(c.root.given.shares), "nonce", c.root.nonce)
	if !c.root.given.enough() {
		return nil, nil
	}
	attempt := c.root
	c.root = rootAttempt{}
	return &attempt, nil
}

// makeRoot proves by the sealed PINs that the shares open the seal, and makes the
// token. It is shown to nobody but encoded.
func (c *Custody) makeRoot(ctx context.Context, a *rootAttempt) (*api.GenerateRootStatus, error) {
	rec := c.record()
	o, err := rec.openWith(a.given.shares)
	if err != nil {
		return nil, err
	}
	o.wipe()
	text, err := c.opts.Hooks.RootToken(ctx)
	if err != nil {
		c.log.Error("The root token was not made", "error", err)
		return nil, err
	}
	n := a.given.set.T
	s := &api.GenerateRootStatus{Nonce: a.nonce, Progress: n, Required: n, Started: true, Complete: true,
		OTPLength: c.opts.RootTokenLength, Ceremony: a.ceremony}
	if s.EncodedToken, err = a.encode([]byte(text)); err != nil {
		return nil, err
	}
	s.EncodedRootToken = s.EncodedToken
	s.Statement = c.attestRoot(ctx, a, s.EncodedToken)
	if a.pgp != nil {
		s.PGPFingerprint = a.pgp.Fingerprint
	}
	c.log.Warn("A root token was made with the shares of custodians", "nonce", a.nonce)
	return s, nil
}

// encode encrypts the text of a token, and wipes it.
func (a *rootAttempt) encode(text []byte) (string, error) {
	defer clear(text)
	if a.pgp != nil {
		message, err := a.pgp.Encrypt(text)
		return base64.StdEncoding.EncodeToString(message), err
	}
	if len(a.otp) != len(text) {
		return "", fault.New(fault.Internal, "a root token has not the length of its one-time pad")
	}
	out := make([]byte, len(text))
	defer clear(out)
	subtle.XORBytes(out, text, a.otp)
	return base64.RawStdEncoding.EncodeToString(out), nil
}
