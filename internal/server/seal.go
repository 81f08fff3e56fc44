package server

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// operations is the table of everything the server offers.
func (s *Server) operations() []*op.Operation {
	var ops []*op.Operation
	ops = append(ops, s.custody.Operations()...)
	ops = append(ops, s.guard.Operations()...)
	ops = append(ops, s.keys.Operations()...)
	ops = append(ops, s.pki.Operations()...)
	ops = append(ops, s.pools.Operations()...)
	ops = append(ops, s.transfers.Operations()...)
	ops = append(ops, s.documentOperations()...)
	ops = append(ops, s.auditOperations()...)
	ops = append(ops, s.configOperations()...)
	ops = append(ops, s.snapshotOperations()...)
	return append(ops, s.metrics.operation())
}

// unsealed takes the open HSM token and the storage keys and starts what was
// waiting for them. After an error everything is as before. During the
// initialisation only the store and the token are needed, to make the first
// records, and nothing may be written yet.
func (s *Server) unsealed(ctx context.Context, t token.Token, keys store.Keyring) (err error) {
	defer func() {
		if err != nil {
			s.sealed()
		}
	}()
	if err := s.records.UnsealAll(keys); err != nil {
		return err
	}
	s.hsm.Set(t)
	if initialized, _ := s.custody.State(); !initialized {
		return nil
	}
	// The audit log's HMAC key is derived, so that it needs no record of its own;
	// of the first storage key, so that a value has one HMAC through all rotations.
	mac, err := hkdf.Key(sha256.New, keys[0], nil, "claviger audit hmac 1", 32)
	if err != nil {
		return fmt.Errorf("deriving the audit log's key: %w", err)
	}
	defer clear(mac)
	if err := s.trail.start(ctx, s, t, mac); err != nil {
		return fmt.Errorf("starting the audit log: %w", err)
	}
	if err := s.guard.Load(ctx); err != nil {
		return fmt.Errorf("reading mounts and policies: %w", err)
	}
	if err := s.keys.Start(ctx); err != nil {
		return fmt.Errorf("starting the keys: %w", err)
	}
	if err := s.pki.Start(ctx); err != nil {
		return fmt.Errorf("starting the certificate authorities: %w", err)
	}
	if err := s.startSnapshots(ctx); err != nil {
		return fmt.Errorf("starting the snapshots: %w", err)
	}
	return nil
}

// sealed forgets what unsealed brought. Custody closes the HSM token after it.
func (s *Server) sealed() {
	if err := s.trail.close(); err != nil {
		s.log.Error("closing the audit log", "error", err)
	}
	s.pki.Reset()
	s.keys.Reset()
	s.pools.Reset()
	s.guard.Reset()
	s.records.Seal()
	s.hsm.Set(nil)
}
