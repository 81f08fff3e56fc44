package worker

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SoftHSM2 rewrites its token's own file in C_Login: it empties the file and
// then fills it. A process that is killed in between leaves an empty file, and
// with it a token that is gone for good. So a worker is not killed while it logs
// in: not by its server, which waits (see child.end), and not by its server's death.

// The parent-death signal belongs to the thread on which the process began, and
// only that thread can take it back. Locking the main goroutine in init is what
// keeps it there.
func init() {
	if len(os.Args) > 1 && os.Args[1] == workerCommand {
		runtime.LockOSThread()
	}
}

// outlive performs f, which writes files of the token. If the server dies
// meanwhile, the process ends when f is done, or after writeGrace.
func outlive(f func() error) error {
	if unix.Gettid() != os.Getpid() {
		return f()
	}
	parent := os.Getppid()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0); err != nil {
		return f()
	}
	done := make(chan struct{})
	go endWithin(parent, done)
	err := f()
	close(done)
	if perr := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); perr != nil {
		return fmt.Errorf("arranging to end with the server: %w", perr)
	}
	if os.Getppid() != parent {
		os.Exit(exitWire)
	}
	return err
}

// endWithin ends the process if the parent is gone and done does not come in time.
func endWithin(parent int, done <-chan struct{}) {
	for os.Getppid() == parent {
		select {
		case <-done:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	select {
	case <-done:
	case <-time.After(writeGrace):
		os.Exit(exitWire)
	}
}
