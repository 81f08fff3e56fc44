package keys

import (
	"context"
	"slices"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// trimKey destroys the versions before min_available_version. One transaction
// removes their records and turns their token objects into intents, as at the
// deletion of a key.
func (s *Service) trimKey(ctx context.Context, c *op.Call, r *api.TrimKey) (*api.Key, error) {
	if r.MinAvailableVersion == nil {
		return nil, invalid("missing min_available_version")
	}
	first := *r.MinAvailableVersion
	var gone []secretRecord
	k, err := s.update(ctx, keyName{c.Mount, r.Name}, func(k *key) (*key, []store.Change, error) {
		gone = nil
		if err := k.usable(); err != nil {
			return nil, nil, err
		}
		if err := checkTrim(&k.meta, first); err != nil {
			return nil, nil, err
		}
		if first == k.meta.MinAvailable {
			return k, nil, nil
		}
		changes, secrets, err := s.removeVersions(ctx, k, max(k.meta.MinAvailable, 1), first-1)
		if err != nil {
			return nil, nil, storeFault(err, "read the key versions")
		}
		gone = secrets
		return k.trimmed(first), changes, nil
	})
	if err != nil {
		return nil, orMissing(err, "invalid key name: there is no key "+r.Name)
	}
	s.destroy(ctx, k.name, gone)
	return s.describe(ctx, k)
}

// checkTrim tells whether first may become the oldest version that is kept.
func checkTrim(meta *keyRecord, first int) error {
	switch {
	case first < 0:
		return invalid("minimum available version cannot be negative")
	case first < meta.MinAvailable:
		return invalid("minimum available version cannot be decremented: it is %d", meta.MinAvailable)
	case first == 0:
		return invalid("minimum available version should be positive")
	case meta.MinEncryption == 0:
		return invalid("minimum available version cannot be set when minimum encryption version is not set").
			WithHint("set min_encryption_version with keys/:name/config first: encryption and signing keep to it")
	case first > meta.MinEncryption:
		return invalid("minimum available version cannot be greater than minimum encryption version, which is %d", meta.MinEncryption)
	case first > meta.MinDecryption:
		return invalid("minimum available version cannot be greater than minimum decryption version, which is %d", meta.MinDecryption)
	}
	return nil
}

// trimmed is k without the versions before first, whose secrets it forgets.
func (k *key) trimmed(first int) *key {
	meta := k.meta
	meta.MinAvailable = first
	next := k.with(meta)
	next.slots = slices.Clone(next.slots)
	for i := range first - 1 {
		next.slots[i] = new(slot)
	}
	return next
}
