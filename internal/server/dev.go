package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/claviger/claviger/api"
)

// devInfo is what a development server shows its only user.
type devInfo struct {
	rootToken, unsealKey string
}

// prepareDev gives a development server a place for its audit log, the one
// thing that it writes to the disk.
func (s *Server) prepareDev() error {
	dir, err := os.MkdirTemp("", "claviger-dev-")
	if err != nil {
		return fmt.Errorf("directory of the audit log: %w", err)
	}
	s.tempDir = dir
	s.cfg.Audit.Path = filepath.Join(dir, "audit.log")
	return nil
}

// startDev initialises and unseals with one share.
func (s *Server) startDev(ctx context.Context, dev *Dev) error {
	res, err := s.custody.Init(ctx, &api.Init{SecretShares: 1, SecretThreshold: 1, HSMToken: "create"})
	if err != nil {
		return fmt.Errorf("initialising the development server: %w", err)
	}
	s.dev = devInfo{rootToken: res.RootToken, unsealKey: res.KeysBase64[0]}
	if _, err := s.custody.Unseal(ctx, &api.Unseal{Key: s.dev.unsealKey}); err != nil {
		return fmt.Errorf("unsealing the development server: %w", err)
	}
	if dev.RootTokenID == "" {
		return nil
	}
	if err := s.guard.CreateRootToken(ctx, dev.RootTokenID); err != nil {
		return fmt.Errorf("making the root token: %w", err)
	}
	s.dev.rootToken = dev.RootTokenID
	return nil
}

// DevInfo returns the root token and the unseal share of a development server.
func (s *Server) DevInfo() (rootToken, unsealKey string) {
	return s.dev.rootToken, s.dev.unsealKey
}
