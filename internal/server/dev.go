package server

import (
	"context"
	"fmt"

	"github.com/claviger/claviger/api"
)

// devInfo is what a development server shows its only user.
type devInfo struct {
	rootToken, unsealKey string
}

// startDev initialises and unseals with one share.
func (s *Server) startDev(ctx context.Context, dev *Dev) error {
	res, err := s.custody.Init(ctx, &api.Init{SecretShares: 1, SecretThreshold: 1, HSMToken: "create"})
	if err != nil {
		return fmt.Errorf("initialising the development server: %w", err)
	}
	s.dev = devInfo{rootToken: res.RootToken, unsealKey: res.KeysBase64[0]}
	if _, err := s.custody.Unseal(ctx, s.dev.unsealKey); err != nil {
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
