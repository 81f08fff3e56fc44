package programs

import (
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

// outages are those of a test.
type outages struct {
	mu  sync.Mutex
	all []outage
}

// during makes an outage of what a function does.
func (o *outages) during(f func()) {
	from := time.Now()
	f()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, outage{from, time.Now()})
}

// excuse tells whether a handshake that failed waited for the module's whole
// deadline within one outage.
func (o *outages) excuse(from, to time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, out := range o.all {
		if out.to.Sub(out.from) > moduleDeadline && from.Before(out.to.Add(-moduleDeadline)) && to.After(out.from.Add(moduleDeadline)) {
			return true
		}
	}
	return false
}

// TestNginxOutages makes handshakes with nginx's four workers while the server is
// restarted and nginx reloaded: none may fail, but those whose whole deadline
// fell into an outage, and nothing may be left over. The long form makes 10,000
// handshakes through ten restarts and ten reloads.
func TestNginxOutages(t *testing.T) {
	t.Parallel()
	handshakes, restarts := 500, 2
	if full {
		handshakes, restarts = 10_000, 10
	}
	eachWay(t, func(t *testing.T, p *provider) {
		k := p.key(t, "www", "ecdsa-p256")
		n := startNginx(t, k, "https://backend.example.com:8443", "https://127.0.0.1:1")
		caller, _, _ := p.peer(t, "caller")
		d := &dialer{address: n.address, pool: p.pool(t), client: &caller, timeout: time.Minute}
		d.serves(t, k, "hello")
		// The first reload is the one that opens what stays open.
		n.reload(t)
		first := n.settle(t, 4, children(n.pid))
		d.serves(t, k, "hello")
		before := p.leftovers(n)

		var outs outages
		var made, failed, reloads atomic.Int64
		load := func() {
			for made.Add(1) <= int64(handshakes) {
				from := time.Now()
				_, _, err := d.get(t.Context())
				if err != nil && !outs.excuse(from, time.Now()) {
					failed.Add(1)
					t.Errorf("after %v: %v", time.Since(from), err)
				}
				if failed.Load() > 10 {
					return
				}
			}
		}
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(load)
		}
		// Restarts and reloads come evenly, in turn.
		for i := range 2 * restarts {
			for target := int64(handshakes * (i + 1) / (2*restarts + 1)); made.Load() < target && failed.Load() <= 10; {
				time.Sleep(5 * time.Millisecond)
			}
			if i%2 == 1 {
				n.reload(t)
				reloads.Add(1)
				continue
			}
			outs.during(func() {
				if i%4 == 0 {
					p.claviger.server.Kill()
				} else {
					p.claviger.server.Stop()
				}
				p.claviger.restart(t)
			})
		}
		wait.Wait()
		var longest time.Duration
		for _, o := range outs.all {
			longest = max(longest, o.to.Sub(o.from))
		}
		t.Logf("%d handshakes, %d failed without excuse; %d restarts of the server, the longest outage %v; %d reloads",
			handshakes, failed.Load(), len(outs.all), longest.Round(time.Millisecond), reloads.Load())
		n.settle(t, 4, first)
		d.serves(t, k, "hello")
		if after := p.leftovers(n); after.grew(before) {
			t.Errorf("processes and descriptors before: %+v, after: %+v", before, after)
		}
	})
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
