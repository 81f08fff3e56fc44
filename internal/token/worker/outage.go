package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/claviger/claviger/internal/token"
)

// Bounds of an outage: no worker runs and an attempt to start one has failed.
const (
	// patience is how long calls wait for it to pass. After that a call waits
	// for one attempt more, which it causes itself.
	patience = 2 * time.Second
	// attemptGap lies between two attempts, however many calls want one.
	attemptGap = 250 * time.Millisecond
	// The log tells of an outage at its beginning, after minLogPause, and then
	// at intervals that double.
	minLogPause = 5 * time.Second
	maxLogPause = 5 * time.Minute
)

// outage is what is known of workers that do not start. The pool's mutex guards it.
type outage struct {
	err      error     // of the last attempt; nil while all is well
	since    time.Time // end of the first attempt that failed
	began    time.Time // of the last attempt
	ended    time.Time
	attempts int
	logPause time.Duration
	logNext  time.Time
}

// failed notes an attempt that failed and wakes the calls that wait for it.
func (p *pool) failed(i int, began time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o, t := &p.outage, time.Now()
	if o.err == nil {
		*o = outage{since: t, logPause: minLogPause, logNext: t}
	}
	o.err, o.began, o.ended = err, began, t
	o.attempts++
	if !t.Before(o.logNext) && !p.closed {
		p.cfg.Logger.Warn("token worker does not start", "worker", i, "error", err, "attempts", o.attempts, "next_report", o.logPause)
		o.logNext = t.Add(o.logPause)
		o.logPause = min(2*o.logPause, maxLogPause)
	}
	p.notify()
}

// recovered ends an outage. The caller holds mu.
func (p *pool) recovered() {
	if p.outage.err == nil {
		return
	}
	p.cfg.Logger.Info("token workers start again", "attempts", p.outage.attempts,
		"outage", time.Since(p.outage.since).Round(time.Millisecond))
	p.outage = outage{}
	p.urge()
}

// recent returns the error of an attempt that has just failed, which needs no
// repetition yet: the workers of a pool fail for one reason.
func (p *pool) recent() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.outage.err != nil && time.Since(p.outage.ended) < attemptGap {
		return p.outage.err
	}
	return nil
}

// lastEnded forgets earlier failures of other workers if no worker is left, so
// that calls give the replacement time.
func (p *pool) lastEnded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.procs {
		if p.procs[i].Load() != nil {
			return
		}
	}
	p.outage.err = nil
}

// urge ends the pauses of those who start workers. The caller holds mu.
func (p *pool) urge() {
	close(p.urged)
	p.urged = make(chan struct{})
}

// urging returns the channel that is closed when a call wants a worker.
func (p *pool) urging() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.urged
}

// rest waits and returns the next, longer pause. A call that wants a worker
// shortens it to attemptGap; urged is of before the attempt that failed, so that
// a call that came during it is not overlooked.
func (p *pool) rest(pause time.Duration, urged <-chan struct{}) time.Duration {
	least := time.NewTimer(min(pause, attemptGap))
	defer least.Stop()
	select {
	case <-p.ctx.Done():
	case <-least.C:
	}
	whole := time.NewTimer(max(pause-attemptGap, 0))
	defer whole.Stop()
	select {
	case <-p.ctx.Done():
	case <-urged:
	case <-whole.C:
	}
	return min(2*pause, maxPause)
}

// waitLimit bounds how long a call without a deadline waits for a worker.
const waitLimit = 30 * time.Second

// wait returns a worker as soon as there is one. In an outage it gives up soon.
func (p *pool) wait(ctx context.Context, key *identity, loadCost int64, slow bool) (*proc, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, waitLimit)
		defer cancel()
	}
	arrived := time.Now()
	for {
		p.mu.Lock()
		changed, dead, closed, o := p.changed, p.dead, p.closed, p.outage
		p.mu.Unlock()
		switch {
		case closed:
			return nil, token.ErrClosed
		case dead != nil:
			return nil, fmt.Errorf("%w: no worker can log in: %w", token.ErrUnavailable, dead)
		}
		if pr := p.choose(key, loadCost, slow); pr != nil {
			return pr, nil
		}
		left := o.left(arrived)
		if left <= 0 {
			return nil, fmt.Errorf("%w: no worker of the module starts: %w", token.ErrUnavailable, o.err)
		}
		if err := p.waitChange(ctx, changed, left); err != nil {
			return nil, err
		}
	}
}

// left returns for how long a call that came at arrived goes on waiting unless
// something changes.
func (o *outage) left(arrived time.Time) time.Duration {
	switch {
	case o.err == nil:
		return waitLimit
	case time.Since(o.since) >= patience && o.began.After(arrived):
		return 0
	case arrived.Before(o.since):
		return patience - time.Since(o.since)
	}
	return patience - time.Since(arrived)
}

func (p *pool) waitChange(ctx context.Context, changed <-chan struct{}, limit time.Duration) error {
	p.mu.Lock()
	if p.outage.err != nil {
		p.urge()
	}
	p.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return unavailable(ctx, "no worker of the module is running")
	}
	return nil
}
