package pki

import (
	"context"
	"encoding/hex"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

// adoptOperations are about keys that others made in the HSM token. Like all that
// reach any object there, it needs sudo.
func (s *Service) adoptOperations() []*op.Operation {
	adopt := meta("config.pkcs11ca", "config/pkcs11ca", op.Write, "Make an authority of a certificate and of its key, which lies in the HSM token already.")
	adopt.Sudo = true
	return []*op.Operation{op.Define(adopt, s.adopt)}
}

// adopt brings an authority whose key is in the HSM token. The key must be that of
// the first certificate; if it is not, nothing stays.
func (s *Service) adopt(ctx context.Context, c *op.Call, r *api.PKIAdopt) (*api.PKIImported, error) {
	b, err := adoptedBundle(r)
	if err != nil {
		return nil, err
	}
	id, err := objectID(r)
	if err != nil {
		return nil, err
	}
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	public := b.certs[0].RawSubjectPublicKeyInfo
	owner, err := s.keys.FindPair(ctx, c.Mount, public)
	if err != nil {
		return nil, err
	}
	if err := st.checkKeyName(r.KeyName, owner); err != nil {
		return nil, err
	}
	made := []string{}
	if owner == "" {
		pair, warnings, err := s.keys.AdoptPair(ctx, c.Mount, newUUID(), r.PKCS11KeyLabel, id, public)
		if err != nil {
			return nil, err
		}
		owner, made = pair.Name, append(made, pair.Name)
		for _, w := range warnings {
			c.Warn("%s", w)
		}
	}
	out, err := s.bringTo(ctx, c.Mount, b, r.IssuerName, made)
	if err != nil {
		return nil, err
	}
	if len(made) == 0 {
		out.ExistingKeys = append(out.ExistingKeys, owner)
	}
	if r.KeyName != "" {
		err = s.nameKey(ctx, c.Mount, owner, r.KeyName)
	}
	return out, err
}

func adoptedBundle(r *api.PKIAdopt) (*bundle, error) {
	text := r.Certificate
	if text == "" {
		text = r.PEMBundle
	}
	if text == "" {
		return nil, invalid(`no certificate provided in the "certificate" parameter`)
	}
	b, err := parseBundle(text)
	if err != nil {
		return nil, err
	}
	if len(b.keys) > 0 {
		b.wipe()
		return nil, invalid("a private key is among the certificates; config/pkcs11ca takes a key that is in the HSM token").
			WithHint("config/ca brings keys of elsewhere")
	}
	return b, checkAuthorities(b)
}

// objectID reads which object is meant; its label and its CKA_ID may both be given.
func objectID(r *api.PKIAdopt) ([]byte, error) {
	if r.PKCS11KeyLabel == "" && r.PKCS11KeyID == "" {
		return nil, invalid("pkcs11_key_label or pkcs11_key_id must say which key of the HSM token is meant").
			WithHint("sys/hsm/objects lists them")
	}
	digits := strings.TrimPrefix(strings.ToLower(strings.ReplaceAll(r.PKCS11KeyID, ":", "")), "0x")
	id, err := hex.DecodeString(digits)
	if err != nil {
		return nil, invalid("pkcs11_key_id %q is no CKA_ID in hexadecimal; one is written 2222 or 0x2222", r.PKCS11KeyID)
	}
	return id, nil
}
