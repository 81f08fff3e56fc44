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
			"Make a key pair as an object of the HSM token with a label and identifier of the caller's choice, where older programs find it."), s.createLegacyKey),
		op.Define(meta("legacy.decrypt", "legacy/decrypt/{name}", op.Write,
			"Decrypt with a padding that only older programs use. Wrong padding gives a message that looks random, where the HSM token has raw RSA."), s.legacyDecrypt),
	}
}

// legacyTypes are the types of key pairs that createLegacyKey makes.
var legacyTypes = []token.Type{token.RSA2048, token.RSA3072, token.RSA4096}

// schemePKCS1v15 is RSAES-PKCS1-v1_5 (RFC 8017 section 7.2).
const schemePKCS1v15 = "rsa-pkcs1v15"

func (s *Service) createLegacyKey(ctx context.Context, c *op.Call, r *api.CreateLegacyKey) (*api.LegacyKey, error) {
	t, err := token.ParseType(r.Type)
	if err != nil || !slices.Contains(legacyTypes, t) {
		return nil, invalid("type %q: it must be rsa-2048, rsa-3072 or rsa-4096", r.Type)
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
	return &api.LegacyKey{Name: r.Name, Type: t.String(), Label: r.Label, ID: hex.EncodeToString(object.ID), PublicKey: publicText(v)}, nil
}

func (s *Service) legacyDecrypt(ctx context.Context, c *op.Call, r *api.LegacyDecrypt) (*api.LegacyDecrypted, error) {
	if r.Scheme != schemePKCS1v15 {
		return nil, invalid("scheme %q: it must be %s", r.Scheme, schemePKCS1v15)
	}
	if len(r.Ciphertext) == 0 {
		return nil, invalid("ciphertext is missing")
	}
	plaintext, err := s.DecryptPKCS1v15(ctx, Ref{Mount: c.Mount, Name: r.Name}, r.Ciphertext)
	if err != nil {
		return nil, err
	}
	return &api.LegacyDecrypted{Plaintext: plaintext}, nil
}
