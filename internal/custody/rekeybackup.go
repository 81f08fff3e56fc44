package custody

import (
	"context"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

const backupKey = "rekey-backup" // backupRec, sealed

// backupRec is the encrypted shares of a rekey: OpenPGP messages by fingerprint.
type backupRec struct {
	Nonce  string              `json:"nonce"`
	Hex    map[string][]string `json:"keys"`
	Base64 map[string][]string `json:"keys_base64"`
}

func newBackup(s *api.RekeyStatus) *backupRec {
	b := &backupRec{Nonce: s.Nonce, Hex: map[string][]string{}, Base64: map[string][]string{}}
	for i, f := range s.PGPFingerprints {
		b.Hex[f] = append(b.Hex[f], s.Keys[i])
		b.Base64[f] = append(b.Base64[f], s.KeysBase64[i])
	}
	return b
}

// backupChanges writes b in the place of what is kept; none if there is no b.
func (c *Custody) backupChanges(ctx context.Context, b *backupRec) ([]store.Change, error) {
	if b == nil {
		return nil, nil
	}
	_, version, err := c.backup(ctx)
	if err != nil {
		return nil, err
	}
	put, err := c.opts.Records.Put(table, backupKey, version, b)
	if err != nil {
		return nil, storeFault(err)
	}
	return []store.Change{put}, nil
}

// backup returns nil and version 0 if there is none.
func (c *Custody) backup(ctx context.Context) (*backupRec, int64, error) {
	var b backupRec
	version, err := c.opts.Records.Get(ctx, table, backupKey, &b)
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, storeFault(err)
	}
	return &b, version, nil
}

func (c *Custody) readBackup(ctx context.Context, _ *api.Empty) (*api.RekeyBackup, error) {
	b, _, err := c.backup(ctx)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, fault.New(fault.Invalid, "no backed-up keys found").
			WithHint("they are kept when new shares come in force after a rekey with pgp_keys and backup")
	}
	return &api.RekeyBackup{Nonce: b.Nonce, Keys: b.Hex, KeysBase64: b.Base64}, nil
}

func (c *Custody) deleteBackup(ctx context.Context, _ *api.Empty) (*api.Empty, error) {
	_, version, err := c.backup(ctx)
	if err != nil || version == 0 {
		return nil, err
	}
	if err := c.opts.Records.Apply(ctx, store.Change{Table: table, Key: backupKey, Expect: version}); err != nil {
		return nil, storeFault(err)
	}
	return nil, nil
}

// opShareSet shows the set in force, which is no secret.
func (c *Custody) opShareSet(context.Context, *op.Call, *api.Empty) (*api.ShareSet, error) {
	rec := c.record()
	switch {
	case rec == nil:
		return nil, fault.New(fault.Uninitialized, "Vault is not initialized")
	case rec.Kind == KindPIN:
		return nil, withoutShares()
	}
	return publicSet(rec.set), nil
}
