package worker

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// While the worker has something to do, requests of goroutines that can run go to the worker in one write. It is not
// parallel: others must not run on other threads.
func TestSubmitSharesAWrite(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	// Of such a socket each read returns one write.
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "server"), os.NewFile(uintptr(fds[1]), "worker")
	defer ours.Close()
	defer theirs.Close()
	raw, err := ours.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	p := &proc{cfg: &Config{}, raw: raw, seq: 1, waiting: map[uint32]pending{1: {}}}
	const callers = 8
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			p.submit(nil, nil, 1, false, func(b []byte, seq, _ uint32) []byte {
				return endFrame(beginFrame(b, frameRandom, seq), len(b))
			})
		})
	}
	buf := make([]byte, 2*callers*headerSize)
	n, err := theirs.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if n != callers*headerSize {
		t.Errorf("the first write has %d requests, not all %d", n/headerSize, callers)
	}
	wg.Wait()
}
