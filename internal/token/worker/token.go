package worker

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// hsm is an open token. It implements token.Token.
type hsm struct {
	dev   *Device
	pool  *pool
	view  view
	mechs map[pkcs11.CKM]pkcs11.MechanismInfo

	// intake is learned while the token is opened and does not change.
	intake intake

	mu    sync.RWMutex
	facts facts
	info  token.Info

	// provisioned is when Provision succeeded: workers that logged in before it
	// have facts that are older.
	provisioned time.Time

	objects chan struct{} // has room for one: token objects are made and destroyed one by one

	refused sync.Map // variant → struct{}: parameters that the module does not take

	storageMu sync.Mutex
	storage   *key
}

var _ token.Token = (*hsm)(nil)

func newHSM(d *Device, p *pool, v view, f facts) *hsm {
	h := &hsm{dev: d, pool: p, view: v, facts: f, mechs: map[pkcs11.CKM]pkcs11.MechanismInfo{},
		objects: make(chan struct{}, 1)}
	for i := range v.slots {
		s := &v.slots[i]
		if !matches(s, d.cfg.Label, d.cfg.Serial) {
			continue
		}
		for _, m := range s.mechs {
			h.mechs[m.Type] = m
		}
		h.info = token.Info{
			Driver: "pkcs11", Module: d.cfg.Module, Label: s.token.Label, Serial: s.token.Serial,
			Manufacturer: s.token.Manufacturer, Model: s.token.Model, Firmware: s.token.Firmware.String(),
			Agree: h.has(pkcs11.ECDH1Derive, pkcs11.FlagDerive),
		}
		break
	}
	return h
}

func (h *hsm) has(m pkcs11.CKM, flag uint64) bool {
	i, ok := h.mechs[m]
	return ok && i.Flags&flag == flag
}

func (h *hsm) refuses(v variant) bool {
	_, ok := h.refused.Load(v)
	return ok
}

func (h *hsm) refuse(v variant) { h.refused.Store(v, struct{}{}) }

// Info implements token.Token.
func (h *hsm) Info() token.Info {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.info
}

// Key implements token.Token.
func (h *hsm) Key(s token.Stored) (token.Key, error) {
	if h.pool.ended.Load() {
		return nil, token.ErrClosed
	}
	if !s.Type.Valid() {
		return nil, fmt.Errorf("%w: unknown key type %d", token.ErrUnsupported, uint8(s.Type))
	}
	switch s.Place {
	case token.PlaceObject:
		if s.Name != nil {
			return newKey(h, s, fromName, ""), nil
		}
		return newKey(h, s, fromObject, ""), nil
	case token.PlaceWrapped:
		if len(s.Blob) == 0 {
			return nil, fmt.Errorf("%w: it is empty", token.ErrBlob)
		}
		return newKey(h, s, fromBlob, ""), nil
	}
	return nil, fmt.Errorf("%w: a stored key is an object or wrapped", token.ErrUnsupported)
}

// ask sends a request of the slow lane, or a hot one without a key, and repeats
// it while workers end. use reads the answer behind its status.
func (h *hsm) ask(ctx context.Context, kind byte, payload []byte, slow bool, cost int64, use func(pr *proc, r *reader) error) error {
	for attempt := 1; ; attempt++ {
		if h.pool.ended.Load() {
			return token.ErrClosed
		}
		pr, err := h.pool.acquire(ctx, nil, 0, slow)
		if err != nil {
			return err
		}
		c := pr.submit(nil, nil, cost, slow, func(b []byte, seq, _ uint32) []byte {
			start := len(b)
			return endFrame(append(beginFrame(b, kind, seq), payload...), start)
		})
		if c == nil {
			h.pool.procs[pr.index].CompareAndSwap(pr, nil)
			continue
		}
		if err := await(ctx, c); err != nil {
			return err
		}
		if c.err == nil {
			r := reader{b: c.payload}
			err := parseStatus(&r)
			if err == nil && use != nil {
				err = use(pr, &r)
			}
			c.release()
			if !h.lost(pr, err) {
				return err
			}
			h.pool.discard(pr, err)
		} else {
			c.release()
		}
		if attempt >= maxAttempts {
			return fmt.Errorf("%w: %d workers ended during this call", token.ErrUnavailable, attempt)
		}
		h.pool.cfg.Observe.retry()
	}
}

// Provision implements token.Token.
func (h *hsm) Provision(ctx context.Context, transferable bool) error {
	h.mu.RLock()
	provisioned := h.facts.kek || h.facts.storage != 0
	h.mu.RUnlock()
	defer h.one(ctx)()
	req := appendBool(appendBool(nil, transferable), provisioned)
	return seamError(h.ask(ctx, frameProvision, req, true, 10, func(pr *proc, r *reader) error {
		f, err := parseFacts(r)
		if err != nil {
			return err
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		f.forgedTag, f.forgedBlob = h.facts.forgedTag, h.facts.forgedBlob
		h.facts, h.provisioned = f, time.Now()
		h.info.Transferable = f.transferable
		h.info.Quirks = h.quirks()
		return nil
	}))
}

// AuditKey implements token.Token.
func (h *hsm) AuditKey(ctx context.Context) (st token.Stored, err error) {
	err = h.ask(ctx, frameSystem, nil, true, 1, func(_ *proc, r *reader) (err error) {
		st, err = parseStored(r)
		return err
	})
	return st, seamError(err)
}

// Bounds of an HMAC key in bytes.
const (
	minHMAC = 32
	maxHMAC = 512
)

// Generate implements token.Token.
func (h *hsm) Generate(ctx context.Context, spec token.Spec) (st token.Stored, err error) {
	defer h.pool.cfg.Observe.call("generate", time.Now())
	if err := h.checkSpec(spec); err != nil {
		return token.Stored{}, err
	}
	cost := map[token.Type]int64{token.RSA2048: 40, token.RSA3072: 120, token.RSA4096: 300}[spec.Type] + 1
	h.mu.RLock()
	object := spec.Place == token.PlaceObject || !h.info.Holds[spec.Type].Wrapped
	h.mu.RUnlock()
	if object {
		defer h.one(ctx)()
	}
	if spec.Name != nil {
		if err := h.checkName(ctx, &spec); err != nil {
			return token.Stored{}, err
		}
	}
	err = h.ask(ctx, frameGenerate, appendSpec(nil, spec), true, cost, func(pr *proc, r *reader) (err error) {
		if st, err = parseStored(r); err == nil && st.Place == token.PlaceObject {
			st.Name = spec.Name
			h.place(pr, st)
		}
		return err
	})
	st.Agree = spec.Agree
	return st, seamError(err)
}

func (h *hsm) checkSpec(spec token.Spec) error {
	if !spec.Type.Valid() || spec.Place > token.PlaceWrapped {
		return fmt.Errorf("%w: unknown key type or place", token.ErrUnsupported)
	}
	if spec.Type == token.HMAC && (spec.Size < minHMAC || spec.Size > maxHMAC) {
		return fmt.Errorf("%w: an HMAC key has %d to %d bytes, not %d", token.ErrUnsupported, minHMAC, maxHMAC, spec.Size)
	}
	if spec.Type != token.HMAC && spec.Size != 0 {
		return fmt.Errorf("%w: a size is for HMAC keys only", token.ErrUnsupported)
	}
	hold, ok := h.Info().Holds[spec.Type]
	if !ok {
		return fmt.Errorf("%w: keys of type %s can't be held by this token", token.ErrUnsupported, spec.Type)
	}
	if spec.Place == token.PlaceObject && !hold.Object || spec.Place == token.PlaceWrapped && !hold.Wrapped {
		return fmt.Errorf("%w: the module can't hold keys of type %s at that place: %s", token.ErrUnsupported, spec.Type, hold.Note)
	}
	return nil
}

// Destroy implements token.Token.
func (h *hsm) Destroy(ctx context.Context, s token.Stored) error {
	k, err := h.Key(s)
	if err != nil {
		return err
	}
	h.drop(k.(*key).ident)
	if s.Place != token.PlaceObject || s.Name != nil && s.Name.Keep {
		return nil
	}
	defer h.one(ctx)()
	if s.Name != nil {
		return seamError(h.ask(ctx, frameErase, appendName(nil, s.Name), true, 2, nil))
	}
	return seamError(h.ask(ctx, frameDestroy, s.ID[:], true, 2, nil))
}

// drop unloads a key everywhere.
func (h *hsm) drop(id identity) {
	for i := range h.pool.procs {
		if pr := h.pool.procs[i].Load(); pr != nil {
			pr.drop(id)
		}
	}
}

// place makes the worker that made a token object its first user: other
// processes may see the object a moment later.
func (h *hsm) place(pr *proc, st token.Stored) {
	k := newKey(h, st, fromObject, "")
	if st.Name != nil {
		k = newKey(h, st, fromName, "")
	}
	h.drop(k.ident)
	pr.preload(k)
}

// one waits until no other call makes or destroys token objects: modules that
// keep them in files get into trouble when several processes write. A caller
// whose time is over goes on, since its call fails at once. The result ends it.
func (h *hsm) one(ctx context.Context) (done func()) {
	select {
	case h.objects <- struct{}{}:
		return func() { <-h.objects }
	case <-ctx.Done():
		return func() {}
	}
}

// lost tells whether err means that a worker has lost the token: it does not see
// the system keys that were there. A new worker finds out whether the token is
// there still.
func (h *hsm) lost(pr *proc, err error) bool {
	w, ok := err.(*failure) //nolint:errorlint // only the worker's own answer
	if !ok || w.reason != reasonGone && w.reason != reasonKEK {
		return false
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	f := &pr.facts
	if pr.born.Before(h.provisioned) {
		f = &h.facts
	}
	return f.kek || w.reason == reasonGone && f.storage != 0
}

// Random implements token.Token.
func (h *hsm) Random(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), maxRandom)
		err := h.ask(ctx, frameRandom, appendU32(nil, uint32(n)), false, 1+int64(n>>12), func(_ *proc, r *reader) error {
			if got := copy(p[:n], r.b); got != n || len(r.b) != n {
				return errFrame
			}
			return nil
		})
		if err != nil {
			return seamError(err)
		}
		p = p[n:]
	}
	return nil
}

// Close implements token.Token.
func (h *hsm) Close() error {
	h.pool.close()
	return nil
}

// Forms of a sealed secret: its first byte.
const (
	sealedAES = 1 // nonce ‖ AES-256-GCM ciphertext ‖ tag
	sealedRSA = 2 // RSA-OAEP-SHA-256 with SHA-256(aad) as label
)

const maxSecret = 64

// storageKey returns the storage key, ErrNotFound without Provision.
func (h *hsm) storageKey() (*key, error) {
	if h.pool.ended.Load() {
		return nil, token.ErrClosed
	}
	h.mu.RLock()
	f := h.facts
	h.mu.RUnlock()
	if f.storage == 0 {
		return nil, fmt.Errorf("%w: the token has no storage key (%s): it was not provisioned", token.ErrNotFound, labelStorage)
	}
	h.storageMu.Lock()
	defer h.storageMu.Unlock()
	if h.storage == nil {
		h.storage = newKey(h, token.Stored{Type: f.storage, Place: token.PlaceObject, Public: f.storageKey}, fromLabel, labelStorage)
	}
	return h.storage, nil
}

// SealSecret implements token.Token.
func (h *hsm) SealSecret(ctx context.Context, secret, aad []byte) ([]byte, error) {
	if len(secret) > maxSecret {
		return nil, fmt.Errorf("%w: a secret to seal has at most %d bytes", token.ErrUnsupported, maxSecret)
	}
	k, err := h.storageKey()
	if err != nil {
		return nil, err
	}
	if k.stored.Type == token.RSA2048 {
		if ctx.Err() != nil {
			return nil, unavailable(ctx, "the call was given up")
		}
		return sealRSA(k.stored.Public, secret, aad)
	}
	out := make([]byte, 13, 13+len(secret)+gcmTag)
	out[0] = sealedAES
	if _, err := rand.Read(out[1:]); err != nil {
		return nil, err
	}
	items := []token.Item{{Nonce: out[1:13:13], AAD: aad, In: secret, Out: out}}
	if err := k.Do(ctx, token.Op{Kind: token.Seal}, items); err != nil {
		return nil, err
	}
	return items[0].Out, items[0].Err
}

func sealRSA(public, secret, aad []byte) ([]byte, error) {
	pub, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("reading the public storage key: %w", err)
	}
	r, ok := pub.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("the public storage key is no RSA key")
	}
	label := sha256.Sum256(aad)
	ct, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, r, secret, label[:])
	if err != nil {
		return nil, fmt.Errorf("sealing a secret: %w", err)
	}
	return append([]byte{sealedRSA}, ct...), nil
}

// OpenSecret implements token.Token.
func (h *hsm) OpenSecret(ctx context.Context, sealed, aad []byte) ([]byte, error) {
	k, err := h.storageKey()
	if err != nil {
		return nil, err
	}
	var op token.Op
	var it token.Item
	switch {
	case len(sealed) >= 13+gcmTag && sealed[0] == sealedAES && k.stored.Type == token.AES256:
		op, it = token.Op{Kind: token.Open}, token.Item{Nonce: sealed[1:13], AAD: aad, In: sealed[13:]}
	case len(sealed) > 1 && sealed[0] == sealedRSA && k.stored.Type == token.RSA2048:
		label := sha256.Sum256(aad)
		op = token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: crypto.SHA256}
		it = token.Item{AAD: label[:], In: sealed[1:]}
	default:
		return nil, token.ErrOpen
	}
	items := []token.Item{it}
	if err := k.Do(ctx, op, items); err != nil {
		return nil, err
	}
	return items[0].Out, items[0].Err
}
