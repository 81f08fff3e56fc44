package guard

import (
	"context"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claviger/claviger/internal/store"
)

const (
	tableGuard     = "guard"     // what the guard itself needs: the salt
	tableTokens    = "tokens"    // by token ID
	tableAccessors = "accessors" // by HMAC of the accessor: the token ID
	tableChildren  = "children"  // by parent's ID "/" child's ID: empty

	keySalt  = "salt"
	saltSize = 32

	// maxTokenText bounds the text of a client token, in bytes.
	maxTokenText = 512
	// maxTokenDepth bounds the generations below a token without a parent.
	maxTokenDepth = 64
	// maxCachedTokens bounds the client tokens in memory; beyond it all are
	// forgotten and read again.
	maxCachedTokens = 1 << 16

	textPrefix  = "s."
	textLetters = 24
	base62      = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// saltRecord is the key under which token texts and accessors are hashed.
type saltRecord struct {
	Salt []byte `json:"salt"`
}

// tokenRecord is a client token. Times are Unix seconds, durations seconds.
type tokenRecord struct {
	Accessor       string            `json:"accessor"`
	Parent         string            `json:"parent,omitempty"` // ID, "" for an orphan
	Depth          int               `json:"depth,omitempty"`
	Policies       []string          `json:"policies"`
	DisplayName    string            `json:"display_name"`
	Path           string            `json:"path"` // that made it
	Meta           map[string]string `json:"meta,omitempty"`
	Created        int64             `json:"created"`
	TTL            int64             `json:"ttl,omitempty"` // at creation, 0 without end
	ExplicitMaxTTL int64             `json:"explicit_max_ttl,omitempty"`
	Period         int64             `json:"period,omitempty"`
	Renewed        int64             `json:"renewed,omitempty"`
	Expires        int64             `json:"expires,omitempty"` // 0 never
	Renewable      bool              `json:"renewable,omitempty"`
	Limited        bool              `json:"limited,omitempty"` // by UsesLeft
	UsesLeft       int               `json:"uses_left,omitempty"`
	Role           string            `json:"role,omitempty"` // that it was made by
	Batch          bool              `json:"-"`              // not stored: its text says all this
}

// kind is the token's type as answers show it.
func (r *tokenRecord) kind() string {
	if r.Batch {
		return typeBatch
	}
	return typeService
}

func (r *tokenRecord) isRoot() bool {
	for _, p := range r.Policies {
		if p == policyRoot {
			return true
		}
	}
	return false
}

// over tells whether the token itself is expired or used up.
func (r *tokenRecord) over(now time.Time) bool {
	return r.Limited && r.UsesLeft <= 0 || r.Expires != 0 && r.Expires <= now.Unix()
}

// left is the time that a token has, 0 if it has no end.
func (r *tokenRecord) left(now time.Time) int64 {
	if r.Expires == 0 {
		return 0
	}
	return max(r.Expires-now.Unix(), 0)
}

// entry is a client token in memory. Its record is replaced, never changed.
type entry struct {
	id     string
	parent atomic.Pointer[entry] // nil for an orphan
	state  atomic.Pointer[tokenState]
	gone   atomic.Bool
	acl    atomic.Pointer[acl]
}

type tokenState struct {
	tokenRecord
	version int64 // of the record in the store
}

// ended returns the oldest of e and its ancestors that is revoked, expired or
// used up, or nil.
func (e *entry) ended(now time.Time) *entry {
	var oldest *entry
	for ; e != nil; e = e.parent.Load() {
		s := e.state.Load()
		if e.gone.Load() || s.over(now) {
			oldest = e
		}
	}
	return oldest
}

// tokens keeps the client tokens: records in the store, and those in use in
// memory. Changes hold mu, so that a token which is being revoked can neither be
// read into memory nor get children meanwhile.
type tokens struct {
	store *store.Sealed
	now   func() time.Time

	mu    sync.RWMutex
	salt  []byte      // nil after close
	batch cipher.AEAD // of batch tokens, nil after close

	cacheMu sync.RWMutex
	byText  map[[sha256.Size]byte]*entry // by SHA-256 of the text
	byID    map[string]*entry
}

func newTokens(s *store.Sealed, now func() time.Time, salt []byte) (*tokens, error) {
	batch, err := newBatchAEAD(salt)
	return &tokens{store: s, now: now, salt: salt, batch: batch,
		byText: map[[sha256.Size]byte]*entry{}, byID: map[string]*entry{}}, err
}

// close wipes the salt; afterwards nothing is found any more but what a call
// under way already holds.
func (t *tokens) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.salt)
	t.salt, t.batch = nil, nil
	t.forgetAll()
}

func (t *tokens) forgetAll() {
	t.cacheMu.Lock()
	defer t.cacheMu.Unlock()
	clear(t.byText)
	clear(t.byID)
}

// hashed returns the key under which a token text or an accessor is stored: hex
// of HMAC-SHA-256.
func hashed(salt []byte, text string) string {
	m := hmac.New(sha256.New, salt)
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil))
}

// find returns the token of a text, or store.ErrNotFound.
func (t *tokens) find(ctx context.Context, text string) (*entry, error) {
	batch := strings.HasPrefix(text, batchPrefix)
	if text == "" || len(text) > maxTokenText && (!batch || len(text) > maxBatchText) {
		return nil, store.ErrNotFound
	}
	sum := sha256.Sum256([]byte(text))
	t.cacheMu.RLock()
	e := t.byText[sum]
	t.cacheMu.RUnlock()
	if e != nil {
		return e, nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.salt == nil {
		return nil, store.ErrSealed
	}
	err := store.ErrNotFound
	if batch {
		e, err = t.loadBatch(ctx, text)
	}
	// A stored token may have been given a text with the prefix by older releases.
	if errors.Is(err, store.ErrNotFound) {
		e, err = t.load(ctx, hashed(t.salt, text))
	}
	if err != nil {
		return nil, err
	}
	t.cacheMu.Lock()
	defer t.cacheMu.Unlock()
	if len(t.byID) >= maxCachedTokens || len(t.byText) >= maxCachedTokens {
		clear(t.byText)
		clear(t.byID)
	}
	e = t.adopt(e)
	t.byText[sum] = e
	return e, nil
}

// byAccessor returns the token of an accessor, or store.ErrNotFound.
func (t *tokens) byAccessor(ctx context.Context, accessor string) (*entry, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.salt == nil {
		return nil, store.ErrSealed
	}
	var id string
	if _, err := t.store.Get(ctx, tableAccessors, hashed(t.salt, accessor), &id); err != nil {
		return nil, err
	}
	return t.load(ctx, id)
}

// load brings a token and its ancestors into memory. The caller holds mu.
func (t *tokens) load(ctx context.Context, id string) (*entry, error) {
	return t.loadAbove(ctx, id, maxTokenDepth+1)
}

// loadAbove is load for a token that must be fewer than depth generations below
// one without a parent. Ancestors count down, so records in a circle end here.
func (t *tokens) loadAbove(ctx context.Context, id string, depth int) (*entry, error) {
	t.cacheMu.RLock()
	e := t.byID[id]
	t.cacheMu.RUnlock()
	if e != nil {
		return e, nil
	}
	s := &tokenState{}
	var err error
	if s.version, err = t.store.Get(ctx, tableTokens, id, &s.tokenRecord); err != nil {
		return nil, err
	}
	if s.Depth < 0 || s.Depth >= depth {
		return nil, fmt.Errorf("client token: %d generations: %w", s.Depth, store.ErrCorrupt)
	}
	e = &entry{id: id}
	e.state.Store(s)
	if s.Parent != "" {
		parent, err := t.loadAbove(ctx, s.Parent, s.Depth)
		if err != nil {
			return nil, fmt.Errorf("parent of a client token: %w", err)
		}
		e.parent.Store(parent)
	}
	t.cacheMu.Lock()
	defer t.cacheMu.Unlock()
	return t.adopt(e), nil
}

// adopt puts an entry and its ancestors into the cache, so that there is one
// entry for each token, even if another call was faster or the cache was emptied
// since they were read. The caller holds cacheMu, and mu since it read them.
func (t *tokens) adopt(e *entry) *entry {
	if cached := t.byID[e.id]; cached != nil {
		return cached
	}
	if parent := e.parent.Load(); parent != nil {
		e.parent.Store(t.adopt(parent))
	}
	t.byID[e.id] = e
	return e
}

// use counts a call of a token of limited use, durably, before the call. It
// returns whether it was the last, and errEnded if none was left.
func (t *tokens) use(ctx context.Context, e *entry) (last bool, err error) {
	if !e.state.Load().Limited {
		return false, nil
	}
	err = t.update(ctx, e, func(r *tokenRecord) error {
		if r.UsesLeft <= 0 {
			return errEnded
		}
		r.UsesLeft--
		last = r.UsesLeft == 0
		return nil
	})
	return last, err
}

// errEnded: the token, or one above it, is no more.
var errEnded = errors.New("the client token has ended")

// update changes a token's record.
func (t *tokens) update(ctx context.Context, e *entry, change func(*tokenRecord) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.gone.Load() {
		return errEnded
	}
	s := &tokenState{}
	var err error
	if s.version, err = t.store.Get(ctx, tableTokens, e.id, &s.tokenRecord); err != nil {
		return err
	}
	if err := change(&s.tokenRecord); err != nil {
		return err
	}
	put, err := t.store.Put(tableTokens, e.id, s.version, &s.tokenRecord)
	if err != nil {
		return err
	}
	if err := t.store.Apply(ctx, put); err != nil {
		return fmt.Errorf("writing a client token: %w", err)
	}
	s.version++
	e.state.Store(s)
	return nil
}

// insertion returns the changes that write a new token. The text stays with the
// caller.
func insertion(s *store.Sealed, salt []byte, text string, r *tokenRecord) (id string, changes []store.Change, err error) {
	id = hashed(salt, text)
	token, err := s.Put(tableTokens, id, 0, r)
	if err != nil {
		return "", nil, err
	}
	accessor, err := s.Put(tableAccessors, hashed(salt, r.Accessor), 0, id)
	if err != nil {
		return "", nil, err
	}
	changes = []store.Change{token, accessor}
	if r.Parent != "" {
		child, err := s.Put(tableChildren, r.Parent+"/"+id, 0, struct{}{})
		if err != nil {
			return "", nil, err
		}
		changes = append(changes, child)
	}
	return id, changes, nil
}

// create writes a new token below parent, nil for an orphan. It returns
// store.ErrConflict if there is one of this text.
func (t *tokens) create(ctx context.Context, text string, r *tokenRecord, parent *entry) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.salt == nil {
		return store.ErrSealed
	}
	if parent != nil {
		if parent.ended(t.now()) != nil {
			return errEnded
		}
		r.Parent, r.Depth = parent.id, parent.state.Load().Depth+1
	}
	_, changes, err := insertion(t.store, t.salt, text, r)
	if err != nil {
		return err
	}
	return t.store.Apply(ctx, changes...)
}

// newText returns 24 random letters, 142 bits, after a prefix.
func newText(prefix string) string {
	text := make([]byte, 0, len(prefix)+textLetters)
	text = append(text, prefix...)
	var random [64]byte
	for {
		rand.Read(random[:])
		for _, b := range random {
			// 62·4 = 248: larger bytes would favour the first letters
			if b >= 248 {
				continue
			}
			if text = append(text, base62[b%62]); len(text) == cap(text) {
				clear(random[:])
				return string(text)
			}
		}
	}
}
