package keys

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// Options is what a Service needs; Logger and Now may be nil.
type Options struct {
	Store    *store.Sealed
	Token    *token.Holder
	Software token.Software
	Logger   *slog.Logger
	Now      func() time.Time
}

// Service performs the operations on named keys. It is safe for concurrent use.
type Service struct {
	store    *store.Sealed
	token    *token.Holder
	software token.Software
	log      *slog.Logger
	now      func() time.Time
	cache    *cache
	limits   sealLimits

	rotateEvery time.Duration

	indexes  indexes
	sessions sync.Map // keyName to *atomic.Int64: last use of the keys of sessions
}

// New returns a service on a store and an HSM token, both of which may still
// be sealed.
func New(o Options) (*Service, error) {
	if o.Store == nil || o.Token == nil || o.Software == nil {
		return nil, errors.New("keys: a store, a token holder and a software engine are needed")
	}
	s := &Service{
		store: o.Store, token: o.Token, software: o.Software, log: o.Logger, now: o.Now,
		cache: newCache(maxCached), limits: defaultSealLimits, rotateEvery: defaultRotateEvery,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Start is called after unseal. It destroys the token objects that an
// interrupted creation or deletion left. What can't be destroyed now is logged
// and stays for the next Start; only a failing store is an error.
func (s *Service) Start(ctx context.Context) error { return s.cleanIntents(ctx) }

// Reset is called at seal, after the token and the store were closed to new
// work. It forgets every loaded key and waits for changes under way.
func (s *Service) Reset() {
	s.cache.reset()
	s.indexes.reset()
	s.sessions.Clear()
}

const mountKind = "transit"

// Operations returns the table of everything this service does.
func (s *Service) Operations() []*op.Operation {
	ops := s.keyOperations()
	ops = append(ops, s.cipherOperations()...)
	ops = append(ops, s.settingsOperations()...)
	ops = append(ops, s.careOperations()...)
	ops = append(ops, s.toolOperations()...)
	ops = append(ops, s.objectOperations()...)
	ops = append(ops, s.externalOperations()...)
	ops = append(ops, s.legacyOperations()...)
	ops = append(ops, s.deriveOperations()...)
	ops = append(ops, s.p11Operations()...)
	return append(ops, s.signOperations()...)
}

func meta(name, path string, verb op.Verb, help string) op.Meta {
	return op.Meta{Name: mountKind + "." + name, Mount: mountKind, Path: path, Verb: verb, Help: help}
}

func (s *Service) keyOperations() []*op.Operation {
	return []*op.Operation{
		op.WithExists(op.Define(meta("keys.create", "keys/{name}", op.Write, "Make a named key."), s.createKey), s.createExists),
		op.Define(meta("keys.read", "keys/{name}", op.Read, "Show a key, its rules and its public keys."), s.readKey),
		op.Define(meta("keys.delete", "keys/{name}", op.Delete, "Delete a key with all its versions."), s.deleteKey),
		op.Define(meta("keys.list", "keys", op.List, "List the names of keys."), s.listKeys),
		op.Define(meta("keys.config", "keys/{name}/config", op.Write, "Change the rules of a key."), s.configKey),
		op.Define(meta("keys.rotate", "keys/{name}/rotate", op.Write, "Add a new version to a key."), s.rotateKey),
		op.Define(meta("export", "export/{kind}/{name}", op.Read, "Show the public keys of all versions."), s.exportKey),
		op.Define(meta("export.version", "export/{kind}/{name}/{version}", op.Read, "Show the public key of a version."), s.exportKey),
	}
}

func (s *Service) cipherOperations() []*op.Operation {
	return []*op.Operation{
		op.WithExists(op.Define(meta("encrypt", "encrypt/{name}", op.Write, "Encrypt; makes the key if there is none."), s.encrypt), s.encryptExists),
		op.Define(meta("decrypt", "decrypt/{name}", op.Write, "Decrypt."), s.decrypt),
		op.Define(meta("rewrap", "rewrap/{name}", op.Write, "Encrypt again with another version, without showing the plaintext."), s.rewrap),
		op.Define(meta("datakey", "datakey/{kind}/{name}", op.Write, "Make a random data key, encrypted under a key."), s.dataKey),
		op.Define(meta("random", "random", op.Write, "Random bytes of the HSM token."), s.random),
		op.Define(meta("random.one", "random/{source}", op.Write, "Random bytes; the last part is a number of bytes or a source."), s.randomOne),
		op.Define(meta("random.both", "random/{source}/{bytes}", op.Write, "Random bytes of a source."), s.randomBoth),
	}
}

func (s *Service) signOperations() []*op.Operation {
	return []*op.Operation{
		op.Define(meta("sign", "sign/{name}", op.Write, "Sign."), s.sign),
		op.Define(meta("sign.hash", "sign/{name}/{hash}", op.Write, "Sign with a hash algorithm."), s.sign),
		op.Define(meta("verify", "verify/{name}", op.Write, "Verify a signature or an HMAC."), s.verify),
		op.Define(meta("verify.hash", "verify/{name}/{hash}", op.Write, "Verify with a hash algorithm."), s.verify),
		op.Define(meta("hmac", "hmac/{name}", op.Write, "Compute an HMAC."), s.hmac),
		op.Define(meta("hmac.algorithm", "hmac/{name}/{algorithm}", op.Write, "Compute an HMAC with a hash algorithm."), s.hmac),
	}
}
