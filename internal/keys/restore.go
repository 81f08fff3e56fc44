package keys

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// restoreKey makes a key of a backup. It keeps the identity that it had, so
// that all copies of a version share one count of their encryptions.
func (s *Service) restoreKey(ctx context.Context, c *op.Call, r *api.Restore) (*api.Empty, error) {
	if _, err := s.token.Get(); err != nil {
		return nil, tokenFault(err, "restore the key")
	}
	b, err := s.openBackup(r.Backup)
	if err != nil {
		return nil, err
	}
	defer b.wipe()
	n := keyName{c.Mount, b.Name}
	if r.Name != "" {
		n.name = r.Name
	}
	if err := checkName(n.name); err != nil {
		return nil, err
	}
	b.Key.PKCS11 = b.Key.PKCS11.kept() // whoever restores a key wants it to stay
	b.Key.Restore = &moment{Time: s.now().UTC(), Version: b.Key.Latest}
	gone, err := s.commitRestore(ctx, n, b, r.Force)
	if err != nil {
		return nil, err
	}
	s.destroy(ctx, n, gone)
	return nil, nil
}

func (s *Service) openBackup(text string) (*backupRecord, error) {
	if text == "" {
		return nil, invalid("'backup' must be supplied")
	}
	blob, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, invalid("backup is no base64: give it as backup/:name returned it")
	}
	data, err := s.store.OpenBlob(backupPurpose, blob)
	if errors.Is(err, store.ErrCorrupt) {
		return nil, invalid("the backup is not authentic: it was altered, or another cluster made it").
			WithHint("a backup can be restored only with the storage key that it was made under")
	}
	if err != nil {
		return nil, storeFault(err, "open the backup")
	}
	defer clear(data)
	b := new(backupRecord)
	if err = json.Unmarshal(data, b); err == nil {
		err = b.check()
	}
	if err != nil {
		b.wipe()
		return nil, invalid("this release can't restore the backup: %v", err)
	}
	return b, nil
}

// check looks for what this release can't restore. The backup is authentic: a
// server with this storage key wrote it.
func (b *backupRecord) check() error {
	if err := checkFormat(b.Format); err != nil {
		return err
	}
	if err := checkKey(&b.Key); err != nil {
		return err
	}
	for i := range b.Versions {
		v := &b.Versions[i]
		if err := checkFormat(v.Format); err != nil {
			return err
		}
		if v.KeyID != b.Key.ID || v.Number < 1 || v.Number > b.Key.Latest {
			return fmt.Errorf("version %d is of another key: %w", v.Number, store.ErrCorrupt)
		}
	}
	return nil
}

// commitRestore writes the records of b in one transaction, in the place of
// those that are there, and returns the secrets in the HSM token of the key
// that was replaced.
func (s *Service) commitRestore(ctx context.Context, n keyName, b *backupRecord, force bool) ([]secretRecord, error) {
	e := s.cache.lock(n)
	defer s.cache.unlock(n, e)
	for range maxTries {
		changes, gone, err := s.replacing(ctx, n, e, force)
		if err == nil {
			changes, err = s.restoring(ctx, n, b, changes)
		}
		if err == nil {
			err = s.store.Apply(ctx, changes...)
			e.key.Store(nil) // whatever happened, the store knows
			s.changed(n)
		}
		if err == nil {
			return gone, nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return nil, storeFault(err, "restore the key")
		}
	}
	return nil, storeFault(store.ErrConflict, "restore the key")
}

// replacing returns the changes that remove the key n, none if there is none.
func (s *Service) replacing(ctx context.Context, n keyName, e *entry, force bool) ([]store.Change, []secretRecord, error) {
	k, err := s.load(ctx, n, e)
	switch {
	case errors.Is(err, errNoKey):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	case !force:
		return nil, nil, invalid("key %q already exists", n.name).
			WithHint("restore under another name with restore/:name, or replace the key with force=true")
	case !k.meta.DeletionAllowed:
		return nil, nil, invalid("key %q already exists, and deletion is not allowed for it", n.name).
			WithHint("force=true deletes what is there: set deletion_allowed=true with keys/%s/config first", n.name)
	}
	return s.removal(ctx, k)
}

// restoring turns the removal of the old records into a transaction that
// leaves the records of b.
func (s *Service) restoring(ctx context.Context, n keyName, b *backupRecord, removal []store.Change) ([]store.Change, error) {
	t := &replacement{store: s.store, old: removal}
	t.put(tableKeys, n.record(), b.Key)
	for i := range b.Versions {
		t.put(tableVersions, n.version(b.Versions[i].Number), b.Versions[i])
	}
	for number, seals := range b.Seals {
		key := counterKey(b.Key.ID, number)
		var now counterRecord
		rec, err := s.store.Get(ctx, tableCounters, key, &now)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		t.putOver(tableCounters, key, rec, counterRecord{Format: recordFormat, KeyID: b.Key.ID, Reserved: max(now.Reserved, seals)})
	}
	if b.Key.AutoRotate > 0 {
		put, err := s.putAutoRotate(ctx, n)
		if err != nil {
			return nil, err
		}
		t.new = append(t.new, put)
	}
	return append(t.new, t.old...), t.err
}

// replacement collects puts and drops the removals of the same records.
type replacement struct {
	store    *store.Sealed
	old, new []store.Change
	err      error
}

// put writes a record in the place of the one that was to be removed, if any.
func (t *replacement) put(table, key string, v any) {
	expect := int64(0)
	for _, c := range t.old {
		if c.Table == table && c.Key == key {
			expect = c.Expect
		}
	}
	t.putOver(table, key, expect, v)
}

func (t *replacement) putOver(table, key string, expect int64, v any) {
	for i, c := range t.old {
		if c.Table == table && c.Key == key {
			t.old = append(t.old[:i:i], t.old[i+1:]...)
			break
		}
	}
	put, err := t.store.Put(table, key, expect, v)
	if err != nil {
		t.err = err
		return
	}
	t.new = append(t.new, put)
}
