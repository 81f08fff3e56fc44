package keys

import (
	"context"
	"strings"
)

// Unmount deletes all keys of a mount and its wrapping key, as its path with the slash names it,
// those too whose rules forbid deletion. Each key goes in a transaction of its
// own, so an unmount of many keys that was interrupted goes on where it ended.
// The caller keeps all other calls away from the mount.
func (s *Service) Unmount(ctx context.Context, mount string) error {
	if _, err := s.token.Get(); err != nil {
		return tokenFault(err, "delete the keys of a mount")
	}
	after := ""
	for {
		page, err := s.store.List(ctx, tableKeys, mount, after, listPage)
		if err != nil {
			return storeFault(err, "list the keys of the mount")
		}
		for _, e := range page {
			after = e.Key
			n := keyName{mount, strings.TrimPrefix(e.Key, mount)}
			if strings.Contains(n.name, "/") {
				continue // of a mount below this one
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			gone, err := s.removeRecords(ctx, n, nil)
			if err != nil {
				return err
			}
			s.destroy(ctx, n, gone)
		}
		if len(page) < listPage {
			if err := s.dropWrappingKey(ctx, mount); err != nil {
				return err
			}
			if err := s.dropAutoRotate(ctx, mount); err != nil {
				return err
			}
			if err := s.dropP11(ctx, mount); err != nil {
				return err
			}
			return s.removeSettings(ctx, mount)
		}
	}
}

// removeSettings deletes what held for all keys of a mount.
func (s *Service) removeSettings(ctx context.Context, mount string) error {
	_, version, err := s.settings(ctx, mount)
	if err != nil || version == 0 {
		return err
	}
	return storeFault(s.store.Apply(ctx, s.store.Remove(tableSettings, mount, version)), "delete the settings of the mount")
}
