package keys

import (
	"context"
	"slices"
	"sync"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// work is one item of a request on its way through a key version. A request
// without a batch is a batch of one.
type work struct {
	version int    // of the key
	in      []byte // what goes in: plaintext, payload of a ciphertext, message or digest
	aad     []byte
	context []byte // of a derived key
	out     []byte // raw result of the token
	text    string // result as text: "vault:v1:…"
	public  []byte // that a derived key signed with
	err     error  // why this item failed; then it has no result
}

// scratch is memory that a request borrows. Nothing in it outlives the
// request: results are never kept in raw.
type scratch struct {
	work  []work
	at    []int
	items []token.Item
	raw   []byte
}

// maxPooled is the size in bytes of buffers that are kept for the next request.
const maxPooled = 1 << 20

var pool = sync.Pool{New: func() any { return new(scratch) }}

// borrow returns scratch memory with n empty items of work.
func borrow(n int) *scratch {
	sc := pool.Get().(*scratch)
	sc.work = slices.Grow(sc.work[:0], n)[:n]
	return sc
}

func (sc *scratch) giveBack() {
	clear(sc.work)
	if len(sc.work) > 4096 || cap(sc.raw) > maxPooled {
		return
	}
	pool.Put(sc)
}

// room returns n bytes of raw, which are not cleared.
func (sc *scratch) room(n int) []byte {
	sc.raw = slices.Grow(sc.raw[:0], n)[:n]
	return sc.raw
}

// byVersion calls do for each version with the indexes of its items that have
// not failed, so that one call of the token serves them all.
func (sc *scratch) byVersion(do func(v int, at []int) error) error {
	at := slices.Grow(sc.at[:0], len(sc.work))
	mixed := false
	for i := range sc.work {
		if sc.work[i].err != nil {
			continue
		}
		mixed = mixed || len(at) > 0 && sc.work[i].version != sc.work[at[0]].version
		at = append(at, i)
	}
	sc.at = at
	if mixed {
		slices.SortStableFunc(at, func(a, b int) int { return sc.work[a].version - sc.work[b].version })
	}
	for len(at) > 0 {
		v, n := sc.work[at[0]].version, 1
		for n < len(at) && sc.work[at[n]].version == v {
			n++
		}
		if err := do(v, at[:n]); err != nil {
			return err
		}
		at = at[n:]
	}
	return nil
}

// tokenItems returns n empty items for the token.
func (sc *scratch) tokenItems(n int) []token.Item {
	sc.items = slices.Grow(sc.items[:0], n)[:n]
	return sc.items
}

// failAll sets the error of items that failed together, or returns it if it
// concerns the whole call.
func (sc *scratch) failAll(at []int, err error) error {
	if ofWhole(err) {
		return err
	}
	for _, i := range at {
		sc.work[i].err = err
	}
	return nil
}

// run performs o with k on items, which belong to the work at at, and moves
// their results there; items is clear afterwards. doing completes "the HSM
// token can't …".
func (s *Service) run(ctx context.Context, sc *scratch, n keyName, k token.Key, o token.Op, items []token.Item, at []int, doing string) error {
	defer clear(items)
	if err := k.Do(ctx, o, items); err != nil {
		return sc.failAll(at, s.logged(tokenFault(err, doing), n))
	}
	for j, i := range at {
		w := &sc.work[i]
		if items[j].Err != nil {
			w.err = s.logged(tokenFault(items[j].Err, doing), n)
			if ofWhole(w.err) {
				return w.err
			}
			continue
		}
		w.out = items[j].Out
	}
	return nil
}

// batchStatus is the HTTP status of an encrypt or decrypt batch: 0 (the
// front's own choice) if no item failed, the caller's own code if some did not
// fail, else 400, or 500 if none of the failures is the caller's.
func (sc *scratch) batchStatus(partial int) int {
	failed, internal := 0, 0
	for i := range sc.work {
		if sc.work[i].err != nil {
			failed++
			if fault.KindOf(sc.work[i].err) == fault.Internal {
				internal++
			}
		}
	}
	switch {
	case failed == 0:
		return 0
	case failed < len(sc.work) && partial != 0:
		return partial
	case failed == internal:
		return 500
	}
	return 400
}

// checkPartial checks partial_failure_response_code.
func checkPartial(code int) error {
	if code != 0 && (code < 200 || code > 599) {
		return invalid("partial_failure_response_code %d is no HTTP status; it is a number from 200 to 599", code)
	}
	return nil
}
