package pki

import (
	"context"
	"errors"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// Run performs what the server does by itself as an operation that is recorded:
// verb and path are the operation's, request is its request, and do its work.
type Run func(ctx context.Context, verb op.Verb, path string, request any, do func(context.Context, *op.Call) (any, error)) error

const (
	tendEvery   = 30 * time.Second
	tendTimeout = 5 * time.Minute
)

// Keep makes CRLs anew before they end, delta CRLs when they are due, and tidies
// where that is configured, until ctx ends. mounts returns the authorities: the
// path of each, and what the engine knows it by.
func (s *Service) Keep(ctx context.Context, mounts func() map[string]string, run Run) {
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := s.Tend(ctx, mounts(), run); err != nil && fault.KindOf(err) != fault.Sealed && ctx.Err() == nil {
			s.log.Warn("not all that certificate authorities must renew is renewed; it is tried again soon", "error", err)
		}
	}
}

// Tend does once what Keep does. One authority that fails does not keep others
// from it.
func (s *Service) Tend(ctx context.Context, mounts map[string]string, run Run) error {
	var errs []error
	for path, name := range mounts {
		errs = append(errs, s.tend(ctx, path, name, run))
	}
	return errors.Join(errs...)
}

func (s *Service) tend(ctx context.Context, path, name string, run Run) error {
	ctx, cancel := context.WithTimeout(ctx, tendTimeout)
	defer cancel()
	st, err := s.state(ctx, name)
	if err != nil {
		return err
	}
	full, deltas, err := s.dueCRLs(ctx, name, st)
	if err != nil {
		return err
	}
	var errs []error
	if len(full) > 0 {
		errs = append(errs, run(ctx, op.Read, path+"crl/rotate", &api.Empty{}, s.remake(full, false)))
	}
	if len(deltas) > 0 {
		errs = append(errs, run(ctx, op.Read, path+"crl/rotate-delta", &api.Empty{}, s.remake(deltas, true)))
	}
	if auto := st.config.AutoTidy; auto.Enabled && s.now().After(st.config.AutoTidied.Add(auto.interval())) {
		request := auto.request()
		errs = append(errs, run(ctx, op.Write, path+"tidy", request, func(ctx context.Context, c *op.Call) (any, error) {
			return s.startTidy(ctx, c.Mount, request, true)
		}))
	}
	return errors.Join(errs...)
}

// remake makes the CRLs of issuers.
func (s *Service) remake(due []crlScope, delta bool) func(context.Context, *op.Call) (any, error) {
	return func(ctx context.Context, c *op.Call) (any, error) {
		var errs []error
		for _, scope := range due {
			errs = append(errs, s.makeScope(ctx, c.Mount, scope, delta))
		}
		return &api.PKISuccess{Success: true}, errors.Join(errs...)
	}
}

// dueCRLs are the CRLs of which the whole or the delta CRL must be made now. A
// shard that nobody asked for is not due: it is made when somebody asks.
func (s *Service) dueCRLs(ctx context.Context, mount string, st *state) (full, deltas []crlScope, err error) {
	cfg := &st.config.CRL
	if cfg.Disable || !cfg.AutoRebuild {
		return nil, nil, nil
	}
	now := s.now()
	for id, i := range st.issuers {
		if i.rec.KeyID == "" || i.rec.Usage&usageCRL == 0 {
			continue
		}
		rec, _, err := s.readCRL(ctx, mount, id)
		switch {
		case err != nil:
			return nil, nil, err
		case rec == nil || now.After(rec.Full.Until.Add(-cfg.grace())) || !rec.Full.holds(now):
			full = append(full, crlScope{issuer: id})
		case cfg.Delta && now.After(rec.Delta.Made.Add(cfg.interval())) && now.After(rec.Full.Made.Add(cfg.interval())):
			deltas = append(deltas, crlScope{issuer: id})
		}
		shards, err := s.keptShards(ctx, mount, id)
		if err != nil {
			return nil, nil, err
		}
		for _, scope := range shards {
			rec, _, err := s.readCRL(ctx, mount, scope.record())
			switch {
			case err != nil:
				return nil, nil, err
			case rec != nil && now.After(rec.Full.Until.Add(-cfg.grace())):
				full = append(full, scope)
			}
		}
	}
	return full, deltas, nil
}
