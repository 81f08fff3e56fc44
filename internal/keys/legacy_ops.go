package keys

import (
	"context"
	"encoding/hex"
	"slices"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
)

// legacyOperations are what the fronts for clients of older programs ask for. They
// stand below legacy/, so that no policy for encrypt/, decrypt/ or keys/ allows them.
func (s *Service) legacyOperations() []*op.Operation {
	return []*op.Operation{
		op.Define(meta("legacy.keys.create", "legacy/keys/{name}", op.Write,
			"Make a key as an object of the HSM token with a label and identifier of the caller's choice, where older programs find it."), s.createLegacyKey),
		op.Define(meta("legacy.encrypt", "legacy/encrypt/{name}", op.Write,
			"Encrypt as older programs do, with the key's first version: RSA-OAEP with SHA-1, or AES-CBC, which nothing authenticates."), s.legacyEncrypt),
		op.Define(meta("legacy.decrypt", "legacy/decrypt/{name}", op.Write,
			"Decrypt what older programs encrypt. With rsa-pkcs1v15 wrong padding gives a message that looks random, where the HSM token has raw RSA."), s.legacyDecrypt),
	}
}

// legacyTypes are the types of keys that createLegacyKey makes.
var legacyTypes = []token.Type{token.RSA2048, token.RSA3072, token.RSA4096, token.AES128}

func (s *Service) createLegacyKey(ctx context.Context, c *op.Call, r *api.CreateLegacyKey) (*api.LegacyKey, error) {
	t, err := token.ParseType(r.Type)
	if err != nil || !slices.Contains(legacyTypes, t) {
		return nil, invalid("type %q: it must be rsa-2048, rsa-3072, rsa-4096 or aes128-gcm96", r.Type)
	}
	object, err := objectName(r.Label, r.ID, "")
	if err != nil {
		return nil, err
	}
	if len(object.ID) == 0 {
		return nil, invalid("id is missing: the CKA_ID of the object in hex, 1 to %d bytes", token.MaxObjectID)
	}
	if err := s.CreateObject(ctx, c.Mount, r.Name, t, 0, object); err != nil {
		return nil, err
	}
	_, v, err := s.refer(ctx, Ref{Mount: c.Mount, Name: r.Name})
	if err != nil {
		return nil, err
	}
	key := &api.LegacyKey{Name: r.Name, Type: t.String(), Label: r.Label, ID: hex.EncodeToString(object.ID)}
	if v.public != nil {
		key.PublicKey = publicText(v)
	}
	return key, nil
}
