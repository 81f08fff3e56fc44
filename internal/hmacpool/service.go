package hmacpool

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// MountKind is the kind of mount that serves a pool.
const MountKind = "hmacpool"

// Options is what a Service needs. Unwrap may be nil where no pool is sealed.
type Options struct {
	Store  *store.Sealed
	Unwrap Unwrap
	// Dirs are absolute directories in and below which pools may lie that clients
	// with the right to write a mount's config name.
	Dirs []string
	// Fixed are the pools that the configuration gives to mounts, by the mount's
	// path with its slash. They can't be changed by clients.
	Fixed  map[string]Settings
	Logger *slog.Logger // may be nil
}

// Service performs the operations on pools. It is safe for concurrent use.
type Service struct {
	store  *store.Sealed
	unwrap Unwrap
	dirs   []string
	fixed  map[string]Settings
	log    *slog.Logger

	pools sync.Map   // mount → *pool, those in use
	mu    sync.Mutex // held while pools changes
	epoch int        // counts resets; guarded by mu
}

// New returns a service on a store that may still be sealed.
func New(o Options) (*Service, error) {
	if o.Store == nil {
		return nil, errors.New("hmacpool: a store is needed")
	}
	s := &Service{store: o.Store, unwrap: o.Unwrap, fixed: o.Fixed, log: o.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, dir := range o.Dirs {
		s.dirs = append(s.dirs, filepath.Clean(dir))
	}
	return s, nil
}

// Check opens every fixed pool that is plain, so that a server does not start with
// a pool that it can't use.
func (s *Service) Check(ctx context.Context) error {
	for _, set := range s.fixed {
		h, err := ReadHeader(set.Dir)
		if err != nil {
			return err
		}
		if h != nil {
			continue // its key is known after unseal
		}
		if _, err := openPool(ctx, set, nil); err != nil {
			return err
		}
	}
	return nil
}

// Reset is called at seal. It forgets the keys of sealed pools.
func (s *Service) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.pools.Clear()
}

// Unmount forgets the settings of a mount. Files of its pool stay as they are.
func (s *Service) Unmount(ctx context.Context, mount string) error {
	s.forget(mount)
	_, version, err := s.record(ctx, mount)
	if err != nil || version == 0 {
		return err
	}
	return storeFault(s.store.Apply(ctx, s.store.Remove(tablePools, mount, version)), "delete the settings of the pool")
}

func (s *Service) forget(mount string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.pools.Delete(mount)
}

// Operations returns the table of everything this service does.
func (s *Service) Operations() []*op.Operation {
	meta := func(name, path string, verb op.Verb, help string) op.Meta {
		return op.Meta{Name: MountKind + "." + name, Mount: MountKind, Path: path, Verb: verb, Help: help}
	}
	hmac := meta("hmac", "hmac", op.Write, "Compute HMAC-SHA-256 with the secret that the message chooses; a success has one audit record.")
	// The intent says everything: the outcome of a success is in the caller's
	// hands only. One record instead of two keeps pace with many small calls.
	hmac.Audit = op.AuditIntent
	return []*op.Operation{
		op.Define(hmac, s.hmac),
		op.Define(meta("config", "config", op.Write, "Say where the pool of the mount is, after a look at it."), s.writeConfig),
		op.Define(meta("config.read", "config", op.Read, "Show where the pool of the mount is."), s.readConfig),
		op.Define(meta("status", "status", op.Read, "Show the state of the pool."), s.status),
	}
}

// pool returns the open pool of a mount.
func (s *Service) pool(ctx context.Context, mount string) (*pool, error) {
	if p, ok := s.pools.Load(mount); ok {
		return p.(*pool), nil
	}
	s.mu.Lock()
	epoch := s.epoch
	s.mu.Unlock()
	set, err := s.settings(ctx, mount)
	if err != nil {
		return nil, err
	}
	p, err := openPool(ctx, set, s.unwrap)
	if err != nil {
		// It could be used once: now it is the operator's to put right.
		return nil, fault.Wrap(fault.Unavailable, err, "the pool can't be used: %s", fault.Message(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch == epoch { // else it was sealed or changed meanwhile
		s.pools.Store(mount, p)
	}
	return p, nil
}

// settings returns where the pool of a mount is.
func (s *Service) settings(ctx context.Context, mount string) (Settings, error) {
	if set, ok := s.fixed[mount]; ok {
		return set, nil
	}
	set, version, err := s.record(ctx, mount)
	if err == nil && version == 0 {
		err = fault.New(fault.NotFound, "this mount has no pool yet").WithHint("write its directory and mode to config")
	}
	return set, err
}
