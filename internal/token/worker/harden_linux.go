package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/claviger/claviger/internal/harden"
)

// confine is stage 1, on a locked thread: no new privileges, no core dumps, and
// Landlock. What can't be had is reported, and the worker goes on.
func confine(s setup, exe string) *hardening {
	h := &hardening{}
	h.note("no_new_privs", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	h.note("no core dumps", harden.NoCoreDumps())
	abi, err := landlock(s, exe)
	h.note(fmt.Sprintf("landlock ABI %d", abi), err)
	return h
}

// confineProcess is stage 2, before the module is loaded.
func (h *hardening) confineProcess() {
	h.note("not dumpable", harden.NotDumpable())
	h.note("memory locked", harden.LockMemory())
}

const (
	accessRead  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	accessExec  = accessRead | unix.LANDLOCK_ACCESS_FS_EXECUTE
	accessWrite = accessRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR |
		unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	// Rights that make sense for a file, as opposed to a directory.
	accessFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// handledBy returns the file system rights that a Landlock ABI knows.
func handledBy(abi int) uint64 {
	known := uint64(1<<13 - 1)
	if abi >= 2 {
		known |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		known |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 5 {
		known |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	return known
}

// landlock restricts the calling thread to the paths of rules. The network
// stays open (HSMs are reached by it); from ABI 6 on the worker can send
// signals to no process outside.
func landlock(s setup, exe string) (abi int, err error) {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0, fmt.Errorf("this kernel has none: %w", errno)
	}
	abi = int(v)
	handled := handledBy(abi)
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled}
	size := unsafe.Sizeof(attr.Handled_access_fs)
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
		size = unsafe.Offsetof(attr.Scoped) + unsafe.Sizeof(attr.Scoped)
	}
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return abi, fmt.Errorf("creating a ruleset: %w", errno)
	}
	defer unix.Close(int(set))
	for _, r := range rules(s, exe) {
		if err := allow(int(set), r.path, r.access&handled); err != nil {
			return abi, err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return abi, fmt.Errorf("restricting: %w", errno)
	}
	return abi, nil
}

type rule struct {
	path   string
	access uint64
}

// rules returns what a worker may reach. Paths that don't exist are left out.
func rules(s setup, exe string) []rule {
	var rs []rule
	add := func(access uint64, paths ...string) {
		for _, p := range paths {
			if p != "" {
				rs = append(rs, rule{p, access})
			}
		}
	}
	add(accessExec, "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", exe, filepath.Dir(s.module))
	if real, err := filepath.EvalSymlinks(s.module); err == nil {
		add(accessExec, filepath.Dir(real))
	}
	add(accessRead, "/etc", "/usr/share", "/proc/sys/crypto", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu",
		"/dev/urandom", "/dev/random", "/dev/zero")
	add(accessWrite, "/dev/null")
	read, write := modulePaths(os.Getenv)
	add(accessExec, s.read...)
	add(accessRead, read...)
	add(accessWrite, write...)
	add(accessWrite, s.write...)
	return rs
}

// allow adds a rule for path, which is nothing if there is no such path.
func allow(set int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil //nolint:nilerr // what does not exist needs no permission
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= accessFile
	}
	r := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(set), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&r)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("allowing %s: %w", path, errno)
	}
	return nil
}
