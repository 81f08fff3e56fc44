package soft

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/claviger/claviger/internal/token"
)

// Generate implements token.Token. PlaceAuto is PlaceWrapped.
func (t *Token) Generate(ctx context.Context, spec token.Spec) (token.Stored, error) {
	s, err := t.generate(ctx, spec)
	s.Agree = spec.Agree
	return s, err
}

func (t *Token) generate(ctx context.Context, spec token.Spec) (token.Stored, error) {
	if err := t.ready(ctx); err != nil {
		return token.Stored{}, err
	}
	if spec.Place > token.PlaceWrapped {
		return token.Stored{}, fmt.Errorf("%w: place %d", token.ErrUnsupported, spec.Place)
	}
	if len(spec.Label) > 255 {
		return token.Stored{}, fmt.Errorf("a label of %d bytes; it can have up to 255", len(spec.Label))
	}
	if spec.Name != nil {
		return t.generateNamed(ctx, spec)
	}
	o, err := newObject(useCaller, spec)
	if err != nil {
		return token.Stored{}, err
	}
	if spec.Place == token.PlaceObject {
		if err := t.keep(ctx, o); err != nil {
			return token.Stored{}, err
		}
		return o.stored(), nil
	}
	defer clear(o.secret)
	return t.wrap(ctx, o)
}

func (t *Token) wrap(ctx context.Context, o *object) (token.Stored, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.readyKEK(ctx); err != nil {
		return token.Stored{}, err
	}
	blob, err := wrapKWP(t.kek, o.secret)
	if err != nil {
		return token.Stored{}, fmt.Errorf("wrap a key: %w", err)
	}
	s := o.stored()
	s.Place, s.Blob = token.PlaceWrapped, blob
	return s, nil
}

func (t *Token) readyKEK(ctx context.Context) error {
	if err := t.ready(ctx); err != nil {
		return err
	}
	if t.kek == nil {
		return fmt.Errorf("%w: the KEK; the token was not provisioned", token.ErrNotFound)
	}
	return nil
}

// keep stores an object, in place of one of the same ID.
func (t *Token) keep(ctx context.Context, o *object) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(ctx); err != nil {
		return err
	}
	old := t.contents.objects[o.id]
	if old != nil && old.use != useCaller {
		return fmt.Errorf("the ID %x is a system key's", o.id)
	}
	if err := t.commit(t.contents.with(o)); err != nil {
		return err
	}
	old.end()
	return nil
}

// end wipes an object that is in no contents any more; nil is none.
func (o *object) end() {
	if o != nil {
		o.gone.Store(true)
		clear(o.secret)
	}
}

// Destroy implements token.Token. It refuses system keys.
func (t *Token) Destroy(ctx context.Context, s token.Stored) error {
	if err := t.ready(ctx); err != nil || s.Place != token.PlaceObject || s.Name != nil && s.Name.Keep {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(ctx); err != nil {
		return err
	}
	o := t.contents.lookup(&s)
	switch {
	case o == nil:
		return nil
	case o.use != useCaller:
		return fmt.Errorf("the key %q is a system key, which only ends with the token", o.label)
	}
	if err := t.commit(t.contents.without(o.id)); err != nil {
		return err
	}
	o.end()
	return nil
}

// Key implements token.Token.
func (t *Token) Key(s token.Stored) (token.Key, error) {
	switch {
	case !s.Type.Valid():
		return nil, fmt.Errorf("%w: %s is no key type", token.ErrUnsupported, s.Type)
	case s.Place != token.PlaceObject && s.Place != token.PlaceWrapped:
		return nil, fmt.Errorf("%w: place %d", token.ErrUnsupported, s.Place)
	}
	s.Blob, s.Public = bytes.Clone(s.Blob), bytes.Clone(s.Public)
	return &key{token: t, stored: s}, nil
}

// key is a handle; it opens the secret at its first use.
type key struct {
	token  *Token
	stored token.Stored
	loaded atomic.Pointer[loadedKey]
}

type loadedKey struct {
	token.Key
	object *object // nil for a wrapped key
}

// Do implements token.Key.
func (k *key) Do(ctx context.Context, op token.Op, items []token.Item) error {
	if k.token.closed.Load() {
		k.loaded.Store(nil) // let go of the secret
		return token.ErrClosed
	}
	if op.Kind == token.Agree && !k.stored.Agree {
		return fmt.Errorf("%w: the key was not made for key agreement", token.ErrUnsupported)
	}
	l := k.loaded.Load()
	if l == nil || l.object != nil && l.object.gone.Load() {
		var err error
		if l, err = k.load(ctx); err != nil {
			return err
		}
	}
	return l.Do(ctx, op, items)
}

func (k *key) load(ctx context.Context) (*loadedKey, error) {
	t := k.token
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	l := new(loadedKey)
	var err error
	if k.stored.Place == token.PlaceObject {
		l, err = k.loadObject()
	} else {
		l.Key, err = k.loadWrapped(ctx)
	}
	if err != nil {
		return nil, err
	}
	k.loaded.Store(l)
	return l, nil
}

func (k *key) loadObject() (*loadedKey, error) {
	o := k.token.contents.lookup(&k.stored)
	if o == nil {
		return nil, fmt.Errorf("%w: ID %x", token.ErrNotFound, k.stored.ID)
	}
	if o.use != useCaller && o.use != useAudit || o.typ != k.stored.Type {
		return nil, fmt.Errorf("%w: ID %x of type %s", token.ErrNotFound, k.stored.ID, k.stored.Type)
	}
	opened, err := Engine{}.Open(o.typ, o.secret)
	if err != nil {
		return nil, fmt.Errorf("open the key object: %w", err)
	}
	return &loadedKey{opened, o}, nil
}

// loadWrapped refuses a blob whose secret is not what the record says it is, so
// that no part of the record can be exchanged unnoticed where that can be told.
func (k *key) loadWrapped(ctx context.Context) (token.Key, error) {
	if err := k.token.readyKEK(ctx); err != nil {
		return nil, err
	}
	secret, err := unwrapKWP(k.token.kek, k.stored.Blob)
	if err != nil {
		return nil, token.ErrBlob
	}
	defer clear(secret)
	s := &k.stored
	if s.Type.Class() == token.ClassHMAC && len(secret) != s.Size {
		return nil, fmt.Errorf("%w: it is no HMAC key of %d bytes", token.ErrBlob, s.Size)
	}
	opened, err := openMatching(s.Type, secret, s.Public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", token.ErrBlob, err)
	}
	return opened, nil
}

// openMatching opens a secret that must belong to a public key (PKIX DER), if
// its type has one.
func openMatching(t token.Type, secret, public []byte) (token.Key, error) {
	if c := t.Class(); c == token.ClassAEAD || c == token.ClassHMAC {
		return Engine{}.Open(t, secret)
	}
	opened, pub, err := openPrivate(t, secret)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encode a public key: %w", err)
	}
	if !bytes.Equal(der, public) {
		return nil, errors.New("the public key is another one's")
	}
	return opened, nil
}
