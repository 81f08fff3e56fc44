package keys

import (
	"context"
	"encoding/hex"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// macSize is the length of the separate HMAC secret in bytes: as long as the
// longest SHA-2 digest, since some modules refuse shorter keys.
const macSize = 64

// material is the secrets of a version that is not in the store yet.
type material struct {
	main    secretRecord
	mac     *secretRecord
	intents []string // primary keys of the intents that the version's transaction removes
	agree   bool     // main is for key agreement
	named   bool     // main was made under a name of the caller's choice
}

// plan is what a version's secrets are to be.
type plan struct {
	name       keyName
	typ        token.Type
	size       int
	protection api.Protection
	// fallback lets a main secret that the module turns out not to wrap become
	// an object: the caller did not ask for a protection.
	fallback            bool
	derived, convergent bool
	autoRotate          api.Seconds
	// imported and allowRotation are noted in the key's record.
	imported, allowRotation, adopted bool
	deletable                        bool
	pkcs11                           *p11Record
}

// secret is the type and size of the main secret.
func (p *plan) secret() (token.Type, int) {
	t := secretType(p.typ, p.derived, p.protection)
	if t != p.typ {
		return t, prfSize
	}
	return t, p.size
}

// makeMaterial makes the secrets of a new version. The caller either commits
// them in a transaction with settle, or gives them to discard.
func (s *Service) makeMaterial(ctx context.Context, p plan) (*material, error) {
	m := &material{agree: p.pkcs11.agrees()}
	var err error
	t, size := p.secret()
	m.main, err = s.makeSecret(ctx, m, p.name, t, size, p.protection)
	if p.fallback && p.protection == api.ProtectionWrapped && errors.Is(err, token.ErrUnsupported) {
		m.main, err = s.makeSecret(ctx, m, p.name, t, size, api.ProtectionToken)
	}
	if p.derived {
		m.main.Public = nil // half of what an Ed25519 key is derived from
	}
	if err == nil && p.typ != token.HMAC {
		err = s.makeMAC(ctx, m, p)
	}
	if err != nil {
		s.discard(ctx, m)
		return nil, tokenFault(err, "make a key of type "+p.typ.String())
	}
	return m, nil
}

func (s *Service) makeMAC(ctx context.Context, m *material, p plan) error {
	place := api.Protection(api.ProtectionSoftware)
	if m.main.Place != api.ProtectionSoftware {
		t, err := s.token.Get()
		if err != nil {
			return err
		}
		place = macProtection(t.Info(), m.main.Type, m.main.Place)
	}
	if place == "" {
		return nil
	}
	mac, err := s.makeSecret(ctx, m, p.name, token.HMAC, macSize, place)
	if errors.Is(err, token.ErrUnsupported) {
		s.log.Warn("the HSM token can't hold the HMAC secret of a key", "mount", p.name.mount, "key", p.name.name, "error", err)
		return nil
	}
	m.mac = &mac
	return err
}

func (s *Service) makeSecret(ctx context.Context, m *material, n keyName, t token.Type, size int, place api.Protection) (secretRecord, error) {
	spec := token.Spec{Type: t, Size: size, ID: newID(), Label: n.record(), Agree: m.agree && t.Class() == token.ClassECDSA}
	switch place {
	case api.ProtectionSoftware:
		secret, public, err := s.software.Generate(spec)
		return secretRecord{Type: t, Size: size, Place: place, Public: public, Secret: secret}, err
	case api.ProtectionToken:
		return s.makeObject(ctx, m, n, spec, token.Token.Generate)
	}
	return s.makeWrapped(ctx, spec, token.Token.Generate)
}

// maker makes the key of a specification in the HSM token: Generate, or what
// takes a secret in.
type maker func(tok token.Token, ctx context.Context, spec token.Spec) (token.Stored, error)

func (s *Service) makeWrapped(ctx context.Context, spec token.Spec, do maker) (secretRecord, error) {
	tok, err := s.token.Get()
	if err != nil {
		return secretRecord{}, err
	}
	spec.Place = token.PlaceWrapped
	stored, err := do(tok, ctx, spec)
	if err != nil {
		return secretRecord{}, err
	}
	return recordOf(stored), nil
}

// makeObject makes a token object. Its intent is in the store before, so that
// an object which no version names is found and destroyed.
func (s *Service) makeObject(ctx context.Context, m *material, n keyName, spec token.Spec, do maker) (secretRecord, error) {
	tok, err := s.token.Get()
	if err != nil {
		return secretRecord{}, err
	}
	spec.Place = token.PlaceObject
	planned := recordOf(token.Stored{Type: spec.Type, Size: spec.Size, Place: spec.Place, ID: spec.ID, Name: spec.Name})
	put, err := s.noteIntent(n, planned, spec.Name != nil)
	if err != nil {
		return secretRecord{}, storeFault(err, "note the new key object")
	}
	if err := s.store.Apply(ctx, put); err != nil {
		return secretRecord{}, storeFault(err, "note the new key object")
	}
	m.intents = append(m.intents, put.Key)
	stored, err := do(tok, ctx, spec)
	if err != nil {
		return secretRecord{}, err
	}
	m.named = m.named || spec.Name != nil
	if stored.Place != token.PlaceObject || hex.EncodeToString(stored.ID[:]) != planned.ID {
		return secretRecord{}, fault.New(fault.Internal, "the HSM token made another object than it was asked for")
	}
	return recordOf(stored), nil
}

// settle returns the changes that make m version number of the key keyID.
func (s *Service) settle(n keyName, keyID string, number int, m *material) ([]store.Change, versionRecord, error) {
	r := versionRecord{Format: recordFormat, KeyID: keyID, Number: number, Created: s.now().UTC(), Main: m.main, MAC: m.mac}
	put, err := s.store.Put(tableVersions, n.version(number), 0, r)
	if err != nil {
		return nil, r, err
	}
	changes := []store.Change{put}
	for _, id := range m.intents {
		changes = append(changes, s.store.Remove(tableIntents, id, intentNew))
	}
	return changes, r, nil
}

// discard undoes makeMaterial. It is safe even if it is unknown whether the
// transaction of settle was made: see dropIntent.
func (s *Service) discard(ctx context.Context, m *material) {
	clear(m.main.Secret)
	if m.mac != nil {
		clear(m.mac.Secret)
	}
	if len(m.intents) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	for _, id := range m.intents {
		if err := s.dropIntent(ctx, id, m.named); err != nil {
			s.log.Warn("an unused key object stays in the HSM token until the next start", "id", id, "error", err)
		}
	}
}
