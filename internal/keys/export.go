package keys

import (
	"context"
	"errors"
	"strconv"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// exportKey shows public keys, of the version that r names or of all that may
// still verify. Secrets are never shown.
func (s *Service) exportKey(ctx context.Context, c *op.Call, r *api.ExportKey) (*api.ExportedKey, error) {
	switch r.Kind {
	case "public-key", "encryption-key", "signing-key", "hmac-key":
	default:
		return nil, invalid("invalid export type: %s", r.Kind).WithHint("public-key is the type that is exported")
	}
	k, err := s.key(ctx, keyName{c.Mount, r.Name})
	if errors.Is(err, errNoKey) {
		return nil, fault.New(fault.NotFound, "") // Vault says no more of what it does not have
	}
	if err == nil {
		err = k.usable()
	}
	if err != nil {
		return nil, err
	}
	if r.Kind != "public-key" {
		return nil, invalid(msgNotExportable).WithHint("the protection of this key is %s; %s", k.meta.Protection, hintProtection)
	}
	if !canSign(k.meta.Type) {
		return nil, invalid("key type %s has no public key", k.meta.Type)
	}
	first, last, err := k.exported(r.Version)
	if err != nil {
		return nil, err
	}
	out := &api.ExportedKey{Name: k.name.name, Type: k.meta.Type.String(), Keys: make(map[string]string)}
	for n := first; n <= last; n++ {
		v, err := s.version(ctx, k, n)
		if err != nil {
			return nil, err
		}
		out.Keys[strconv.Itoa(n)] = publicText(v)
	}
	return out, nil
}

// exported reads the version of an export: "", "latest" or a number.
func (k *key) exported(asked string) (first, last int, err error) {
	if asked == "" {
		return k.oldest(), k.meta.Latest, nil
	}
	if asked == "latest" {
		return k.meta.Latest, k.meta.Latest, nil
	}
	n, ok := parseVersion(asked)
	switch {
	case !ok:
		return 0, 0, invalid("%q is no key version; it is a number or latest", asked)
	case n < 1 || n > k.meta.Latest:
		return 0, 0, invalid("version does not exist or cannot be found")
	case n < k.oldest():
		return 0, 0, invalid("version for export is below minimum decryption version")
	}
	return n, n, nil
}
