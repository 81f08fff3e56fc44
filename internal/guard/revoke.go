package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/store"
)

const (
	// revokeBatch bounds the tokens that one transaction deletes.
	revokeBatch = 1000
	tidyPage    = 500
)

// revoke deletes a token and all its descendants. Up to revokeBatch tokens go in
// one transaction; of more the youngest go first, so that a tree whose revocation
// was interrupted still hangs together and can be revoked again.
// A token that does not exist is revoked already.
func (t *tokens) revoke(ctx context.Context, id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.salt == nil {
		return store.ErrSealed
	}
	ids, err := t.tree(ctx, id)
	if err != nil {
		return fmt.Errorf("looking for a client token's descendants: %w", err)
	}
	for len(ids) > 0 {
		first := max(len(ids)-revokeBatch, 0)
		if err := t.remove(ctx, ids[first:]); err != nil {
			return fmt.Errorf("revoking client tokens: %w", err)
		}
		ids = ids[:first]
	}
	return nil
}

// revokeAlone deletes a token and makes its children orphans, in one transaction
// if they are no more than revokeBatch; else children go first, so that what was
// interrupted can be repeated. A token that does not exist is revoked already.
func (t *tokens) revokeAlone(ctx context.Context, id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.salt == nil {
		return store.ErrSealed
	}
	prefix := id + "/"
	for {
		links, err := t.store.List(ctx, tableChildren, prefix, "", revokeBatch)
		if err != nil {
			return fmt.Errorf("looking for a client token's children: %w", err)
		}
		var changes []store.Change
		orphans := map[string]*tokenState{}
		for _, link := range links {
			child, s := strings.TrimPrefix(link.Key, prefix), &tokenState{}
			if s.version, err = t.store.Get(ctx, tableTokens, child, &s.tokenRecord); err != nil {
				return fmt.Errorf("reading a client token's child: %w", err)
			}
			s.Parent, s.Depth = "", 0
			put, err := t.store.Put(tableTokens, child, s.version, &s.tokenRecord)
			if err != nil {
				return err
			}
			s.version++
			orphans[child] = s
			changes = append(changes, put, t.store.Remove(tableChildren, link.Key, link.Version))
		}
		last := len(links) < revokeBatch
		if last {
			own, err := t.removal(ctx, id)
			if err != nil {
				return err
			}
			changes = append(changes, own...)
		}
		if len(changes) > 0 {
			if err := t.store.Apply(ctx, changes...); err != nil {
				return fmt.Errorf("revoking a client token: %w", err)
			}
		}
		t.release(orphans)
		if last {
			t.forget([]string{id})
			return nil
		}
	}
}

// release takes new orphans in memory from their parent.
func (t *tokens) release(orphans map[string]*tokenState) {
	t.cacheMu.Lock()
	defer t.cacheMu.Unlock()
	for id, s := range orphans {
		if e := t.byID[id]; e != nil {
			e.parent.Store(nil)
			e.state.Store(s)
		}
	}
}

// tree returns a token and its descendants, parents before children.
func (t *tokens) tree(ctx context.Context, id string) ([]string, error) {
	ids := []string{id}
	for i := 0; i < len(ids); i++ {
		prefix := ids[i] + "/"
		links, err := t.store.List(ctx, tableChildren, prefix, "", 0)
		if err != nil {
			return nil, err
		}
		for _, link := range links {
			ids = append(ids, strings.TrimPrefix(link.Key, prefix))
		}
	}
	return ids, nil
}

// remove deletes tokens with what leads to them, in one transaction, and then
// from memory.
func (t *tokens) remove(ctx context.Context, ids []string) error {
	var changes []store.Change
	for _, id := range ids {
		own, err := t.removal(ctx, id)
		if err != nil {
			return err
		}
		changes = append(changes, own...)
	}
	if len(changes) > 0 {
		if err := t.store.Apply(ctx, changes...); err != nil {
			return err
		}
	}
	t.forget(ids)
	return nil
}

// removal returns the changes that delete a token, none if it does not exist.
func (t *tokens) removal(ctx context.Context, id string) ([]store.Change, error) {
	var r tokenRecord
	version, err := t.store.Get(ctx, tableTokens, id, &r)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	changes := []store.Change{
		t.store.Remove(tableTokens, id, version),
		t.store.Remove(tableAccessors, hashed(t.salt, r.Accessor), 1),
	}
	if r.Parent != "" {
		changes = append(changes, t.store.Remove(tableChildren, r.Parent+"/"+id, 1))
	}
	return changes, nil
}

// forget drops tokens from memory; calls that hold one see that it is gone. The
// map by text goes whole: it is filled again at the price of a look-up each.
func (t *tokens) forget(ids []string) {
	t.cacheMu.Lock()
	defer t.cacheMu.Unlock()
	for _, id := range ids {
		if e := t.byID[id]; e != nil {
			e.gone.Store(true)
			delete(t.byID, id)
		}
	}
	clear(t.byText)
}

// tidy revokes the expired tokens that nobody used any more. It returns how many
// trees it removed.
func (t *tokens) tidy(ctx context.Context) (removed int, err error) {
	err = t.each(ctx, func(id string, r *tokenRecord) error {
		if r.Expires == 0 || r.Expires > t.now().Unix() {
			return nil
		}
		if err := t.revoke(ctx, id); err != nil {
			return err
		}
		removed++
		return nil
	})
	return removed, err
}

// accessors returns the accessors of all tokens that are neither expired nor used
// up, sorted.
func (t *tokens) accessors(ctx context.Context, now time.Time) ([]string, error) {
	all := []string{}
	err := t.each(ctx, func(_ string, r *tokenRecord) error {
		if !r.over(now) {
			all = append(all, r.Accessor)
		}
		return nil
	})
	slices.Sort(all)
	return all, err
}
