package server

import "context"

// unmount deletes what the engine of a mount keeps for it. Every engine has its
// keys in the keys' service, which goes last: a key is never gone before the
// certificates that need it.
func (s *Server) unmount(ctx context.Context, _, path string) error {
	if err := s.pki.Unmount(ctx, path); err != nil {
		return err
	}
	return s.keys.Unmount(ctx, path)
}
