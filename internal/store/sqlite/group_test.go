package sqlite

import (
	"runtime"
	"testing"
)

// A group takes the changes of goroutines that can run, though none of them has
// run when it begins. It is not parallel: others must not run on other threads.
func TestGroupLetsOthersJoin(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s := &Store{queue: make(chan *request), company: true}
	const callers = 8
	for range callers {
		go func() { s.queue <- &request{} }()
	}
	if got := len(s.gather(nil)); got != callers {
		t.Errorf("a group of %d, not of all %d that could run", got, callers)
	}
}

// Who was alone lately does not let others run first. The scheduler may do so
// now and then by itself, but not each time.
func TestGroupOfOne(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s := &Store{queue: make(chan *request)}
	for range 50 {
		ran := make(chan struct{})
		go close(ran)
		s.gather([]*request{{}})
		select {
		case <-ran:
		default:
			return
		}
	}
	t.Error("others ran before each commit")
}

// A group is not larger than it may be; the others wait for the next one.
func TestGroupIsBounded(t *testing.T) {
	t.Parallel()
	s := &Store{queue: make(chan *request), company: true}
	for range maxGroup + 1 {
		go func() { s.queue <- &request{} }()
	}
	group := make([]*request, 0, maxGroup)
	for len(group) < maxGroup {
		group = s.gather(group)
	}
	if len(group) != maxGroup {
		t.Errorf("a group of %d", len(group))
	}
	<-s.queue
}
