package keys

import (
	"context"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// usable refuses a key that is soft-deleted.
func (k *key) usable() error {
	if !k.meta.SoftDeleted {
		return nil
	}
	return invalid("key %s is soft-deleted", k.name.name).
		WithHint("bring it back with keys/%s/soft-delete-restore", k.name.name)
}

// softDelete makes a key refuse every use. Nothing is lost, so the key's rules
// need not allow its deletion. It returns the key as reading it does.
func (s *Service) softDelete(ctx context.Context, c *op.Call, r *api.KeyName) (*api.Key, error) {
	return s.setSoftDeleted(ctx, c, keyName{c.Mount, r.Name}, true)
}

func (s *Service) softDeleteRestore(ctx context.Context, c *op.Call, r *api.KeyName) (*api.Key, error) {
	return s.setSoftDeleted(ctx, c, keyName{c.Mount, r.Name}, false)
}

func (s *Service) setSoftDeleted(ctx context.Context, c *op.Call, n keyName, deleted bool) (*api.Key, error) {
	k, err := s.update(ctx, n, func(k *key) (*key, []store.Change, error) {
		if k.meta.SoftDeleted == deleted {
			was := "restored"
			if deleted {
				was = "marked as soft deleted"
			}
			c.Warn("key was already %s", was)
			return k, nil, nil
		}
		meta := k.meta
		meta.SoftDeleted = deleted
		return k.with(meta), nil, nil
	})
	if err != nil {
		return nil, orMissing(err, "no existing key named "+n.name+" could be found")
	}
	return s.describe(ctx, k)
}
