package keys

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strconv"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// What is exported, and how.
const (
	exportPublic = "public-key"
	exportChain  = "certificate-chain"

	formatRaw = "raw"
	formatDER = "der"
	formatPEM = "pem"
)

// exportKey shows public keys or certificates, of the version that r names or
// of all that may still verify. Secrets are never shown.
func (s *Service) exportKey(ctx context.Context, c *op.Call, r *api.ExportKey) (*api.ExportedKey, error) {
	switch r.Kind {
	case exportPublic, exportChain, "encryption-key", "signing-key", "hmac-key":
	default:
		return nil, invalid("invalid export type: %s", r.Kind).WithHint("%s and %s are the types that are exported", exportPublic, exportChain)
	}
	switch r.Format {
	case "", formatRaw, formatDER, formatPEM:
	default:
		return nil, invalid("invalid format: %s", r.Format).WithHint("it is raw, der, pem or empty")
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
	if r.Kind != exportPublic && r.Kind != exportChain {
		return nil, invalid(msgNotExportable).WithHint("the protection of this key is %s; %s", k.meta.Protection, hintProtection)
	}
	if !canSign(k.meta.Type) {
		return nil, invalid("key type %s has no public key", k.meta.Type)
	}
	if err := k.refuseDerived(); err != nil {
		return nil, err
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
		text, err := exportText(v, r)
		if err != nil {
			return nil, err
		}
		if text != "" {
			out.Keys[strconv.Itoa(n)] = text
		}
	}
	if len(out.Keys) == 0 {
		return nil, invalid("selected key version does not have a certificate chain imported").
			WithHint("keep one beside the version with keys/%s/set-certificate", r.Name)
	}
	return out, nil
}

// exportText is what of a version is exported, "" if it has no certificates.
func exportText(v *version, r *api.ExportKey) (string, error) {
	_, raw := v.public.(ed25519.PublicKey)
	switch {
	case r.Kind == exportChain:
		return v.chain, nil
	case r.Format == formatDER:
		return base64.StdEncoding.EncodeToString(v.pkix), nil
	case r.Format == formatRaw && !raw:
		return "", invalid("format raw is for public keys of type ed25519; supported values for this key are der, pem or empty")
	case r.Format == formatPEM:
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: v.pkix})), nil
	}
	return publicText(v), nil
}

// exported reads the version of an export: "", "latest" or a number.
func (k *key) exported(asked string) (first, last int, err error) {
	if asked == "" {
		return k.oldest(), k.meta.Latest, nil
	}
	if asked == "latest" {
		return k.meta.Latest, k.meta.Latest, nil
	}
	n, ok := parseVersion(strings.TrimPrefix(asked, "v"))
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
