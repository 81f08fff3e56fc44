package audit

import (
	"context"
	"errors"
	"os"

	"github.com/claviger/claviger/internal/fault"
)

// Reopen begins a new file if the old one was renamed or removed (the way of
// logrotate, with SIGHUP); otherwise it changes nothing. The old file is signed
// to its end as far as the key answers. If there is an error the old file stays
// in use.
func (l *Log) Reopen(ctx context.Context) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	if !l.moved() {
		return nil
	}
	if err := l.checkpoint(ctx); err != nil {
		l.cfg.Logger.Error("audit log: the old file ends without a checkpoint; the new one covers it", "error", err)
	}
	f, size, err := openFile(l.cfg.Path)
	if err != nil {
		return err
	}
	if size > 0 {
		closeFile(f)
		return fault.New(fault.Invalid, "the new audit log %s is not empty", l.cfg.Path)
	}
	if err := l.change(ctx, f); err != nil {
		closeFile(f)
		return err
	}
	return nil
}

// moved tells whether another file, or none, lies at the log's path.
func (l *Log) moved() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	mine, err := l.f.Stat()
	if err != nil {
		return true
	}
	there, err := os.Stat(l.cfg.Path)
	return err != nil || !os.SameFile(mine, there)
}

// change goes over to an empty file. Nothing is written meanwhile.
func (l *Log) change(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.torn && !l.cutTail() {
		l.cfg.Logger.Error("audit log: the old file ends with a torn line")
	}
	old, size, last, failed := l.f, l.size, l.last, l.failed
	if err := old.Sync(); err != nil && failed == nil {
		return fault.Wrap(fault.Unavailable, err, "the old audit log cannot be synchronised")
	}
	l.f, l.torn, l.failed = f, false, nil
	if err := l.begin(ctx, ending{place: last}, false); err != nil {
		l.f, l.size, l.last, l.failed = old, size, last, failed
		// The new file must not look like the one that goes on.
		return errors.Join(err, f.Truncate(0), l.saveHead(ctx, headOf(last, l.pending)))
	}
	closeFile(old)
	return nil
}
