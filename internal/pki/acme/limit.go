package acme

import (
	"sync"
	"time"
)

// Limits counts what happened within an hour, by name. It is kept in memory:
// a restart begins anew.
type Limits struct {
	mu      sync.Mutex
	counts  map[string]int
	started time.Time
}

// Window is the time within which Limits counts.
const Window = time.Hour

// Add counts one more of name and tells whether it is within max; what is not is
// not counted. The second result is how long to wait otherwise.
func (l *Limits) Add(name string, limit int, now time.Time) (bool, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(now)
	if l.counts[name] >= limit {
		return false, l.started.Add(Window).Sub(now)
	}
	l.counts[name]++
	return true, 0
}

// Full tells whether limit is reached, and how long to wait.
func (l *Limits) Full(name string, limit int, now time.Time) (bool, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(now)
	return l.counts[name] >= limit, l.started.Add(Window).Sub(now)
}

func (l *Limits) turn(now time.Time) {
	if d := now.Sub(l.started); l.counts == nil || d >= Window || d < 0 {
		l.counts, l.started = map[string]int{}, now
	}
}
