package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

const (
	tableWraps   = "wraps"   // by HMAC of the wrapping token: what may be told of it
	tableWrapped = "wrapped" // by the same: the answer itself

	// sweepPage is how many wrapped answers are looked at for their age when
	// another one is made.
	sweepPage = 32
	// maxWrapTTL bounds how long an answer is kept.
	maxWrapTTL = maxTTL
)

// wrapRecord describes a wrapped answer. It is written once.
type wrapRecord struct {
	Accessor string `json:"accessor"`
	Path     string `json:"path"`
	Inside   string `json:"inside,omitempty"` // accessor of the client token in it
	Created  int64  `json:"created"`          // Unix nanoseconds
	TTL      int64  `json:"ttl"`              // seconds
}

func (r *wrapRecord) ended(now time.Time) bool {
	return !now.Before(time.Unix(0, r.Created).Add(time.Duration(r.TTL) * time.Second))
}

// wrappedRecord is a wrapped answer.
type wrappedRecord struct {
	Data     []byte    `json:"data,omitempty"` // JSON, byte for byte
	Auth     *api.Auth `json:"auth,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
}

// wraps keeps wrapped answers: sealed records, nothing in memory.
type wraps struct {
	store  *store.Sealed
	tokens *tokens // for the salt

	mu    sync.Mutex
	swept string // where the last sweep ended
}

// errWrapping is what Vault answers if a wrapping token opens nothing: it never
// did, it is used, its time is over.
var errWrapping = fault.New(fault.Invalid, "wrapping token is not valid or does not exist")

// id returns the key of a wrapping token's records.
func (w *wraps) id(text string) (string, error) {
	if text == "" || len(text) > maxTokenText {
		return "", store.ErrNotFound
	}
	w.tokens.mu.RLock()
	defer w.tokens.mu.RUnlock()
	if w.tokens.salt == nil {
		return "", store.ErrSealed
	}
	return hashed(w.tokens.salt, text), nil
}

// find returns what may be told of a wrapped answer, or errWrapping.
func (w *wraps) find(ctx context.Context, text string, now time.Time) (id string, r *wrapRecord, err error) {
	if id, err = w.id(text); err == nil {
		r = &wrapRecord{}
		_, err = w.store.Get(ctx, tableWraps, id, r)
	}
	if errors.Is(err, store.ErrNotFound) || err == nil && r.ended(now) {
		return "", nil, errWrapping
	}
	return id, r, storeFault(err, "looking up a wrapped answer")
}

// insertion returns the changes that keep an answer, and the token that opens it.
func (w *wraps) insertion(r *wrapRecord, wrapped *wrappedRecord) (*api.WrapInfo, []store.Change, error) {
	text := newText(textPrefix)
	id, err := w.id(text)
	if err != nil {
		return nil, nil, err
	}
	r.Accessor = newText("")
	about, err := w.store.Put(tableWraps, id, 0, r)
	if err != nil {
		return nil, nil, err
	}
	answer, err := w.store.Put(tableWrapped, id, 0, wrapped)
	if err != nil {
		return nil, nil, err
	}
	info := &api.WrapInfo{Token: text, Accessor: r.Accessor, TTL: api.Seconds(r.TTL),
		CreationTime: time.Unix(0, r.Created).UTC(), CreationPath: r.Path, WrappedAccessor: r.Inside}
	return info, []store.Change{about, answer}, nil
}

// put keeps an answer.
func (w *wraps) put(ctx context.Context, r *wrapRecord, wrapped *wrappedRecord) (*api.WrapInfo, error) {
	info, changes, err := w.insertion(r, wrapped)
	if err == nil {
		err = w.store.Apply(ctx, changes...)
	}
	if err != nil {
		return nil, err
	}
	return info, nil
}

// open returns a wrapped answer and the changes that remove it.
func (w *wraps) open(ctx context.Context, id string) (*wrappedRecord, []store.Change, error) {
	var wrapped wrappedRecord
	_, err := w.store.Get(ctx, tableWrapped, id, &wrapped)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, errWrapping
	}
	if err != nil {
		return nil, nil, storeFault(err, "reading a wrapped answer")
	}
	return &wrapped, w.removal(id), nil
}

// removal removes an answer. Both records are written once, so only one of those
// who open it at the same time succeeds.
func (w *wraps) removal(id string) []store.Change {
	return []store.Change{w.store.Remove(tableWraps, id, 1), w.store.Remove(tableWrapped, id, 1)}
}

// apply makes changes that begin with a removal.
func (w *wraps) apply(ctx context.Context, changes ...store.Change) error {
	err := w.store.Apply(ctx, changes...)
	if errors.Is(err, store.ErrConflict) {
		return errWrapping // another call opened it
	}
	return storeFault(err, "opening a wrapped answer")
}

// sweep removes what is over among the next answers, and tells whether it came
// to the last one.
func (w *wraps) sweep(ctx context.Context, now time.Time) (last bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	page, err := w.store.List(ctx, tableWraps, "", w.swept, sweepPage)
	if err != nil {
		return false, fmt.Errorf("listing wrapped answers: %w", err)
	}
	for _, item := range page {
		w.swept = item.Key
		var r wrapRecord
		if err := item.Decode(&r); err != nil {
			return false, fmt.Errorf("wrapped answer: %w", err)
		}
		if !r.ended(now) {
			continue
		}
		if err := w.store.Apply(ctx, w.removal(item.Key)...); err != nil && !errors.Is(err, store.ErrConflict) {
			return false, fmt.Errorf("removing a wrapped answer: %w", err)
		}
	}
	if last = len(page) < sweepPage; last {
		w.swept = ""
	}
	return last, nil
}

// tidy removes all answers whose time is over.
func (w *wraps) tidy(ctx context.Context, now time.Time) error {
	w.mu.Lock()
	w.swept = ""
	w.mu.Unlock()
	for {
		if last, err := w.sweep(ctx, now); last || err != nil {
			return err
		}
	}
}

// wrappedOf takes an answer as the front would write it.
func wrappedOf(data any, warnings []string) (*wrappedRecord, error) {
	w := &wrappedRecord{Warnings: warnings}
	switch d := data.(type) {
	case *api.Auth:
		w.Auth = d
	case *api.Unwrapped:
		w.Data, w.Auth = d.Data, d.Auth
	default:
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(data); err != nil {
			return nil, fmt.Errorf("encoding the answer: %w", err)
		}
		w.Data = bytes.TrimSpace(b.Bytes())
	}
	return w, nil
}
