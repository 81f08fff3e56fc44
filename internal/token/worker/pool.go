package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claviger/claviger/internal/token"
)

// pool keeps the workers of an open token running and chooses one for a call.
type pool struct {
	dev *Device
	cfg *Config

	procs []atomic.Pointer[proc]

	mu      sync.Mutex
	pin     []byte // for workers that are replaced; nil once it was refused
	dead    error  // no worker will start any more
	closed  bool
	ended   atomic.Bool   // the same, for the hot path
	changed chan struct{} // closed and renewed when a worker comes or fails to, or the pool ends
	urged   chan struct{} // the same when a call wants a worker to be started
	outage  outage

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newPool(d *Device, pin []byte) *pool {
	p := &pool{dev: d, cfg: &d.cfg, procs: make([]atomic.Pointer[proc], d.cfg.Workers),
		pin: append([]byte(nil), pin...), changed: make(chan struct{}), urged: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// wipe forgets the PIN.
func (p *pool) wipe() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.pin)
	p.pin = nil
}

// startProc starts and logs in one worker.
func (p *pool) startProc(ctx context.Context, index int) (pr *proc, v view, err error) {
	err = p.dev.alone(ctx, func(ctx context.Context) (err error) {
		pr, v, err = p.startAlone(ctx, index)
		return err
	})
	return pr, v, err
}

// restartProc does the same for a pool that runs: what fails is noted.
func (p *pool) restartProc(index int) (pr *proc, err error) {
	began := time.Now()
	err = p.dev.alone(p.ctx, func(ctx context.Context) (err error) {
		if err := p.recent(); err != nil {
			return err
		}
		began = time.Now()
		pr, _, err = p.startAlone(ctx, index)
		return err
	})
	if err != nil && !p.hopeless() && p.recent() == nil {
		p.failed(index, began, err)
	}
	return pr, err
}

// startAlone is for one at a time. A PIN that was refused is dropped, so that no
// worker tries it again.
func (p *pool) startAlone(ctx context.Context, index int) (*proc, view, error) {
	p.mu.Lock()
	pin, dead := append([]byte(nil), p.pin...), p.dead
	p.mu.Unlock()
	defer clear(pin)
	if dead != nil {
		return nil, view{}, dead
	}
	c, v, err := look(ctx, p.cfg, true, false)
	if err != nil {
		return nil, view{}, err
	}
	f, err := c.login(ctx, pin)
	if err == nil {
		var pr *proc
		if pr, err = newProc(index, p.cfg, c, f); err == nil {
			return pr, v, nil
		}
	}
	c.end()
	if errors.Is(err, token.ErrPIN) || errors.Is(err, token.ErrLocked) {
		p.fail(err)
	}
	return nil, view{}, err
}

// fail ends the pool's hope: err is what all calls get from now on.
func (p *pool) fail(err error) {
	p.wipe()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead == nil {
		p.dead = err
	}
	p.notify()
}

// notify wakes those who wait for a worker. The caller holds mu.
func (p *pool) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// run supervises all workers; first is the one that logged in already.
func (p *pool) run(first *proc) {
	p.put(first)
	for i := range p.procs {
		p.wg.Add(1)
		go func() {
			defer p.wg.Done()
			p.supervise(i, p.procs[i].Load())
		}()
	}
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		p.watch()
	}()
}

func (p *pool) put(pr *proc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.procs[pr.index].Store(pr)
	p.recovered()
	if p.closed {
		pr.stop("closed")
	}
	p.notify()
}

// Bounds of the pause between attempts to start a worker.
const (
	minPause = 50 * time.Millisecond
	maxPause = 5 * time.Second
	// A worker that lived so long is replaced at once.
	settled = 500 * time.Millisecond
)

// supervise keeps one place of the pool filled.
func (p *pool) supervise(i int, pr *proc) {
	pause := minPause
	for p.ctx.Err() == nil {
		if pr == nil {
			var err error
			urged := p.urging()
			if pr, err = p.restartProc(i); err != nil {
				if p.hopeless() {
					p.cfg.Logger.Error("token worker can't log in", "worker", i, "error", err)
					return
				}
				pause = p.rest(pause, urged)
				continue
			}
			p.put(pr)
		}
		<-pr.done
		p.procs[i].CompareAndSwap(pr, nil)
		if p.ctx.Err() != nil {
			return
		}
		p.lastEnded()
		why := pr.fate()
		p.cfg.Logger.Warn("token worker has ended and is replaced", "worker", i, "reason", why)
		p.cfg.Observe.restart(why)
		if time.Since(pr.born) > settled {
			pause = minPause
		} else {
			pause = p.rest(pause, p.urging())
		}
		pr = nil
	}
	if pr != nil {
		pr.stop("closed")
		<-pr.done
	}
}

func (p *pool) hopeless() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead != nil
}

// watch kills workers that make no progress, and before that gives their calls
// to others.
func (p *pool) watch() {
	period := min(max(p.cfg.CallTimeout/20, 5*time.Millisecond), 250*time.Millisecond)
	stall := p.cfg.CallTimeout / 10
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-tick.C:
		}
		for i := range p.procs {
			pr := p.procs[i].Load()
			if pr == nil {
				continue
			}
			quiet, slowQuiet := pr.quiet()
			switch {
			case quiet > p.cfg.CallTimeout:
				pr.stop(fmt.Sprintf("no progress for %v", quiet.Round(time.Millisecond)))
			case slowQuiet > p.cfg.KeygenTimeout:
				pr.stop(fmt.Sprintf("no progress with a key generation for %v", slowQuiet.Round(time.Millisecond)))
			case quiet > stall && !pr.suspect.Load() && p.others(pr):
				pr.handBack()
			}
		}
	}
}

// quiet returns for how long the lanes made no progress with something outstanding.
func (pr *proc) quiet() (hot, slow time.Duration) {
	if pr.load.Load() > 0 {
		hot = time.Duration(now() - pr.hotAt.Load())
	}
	if pr.slowLoad.Load() > 0 {
		slow = time.Duration(now() - pr.slowAt.Load())
	}
	return hot, slow
}

// others tells whether a worker beside pr is fit for calls.
func (p *pool) others(pr *proc) bool {
	for i := range p.procs {
		if o := p.procs[i].Load(); o != nil && o != pr && !o.suspect.Load() {
			return true
		}
	}
	return false
}

// choose returns the worker with the least to do, where having to load the key
// counts loadCost; nil if there is none. Stalled workers are the last resort.
func (p *pool) choose(key *identity, loadCost int64, slow bool) *proc {
	var best *proc
	var bestLoad int64
	bestSuspect := false
	for i := range p.procs {
		pr := p.procs[i].Load()
		if pr == nil {
			continue
		}
		load, suspect := pr.load.Load(), pr.suspect.Load()
		if slow {
			load += pr.slowLoad.Load() << 8
		}
		if key != nil && len(p.procs) > 1 && !pr.has(*key) {
			load += loadCost
		}
		if best == nil || bestSuspect && !suspect || suspect == bestSuspect && load < bestLoad {
			best, bestLoad, bestSuspect = pr, load, suspect
		}
	}
	return best
}

// acquire returns a worker for a call, and waits for one if there is none.
func (p *pool) acquire(ctx context.Context, key *identity, loadCost int64, slow bool) (*proc, error) {
	if ctx.Err() != nil {
		return nil, unavailable(ctx, "the call was given up")
	}
	if pr := p.choose(key, loadCost, slow); pr != nil {
		return pr, nil
	}
	return p.wait(ctx, key, loadCost, slow)
}

// discard ends a worker that is of no more use, and leaves it out at once.
func (p *pool) discard(pr *proc, why error) {
	p.procs[pr.index].CompareAndSwap(pr, nil)
	pr.stop(why.Error())
}

func unavailable(ctx context.Context, what string) error {
	return fmt.Errorf("%w: %s: %w", token.ErrUnavailable, what, context.Cause(ctx))
}

// close ends all workers and waits for them.
func (p *pool) close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	p.ended.Store(true)
	p.notify()
	p.mu.Unlock()
	p.cancel()
	for i := range p.procs {
		if pr := p.procs[i].Load(); pr != nil {
			pr.stop("closed")
		}
	}
	p.wg.Wait()
	p.wipe()
}
