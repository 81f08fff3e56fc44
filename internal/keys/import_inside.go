package keys

import (
	"context"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/token"
)

// importInside has a secret unwrapped inside the HSM token: this process never
// sees it.
func (s *Service) importInside(ctx context.Context, m *material, p plan, f importFields) (secretRecord, error) {
	hash, err := wrappingHash(f.hashFunction)
	if err != nil {
		return secretRecord{}, err
	}
	if err := checkPackage(f.ciphertext); err != nil {
		return secretRecord{}, err
	}
	wrapping, err := s.wrappingKey(ctx, p.name.mount)
	if err != nil {
		return secretRecord{}, err
	}
	if wrapping.Place == api.ProtectionSoftware {
		clear(wrapping.Secret)
		return secretRecord{}, invalid("the wrapping key of this mount is kept in server memory, and so is what comes with it").
			WithHint("ask for protection=software, or import into another mount")
	}
	key, err := wrapping.stored()
	if err != nil {
		return secretRecord{}, err
	}
	do := func(tok token.Token, ctx context.Context, spec token.Spec) (token.Stored, error) {
		return tok.Import(ctx, spec, token.Package{Key: key, Hash: hash, Blob: f.ciphertext})
	}
	spec := token.Spec{Type: p.typ, ID: newID(), Label: p.name.record()}
	var r secretRecord
	if p.protection == api.ProtectionWrapped {
		r, err = s.makeWrapped(ctx, spec, do)
	}
	if p.protection == api.ProtectionToken || p.fallback && errors.Is(err, token.ErrUnsupported) {
		r, err = s.makeObject(ctx, m, p.name, spec, do)
	}
	if errors.Is(err, token.ErrOpen) {
		return secretRecord{}, notUnwrapped()
	}
	return r, err
}
