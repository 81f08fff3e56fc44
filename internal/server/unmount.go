package server

import (
	"context"

	"github.com/claviger/claviger/internal/hmacpool"
)

// unmount deletes what the engine of a mount keeps for it.
func (s *Server) unmount(ctx context.Context, kind, path string) error {
	if kind == hmacpool.MountKind {
		return s.pools.Unmount(ctx, path)
	}
	return s.keys.Unmount(ctx, path)
}
