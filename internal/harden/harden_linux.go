package harden

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// NoCoreDumps keeps the process and its children from writing core files.
func NoCoreDumps() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }

// NotDumpable keeps other processes of this user from reading the memory.
func NotDumpable() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

// LockMemory keeps the process out of swap. Under a limit it is left alone: the
// limit would count address space and later allocations would fail.
func LockMemory() error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil {
		return err
	}
	if lim.Cur != unix.RLIM_INFINITY && !canLock() {
		return fmt.Errorf("RLIMIT_MEMLOCK is %d bytes and CAP_IPC_LOCK is missing", lim.Cur)
	}
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}

func canLock() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}
