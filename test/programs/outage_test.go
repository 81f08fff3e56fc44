package programs

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// moduleDeadline is how long the module waits for an answer, by default.
const moduleDeadline = 5 * time.Second

// outage is a time in which the server did not answer.
type outage struct{ from, to time.Time }

// failure is a handshake that failed.
type failure struct {
	from, to time.Time
	err      error
}

// storm is a number of handshakes while the server is restarted and nginx reloaded.
type storm struct {
	handshakes, restarts int
	last                 time.Duration // how much longer the last outage takes

	made     atomic.Int64
	mu       sync.Mutex
	failures []failure
	outages  []outage
}

// load makes handshakes until there are enough.
func (s *storm) load(ctx context.Context, d *dialer) {
	for s.made.Add(1) <= int64(s.handshakes) {
		from := time.Now()
		if _, _, err := d.get(ctx); err != nil {
			s.mu.Lock()
			s.failures = append(s.failures, failure{from, time.Now(), err})
			s.mu.Unlock()
		}
	}
}

// disturb restarts and reloads in turn, evenly over the handshakes.
func (s *storm) disturb(t testing.TB, p *provider, n *nginx) {
	for i := range 2 * s.restarts {
		for target := int64(s.handshakes * (i + 1) / (2*s.restarts + 1)); s.made.Load() < target; {
			time.Sleep(5 * time.Millisecond)
		}
		if i%2 == 1 {
			n.reload(t)
			continue
		}
		from := time.Now()
		if i%4 == 0 {
			p.claviger.server.Kill()
		} else {
			p.claviger.server.Stop()
		}
		if took := time.Since(from); took > 3*time.Second {
			t.Logf("the server took %v to end:\n%s", took, p.claviger.server.Log())
		}
		if i == 2*s.restarts-2 {
			time.Sleep(s.last)
		}
		p.claviger.restart(t)
		s.outages = append(s.outages, outage{from, time.Now()})
	}
}

// excused tells whether a handshake that failed waited for the module's whole
// deadline within one outage.
func (s *storm) excused(f failure) bool {
	for _, o := range s.outages {
		// A worker may have served others of its connections first.
		if o.to.Sub(o.from) >= moduleDeadline && f.to.After(o.from.Add(moduleDeadline)) && f.from.Before(o.to.Add(-moduleDeadline)) {
			return true
		}
	}
	return false
}

// TestNginxOutages makes handshakes with nginx's four workers while the server is
// restarted and nginx reloaded: none may fail, but those whose whole deadline
// fell into an outage, and nothing may be left over. The long form makes 10,000
// handshakes through ten restarts, the last of which takes longer than twice the
// module's deadline (libp11 asks twice), and ten reloads.
func TestNginxOutages(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, p *provider) {
		k := p.key(t, "www", "ecdsa-p256")
		n := startNginx(t, k, "https://backend.example.com:8443", "https://127.0.0.1:1")
		caller, _, _ := p.peer(t, "caller")
		d := &dialer{address: n.address, pool: p.pool(t), client: &caller, timeout: time.Minute}
		d.serves(t, k, "hello")
		// The first reload is the one that opens what stays open.
		first := n.reloaded(t)
		d.serves(t, k, "hello")
		before := p.leftovers(n)

		s := &storm{handshakes: 500, restarts: 2}
		if full {
			s = &storm{handshakes: 10_000, restarts: 10, last: 2*moduleDeadline + 2*time.Second}
		}
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() { s.load(t.Context(), d) })
		}
		s.disturb(t, p, n)
		wait.Wait()
		s.report(t)
		if s.last > 0 && len(s.failures) == 0 {
			t.Error("no handshake failed in the outage that was longer than the deadline")
		}
		n.settle(t, 4, first)
		d.serves(t, k, "hello")
		if after := p.leftovers(n); after.grew(before) {
			t.Errorf("processes and descriptors before: %+v, after: %+v", before, after)
		}
	})
}

// report judges the failures.
func (s *storm) report(t testing.TB) {
	t.Helper()
	bad := 0
	for _, f := range s.failures {
		if s.excused(f) {
			continue
		}
		if bad++; bad <= 10 {
			t.Errorf("%v after its beginning: %v", f.to.Sub(f.from), f.err)
		}
	}
	var times []time.Duration
	for _, o := range s.outages {
		times = append(times, o.to.Sub(o.from).Round(time.Millisecond))
	}
	t.Logf("%d handshakes and as many reloads as restarts; outages of %v; %d failed, %d of them without excuse", s.handshakes, times, len(s.failures), bad)
}

// leftovers are processes and descriptors.
type leftovers struct{ workers, master, worker, agent, server int }

// leftovers counts what nginx, the agent and the server hold when they are at
// rest.
func (p *provider) leftovers(n *nginx) leftovers {
	count := func() leftovers {
		now := leftovers{master: descriptors(n.pid), server: descriptors(p.claviger.server.PID())}
		for _, pid := range children(n.pid) {
			now.workers++
			now.worker = max(now.worker, descriptors(pid))
		}
		if a := p.claviger.agent; a != nil {
			now.agent = descriptors(a.Process.Pid)
		}
		return now
	}
	// What is counted may still be on its way out.
	last := count()
	for range 20 {
		time.Sleep(250 * time.Millisecond)
		now := count()
		if now == last {
			break
		}
		last = now
	}
	return last
}

// grew tells whether there is more than before. A few connections more or less
// between agent and server are their pools' business.
func (l leftovers) grew(before leftovers) bool {
	const pool = 8
	return l.workers != before.workers || l.master > before.master || l.worker > before.worker+1 ||
		l.agent > before.agent+pool || l.server > before.server+pool
}

// descriptors counts the open files of a process.
func descriptors(pid int) int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(entries)
}
