package unsealer

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// secret is memory of its own pages, which are locked, not dumped, and wiped.
type secret struct {
	mapped []byte
	text   []byte // what was read, a part of mapped
}

// newSecret makes room for a page. What the system refuses of locking is lived
// with: the start of the process says so once.
func newSecret() (*secret, error) {
	b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("take memory for the share: %w", err)
	}
	_ = unix.Mlock(b)
	_ = unix.Madvise(b, unix.MADV_DONTDUMP)
	return &secret{mapped: b}, nil
}

// free wipes the memory and gives it back. It may be called twice.
func (s *secret) free() {
	if s == nil || s.mapped == nil {
		return
	}
	clear(s.mapped)
	_ = unix.Munmap(s.mapped)
	s.mapped, s.text = nil, nil
}
