package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/custody"
	"github.com/claviger/claviger/internal/daemon"
	"github.com/claviger/claviger/internal/front/acme"
	"github.com/claviger/claviger/internal/front/vault"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/hmacpool"
	"github.com/claviger/claviger/internal/keys"
	"github.com/claviger/claviger/internal/pki"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/sqlite"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
	"github.com/claviger/claviger/internal/transfer"
)

// Options are what a server needs beside its configuration.
type Options struct {
	// Dev makes a development server: everything in memory, initialised and
	// unsealed at start. Its keys are lost when it ends.
	Dev *Dev
	// Standalone is given by a server whose configuration its Config made.
	Standalone *Standalone
	Logger     *slog.Logger
	Version    string
}

// Dev are the options of a development server.
type Dev struct {
	// RootTokenID is the text of the root token; "" makes a random one.
	RootTokenID string
}

// Server is a configured server. Make it with New, then Run it.
type Server struct {
	cfg     *config.Config
	log     *slog.Logger
	version string

	db        store.Store
	records   *store.Sealed
	hsm       token.Holder
	trail     trail
	keys      *keys.Service
	pki       *pki.Service
	pools     *hmacpool.Service
	transfers *transfer.Service
	custody   *custody.Custody
	provider  custody.Provider // nil unless custody is by a provider
	guard     *guard.Guard
	metrics   *metrics
	snapshots snapshots
	handler   http.Handler
	own       *ownCertificate // nil if no listener has it
	listeners []*listener
	fronts    []*listener
	pin       pinSource
	// mayOpenLater: opening by PIN failed for a cause that may pass by itself.
	mayOpenLater atomic.Bool
	dev          devInfo
	lock         *os.File // of the data directory, if the server stands alone
}

// New opens the store, builds the services and opens the listeners. The server
// answers once Run is called.
func New(cfg *config.Config, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	harden(o.Logger)
	tune()
	s := &Server{cfg: cfg, log: o.Logger, version: o.Version, metrics: newMetrics()}
	if err := s.build(o.Dev, o.Standalone); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *Server) build(dev *Dev, alone *Standalone) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := os.MkdirAll(s.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	if alone != nil {
		if err := s.lockDir(ctx); err != nil {
			return err
		}
	}
	if err := s.openStore(ctx, dev != nil); err != nil {
		return err
	}
	device, err := s.device(dev != nil)
	if err != nil {
		return err
	}
	if err := s.buildServices(device); err != nil {
		return err
	}
	vaultFront := vault.New(s.guard, vault.Options{
		MaxBody:        int64(s.cfg.Limits.MaxBody),
		RequestTimeout: s.cfg.Limits.RequestTimeout.Duration,
		Logger:         s.log,
		Version:        s.version,
	})
	acmeFront := acme.New(s.guard, vaultFront, acme.Options{RequestTimeout: s.cfg.Limits.RequestTimeout.Duration, Logger: s.log})
	if s.handler, err = s.estFront(acmeFront); err != nil {
		return err
	}
	if dev != nil {
		if err := s.startDev(ctx, dev); err != nil {
			return err
		}
	}
	if alone != nil {
		if err := s.startAlone(ctx, alone); err != nil {
			return err
		}
	}
	s.openItself(ctx)
	if err := s.openOwnCertificate(); err != nil {
		return err
	}
	s.metrics.certificates(s.all)
	if alone != nil && alone.NoAPI {
		return s.listenFronts()
	}
	if err := s.listen(); err != nil {
		return err
	}
	return s.listenFronts()
}

func (s *Server) openStore(ctx context.Context, dev bool) error {
	path := s.cfg.Store.Path
	if dev {
		path = ""
	}
	db, err := sqlite.Open(ctx, sqlite.Config{Path: path, Logger: s.log})
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	s.db = db
	s.records = store.NewSealed(db)
	return nil
}

func (s *Server) buildServices(device token.Device) (err error) {
	s.guard, err = guard.New(guard.Options{
		Store:    s.records,
		Recorder: s.trail.recorder,
		State:    func() (initialized, sealed bool) { return s.custody.State() },
		Logger:   s.log,
		Observe:  s.metrics.observe,
		Unmount:  s.unmount,
	})
	if err != nil {
		return err
	}
	s.keys, err = keys.New(keys.Options{
		Store:    s.records,
		Token:    &s.hsm,
		Software: soft.Engine{},
		Logger:   s.log,
	})
	if err != nil {
		return err
	}
	s.pki, err = pki.New(pki.Options{Store: s.records, Keys: s.keys, Logger: s.log})
	if err != nil {
		return err
	}
	pools, err := s.poolOptions()
	if err != nil {
		return err
	}
	if s.pools, err = hmacpool.New(pools); err != nil {
		return err
	}
	if s.provider, err = unsealProvider(&s.cfg.Custody); err != nil {
		return err
	}
	s.custody, err = custody.New(custody.Options{
		Store:            s.db,
		Records:          s.records,
		Device:           device,
		Kind:             s.cfg.Custody.Kind,
		Provider:         s.provider,
		HSMToken:         s.cfg.Token.OnInit,
		PIN:              s.pinProvider(),
		Hooks:            custody.Hooks{Unsealed: s.unsealed, Sealed: s.sealed, Genesis: s.guard.Genesis, RootToken: s.guard.NewRootToken},
		RootTokenLength:  guard.TokenLength,
		OpenGenerateRoot: s.cfg.Custody.GenerateRootWithoutToken,
		Version:          s.version,
		StorageType:      s.cfg.Store.Driver,
		ClusterName:      s.cfg.ClusterName,
		Logger:           s.log,
	})
	if err != nil {
		return err
	}
	s.transfers = transfer.New(transfer.Options{Store: s.records, Token: &s.hsm, Keys: s.keys, Custodians: s.custody,
		Mounts: func() map[string]string { return s.guard.Mounted(keys.MountKind) }, Logger: s.log})
	s.metrics.watch(s.custody.State)
	s.metrics.watchSnapshots(&s.snapshots)
	return s.guard.Register(s.operations()...)
}

// Run serves until ctx ends or a listener fails, then shuts down: requests
// under way are finished, the audit log gets its last checkpoint.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	failed := make(chan error, len(s.all()))
	for _, l := range s.all() {
		log := s.log
		if l.front != "" {
			log = log.With("front", l.front)
		}
		log.Info("listening", "address", l.address, "tls", l.tls != nil)
		go func() { failed <- l.serve() }()
	}
	var background sync.WaitGroup
	defer background.Wait()
	untilDone, stop := context.WithCancel(ctx)
	defer stop()
	background.Go(func() { s.tidyTokens(untilDone) })
	background.Go(func() {
		s.keys.KeepRotated(untilDone, func() map[string]string { return s.guard.Mounted(keys.MountKind) }, s.guard.System)
	})
	background.Go(func() {
		s.keys.KeepSessions(untilDone, func() map[string]string { return s.guard.Mounted(keys.MountKind) }, s.guard.System)
	})
	background.Go(func() {
		s.pki.Keep(untilDone, func() map[string]string { return s.guard.Mounted(pki.MountKind) }, s.guard.System)
	})
	background.Go(func() { s.tendStorageKey(untilDone) })
	background.Go(func() { s.keepOpening(untilDone) })
	background.Go(func() { s.keepProvider(untilDone, s.provider) })
	background.Go(func() { s.keepOwnCertificate(untilDone) })
	daemon.Ready(s.log)
	select {
	case <-ctx.Done():
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	}
	s.log.Info("shutting down")
	return s.shutdown()
}

// tidyEvery is how often client tokens are removed that expired and were not
// presented since. They are refused in any case; this is for the database's size.
const tidyEvery = time.Hour

func (s *Server) tidyTokens(ctx context.Context) {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if _, sealed := s.custody.State(); sealed {
			continue
		}
		if n, err := s.guard.Tidy(ctx); err != nil {
			s.log.Warn("removing expired client tokens", "error", err)
		} else if n > 0 {
			s.log.Info("removed expired client tokens", "tokens", n)
		}
	}
}

// shutdown waits a while for requests under way.
func (s *Server) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	for _, l := range s.all() {
		errs = append(errs, l.shutdown(ctx))
	}
	return errors.Join(errs...)
}

// all returns the listeners of the API and of the fronts.
func (s *Server) all() []*listener { return append(slices.Clone(s.listeners), s.fronts...) }

// Addresses returns where the API is served, as clients name it.
func (s *Server) Addresses() []string {
	addresses := make([]string, len(s.listeners))
	for i, l := range s.listeners {
		addresses[i] = l.address
	}
	return addresses
}

// Reload reads the certificates of the listeners again and re-opens the audit
// log after its rotation. What fails keeps its old state.
func (s *Server) Reload() error {
	errs := []error{s.trail.reopen()}
	for _, l := range s.all() {
		errs = append(errs, l.reload())
	}
	return errors.Join(errs...)
}

// close releases everything; what was not opened is left alone.
func (s *Server) close() {
	for _, l := range s.all() {
		l.close()
	}
	if s.custody != nil {
		s.custody.Close()
	}
	s.pin.wipe()
	if err := s.trail.close(); err != nil {
		s.log.Error("closing the audit log", "error", err)
	}
	if s.db != nil {
		if err := s.db.Close(); err != nil {
			s.log.Error("closing the store", "error", err)
		}
	}
	if s.lock != nil {
		s.lock.Close()
	}
}
