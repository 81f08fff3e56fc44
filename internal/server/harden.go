package server

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// harden keeps the memory of this process out of core dumps and of other
// processes of the same user. What the system refuses is said and lived with.
func harden(log *slog.Logger) {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		log.Warn("core dumps stay possible", "error", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		log.Warn("other processes of this user may read the server's memory", "error", err)
	}
}
