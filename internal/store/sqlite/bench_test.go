package sqlite

import (
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/claviger/claviger/internal/store"
)

// BenchmarkTwoSteps is what a stored certificate costs here: a record of the
// intent, then one of the result in its place, by 64 callers at once.
func BenchmarkTwoSteps(b *testing.B) {
	s, err := Open(b.Context(), Config{Path: filepath.Join(b.TempDir(), "db"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.ReportAllocs()
	before := cpuTime()
	twoSteps(b, s)
	b.ReportMetric(float64(cpuTime()-before)/1000/float64(b.N), "cpu-µs/op")
}

// twoSteps does so b.N times.
func twoSteps(b *testing.B, s *Store) {
	intent, record := make([]byte, 900), make([]byte, 1100)
	var failed atomic.Value
	b.SetParallelism(32)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			key := randomKey()
			err := s.Apply(b.Context(), store.Change{Table: "intents", Key: key, Data: intent}, store.Change{Table: "records", Key: key})
			if err == nil {
				err = s.Apply(b.Context(), store.Change{Table: "records", Key: key, Data: record}, store.Change{Table: "intents", Key: key, Expect: 1})
			}
			if err != nil {
				failed.Store(err)
			}
		}
	})
	if err := failed.Load(); err != nil {
		b.Fatal(err)
	}
}

// cpuTime is the process's use of the CPU in nanoseconds.
func cpuTime() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
