package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestDaemonLog(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := slog.New(newDaemonLog(&b, "debug", "json"))
	id := string([]byte{0x12, 'b', 'f', 0x8f, 0xd0, 0x9b, 0x11, 0xeb})
	l.Debug("found object", "id", id, "n", 7, "d", time.Second, "err", errors.New("x <y>"), "ids", []uint64{1, 2})
	l.With("a", 1).WithGroup("g").With("b", 2).Warn("deep\n", "c", slog.GroupValue(slog.Int("d", 3)))
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	want := regexp.MustCompile(`^\{"level":"debug","ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4}","msg":"found object","id":"\\u0012bf`)
	if len(lines) != 2 || !want.MatchString(lines[0]) || !strings.HasSuffix(lines[0], `,"n":7,"d":"1s","err":"x <y>","ids":[1,2]}`) {
		t.Fatalf("%q", lines)
	}
	if !strings.Contains(lines[1], `"level":"warn"`) || !strings.HasSuffix(lines[1], `"msg":"deep\n","a":1,"g.b":2,"g.c.d":3}`) {
		t.Errorf("%q", lines[1])
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("%q is no JSON", line)
		}
	}
}

func TestDaemonLogConsole(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := slog.New(newDaemonLog(&b, "info", "console"))
	l.Debug("unseen")
	l.Info("Server listening", "host", "localhost", "port", 8513)
	l.Error("\x1b[2J")
	want := regexp.MustCompile(`^\S+\tINFO\tServer listening\t\{"host":"localhost","port":8513\}\n\S+\tERROR\t\\u001b\[2J\n$`)
	if !want.MatchString(b.String()) {
		t.Errorf("%q", b.String())
	}
}

func TestDaemonLogLevels(t *testing.T) {
	t.Parallel()
	for level, lines := range map[string]int{"debug": 4, "info": 3, "warn": 2, "error": 1, "panic": 0, "fatal": 0} {
		var b bytes.Buffer
		l := slog.New(newDaemonLog(&b, level, "json"))
		l.Debug("x")
		l.Info("x")
		l.Warn("x")
		l.Error("x")
		if got := strings.Count(b.String(), "\n"); got != lines {
			t.Errorf("%s: %d lines", level, got)
		}
	}
}
