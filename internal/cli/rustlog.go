package cli

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// logOff is a level above all others.
const logOff = slog.Level(100)

var rustLevels = map[string]slog.Level{
	"off": logOff, "error": slog.LevelError, "warn": slog.LevelWarn, "info": slog.LevelInfo,
	"debug": slog.LevelDebug, "trace": slog.LevelDebug - 4,
}

// rustLevel reads the variable RUST_LOG as the crate env_logger does: directives
// with commas between them, each a level, a target (all of it), or target=level.
// The most exact one for a program counts; what can't be read counts not at all.
func rustLevel(text, program string, unset slog.Level) slog.Level {
	directives, _, _ := strings.Cut(text, "/") // a filter of messages may follow
	level, exact := unset, -1
	for directive := range strings.SplitSeq(directives, ",") {
		target, name, both := strings.Cut(strings.TrimSpace(directive), "=")
		l, known := rustLevels[strings.ToLower(name)]
		if !both {
			if l, known = rustLevels[strings.ToLower(target)]; known {
				target = ""
			} else {
				l, known = rustLevels["trace"], target != ""
			}
		}
		if known && strings.HasPrefix(program, target) && len(target) >= exact {
			level, exact = l, len(target)
		}
	}
	return level
}

// rustHandler writes the log lines of programs that use env_logger:
// "2021-01-03T11:18:58Z INFO cryptoserver cryptoserver started".
type rustHandler struct {
	program string
	level   slog.Level
	attrs   string
	mu      *sync.Mutex
	w       io.Writer
}

func newRustHandler(w io.Writer, program string, level slog.Level) slog.Handler {
	return &rustHandler{program: program, level: level, mu: &sync.Mutex{}, w: w}
}

// Enabled tells whether lines of a level are written.
func (h *rustHandler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= h.level && h.level != logOff
}

// Handle writes one line.
func (h *rustHandler) Handle(_ context.Context, r slog.Record) error {
	line := r.Time.UTC().Format(time.RFC3339) + " " + r.Level.String() + " " + h.program + " " + printable(r.Message) + h.attrs
	r.Attrs(func(a slog.Attr) bool {
		line += attrText(a)
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, line+"\n")
	return err
}

// attrText is " name=value" in the form of slog's text.
func attrText(a slog.Attr) string {
	var b bytes.Buffer
	text := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey {
			return slog.Attr{}
		}
		return a
	}})
	r := slog.Record{}
	r.AddAttrs(a)
	if err := text.Handle(context.Background(), r); err != nil {
		return ""
	}
	if b.Len() <= 1 {
		return ""
	}
	return " " + strings.TrimRight(b.String(), "\n")
}

// WithAttrs returns a handler that adds attributes to every line.
func (h *rustHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	for _, a := range attrs {
		c.attrs += attrText(a)
	}
	return &c
}

// WithGroup returns h: its lines have no groups.
func (h *rustHandler) WithGroup(string) slog.Handler { return h }
