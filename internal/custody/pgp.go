package custody

import (
	"slices"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/pgp"
)

// pgpKey is a custodian's OpenPGP public key that can be encrypted to.
type pgpKey = pgp.Key

func (p *plan) readPGPKeys(req *api.Init, now time.Time) error {
	var err error
	if p.pgpKeys, err = parsePGPKeys(slices.Concat(req.PGPKeys, req.RecoveryPGPKeys), p.n, now); err != nil {
		return err
	}
	if req.RootTokenPGPKey == "" {
		return nil
	}
	key, err := pgp.Parse(req.RootTokenPGPKey, now)
	if err != nil {
		return fault.New(fault.Invalid, "root_token_pgp_key: %v", err)
	}
	p.rootPGPKey = key
	return nil
}

// parsePGPKeys reads the keys of n custodians, or none.
func parsePGPKeys(texts []string, n int, now time.Time) ([]*pgpKey, error) {
	if len(texts) != 0 && len(texts) != n {
		return nil, fault.New(fault.Invalid, "there are %d pgp_keys for %d secret_shares; give one for each share, or none", len(texts), n)
	}
	keys := make([]*pgpKey, 0, len(texts))
	for i, text := range texts {
		key, err := pgp.Parse(text, now)
		if err != nil {
			return nil, fault.New(fault.Invalid, "pgp_keys, key %d of %d: %v", i+1, len(texts), err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}
