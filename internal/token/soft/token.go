package soft

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/claviger/claviger/internal/token"
)

// Token is an open software token. It implements token.Token. Every object
// that is made or destroyed rewrites the whole file, so the place "wrapped" is
// for many keys and the place "object" for a few.
type Token struct {
	device  *Device
	header  header
	fileKey []byte
	unlock  func() error
	closed  atomic.Bool

	// mu is held for reading while secrets are read, so that Close wipes them
	// under nobody's hands, and for writing while the file is written.
	mu       sync.RWMutex
	contents *contents
	kek      cipher.Block // nil before Provision
	storage  cipher.AEAD  // nil before Provision
}

var _ token.Token = (*Token)(nil)

func newToken(d *Device, h header, fileKey []byte, c *contents) (*Token, error) {
	t := &Token{device: d, header: h, fileKey: fileKey}
	if err := t.adopt(c); err != nil {
		return nil, err
	}
	return t, nil
}

// adopt makes c the token's contents.
func (t *Token) adopt(c *contents) error {
	var kek cipher.Block
	var storage cipher.AEAD
	var err, err2 error
	if o := c.system(useKEK); o != nil {
		kek, err = aes.NewCipher(o.secret)
	}
	if o := c.system(useStorage); o != nil {
		storage, err2 = newGCM(o.secret)
	}
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("prepare the system keys: %w", err)
	}
	t.contents, t.kek, t.storage = c, kek, storage
	return nil
}

// commit writes c to the file and then makes it the token's contents.
func (t *Token) commit(c *contents) error {
	plain := c.encode()
	defer clear(plain)
	file, err := sealFile(&t.header, t.fileKey, plain)
	if err != nil {
		return err
	}
	if err := t.device.files.write(file); err != nil {
		return err
	}
	return t.adopt(c)
}

// ready returns an error if the token is closed or the caller's time is over.
func (t *Token) ready(ctx context.Context) error {
	if t.closed.Load() {
		return token.ErrClosed
	}
	return alive(ctx)
}

// Info implements token.Token.
func (t *Token) Info() token.Info {
	holds := make(map[token.Type]token.Hold)
	for _, typ := range token.Types() {
		holds[typ] = token.Hold{Wrapped: true, Object: true, Import: true}
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return token.Info{
		Embedded:     true,
		Driver:       "soft",
		Label:        t.header.label,
		Serial:       t.header.serialText(),
		Manufacturer: "Claviger",
		Model:        "software token",
		Holds:        holds,
		Agree:        true,
		Transferable: t.contents.transferable,
	}
}

// Provision implements token.Token.
func (t *Token) Provision(ctx context.Context, transferable bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(ctx); err != nil {
		return err
	}
	next := t.contents
	for _, k := range []struct {
		use   use
		typ   token.Type
		label string
	}{
		{useKEK, token.AES256, "claviger-kek"},
		{useStorage, token.AES256, "claviger-storage"},
		{useAudit, token.P256, "claviger-audit"},
	} {
		if next.system(k.use) != nil {
			continue
		}
		o, err := newObject(k.use, token.Spec{Type: k.typ, ID: token.ID(randomBytes(16)), Label: k.label})
		if err != nil {
			return err
		}
		next = next.with(o)
		if k.use == useKEK {
			next.transferable = transferable
		}
	}
	if next == t.contents {
		return nil
	}
	return t.commit(next)
}

func newObject(u use, spec token.Spec) (*object, error) {
	secret, public, err := Engine{}.Generate(spec)
	if err != nil {
		return nil, err
	}
	return &object{
		use: u, typ: spec.Type, size: spec.Size, id: spec.ID, label: spec.Label,
		secret: secret, public: public,
	}, nil
}

func (o *object) stored() token.Stored {
	s := token.Stored{
		Type: o.typ, Size: o.size, Place: token.PlaceObject, ID: o.id, Public: bytes.Clone(o.public),
	}
	if o.named {
		name := o.name()
		s.Name = &name
	}
	return s
}

// AuditKey implements token.Token.
func (t *Token) AuditKey(ctx context.Context) (token.Stored, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.ready(ctx); err != nil {
		return token.Stored{}, err
	}
	o := t.contents.system(useAudit)
	if o == nil {
		return token.Stored{}, fmt.Errorf("%w: the audit key; the token was not provisioned", token.ErrNotFound)
	}
	return o.stored(), nil
}

// Random implements token.Token with the operating system's generator.
func (t *Token) Random(ctx context.Context, p []byte) error {
	if err := t.ready(ctx); err != nil {
		return err
	}
	rand.Read(p) // never fails: crypto/rand ends the process instead
	return nil
}

// Close implements token.Token. It wipes what it holds, waits for nothing but
// calls that read secrets at this moment, and lets another open the token.
func (t *Token) Close() error {
	if t.closed.Swap(true) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.fileKey)
	for _, o := range t.contents.objects {
		clear(o.secret)
		o.gone.Store(true)
	}
	t.contents = &contents{transferable: t.contents.transferable}
	t.kek, t.storage = nil, nil
	return t.unlock()
}
