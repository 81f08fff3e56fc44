package vault

import (
	"context"
	"sync"
	"time"
)

// deadlineContext is a context that ends after a time, and costs a timer only if
// somebody waits for its end: most requests are over in microseconds and nobody
// asks it for more than the deadline.
type deadlineContext struct {
	parent   context.Context
	deadline time.Time

	mu      sync.Mutex
	timed   context.Context // made by the first call of Done
	cancel  context.CancelFunc
	stopped bool
}

func newDeadline(parent context.Context, timeout time.Duration) *deadlineContext {
	deadline := time.Now().Add(timeout)
	if earlier, ok := parent.Deadline(); ok && earlier.Before(deadline) {
		deadline = earlier
	}
	return &deadlineContext{parent: parent, deadline: deadline}
}

// stop ends the context and frees what it holds.
func (c *deadlineContext) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	if c.cancel != nil {
		c.cancel()
	}
}

// Deadline returns when the request must be over.
func (c *deadlineContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done returns a channel that is closed at the deadline or when the caller is gone.
func (c *deadlineContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed == nil {
		c.timed, c.cancel = context.WithDeadline(c.parent, c.deadline)
		if c.stopped {
			c.cancel()
		}
	}
	return c.timed.Done()
}

// Err tells why the context ended, nil if it did not.
func (c *deadlineContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.timed != nil:
		return c.timed.Err()
	case c.parent.Err() != nil:
		return c.parent.Err()
	case c.stopped:
		return context.Canceled
	case !time.Now().Before(c.deadline):
		return context.DeadlineExceeded
	}
	return nil
}

// Value asks the timed context once there is one, by which package context
// recognises its own and needs no goroutine for contexts made of this one.
func (c *deadlineContext) Value(key any) any {
	c.mu.Lock()
	inner := c.timed
	c.mu.Unlock()
	if inner == nil {
		inner = c.parent
	}
	return inner.Value(key)
}
