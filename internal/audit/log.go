package audit

import (
	"context"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/claviger/claviger/internal/fault"
)

// Log is an open audit log. Its methods may be called by many goroutines.
type Log struct {
	cfg    Config
	public *ecdsa.PublicKey
	key    string // keyID of it

	renderers sync.Pool // *renderer

	// turn is held by what takes long and must not overlap: a checkpoint, a
	// change of files, closing. It is taken before mu.
	turn sync.Mutex
	head headRecord // what the store holds

	mu      sync.Mutex
	f       *os.File
	size    int64    // bytes of whole lines in f
	last    place    // of the newest line
	next    place    // of the line that put is writing
	own     renderer // for the log's own lines
	torn    bool     // bytes of a failed write may follow after size
	cut     int64    // bytes that were cut off and not reported in the log yet
	pending int      // records that no checkpoint covers
	failed  error    // why nothing can be written until Reopen
	closed  bool

	kick    chan struct{}
	stop    chan struct{}
	stopped chan struct{}
	closing sync.Once
}

// place is a line in a file: its number and hash, the hash before it, where it begins.
type place struct {
	chain
	prev   [sha256.Size]byte
	offset int64
}

// largeBuffer is the size above which a line's buffer is not kept for others.
const largeBuffer = 1 << 20

func newLog(cfg Config, public *ecdsa.PublicKey) *Log {
	l := &Log{
		cfg:     cfg,
		public:  public,
		key:     keyID(cfg.PublicKey),
		kick:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	// A renderer keeps its keyed hash and resets it for every value: that
	// restores the state after the key and computes nothing again.
	key := append([]byte(nil), cfg.MacKey...)
	l.cfg.MacKey = nil
	l.renderers.New = func() any {
		return &renderer{mac: hmac.New(sha256.New, key)}
	}
	return l
}

func (l *Log) renderer() *renderer { return l.renderers.Get().(*renderer) }

func (l *Log) release(r *renderer) {
	if cap(r.buf) <= largeBuffer {
		l.renderers.Put(r)
	}
}

// Write records e. When it returns nil the record is in the hands of the kernel
// and survives the end of the process. On any error the operation must not
// happen: nothing of the record stays in the log.
func (l *Log) Write(e *Entry) error {
	r := l.renderer()
	defer l.release(r)
	r.entry(e)
	if len(r.buf)+tailLen >= maxLine {
		return fault.New(fault.TooLarge, "the request is too large to be recorded: its audit record has more than %d MiB", maxLine>>20)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.append(r); err != nil {
		return err
	}
	l.count()
	return nil
}

// count asks for a checkpoint after every CheckpointEvery records. Holds mu.
func (l *Log) count() {
	l.pending++
	if l.pending%l.cfg.CheckpointEvery == 0 {
		select {
		case l.kick <- struct{}{}:
		default:
		}
	}
}

// append writes a line, after a repair that is due. Holds mu.
func (l *Log) append(r *renderer) error {
	if l.closed {
		return fault.New(fault.Unavailable, "the audit log is closed")
	}
	if l.failed != nil {
		return l.failed
	}
	if l.torn && !l.cutTail() {
		return fault.New(fault.Unavailable, "the audit log cannot be repaired after a failed write")
	}
	if l.cut > 0 {
		l.own.repair(l.cut)
		if err := l.put(&l.own); err != nil {
			return err
		}
		l.cut = 0
		l.count()
	}
	return l.put(r)
}

// put writes one line; if that fails it takes back what the file got of it.
func (l *Log) put(r *renderer) error {
	l.next = place{chain: l.last.chain, prev: l.last.hash, offset: l.size}
	b := r.seal(&l.next.chain, time.Now())
	n, err := l.f.Write(b)
	if err != nil {
		if n > 0 {
			l.cut += int64(n)
			l.cutTail()
		}
		e := &fault.Error{Kind: fault.Unavailable, Msg: "the audit log cannot be written", Err: err}
		return e.WithHint("Operations are refused until it can; look at the disk of the audit log.")
	}
	l.size += int64(len(b))
	l.last = l.next
	return nil
}

// cutTail removes what a failed write left behind. Holds mu.
func (l *Log) cutTail() bool {
	err := l.f.Truncate(l.size)
	if err != nil {
		l.cfg.Logger.Error("audit log: a torn line cannot be cut off", "error", err)
	}
	l.torn = err != nil
	return err == nil
}

// Hash returns the form in which a sensitive value is recorded.
func (l *Log) Hash(value []byte) string {
	r := l.renderer()
	defer l.release(r)
	r.reset()
	r.hashBytes(value)
	return string(r.buf[headroom+1 : len(r.buf)-1])
}

// Status is how far the log is.
type Status struct {
	Head     Head
	Unsigned int   // records that no checkpoint covers yet
	Err      error // why nothing can be written, nil if all is well
}

// Head is a place in a log.
type Head struct {
	Seq  uint64
	Hash [sha256.Size]byte
}

// Status tells where the log ends. Who keeps a Head elsewhere can give it to
// Verify later, which then notices lines missing at the end.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Status{Head{l.last.seq, l.last.hash}, l.pending, l.failed}
}

// background signs checkpoints until Close.
func (l *Log) background() {
	defer close(l.stopped)
	ticker := time.NewTicker(l.cfg.CheckpointInterval)
	defer ticker.Stop()
	for {
		select {
		case <-l.kick:
		case <-ticker.C:
		case <-l.stop:
			return
		}
		l.inspect()
		if err := l.Checkpoint(context.Background()); err != nil {
			l.cfg.Logger.Error("audit log: no checkpoint, it is tried again", "error", err)
		}
	}
}

// Close signs what is not signed yet and closes the file. Later writes fail.
func (l *Log) Close() error {
	var err error
	l.closing.Do(func() {
		close(l.stop)
		<-l.stopped
		l.turn.Lock()
		defer l.turn.Unlock()
		err = l.checkpoint(context.Background())
		l.mu.Lock()
		defer l.mu.Unlock()
		l.closed = true
		err = errors.Join(err, closeFile(l.f))
	})
	return err
}
