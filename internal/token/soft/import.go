package soft

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/claviger/claviger/internal/token"
)

// Import implements token.Token. PlaceAuto is PlaceWrapped.
func (t *Token) Import(ctx context.Context, spec token.Spec, p token.Package) (token.Stored, error) {
	if err := t.ready(ctx); err != nil {
		return token.Stored{}, err
	}
	size := p.Key.Bits() / 8
	switch {
	case !spec.Type.Valid() || spec.Place > token.PlaceWrapped:
		return token.Stored{}, fmt.Errorf("%w: type %s at place %d", token.ErrUnsupported, spec.Type, spec.Place)
	case p.Key.Type.Class() != token.ClassRSA:
		return token.Stored{}, fmt.Errorf("%w: a wrapping key of type %s", token.ErrUnsupported, p.Key.Type)
	case len(p.Blob) < size+token.ImportMin:
		return token.Stored{}, token.ErrOpen
	}
	secret, err := t.unwrapPackage(ctx, p, size)
	if err != nil {
		return token.Stored{}, err
	}
	o, err := importedObject(spec, secret)
	if err != nil {
		clear(secret)
		return token.Stored{}, err
	}
	if spec.Place == token.PlaceObject {
		if err := t.keep(ctx, o); err != nil {
			return token.Stored{}, err
		}
		return o.stored(), nil
	}
	defer clear(secret)
	return t.wrap(ctx, o)
}

// unwrapPackage opens both parts. Where the first does not open, the second is
// tried with a random key, so that the time tells nothing (promise P7).
func (t *Token) unwrapPackage(ctx context.Context, p token.Package, size int) ([]byte, error) {
	k, err := t.Key(p.Key)
	if err != nil {
		return nil, err
	}
	items := []token.Item{{In: p.Blob[:size]}}
	if err := k.Do(ctx, token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: p.Hash}, items); err != nil {
		return nil, err
	}
	if err := items[0].Err; err != nil && !errors.Is(err, token.ErrOpen) {
		return nil, err
	}
	between := make([]byte, token.ImportAES)
	rand.Read(between)
	defer clear(between)
	defer clear(items[0].Out)
	if items[0].Err == nil && len(items[0].Out) == len(between) {
		copy(between, items[0].Out)
	}
	secret, err := Engine{}.Unwrap(between, p.Blob[size:])
	if err != nil {
		return nil, token.ErrOpen
	}
	return secret, nil
}

// importedObject checks that a secret is of the type that spec says. It keeps secret.
func importedObject(spec token.Spec, secret []byte) (*object, error) {
	o := &object{use: useCaller, typ: spec.Type, id: spec.ID, label: spec.Label, secret: secret}
	switch spec.Type.Class() {
	case token.ClassAEAD, token.ClassHMAC:
		if _, err := (Engine{}).Open(spec.Type, secret); err != nil {
			return nil, token.ErrOpen
		}
		if spec.Type == token.HMAC {
			o.size = len(secret)
		}
		return o, nil
	}
	_, public, err := openPrivate(spec.Type, secret)
	if err != nil {
		return nil, token.ErrOpen
	}
	if o.public, err = x509.MarshalPKIXPublicKey(public); err != nil {
		return nil, fmt.Errorf("encode a public key: %w", err)
	}
	return o, nil
}
