package keys

import (
	"context"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// rotateKey adds a version. The secrets are made before the key is locked:
// an RSA key takes seconds, and others want to use the key meanwhile.
func (s *Service) rotateKey(ctx context.Context, c *op.Call, r *api.RotateKey) (*api.Key, error) {
	if r.ExternalKeyRef != "" {
		return s.rotateExternal(ctx, c, r)
	}
	k, err := s.find(ctx, c.Mount, r.Name, "key not found")
	if err != nil {
		return nil, err
	}
	if k, err = s.rotate(ctx, k, nil); err != nil {
		return nil, err
	}
	return s.describe(ctx, k)
}

// mayRotate refuses an imported key that gets no versions made here.
func (k *key) mayRotate() error {
	if !k.meta.Imported || k.meta.AllowRotation {
		return nil
	}
	return invalid("imported key %s does not allow rotation within Vault", k.name.name).
		WithHint("add a version with keys/%s/import_version; allow_rotation=true at the import would have allowed this", k.name.name)
}

// rotate adds a version made here to the key that k shows. still, if given, may
// refuse the state that the key has by then.
func (s *Service) rotate(ctx context.Context, k *key, still func(*key) error) (*key, error) {
	if err := k.mayRotate(); err != nil {
		return nil, err
	}
	m, err := s.makeMaterial(ctx, plan{name: k.name, typ: k.meta.Type, size: k.meta.Size, protection: k.meta.Protection, derived: k.meta.Derived, pkcs11: k.meta.PKCS11})
	if err != nil {
		return nil, err
	}
	return s.addVersionIf(ctx, k, m, still)
}

// addVersion makes m the newest version of the key that k shows, or discards m.
func (s *Service) addVersion(ctx context.Context, k *key, m *material) (*key, error) {
	return s.addVersionIf(ctx, k, m, nil)
}

func (s *Service) addVersionIf(ctx context.Context, k *key, m *material, still func(*key) error) (*key, error) {
	id := k.meta.ID
	var record versionRecord
	var added *slot
	k, err := s.update(ctx, k.name, func(k *key) (next *key, changes []store.Change, err error) {
		if k.meta.ID != id {
			return nil, nil, invalid("key not found")
		}
		if err := k.usable(); err != nil {
			return nil, nil, err
		}
		if still != nil {
			if err := still(k); err != nil {
				return nil, nil, err
			}
		}
		if k.meta.Latest >= maxVersion {
			return nil, nil, invalid("the key has %d versions, the most that are possible", maxVersion)
		}
		meta := k.meta
		meta.Latest++
		changes, record, err = s.settle(k.name, meta.ID, meta.Latest, m)
		if err != nil {
			return nil, nil, storeFault(err, "store the key version")
		}
		next = k.with(meta)
		added = new(slot)
		next.slots = append(next.slots, added)
		return next, changes, nil
	})
	if err != nil {
		s.discard(ctx, m)
		return nil, orMissing(err, "key not found")
	}
	if v, err := s.openVersion(k.name, &k.meta, record); err == nil {
		added.version.CompareAndSwap(nil, v)
	}
	return k, nil
}
