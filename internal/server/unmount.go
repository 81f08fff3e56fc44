package server

import "context"

// unmount deletes what the engine of a mount keeps for it. Keys are the one
// kind of engine.
func (s *Server) unmount(ctx context.Context, _, path string) error {
	return s.keys.Unmount(ctx, path)
}
