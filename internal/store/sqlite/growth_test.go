package sqlite

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/claviger/claviger/internal/store"
)

// BenchmarkGrowth is BenchmarkTwoSteps, a look-up and a page of a list with
// 10^3, 10^4 … records in the file, up to the number in
// CLAVIGER_BENCH_RECORDS (10^4 otherwise). file-B/record is the size of the file.
func BenchmarkGrowth(b *testing.B) {
	most := 10_000
	if n, err := strconv.Atoi(os.Getenv("CLAVIGER_BENCH_RECORDS")); err == nil {
		most = n
	}
	path := filepath.Join(b.TempDir(), "db")
	s, err := Open(b.Context(), Config{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	have := 0
	var keys []string
	for size := 1000; size <= most; size *= 10 {
		keys = append(keys, issueAll(b, s, size-have)...)
		have = max(have, size)
		name := fmt.Sprint("records=", size, "/")
		b.Run(name+"twosteps", func(b *testing.B) {
			before := cpuTime()
			twoSteps(b, s)
			b.ReportMetric(float64(cpuTime()-before)/1000/float64(b.N), "cpu-µs/op")
			have += b.N
			var pages, pageSize, free int64
			s.writer.QueryRow(`PRAGMA page_count`).Scan(&pages)
			s.writer.QueryRow(`PRAGMA page_size`).Scan(&pageSize)
			s.writer.QueryRow(`PRAGMA freelist_count`).Scan(&free)
			b.ReportMetric(float64(pages*pageSize)/float64(have), "file-B/record")
		})
		b.Run(name+"get", func(b *testing.B) {
			before := cpuTime()
			for i := 0; b.Loop(); i++ {
				if _, err := s.Get(b.Context(), "records", keys[i%len(keys)]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuTime()-before)/1000/float64(b.N), "cpu-µs/op")
		})
		b.Run(name+"page", func(b *testing.B) {
			before := cpuTime()
			for i := 0; b.Loop(); i++ {
				if _, err := s.Names(b.Context(), "records", "pki/", keys[i%len(keys)], 100); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuTime()-before)/1000/float64(b.N), "cpu-µs/op")
		})
	}
}

func randomKey() string {
	var serial [20]byte
	rand.Read(serial[:])
	return "pki/" + hex.EncodeToString(serial[:])
}

// issueAll writes n records in the two steps of a certificate, 250 of them a
// transaction as with many callers, and returns the keys of some.
func issueAll(b *testing.B, s *Store, n int) (keys []string) {
	b.Helper()
	intent, record := make([]byte, 900), make([]byte, 1100)
	for done := 0; done < n; {
		var first, second []store.Change
		for range min(250, n-done) {
			key := randomKey()
			if len(keys) < 10_000 {
				keys = append(keys, key)
			}
			first = append(first, store.Change{Table: "intents", Key: key, Data: intent}, store.Change{Table: "records", Key: key})
			second = append(second, store.Change{Table: "records", Key: key, Data: record}, store.Change{Table: "intents", Key: key, Expect: 1})
			done++
		}
		for _, changes := range [][]store.Change{first, second} {
			if err := s.Apply(b.Context(), changes...); err != nil {
				b.Fatal(err)
			}
		}
	}
	return keys
}
