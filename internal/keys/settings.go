package keys

import (
	"context"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// tableSettings has one settingsRecord a mount, if anything was ever set.
const tableSettings = "key_settings"

// minCacheSize is the smallest size of a cache, other than 0, that clients may
// set.
const minCacheSize = 10

// settingsRecord is what holds for all keys of a mount.
type settingsRecord struct {
	Format        int  `json:"format"`
	DisableUpsert bool `json:"disable_upsert,omitempty"`
	CacheSize     int  `json:"cache_size,omitempty"` // shown only

	DefaultProtection api.Protection `json:"default_protection,omitempty"`
}

func (s *Service) settingsOperations() []*op.Operation {
	return []*op.Operation{
		op.Define(meta("keys.trim", "keys/{name}/trim", op.Write, "Destroy the oldest versions of a key."), s.trimKey),
		op.Define(meta("config.keys.read", "config/keys", op.Read, "Show what holds for all keys of the mount."), s.readKeySettings),
		op.Define(meta("config.keys", "config/keys", op.Write, "Set what holds for all keys of the mount."), s.writeKeySettings),
		op.Define(meta("config.cache.read", "cache-config", op.Read, "Show the size of the cache that was set."), s.readCacheSettings),
		op.Define(meta("config.cache", "cache-config", op.Write, "Set the size of the cache: kept and shown, without an effect."), s.writeCacheSettings),
		op.Define(meta("hash", "hash", op.Write, "Compute a digest."), s.hash),
		op.Define(meta("hash.algorithm", "hash/{algorithm}", op.Write, "Compute a digest with a hash algorithm."), s.hash),
	}
}

func (s *Service) readKeySettings(ctx context.Context, c *op.Call, _ *api.Empty) (*api.KeySettings, error) {
	r, _, err := s.settings(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	return r.describe(), nil
}

func (r *settingsRecord) describe() *api.KeySettings {
	return &api.KeySettings{DisableUpsert: r.DisableUpsert, DefaultProtection: r.DefaultProtection}
}

func (s *Service) writeKeySettings(ctx context.Context, c *op.Call, r *api.SetKeySettings) (*api.KeySettings, error) {
	if r.DefaultProtection != nil {
		if err := s.checkDefaultProtection(*r.DefaultProtection); err != nil {
			return nil, err
		}
	}
	var now settingsRecord
	err := s.changeSettings(ctx, c.Mount, func(set *settingsRecord) {
		if r.DisableUpsert != nil {
			set.DisableUpsert = *r.DisableUpsert
		}
		if r.DefaultProtection != nil {
			set.DefaultProtection = *r.DefaultProtection
		}
		now = *set
	})
	if err != nil {
		return nil, err
	}
	return now.describe(), nil
}

// checkDefaultProtection refuses what no key of this HSM token could have.
func (s *Service) checkDefaultProtection(p api.Protection) error {
	switch p {
	case "", api.ProtectionSoftware:
		return nil
	case api.ProtectionToken, api.ProtectionWrapped:
	default:
		return invalid("unknown default_protection %q: it is token, wrapped, software or empty", p)
	}
	t, err := s.token.Get()
	if err != nil {
		return tokenFault(err, "set the default protection")
	}
	for _, hold := range t.Info().Holds {
		if p == api.ProtectionToken && hold.Object || p == api.ProtectionWrapped && hold.Wrapped {
			return nil
		}
	}
	return invalid("the HSM token %q holds no keys with protection %s", t.Info().Label, p)
}

// askedProtection is what a request for a new key asks for, or what the mount
// has for requests that ask for nothing.
func (s *Service) askedProtection(ctx context.Context, mount string, asked api.Protection) (api.Protection, error) {
	if asked != "" {
		return asked, nil
	}
	r, _, err := s.settings(ctx, mount)
	return r.DefaultProtection, err
}

func (s *Service) readCacheSettings(ctx context.Context, c *op.Call, _ *api.Empty) (*api.CacheSettings, error) {
	r, _, err := s.settings(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	return &api.CacheSettings{Size: r.CacheSize}, nil
}

func (s *Service) writeCacheSettings(ctx context.Context, c *op.Call, r *api.CacheSettings) (*api.CacheSettings, error) {
	if r.Size != 0 && r.Size < minCacheSize {
		return nil, invalid("size must be 0 or a value greater or equal to %d", minCacheSize)
	}
	if err := s.changeSettings(ctx, c.Mount, func(set *settingsRecord) { set.CacheSize = r.Size }); err != nil {
		return nil, err
	}
	c.Warn("the server chooses the size of its caches: this size is kept and shown, without an effect")
	return r, nil
}

// settings returns the settings of a mount and the version of their record, 0
// if nothing was ever set.
func (s *Service) settings(ctx context.Context, mount string) (settingsRecord, int64, error) {
	var r settingsRecord
	rec, err := s.store.Get(ctx, tableSettings, mount, &r)
	if errors.Is(err, store.ErrNotFound) {
		return settingsRecord{Format: recordFormat}, 0, nil
	}
	if err == nil {
		err = checkFormat(r.Format)
	}
	return r, rec, storeFault(err, "read the settings of the mount")
}

// changeSettings changes the settings of a mount; change is called again if
// somebody else was quicker.
func (s *Service) changeSettings(ctx context.Context, mount string, change func(*settingsRecord)) error {
	for range maxTries {
		old, rec, err := s.settings(ctx, mount)
		if err != nil {
			return err
		}
		r := old
		change(&r)
		if r == old {
			return nil
		}
		put, err := s.store.Put(tableSettings, mount, rec, r)
		if err == nil {
			err = s.store.Apply(ctx, put)
		}
		if !errors.Is(err, store.ErrConflict) {
			return storeFault(err, "store the settings of the mount")
		}
	}
	return storeFault(store.ErrConflict, "store the settings of the mount")
}

// mayUpsert refuses where the mount makes no keys on encryption.
func (s *Service) mayUpsert(ctx context.Context, mount string) error {
	r, _, err := s.settings(ctx, mount)
	if err == nil && r.DisableUpsert {
		return invalid(msgNoEncryptionKey).WithHint("this mount makes no keys on encryption (disable_upsert in config/keys): make the key with keys/:name first")
	}
	return err
}
