package keys

import (
	"context"
	x500 "crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
)

const (
	maxSubject = 4096 // bytes of CKA_SUBJECT

	useSign  = "sign"
	useAgree = "agree"
)

// p11Create makes a key; unlike keys/:name it refuses a name that is taken.
func (s *Service) p11Create(ctx context.Context, c *op.Call, r *api.P11Create) (*api.P11Key, error) {
	p, err := s.planP11(ctx, keyName{c.Mount, r.Name}, r)
	if err != nil {
		return nil, err
	}
	if r.Session {
		if err := s.roomForSession(ctx, c); err != nil {
			return nil, err
		}
	}
	if existed, err := s.exists(ctx, p.name); err != nil || existed {
		return nil, orConflict(err, "the key %s exists already", r.Name)
	}
	k, existed, err := s.create(ctx, p)
	if err != nil || existed {
		return nil, orConflict(err, "the key %s exists already", r.Name)
	}
	return s.p11Key(ctx, c, k)
}

// planP11 checks a request and decides what to make.
func (s *Service) planP11(ctx context.Context, n keyName, r *api.P11Create) (plan, error) {
	t, err := token.ParseType(r.Type)
	if err != nil || !slices.Contains(p11Types(), t) {
		return plan{}, invalid("type %q: it must be %s", r.Type, typesText(p11Types()))
	}
	record := &p11Record{Label: r.Label, ID: r.ID, Subject: r.Subject, Session: r.Session, Bare: t.Class() == token.ClassAEAD}
	if record.Label == r.Name {
		record.Label = ""
	}
	if err := record.check(); err != nil {
		return plan{}, err
	}
	if err := record.setUses(t, r.Uses); err != nil {
		return plan{}, err
	}
	if r.Session != isSessionName(r.Name) {
		return plan{}, invalid("%q: the name of a key of a session is %s and 32 random hex digits, and no other key has such a name", r.Name, sessionPrefix)
	}
	p, err := s.planKey(ctx, n, &api.CreateKey{Name: r.Name, Type: r.Type, KeySize: r.KeySize, Protection: r.Protection})
	if err == nil && record.Agree && p.protection != api.ProtectionSoftware {
		err = s.canAgree(t)
	}
	p.pkcs11, p.deletable = record, r.Deletable || r.Session
	return p, err
}

// canAgree refuses key agreement that the HSM token can't do.
func (s *Service) canAgree(t token.Type) error {
	tok, err := s.token.Get()
	if err != nil {
		return tokenFault(err, "make a key")
	}
	if info := tok.Info(); !info.Agree {
		return invalid("the HSM token %q can't agree on keys (CKM_ECDH1_DERIVE) with keys of type %v", info.Label, t).
			WithHint("ask for protection=software to use such a key in the server's memory")
	}
	return nil
}

// check looks at what programs may set.
func (r *p11Record) check() error {
	switch {
	case len(r.Label) > token.MaxObjectLabel:
		return invalid("label has %d bytes; a CKA_LABEL has up to %d", len(r.Label), token.MaxObjectLabel)
	case len(r.ID) > token.MaxObjectID:
		return invalid("id has %d bytes; a CKA_ID has up to %d", len(r.ID), token.MaxObjectID)
	case len(r.Subject) > maxSubject:
		return invalid("subject has %d bytes; it has up to %d", len(r.Subject), maxSubject)
	case len(r.Subject) > 0:
		var name x500.RDNSequence
		if rest, err := asn1.Unmarshal(r.Subject, &name); err != nil || len(rest) > 0 {
			return invalid("subject is no distinguished name in DER (RFC 5280 section 4.1.2.4)")
		}
	}
	return nil
}

// setUses notes what an EC key is for. A key for both signatures and agreement must
// be asked for: SP 800-57 part 1 section 5.2 wants one key for one purpose.
func (r *p11Record) setUses(t token.Type, uses []string) error {
	for _, u := range uses {
		if u != useSign && u != useAgree {
			return invalid("use %q: it is sign or agree", u)
		}
	}
	if len(uses) > 0 && t.Class() != token.ClassECDSA {
		return invalid("uses are for the types ecdsa-p256, ecdsa-p384 and ecdsa-p521; what a key of type %v is for follows from its type", t)
	}
	r.Agree = slices.Contains(uses, useAgree)
	r.NoSign = r.Agree && !slices.Contains(uses, useSign)
	return nil
}

func isSessionName(name string) bool {
	digits, ok := strings.CutPrefix(name, sessionPrefix)
	_, err := hex.DecodeString(digits)
	return ok && err == nil && len(digits) == 32
}

func (s *Service) roomForSession(ctx context.Context, c *op.Call) error {
	ix, err := s.ready(ctx, c.Mount, c.At)
	if err != nil {
		return err
	}
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if ix.passing < maxSessions {
		return nil
	}
	return fault.New(fault.Exhausted, "the mount has %d keys of sessions, the most that are possible", maxSessions).
		WithHint("programs must destroy the keys that their sessions made; those that nobody uses end after %v", sessionLife)
}
