package server

import (
	"context"

	"github.com/claviger/claviger/internal/hmacpool"
	"github.com/claviger/claviger/internal/pki"
)

// unmount deletes what the engine of a mount keeps for it. An authority's keys
// are in the keys' service, which goes last: a key is never gone before the
// certificates that need it.
func (s *Server) unmount(ctx context.Context, kind, path string) error {
	switch kind {
	case hmacpool.MountKind:
		return s.pools.Unmount(ctx, path)
	case pki.MountKind:
		if err := s.pki.Unmount(ctx, path); err != nil {
			return err
		}
	}
	return s.keys.Unmount(ctx, path)
}
