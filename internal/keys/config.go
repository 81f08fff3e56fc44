package keys

import (
	"context"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// configKey changes the rules of a key; all of the request or nothing.
func (s *Service) configKey(ctx context.Context, c *op.Call, r *api.ConfigKey) (*api.Key, error) {
	switch {
	case r.Exportable != nil && *r.Exportable:
		return nil, refuseExport("exportable")
	case r.AllowPlaintextBackup != nil && *r.AllowPlaintextBackup:
		return nil, refuseExport("allow_plaintext_backup")
	}
	if r.AutoRotatePeriod != nil {
		if err := checkAutoRotate(*r.AutoRotatePeriod); err != nil {
			return nil, err
		}
	}
	k, err := s.update(ctx, keyName{c.Mount, r.Name}, func(k *key) (*key, []store.Change, error) {
		if err := k.usable(); err != nil {
			return nil, nil, err
		}
		meta := k.meta
		if err := configure(&meta, r); err != nil {
			return nil, nil, err
		}
		if meta == k.meta {
			return k, nil, nil
		}
		next := k.with(meta)
		if meta.AutoRotate == 0 || meta.AutoRotate == k.meta.AutoRotate {
			return next, nil, nil
		}
		if err := k.mayRotate(); err != nil {
			return nil, nil, err
		}
		put, err := s.putAutoRotate(ctx, k.name)
		return next, []store.Change{put}, storeFault(err, "note when the key is due")
	})
	if err != nil {
		return nil, orMissing(err, "no existing key named "+r.Name+" could be found")
	}
	if r.MinDecryptionVersion != nil && *r.MinDecryptionVersion == 0 {
		c.Warn("versions are numbered from 1; min_decryption_version 0 was set to 1")
	}
	return s.describe(ctx, k)
}

// configure applies r to a key's rules, or says which rule the outcome breaks.
func configure(meta *keyRecord, r *api.ConfigKey) error {
	if r.MinDecryptionVersion != nil {
		v := *r.MinDecryptionVersion
		switch {
		case v < 0:
			return invalid("min decryption version cannot be negative")
		case v > meta.Latest:
			return invalid("cannot set min decryption version of %d, latest key version is %d", v, meta.Latest)
		}
		meta.MinDecryption = max(v, 1)
	}
	if r.MinEncryptionVersion != nil {
		v := *r.MinEncryptionVersion
		switch {
		case v < 0:
			return invalid("min encryption version cannot be negative")
		case v > meta.Latest:
			return invalid("cannot set min encryption version of %d, latest key version is %d", v, meta.Latest)
		}
		meta.MinEncryption = v
	}
	if r.DeletionAllowed != nil {
		meta.DeletionAllowed = *r.DeletionAllowed
	}
	if r.AutoRotatePeriod != nil {
		meta.AutoRotate = *r.AutoRotatePeriod
	}
	return checkRules(meta)
}

func checkRules(meta *keyRecord) error {
	switch {
	case meta.MinEncryption > 0 && meta.MinEncryption < meta.MinDecryption:
		return invalid("cannot set min encryption/decryption values; min encryption version of %d must be greater than or equal to min decryption version of %d",
			meta.MinEncryption, meta.MinDecryption)
	case meta.MinDecryption < meta.MinAvailable:
		return invalid("min decryption version of %d is below the min available version of %d", meta.MinDecryption, meta.MinAvailable)
	case meta.MinEncryption > 0 && meta.MinEncryption < meta.MinAvailable:
		return invalid("min encryption version of %d is below the min available version of %d", meta.MinEncryption, meta.MinAvailable)
	}
	return nil
}
