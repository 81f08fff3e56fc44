package worker

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// key is a handle of a stored key. It holds no PKCS#11 handle: those belong to
// workers, which load the key when it is first used there.
type key struct {
	h      *hsm
	stored token.Stored
	label  string // of a system key
	ident  identity
	last   atomic.Pointer[lastPlan]

	parse    sync.Once
	n        *big.Int
	parseErr error

	rejectMu  sync.Mutex
	rejection []byte // see learnRejection; nil: not known yet
}

type lastPlan struct {
	op   token.Op
	plan plan
}

var blobSeed = maphash.MakeSeed()

func newKey(h *hsm, s token.Stored, from source, label string) *key {
	k := &key{h: h, stored: s, label: label}
	k.ident = identity{from: from, typ: s.Type, size: s.Size, id: s.ID}
	switch from {
	case fromBlob:
		k.ident.sum = maphash.Bytes(blobSeed, s.Blob)
	case fromLabel:
		k.ident.sum = maphash.String(blobSeed, label)
	case fromName:
		k.label = s.Name.Label
		k.ident.sum = maphash.String(blobSeed, string(appendName(nil, s.Name)))
	}
	return k
}

func (k *key) loadRequest(slot uint32) loadRequest {
	if k.ident.from == fromName {
		return loadRequest{slot: slot, from: fromName, typ: k.stored.Type, label: k.label, blob: k.stored.Name.ID}
	}
	return loadRequest{slot: slot, from: k.ident.from, typ: k.stored.Type, id: k.stored.ID, size: uint32(k.stored.Size),
		label: k.label, blob: k.stored.Blob, agree: k.stored.Agree}
}

func (k *key) plan(op token.Op) (plan, error) {
	if l := k.last.Load(); l != nil && l.op == op {
		return l.plan, nil
	}
	p, err := k.planFor(op)
	if err == nil {
		k.last.Store(&lastPlan{op, p})
	}
	return p, err
}

// Bounds of one request.
const (
	maxItem       = 32 << 20 // bytes of an item's input, AAD included
	chunkBytes    = 1 << 20
	symmetricCost = 2
	maxAttempts   = 12 // workers that may end under one call
)

var errItemSize = fmt.Errorf("%w: more than %d MiB in one operation", token.ErrUnsupported, maxItem>>20)

// Do implements token.Key.
func (k *key) Do(ctx context.Context, op token.Op, items []token.Item) error {
	if k.h.pool.ended.Load() {
		return token.ErrClosed
	}
	if len(items) == 0 {
		return nil
	}
	defer k.h.pool.cfg.Observe.call(kindName(op.Kind), time.Now())
	if op.Kind == token.Decrypt && op.Scheme == token.PKCS1v15 {
		if err := k.learnRejection(ctx); err != nil {
			return err
		}
	}
	p, err := k.plan(op)
	if err != nil {
		return err
	}
	var space [1]unit
	units := k.prepare(&p, items, space[:0])
	return k.perform(ctx, op, p, items, units)
}

func kindName(kind token.Kind) string {
	switch kind {
	case token.Seal:
		return "seal"
	case token.Open:
		return "open"
	case token.Sign:
		return "sign"
	case token.MAC:
		return "mac"
	case token.Agree:
		return "agree"
	case token.EncryptCBC:
		return "encrypt"
	}
	return "decrypt"
}

// prepare makes units of all items; an item that is wrong gets its error.
func (k *key) prepare(p *plan, items []token.Item, units []unit) []unit {
	if len(items) > 1 {
		units = make([]unit, 0, len(items))
	}
	for i := range items {
		it := &items[i]
		it.Err = nil
		if u, ok := prepareOne(p, it); ok {
			u.index = i
			units = append(units, u)
		}
	}
	return units
}

func prepareOne(p *plan, it *token.Item) (unit, bool) {
	if len(it.In)+len(it.AAD) > maxItem {
		it.Err = errItemSize
		return unit{}, false
	}
	u, err := p.prep(it)
	it.Err = err
	return u, err == nil
}

// flight is a part of the items on its way.
type flight struct {
	plan     plan
	op       token.Op
	units    []unit
	call     *call
	attempts int           // workers that ended
	reloaded bool          // the key was loaded anew
	repeated bool          // an unexpected failure was tried again
	missed   int           // times that the token object was not found
	pause    time.Duration // before the next attempt
}

// perform sends all parts to workers and collects the results.
func (k *key) perform(ctx context.Context, op token.Op, p plan, items []token.Item, units []unit) error {
	var space [1]flight
	flights := k.split(op, p, units, space[:0])
	var err error
	for i := range flights {
		if err = k.launch(ctx, &flights[i]); err != nil {
			break
		}
	}
	for i := range flights {
		if err == nil {
			err = k.land(ctx, &flights[i], items)
		} else if c := flights[i].call; c != nil {
			letGo(c)
		}
	}
	return err
}

// letGo gives up a call whose answer nobody wants.
func letGo(c *call) {
	if !c.proc.abandon(c) {
		<-c.ch
	}
	c.release()
}

// split divides units so that every worker gets a part that is worth its frame.
func (k *key) split(op token.Op, p plan, units []unit, flights []flight) []flight {
	least := 16
	if p.cost > symmetricCost {
		least = max(1, p.chunk/4)
	}
	workers := len(k.h.pool.procs)
	per := min(max((len(units)+workers-1)/workers, least), p.chunk)
	for len(units) > 0 {
		n, size := 0, 0
		for n < len(units) && n < per && (n == 0 || size+len(units[n].in)+len(units[n].aad) <= chunkBytes) {
			size += len(units[n].in) + len(units[n].aad)
			n++
		}
		flights = append(flights, flight{plan: p, op: op, units: units[:n]})
		units = units[n:]
	}
	return flights
}

func (f *flight) cost() int64 {
	bytes := 0
	for i := range f.units {
		bytes += len(f.units[i].in)
	}
	return f.plan.cost*int64(len(f.units)) + int64(bytes>>10)
}

// launch sends a flight to a worker.
func (k *key) launch(ctx context.Context, f *flight) error {
	f.call = nil
	loadCost := 4 * f.plan.cost
	if f.plan.cost > symmetricCost {
		loadCost = 2 * f.plan.cost
	}
	for {
		pr, err := k.h.pool.acquire(ctx, &k.ident, loadCost, false)
		if err != nil {
			return err
		}
		f.call = pr.submit(&k.ident, k.loadRequest, f.cost(), false, func(b []byte, seq, slot uint32) []byte {
			return appendDo(b, seq, slot, f.plan.op, f.units)
		})
		if f.call != nil {
			return nil
		}
		// The worker ended between the choice and the use.
		k.h.pool.procs[pr.index].CompareAndSwap(pr, nil)
	}
}

// await waits for a call's answer within ctx. On an error the call is given up.
func await(ctx context.Context, c *call) error {
	select {
	case <-c.ch:
		return nil
	default:
	}
	select {
	case <-c.ch:
		return nil
	case <-ctx.Done():
	}
	if c.proc.abandon(c) {
		c.release()
		return unavailable(ctx, "the call was not answered in time")
	}
	<-c.ch
	return nil
}

// land waits for a flight and takes its results, and repeats it where that may help.
func (k *key) land(ctx context.Context, f *flight, items []token.Item) error {
	for {
		if err := await(ctx, f.call); err != nil {
			return err
		}
		c := f.call
		again, err := k.digest(f, c, items)
		c.release()
		f.call = nil
		if err != nil || !again {
			return err
		}
		k.h.pool.cfg.Observe.retry()
		if len(f.units) == 0 {
			return nil
		}
		if err := f.rest(ctx); err != nil {
			return err
		}
		if err := k.launch(ctx, f); err != nil {
			return err
		}
	}
}

// rest waits for the time that the next attempt needs.
func (f *flight) rest(ctx context.Context) error {
	if f.pause == 0 {
		return nil
	}
	select {
	case <-time.After(f.pause):
		f.pause = 0
		return nil
	case <-ctx.Done():
		return unavailable(ctx, "the call was given up")
	}
}

// digest takes an answer: results into the items, or a failure of the whole.
func (k *key) digest(f *flight, c *call, items []token.Item) (again bool, err error) {
	if c.err != nil {
		return f.workerEnded()
	}
	r := reader{b: c.payload}
	if err := parseStatus(&r); err != nil {
		return k.failed(f, c, items, err)
	}
	if int(r.u32()) != len(f.units) {
		return false, errFrame
	}
	if !f.repeated && k.unexpected(f, c.proc, r) {
		f.repeated = true
		return true, nil
	}
	for i := range f.units {
		it := &items[f.units[i].index]
		res := nextResult(&r)
		switch {
		case res.rv != pkcs11.OK:
			it.Err = k.itemError(f, c.proc, res)
		case f.plan.after != nil:
			it.Err = f.plan.after(it, res.out)
		default:
			it.Out = append(it.Out, res.out...)
		}
	}
	return false, r.end()
}

// workerEnded decides whether a call whose worker has ended is repeated.
func (f *flight) workerEnded() (again bool, err error) {
	if f.attempts++; f.attempts >= maxAttempts {
		return false, fmt.Errorf("%w: %d workers ended during this call", token.ErrUnavailable, f.attempts)
	}
	return true, nil
}

// unexpected tells whether an item failed for no fault of its own.
func (k *key) unexpected(f *flight, pr *proc, r reader) bool {
	for range f.units {
		if res := nextResult(&r); res.rv != pkcs11.OK && !f.notAuthentic(pr, res) {
			return true
		}
	}
	return false
}

// notAuthentic tells whether a result means that a ciphertext is not authentic.
func (f *flight) notAuthentic(pr *proc, res result) bool {
	if !f.plan.auth || res.at != pkcs11.AtCall {
		return false
	}
	// All failures of an RSA decryption look alike (promise P7).
	if f.plan.op.Param != pkcs11.GCM {
		return true
	}
	switch res.rv {
	case pkcs11.EncryptedDataInvalid, pkcs11.EncryptedDataLenRange, pkcs11.AEADDecryptFailed, pkcs11.DataInvalid,
		pkcs11.DataLenRange, pr.facts.forgedTag:
		return true
	}
	return false
}

func (k *key) itemError(f *flight, pr *proc, res result) error {
	if f.notAuthentic(pr, res) {
		return token.ErrOpen
	}
	return fmt.Errorf("using a key of type %s: %w", k.stored.Type,
		&pkcs11.Error{Func: pkcs11.FuncName(f.plan.op.Func, res.at), Code: res.rv})
}

// leakAge is the age from which a worker that is out of memory is replaced: a
// module may leak, and a key that the module can't read must not cost a worker
// at each use.
const leakAge = 10 * time.Second

// failed decides what a failure of the whole means.
func (k *key) failed(f *flight, c *call, items []token.Item, err error) (again bool, _ error) {
	w, ok := errors.AsType[*failure](err)
	if !ok {
		return false, err
	}
	switch w.reason {
	case reasonFind, reasonKEK, reasonUnwrap, reasonHold, reasonNotReady, reasonGone:
		c.proc.forget(c.entry)
		if k.h.lost(c.proc, w) {
			k.h.pool.discard(c.proc, w)
			return f.workerEnded()
		}
		return k.failedLoad(f, c, w)
	}
	switch w.code {
	case pkcs11.ObjectHandleInvalid, pkcs11.KeyHandleInvalid:
		c.proc.forget(c.entry)
		if !f.reloaded {
			f.reloaded = true
			return true, nil
		}
		return false, fmt.Errorf("%w: %w", token.ErrNotFound, w)
	case pkcs11.MechanismParamInvalid, pkcs11.ArgumentsBad, pkcs11.MechanismInvalid, pkcs11.KeyFunctionNotPermitted:
		if f.plan.other != nil {
			return k.switchPlan(f, items)
		}
	case pkcs11.KeySizeRange:
		if k.stored.Type == token.HMAC {
			return false, fmt.Errorf("%w: this module refuses HMAC keys that are shorter than the digest (%d bytes with a %v of %d): %w",
				token.ErrUnsupported, k.stored.Size, f.op.Hash, f.op.Hash.Size(), w)
		}
	}
	if refused(&pkcs11.Error{Code: w.code}) {
		return false, fmt.Errorf("%w: %w", token.ErrUnsupported, w)
	}
	if !f.repeated {
		f.repeated = true
		c.proc.forget(c.entry)
		if outOfMemory(w.code) && time.Since(c.proc.born) > leakAge {
			k.h.pool.discard(c.proc, w)
		}
		return true, nil
	}
	return false, fmt.Errorf("using a key of type %s: %w", k.stored.Type, w)
}

// missPauses are the waits before an object that was not found is looked for
// again: SoftHSM2 may show it to other processes a moment after it was made.
var missPauses = [...]time.Duration{3 * time.Millisecond, 30 * time.Millisecond}

// failedLoad decides what it means that a worker could not load the key.
func (k *key) failedLoad(f *flight, c *call, w *failure) (again bool, _ error) {
	switch {
	case outOfMemory(w.code) || w.code == pkcs11.SessionCount:
		c.proc.shrink()
	case w.reason == reasonUnwrap && isForgedBlob(w.code, c.proc.facts.forgedBlob):
		return false, fmt.Errorf("%w: %w", token.ErrBlob, w)
	case w.reason == reasonUnwrap || w.reason == reasonNotReady:
	case w.reason == reasonFind && (k.ident.from == fromObject || k.ident.from == fromName) && f.missed < len(missPauses):
		f.pause = missPauses[f.missed]
		f.missed++
		return true, nil
	default:
		return false, seamError(w)
	}
	if !f.reloaded {
		f.reloaded = true
		return true, nil
	}
	return false, seamError(w)
}

func isForgedBlob(code, learned pkcs11.CKR) bool {
	switch code {
	case pkcs11.WrappedKeyInvalid, pkcs11.WrappedKeyLenRange, pkcs11.EncryptedDataInvalid, pkcs11.EncryptedDataLenRange,
		pkcs11.DataInvalid, pkcs11.DataLenRange, pkcs11.ArgumentsBad, pkcs11.TemplateInconsistent:
		return true
	}
	return learned != pkcs11.OK && code == learned
}

// switchPlan remembers that the module refuses what a plan asks for and goes on
// with the other one.
func (k *key) switchPlan(f *flight, items []token.Item) (again bool, err error) {
	k.h.refuse(f.plan.variant)
	if f.plan, err = f.plan.other(); err != nil {
		return false, err
	}
	k.last.Store(&lastPlan{f.op, f.plan})
	units := make([]unit, 0, len(f.units))
	for _, u := range f.units {
		if v, ok := prepareOne(&f.plan, &items[u.index]); ok {
			v.index = u.index
			units = append(units, v)
		}
	}
	f.units = units
	return true, nil
}
