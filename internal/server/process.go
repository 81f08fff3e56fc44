package server

import (
	"log/slog"
	"os"
	"runtime/debug"

	hardening "github.com/claviger/claviger/internal/harden"
)

// harden keeps the memory of this process out of core dumps and of other
// processes of the same user. What the system refuses is said and lived with.
func harden(log *slog.Logger) {
	if err := hardening.NoCoreDumps(); err != nil {
		log.Warn("core dumps stay possible", "error", err)
	}
	if err := hardening.NotDumpable(); err != nil {
		log.Warn("other processes of this user may read the server's memory", "error", err)
	}
}

// tune lets the garbage collector run at four times the default heap growth:
// the server lives on short-lived request buffers, and its live heap is a few
// megabytes. GOGC in the environment overrules it.
func tune() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}
