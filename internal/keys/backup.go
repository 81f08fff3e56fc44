package keys

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// backupPurpose keeps backups apart from other blobs of the store.
const backupPurpose = "backup of a key"

// moment is when something happened to a key, and its newest version then.
type moment struct {
	Time    time.Time `json:"time"`
	Version int       `json:"version"`
}

func (m *moment) describe() *api.KeyMoment {
	if m == nil {
		return nil
	}
	return &api.KeyMoment{Time: m.Time.Format(time.RFC3339Nano), Version: m.Version}
}

// copied tells whether there may be a copy of the key, so that its secrets can
// come back after its deletion.
func (r *keyRecord) copied() bool { return r.Backup != nil || r.Restore != nil }

// backupRecord is what a backup holds, sealed with store.SealBlob: the records
// of the key as the store has them. So secrets of wrapped keys are in it as
// blobs that only the HSM token opens.
type backupRecord struct {
	Format   int             `json:"format"`
	Name     string          `json:"name"`
	Time     time.Time       `json:"time"`
	Key      keyRecord       `json:"key"`
	Versions []versionRecord `json:"versions"`
	// Seals is how many seals of a version were used or reserved.
	Seals map[int]uint64 `json:"seals,omitempty"`
}

func (b *backupRecord) wipe() {
	for i := range b.Versions {
		b.Versions[i].wipe()
	}
}

// copyOut collects what a copy of a key has, and notes in the key that there is one;
// leaves refuses a version that can't be copied. The caller wipes what is returned,
// after an error too.
func (s *Service) copyOut(ctx context.Context, n keyName, leaves func(context.Context, *versionRecord) error) (b *backupRecord, err error) {
	_, err = s.update(ctx, n, func(k *key) (*key, []store.Change, error) {
		if err := k.usable(); err != nil {
			return nil, nil, err
		}
		meta := k.meta
		meta.Backup = &moment{Time: s.now().UTC(), Version: meta.Latest}
		if b != nil {
			b.wipe()
		}
		var err error
		if b, err = s.collect(ctx, k, meta, leaves); err != nil {
			return nil, nil, err
		}
		return k.with(meta), nil, nil
	})
	return b, err
}

// backupKey returns a key with all its versions as a blob that only a server
// with this store's storage key opens. That a backup was made is noted in the
// key: from then on the count of its encryptions outlives its deletion.
func (s *Service) backupKey(ctx context.Context, c *op.Call, r *api.KeyName) (*api.Backup, error) {
	b, err := s.copyOut(ctx, keyName{c.Mount, r.Name}, intoBackup)
	if b != nil {
		defer b.wipe()
	}
	if errors.Is(err, errNoKey) {
		return nil, fault.New(fault.NotFound, "") // Vault says no more of what it does not have
	}
	if err != nil {
		return nil, err
	}
	blob, err := s.sealBackup(b)
	if err != nil {
		return nil, storeFault(err, "seal the backup")
	}
	return &api.Backup{Backup: base64.StdEncoding.EncodeToString(blob)}, nil
}

func (s *Service) sealBackup(b *backupRecord) ([]byte, error) {
	data, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	return s.store.SealBlob(backupPurpose, data)
}

// collect reads the records of k. Versions that were trimmed are not there.
func (s *Service) collect(ctx context.Context, k *key, meta keyRecord, leaves func(context.Context, *versionRecord) error) (*backupRecord, error) {
	b := &backupRecord{Format: recordFormat, Name: k.name.name, Time: meta.Backup.Time, Key: meta, Seals: make(map[int]uint64)}
	for number := 1; number <= meta.Latest; number++ {
		var v versionRecord
		_, err := s.store.Get(ctx, tableVersions, k.name.version(number), &v)
		if errors.Is(err, store.ErrNotFound) && number < meta.MinAvailable {
			continue
		}
		if err == nil {
			b.Versions = append(b.Versions, v)
			err = leaves(ctx, &b.Versions[len(b.Versions)-1])
		}
		if err == nil {
			err = s.collectSeals(ctx, b, number)
		}
		if err != nil {
			b.wipe()
			return nil, storeFault(err, "read the key")
		}
	}
	return b, nil
}

func (s *Service) collectSeals(ctx context.Context, b *backupRecord, number int) error {
	var counted counterRecord
	_, err := s.store.Get(ctx, tableCounters, counterKey(b.Key.ID, number), &counted)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil {
		b.Seals[number] = counted.Reserved
	}
	return err
}

// intoBackup refuses a version with a secret that is an object of the HSM token.
func intoBackup(_ context.Context, r *versionRecord) error {
	for _, secret := range []*secretRecord{&r.Main, r.MAC} {
		if secret != nil && !secret.publicOnly() && secret.Place == api.ProtectionToken {
			return invalid("the key can't be backed up: a secret of version %d is an object of the HSM token (protection token) and never leaves it", r.Number).
				WithHint("back the HSM up with its own tools; a key with protection=wrapped can be backed up here")
		}
	}
	return nil
}
