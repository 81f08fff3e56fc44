package worker

import (
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// errAgain: the worker ended or stalled before it answered; the call may be
// repeated with another.
var errAgain = errors.New("the worker did not answer")

// call is a request that waits for its answer.
type call struct {
	ch      chan struct{} // one token when payload and err are set
	payload []byte
	err     error
	entry   *cached // the key that it uses, nil if none
	seq     uint32
	proc    *proc
}

var calls = sync.Pool{New: func() any { return &call{ch: make(chan struct{}, 1)} }}

// release gives the call and its memory back.
func (c *call) release() {
	putBuffer(c.payload)
	c.payload, c.err, c.entry, c.proc = nil, nil, nil, nil
	calls.Put(c)
}

type pending struct {
	call *call // nil if the caller has gone away
	cost int64
	slow bool
}

// proc is the server's side of one worker process.
type proc struct {
	index int
	cfg   *Config
	child *child
	raw   syscall.RawConn
	facts facts
	born  time.Time

	mu      sync.Mutex
	out     []byte // frames to write
	spare   []byte
	writing bool
	seq     uint32
	waiting map[uint32]pending
	nslow   int
	keys    lru
	ended   bool
	kill    string // why the server killed it

	load     atomic.Int64 // cost of what is outstanding in the hot lane
	slowLoad atomic.Int64
	hotAt    atomic.Int64 // time of the last progress, in ns since start
	slowAt   atomic.Int64
	suspect  atomic.Bool
	done     chan struct{}
}

var epoch = time.Now()

func now() int64 { return int64(time.Since(epoch)) }

func newProc(index int, cfg *Config, c *child, f facts) (*proc, error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &proc{index: index, cfg: cfg, child: c, raw: raw, facts: f, born: time.Now(),
		waiting: map[uint32]pending{}, done: make(chan struct{})}
	p.keys.init(cfg.CacheKeys)
	go p.read()
	return p, nil
}

// submit sends a request. build appends its frames; with key, the key is loaded
// in front of them if the worker doesn't have it. It returns nil if the worker
// has ended.
func (p *proc) submit(key *identity, load func(slot uint32) loadRequest, cost int64, slow bool,
	build func(b []byte, seq, slot uint32) []byte,
) *call {
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return nil
	}
	c := calls.Get().(*call)
	p.seq++
	c.seq, c.proc = p.seq, p
	var slot uint32
	if key != nil {
		c.entry = p.keys.get(*key)
		if c.entry == nil {
			var dropped *cached
			if c.entry, dropped = p.keys.add(*key); dropped != nil {
				p.out = appendUnload(p.out, dropped.slot)
			}
			l := load(c.entry.slot)
			p.out = l.append(p.out)
		}
		slot = c.entry.slot
	}
	p.out = build(p.out, c.seq, slot)
	p.waiting[c.seq] = pending{c, cost, slow}
	p.account(cost, slow)
	if p.writing {
		p.mu.Unlock()
		return c
	}
	p.writing = true
	busy := len(p.waiting) > 1
	p.mu.Unlock()
	if busy {
		// Goroutines that can run now add their frames to this write, which wakes the
		// worker once for all of them. Where nothing else can run, it waits for nothing.
		runtime.Gosched()
	}
	p.flush()
	return c
}

// account counts a request in. The caller holds mu.
func (p *proc) account(cost int64, slow bool) {
	if slow {
		if p.slowLoad.Add(cost) == cost {
			p.slowAt.Store(now())
		}
		p.nslow++
		return
	}
	if p.load.Add(cost) == cost {
		p.hotAt.Store(now())
	}
	p.cfg.Observe.queue(p.index, len(p.waiting))
}

// flush writes what is there, with all that others add meanwhile. It does not
// block: what the socket does not take at once is left to a goroutine.
func (p *proc) flush() {
	for {
		p.mu.Lock()
		b := p.out
		if len(b) == 0 || p.ended {
			p.writing = false
			p.mu.Unlock()
			return
		}
		p.out, p.spare = p.spare[:0], nil
		p.mu.Unlock()
		n := p.writeOnce(b)
		if n < len(b) {
			go func() {
				// An error shows to the reader as the end of the worker.
				_, _ = p.child.file.Write(b[n:])
				p.recycle(b)
				p.flush()
			}()
			return
		}
		p.recycle(b)
	}
}

func (p *proc) recycle(b []byte) {
	clear(b)
	if cap(b) > 1<<20 {
		b = nil
	}
	p.mu.Lock()
	p.spare = b[:0]
	p.mu.Unlock()
}

// writeOnce writes without waiting and returns how much was taken.
func (p *proc) writeOnce(b []byte) (n int) {
	// An error is seen by the reader too.
	_ = p.raw.Write(func(fd uintptr) bool {
		for {
			var err error
			if n, err = syscall.Write(int(fd), b); err != syscall.EINTR {
				break
			}
		}
		n = max(n, 0)
		return true
	})
	return n
}

// read takes answers until the worker ends.
func (p *proc) read() {
	const usual = 256 << 10
	buf := make([]byte, usual)
	r, w := 0, 0
	var err error
	for {
		f, used, need, perr := parseFrame(buf[r:w])
		if perr != nil {
			err = perr
			break
		}
		if used > 0 {
			r += used
			if f.kind == frameFatal {
				rd := reader{b: f.payload}
				err = parseStatus(&rd)
				break
			}
			p.answered(f)
			continue
		}
		if need > len(buf) {
			buf = append(make([]byte, 0, need), buf[r:w]...)[:need]
		} else if left := w - r; len(buf) > usual && left < usual && need < usual {
			buf = append(make([]byte, 0, usual), buf[r:w]...)[:usual]
		} else if r > 0 {
			copy(buf, buf[r:w])
		}
		r, w = 0, w-r
		n, rerr := p.child.file.Read(buf[w:])
		if rerr != nil {
			if rerr != io.EOF {
				err = rerr
			}
			break
		}
		w += n
	}
	clear(buf)
	p.finish(err)
}

// answered hands an answer to its caller.
func (p *proc) answered(f frame) {
	p.mu.Lock()
	e, ok := p.waiting[f.seq]
	if !ok {
		p.mu.Unlock()
		return
	}
	delete(p.waiting, f.seq)
	t := now()
	if e.slow {
		p.nslow--
		p.slowAt.Store(t)
		p.slowLoad.Add(-e.cost)
	} else {
		p.hotAt.Store(t)
		p.load.Add(-e.cost)
		p.suspect.Store(false)
		p.cfg.Observe.queue(p.index, len(p.waiting))
	}
	p.mu.Unlock()
	if e.call == nil {
		return
	}
	e.call.payload = append(getBuffer(len(f.payload)), f.payload...)
	e.call.ch <- struct{}{}
}

// abandon takes a call back. It returns false if the answer has come already.
func (p *proc) abandon(c *call) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.waiting[c.seq]
	if !ok || e.call != c {
		return false
	}
	e.call = nil
	p.waiting[c.seq] = e
	return true
}

// finish ends the proc: every call that waits may be repeated elsewhere.
func (p *proc) finish(err error) {
	p.mu.Lock()
	p.ended = true
	waiting := p.waiting
	p.waiting = map[uint32]pending{}
	clear(p.out)
	p.out = nil
	why := p.kill
	p.mu.Unlock()
	p.child.end()
	if why == "" {
		why = "ended by itself"
		if err != nil {
			why = err.Error()
		}
		if s := p.child.errs.String(); s != "" {
			why += ": " + s
		}
	}
	p.mu.Lock()
	p.kill = why
	p.mu.Unlock()
	for _, e := range waiting {
		if e.call != nil {
			e.call.err = errAgain
			e.call.ch <- struct{}{}
		}
	}
	close(p.done)
}

// stop kills the process; finish follows.
func (p *proc) stop(why string) {
	p.mu.Lock()
	if p.kill == "" {
		p.kill = why
	}
	p.mu.Unlock()
	// It may have ended already.
	_ = p.child.cmd.Process.Kill()
}

// fate returns why the process ended.
func (p *proc) fate() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kill
}

// handBack makes the waiting hot calls available to other workers, and leaves
// the worker out of new ones until it moves again.
func (p *proc) handBack() {
	p.suspect.Store(true)
	p.mu.Lock()
	var cs []*call
	for seq, e := range p.waiting {
		if !e.slow && e.call != nil {
			cs = append(cs, e.call)
			e.call = nil
			p.waiting[seq] = e
		}
	}
	p.mu.Unlock()
	for _, c := range cs {
		c.err = errAgain
		c.ch <- struct{}{}
	}
}

// forget drops the key of an entry, if it is still that entry that is loaded.
func (p *proc) forget(e *cached) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys.remove(e) {
		p.out = appendUnload(p.out, e.slot)
	}
}

// has tells whether a key is loaded.
func (p *proc) has(k identity) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys.m[k] != nil
}

// drop unloads a key of an identity, if it is loaded.
func (p *proc) drop(k identity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.keys.m[k]; e != nil {
		p.keys.remove(e)
		p.out = appendUnload(p.out, e.slot)
	}
}

// preload loads a key ahead of its first use.
func (p *proc) preload(k *key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.keys.m[k.ident] != nil {
		return
	}
	e, dropped := p.keys.add(k.ident)
	if dropped != nil {
		p.out = appendUnload(p.out, dropped.slot)
	}
	l := k.loadRequest(e.slot)
	p.out = l.append(p.out)
}

// shrink halves what the worker may have loaded: the module is out of memory
// for session objects.
func (p *proc) shrink() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys.max = max(1, len(p.keys.m)/2)
	for len(p.keys.m) > p.keys.max {
		e := p.keys.root.prev
		p.keys.remove(e)
		p.out = appendUnload(p.out, e.slot)
	}
}
