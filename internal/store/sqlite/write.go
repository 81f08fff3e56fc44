package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/claviger/claviger/internal/store"
)

// maxGroup is how many calls may share one commit.
const maxGroup = 128

// request is a call of Apply, or of Check if probe is set.
type request struct {
	ctx     context.Context
	changes []store.Change
	probe   bool
	done    chan error
}

// Apply makes all changes, in their order, or none. It is durable when it
// returns nil. A version that is not as expected gives store.ErrConflict. A
// change that expects 0 and has no data only demands that there is no such
// record. Once begun, a change is not given up when ctx ends, so that its
// outcome is always known.
func (s *Store) Apply(ctx context.Context, changes ...store.Change) error {
	if len(changes) == 0 {
		return nil
	}
	return s.submit(&request{ctx: ctx, changes: changes, done: make(chan error, 1)})
}

// Check tells whether the store can be written now. It writes, unless a change
// was committed within the last second.
func (s *Store) Check(ctx context.Context) error {
	if time.Since(time.Unix(0, s.lastCommit.Load())) < time.Second {
		return nil
	}
	return s.submit(&request{ctx: ctx, probe: true, done: make(chan error, 1)})
}

func (s *Store) submit(r *request) error {
	select {
	case <-s.closing:
		return errClosed
	default:
	}
	select {
	case s.queue <- r:
		return <-r.done
	case <-r.ctx.Done():
		return fmt.Errorf("waiting for the database: %w", context.Cause(r.ctx))
	case <-s.closing:
		return errClosed
	}
}

// write is the only goroutine that changes the database. Calls that arrive
// while a commit is being synchronised go into the next commit together: the
// disk is waited for once for all of them.
func (s *Store) write() {
	defer close(s.stopped)
	group := make([]*request, 0, maxGroup)
	for {
		select {
		case r := <-s.queue:
			group = append(group[:0], r)
		case <-s.closing:
			return
		}
		group = s.gather(group)
		s.commit(group)
		s.company = len(group) > 1
		clear(group)
	}
}

// maxYields bounds how often a commit lets others run before it begins.
const maxYields = 4

// gather completes a group. A commit costs as much as several changes, so where
// the last one was shared, goroutines that can run now do so first: their changes
// join the group. Where nothing else can run, this waits for nothing.
func (s *Store) gather(group []*request) []*request {
	yields := 0
	for len(group) < maxGroup {
		select {
		case r := <-s.queue:
			group = append(group, r)
		default:
			if yields == maxYields || !s.company && len(group) < 2 {
				return group
			}
			yields++
			runtime.Gosched()
		}
	}
	return group
}

// commit answers every request of a group. A conflict is rare, so a group is
// tried without savepoints first, and with them if one of its members has one. If
// a group fails for another reason, its members are tried one by one, so that one
// that is too large for a nearly full disk fails alone.
func (s *Store) commit(group []*request) {
	results := make([]error, len(group))
	company := len(group) > 1
	err := s.transact(group, results, false)
	if company && errors.Is(err, store.ErrConflict) {
		clear(results)
		err = s.transact(group, results, true)
	}
	if err != nil && company {
		for i := range group {
			one := results[i : i+1]
			one[0] = nil
			if err := s.transact(group[i:i+1], one, false); err != nil {
				one[0] = refusal(err)
			}
		}
	} else if err != nil {
		results[0] = refusal(err)
	}
	for i, r := range group {
		r.done <- results[i]
	}
}

// refusal is what a caller gets whose changes were not made.
func refusal(err error) error {
	if errors.Is(err, store.ErrConflict) {
		return err
	}
	return explain(context.Background(), err, "changing records")
}

// transact runs a group in one transaction. Calls whose context has ended go into
// results, and with savepoints so do conflicts, which then undo their own member's
// changes only; any other failure is returned, and then nothing was changed.
func (s *Store) transact(group []*request, results []error, savepoints bool) error {
	tx, err := s.writer.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	w := s.statements(tx)
	changed := false
	for i, r := range group {
		if r.ctx.Err() != nil {
			results[i] = fmt.Errorf("waiting for the database: %w", context.Cause(r.ctx))
			continue
		}
		if savepoints {
			err = w.guarded(r)
		} else {
			err = w.member(r)
		}
		switch {
		case err == nil:
			changed = true
		case savepoints && errors.Is(err, store.ErrConflict):
			results[i] = err
		default:
			return err
		}
	}
	if !changed {
		return nil
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.lastCommit.Store(time.Now().UnixNano())
	return nil
}

// statements are what a transaction does.
type statements struct {
	tx                                 *sql.Tx
	insert, update, remove, have, beat *sql.Stmt
}

func (s *Store) statements(tx *sql.Tx) *statements {
	return &statements{tx, tx.Stmt(s.insert), tx.Stmt(s.update), tx.Stmt(s.remove), tx.Stmt(s.have), tx.Stmt(s.beat)}
}

// guarded runs one request of a group under a savepoint.
func (w *statements) guarded(r *request) error {
	if _, err := w.tx.Exec(`SAVEPOINT member`); err != nil {
		return err
	}
	err := w.member(r)
	if errors.Is(err, store.ErrConflict) {
		if _, undo := w.tx.Exec(`ROLLBACK TO member`); undo != nil {
			return undo
		}
	} else if err != nil {
		return err
	}
	if _, release := w.tx.Exec(`RELEASE member`); release != nil {
		return release
	}
	return err
}

func (w *statements) member(r *request) error {
	if r.probe {
		_, err := w.beat.Exec(time.Now().Unix())
		return err
	}
	for i := range r.changes {
		c := &r.changes[i]
		ok, err := w.change(c)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("record %s/%q: %w", c.Table, c.Key, store.ErrConflict)
		}
	}
	return nil
}

// change reports whether the record was as expected.
func (w *statements) change(c *store.Change) (bool, error) {
	key := []byte(c.Key)
	switch {
	case c.Expect == 0 && c.Data == nil:
		there, err := one(w.have.Exec(c.Table, key))
		return !there, err
	case c.Expect == 0:
		return one(w.insert.Exec(c.Table, key, c.Data))
	case c.Data == nil:
		return one(w.remove.Exec(c.Table, key, c.Expect))
	default:
		return one(w.update.Exec(c.Data, c.Table, key, c.Expect))
	}
}

func one(res sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n == 1, err
}
