package keys

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// key is a loaded key. It never changes: a change makes another one, which
// shares the slots of the versions.
type key struct {
	name  keyName
	meta  keyRecord
	rec   int64         // version of the record that meta was read from
	slots []*slot       // of version 1, 2, …
	used  *atomic.Int64 // when it was last used, in Unix nanoseconds; nil but for a session's key
}

// slot takes one version of a key when it is first needed.
type slot struct {
	mu      sync.Mutex // held while loading
	version atomic.Pointer[version]
}

// version is a key version that is ready for use.
type version struct {
	number  int
	prefix  string // of everything it makes: "vault:v1:"
	created time.Time
	main    token.Key // nil for a derived key
	derive  *deriver  // nil but for a derived key
	mac     token.Key // nil where the HSM token holds no HMAC keys
	pkix    []byte    // nil for symmetric keys
	public  crypto.PublicKey
	seals   *counter // nil where seals need no count
	chain   string   // PEM of the certificates, "" if there are none
}

// with returns a copy of k under another record, one version later.
func (k *key) with(meta keyRecord) *key {
	return &key{name: k.name, meta: meta, rec: k.rec + 1, slots: slices.Clip(k.slots), used: k.used}
}

// withSlot is k with a version that is opened anew; those of k stay as they are.
func (k *key) withSlot(number int) *key {
	next := k.with(k.meta)
	next.slots = slices.Clone(next.slots)
	next.slots[number-1] = new(slot)
	return next
}

// oldest is the lowest version that still decrypts and verifies.
func (k *key) oldest() int { return max(k.meta.MinDecryption, k.meta.MinAvailable, 1) }

// forNew returns the version that a request for asked (0: the newest) uses to
// make something new; doing is "encryption", "signing" or "HMAC".
func (k *key) forNew(asked int, doing string) (int, error) {
	switch {
	case asked == 0:
		return k.meta.Latest, nil
	case asked < 0:
		return 0, invalid("requested version for %s is negative", doing)
	case asked > k.meta.Latest:
		return 0, invalid("requested version for %s is higher than the latest key version", doing)
	case asked < max(k.meta.MinEncryption, k.oldest()):
		return 0, invalid("requested version for %s is less than the minimum encryption key version", doing)
	}
	return asked, nil
}

// forOld checks the version that a ciphertext, signature or HMAC names; what
// is the word for it.
func (k *key) forOld(v int, what string) error {
	switch {
	case v > k.meta.Latest:
		return invalid("invalid %s: version is too new", what)
	case v < k.oldest():
		return invalid(msgTooOld)
	}
	return nil
}

// find returns a key that may be used, or a fault with the text missing if
// there is none.
func (s *Service) find(ctx context.Context, mount, name, missing string) (*key, error) {
	k, err := s.key(ctx, keyName{mount, name})
	if err == nil {
		err = k.usable()
	}
	if err == nil && k.used != nil {
		k.used.Store(s.now().UnixNano())
	}
	return k, orMissing(err, missing)
}

// findThis is find for callers who know which key they mean: one of another id
// that has the name now is none. An empty id means whichever has the name.
func (s *Service) findThis(ctx context.Context, mount, name, id, missing string) (*key, error) {
	k, err := s.find(ctx, mount, name, missing)
	if err == nil && id != "" && id != k.meta.ID {
		return nil, orMissing(errNoKey, missing)
	}
	return k, err
}

// key returns a loaded key, or errNoKey.
func (s *Service) key(ctx context.Context, n keyName) (*key, error) {
	if _, err := s.token.Get(); err != nil {
		return nil, tokenFault(err, "use the key")
	}
	if k := s.cache.get(n); k != nil {
		return k, nil
	}
	e := s.cache.lock(n)
	defer s.cache.unlock(n, e)
	return s.load(ctx, n, e)
}

// load fills a locked entry.
func (s *Service) load(ctx context.Context, n keyName, e *entry) (*key, error) {
	if k := e.key.Load(); k != nil {
		return k, nil
	}
	var meta keyRecord
	rec, err := s.store.Get(ctx, tableKeys, n.record(), &meta)
	if errors.Is(err, store.ErrNotFound) {
		return nil, errNoKey
	}
	if err == nil {
		err = checkKey(&meta)
	}
	if err != nil {
		return nil, storeFault(err, "read the key")
	}
	k := newKey(n, meta, rec)
	k.used = s.clockOf(n, &k.meta)
	e.key.Store(k)
	return k, nil
}

// newKey is a key whose versions are not loaded.
func newKey(n keyName, meta keyRecord, rec int64) *key {
	k := &key{name: n, meta: meta, rec: rec, slots: make([]*slot, meta.Latest)}
	for i := range k.slots {
		k.slots[i] = new(slot)
	}
	return k
}

func checkKey(r *keyRecord) error {
	if err := checkFormat(r.Format); err != nil {
		return err
	}
	if r.Latest < 1 || r.Latest > maxVersion || !r.Type.Valid() {
		return fmt.Errorf("key with %d versions of type %v: %w", r.Latest, r.Type, store.ErrCorrupt)
	}
	return nil
}

// version returns version v of a key, 1 ≤ v ≤ latest, and loads it at first use.
func (s *Service) version(ctx context.Context, k *key, v int) (*version, error) {
	slot := k.slots[v-1]
	if ver := slot.version.Load(); ver != nil {
		return ver, nil
	}
	slot.mu.Lock()
	defer slot.mu.Unlock()
	if ver := slot.version.Load(); ver != nil {
		return ver, nil
	}
	ver, err := s.readVersion(ctx, k, v)
	if err != nil {
		return nil, err
	}
	slot.version.Store(ver)
	return ver, nil
}

func (s *Service) readVersion(ctx context.Context, k *key, v int) (*version, error) {
	r, err := s.versionRecord(ctx, k, v)
	if err != nil {
		return nil, err
	}
	return s.openVersion(k.name, &k.meta, r)
}

// versionRecord reads the record of version v of a key; the caller wipes it.
func (s *Service) versionRecord(ctx context.Context, k *key, v int) (r versionRecord, err error) {
	_, err = s.store.Get(ctx, tableVersions, k.name.version(v), &r)
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("version %d is missing: %w", v, store.ErrCorrupt)
	}
	if err == nil {
		err = checkFormat(r.Format)
	}
	if err == nil && (r.KeyID != k.meta.ID || r.Number != v || r.Main.Type != secretType(k.meta.Type, k.meta.Derived, r.Main.Place)) {
		err = fmt.Errorf("version %d is a record of another key: %w", v, store.ErrCorrupt)
	}
	return r, storeFault(err, "read the key version")
}

// openVersion makes a version ready. It takes over r and wipes the secrets in it.
func (s *Service) openVersion(n keyName, meta *keyRecord, r versionRecord) (*version, error) {
	v := &version{number: r.Number, prefix: prefixOf(r.Number), created: r.Created, pkix: r.Main.Public, chain: chainText(r.Certificates)}
	var err error
	if meta.Derived {
		v.derive, err = s.openDeriver(meta, &r.Main)
	} else {
		v.main, err = s.openSecret(&r.Main)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case meta.Type == token.HMAC:
		v.mac = v.main
	case r.MAC != nil:
		if v.mac, err = s.openSecret(r.MAC); err != nil {
			return nil, err
		}
	}
	if v.pkix != nil {
		if v.public, err = x509.ParsePKIXPublicKey(v.pkix); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "can't read the public key")
		}
	}
	if meta.Type.NonceSize() == shortNonce {
		v.seals = s.newCounter(n, r.KeyID, r.Number)
	}
	return v, nil
}

func (s *Service) openSecret(r *secretRecord) (token.Key, error) {
	if r.publicOnly() {
		return publicOnly{}, nil
	}
	if r.Place == api.ProtectionSoftware {
		k, err := s.software.Open(r.Type, r.Secret)
		clear(r.Secret)
		r.Secret = nil
		return k, tokenFault(err, "open the key")
	}
	stored, err := r.stored()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "can't read the key")
	}
	t, err := s.token.Get()
	if err != nil {
		return nil, tokenFault(err, "open the key")
	}
	k, err := t.Key(stored)
	return k, tokenFault(err, "open the key")
}

// logged writes a failure that is ours to the log, with the key's name: an item
// of a batch does not reach the guard as an error.
func (s *Service) logged(err error, n keyName) error {
	if err != nil && fault.KindOf(err) == fault.Internal {
		s.log.Error("a named key can't be used", "mount", n.mount, "key", n.name, "error", err)
	}
	return err
}

func prefixOf(version int) string { return "vault:v" + strconv.Itoa(version) + ":" }
