//go:build !linux

package worker

import "errors"

var errOnlyLinux = errors.New("only on Linux")

// confine reports that this system has none of the measures.
func confine(setup, string) *hardening {
	h := &hardening{}
	h.note("landlock, no_new_privs", errOnlyLinux)
	return h
}

func (h *hardening) confineProcess() { h.note("memory locked", errOnlyLinux) }
