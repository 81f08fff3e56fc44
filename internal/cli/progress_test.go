package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/server"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	for _, tty := range []bool{false, true} {
		var out bytes.Buffer
		now := time.Unix(1000, 0)
		p := newProgress(&ui{err: &out}, "Made")
		p.tty, p.start, p.now = tty, now, func() time.Time { return now }
		for i := range 101 {
			p.show(server.PoolProgress{Files: i, Total: 100, Bytes: int64(i) * 2_000_000, FileSize: 2_000_000})
			now = now.Add(10 * time.Millisecond)
		}
		p.end()
		text := out.String()
		if !tty {
			if n := strings.Count(text, "\n"); n != 11 || strings.ContainsAny(text, "\r\x1b") ||
				!strings.Contains(text, "Made 50 of 100 files (50 %), 100 MB, 200 MB/s, 1s left\n") ||
				!strings.HasSuffix(text, "Made 100 of 100 files (100 %), 200 MB, 200 MB/s\n") {
				t.Errorf("%d lines: %s", n, text)
			}
			continue
		}
		if n := strings.Count(text, "\r"); n != 6 || strings.Count(text, "\n") != 1 ||
			!strings.Contains(text, "\r["+strings.Repeat("#", 12)+strings.Repeat("-", 18)+"] Made 40 of 100 files") {
			t.Errorf("drawn %d times: %q", n, text)
		}
	}
	var out bytes.Buffer
	p := newProgress(&ui{err: &out}, "Made")
	p.show(server.PoolProgress{Files: 1, Total: 1, Bytes: 32})
	if p.end(); out.Len() > 0 {
		t.Errorf("one file: %q", out.String())
	}
}

func TestDecimalBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[float64]string{0: "0 B", 999: "999 B", 2097152: "2.1 MB", 137438953472: "137 GB", 2.5e12: "2.5 TB"} {
		if got := decimalBytes(n); got != want {
			t.Errorf("%v: %s, want %s", n, got, want)
		}
	}
}
