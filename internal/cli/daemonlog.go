package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

// daemonLog writes log lines in the form of hsmdaemon: JSON objects that begin
// with level, ts and msg, or on a console the same separated by tabs with the
// fields as an object behind.
type daemonLog struct {
	level   slog.Level
	console bool
	attrs   []slog.Attr
	group   string

	mu  *sync.Mutex
	out io.Writer
}

// Levels of hsmdaemon that log/slog doesn't have.
const (
	levelPanic = slog.LevelError + 4
	levelFatal = slog.LevelError + 8
)

var daemonLevels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	"panic": levelPanic, "fatal": levelFatal,
}

func newDaemonLog(out io.Writer, level, encoding string) *daemonLog {
	return &daemonLog{level: daemonLevels[level], console: encoding == "console", mu: &sync.Mutex{}, out: out}
}

// Enabled tells whether lines of a level are written.
func (l *daemonLog) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level }

// WithAttrs returns a log whose lines have further fields.
func (l *daemonLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *l
	c.attrs = slices.Clone(l.attrs)
	for _, a := range attrs {
		c.attrs = append(c.attrs, slog.Attr{Key: l.group + a.Key, Value: a.Value})
	}
	return &c
}

// WithGroup returns a log that puts a name in front of further fields.
func (l *daemonLog) WithGroup(name string) slog.Handler {
	c := *l
	c.group += name + "."
	return &c
}

// Handle writes one line.
func (l *daemonLog) Handle(_ context.Context, r slog.Record) error {
	const form = "2006-01-02T15:04:05.000-0700"
	attrs := slices.Clone(l.attrs)
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, slog.Attr{Key: l.group + a.Key, Value: a.Value})
		return true
	})
	level, ts := strings.ToLower(r.Level.String()), r.Time.Format(form)
	var b bytes.Buffer
	if l.console {
		fmt.Fprintf(&b, "%s\t%s\t%s", ts, strings.ToUpper(level), printable(r.Message))
		if len(attrs) > 0 {
			b.WriteString("\t{")
			appendFields(&b, attrs, "")
			b.WriteByte('}')
		}
		b.WriteByte('\n')
	} else {
		b.WriteByte('{')
		appendFields(&b, append([]slog.Attr{slog.String("level", level), slog.String("ts", ts), slog.String("msg", r.Message)}, attrs...), "")
		b.WriteString("}\n")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.out.Write(b.Bytes())
	return err
}

// appendFields writes "name":value, … without braces.
func appendFields(b *bytes.Buffer, attrs []slog.Attr, prefix string) {
	for i, a := range attrs {
		if i > 0 {
			b.WriteByte(',')
		}
		v := a.Value.Resolve()
		if v.Kind() == slog.KindGroup {
			appendFields(b, v.Group(), prefix+a.Key+".")
			continue
		}
		b.Write(asJSON(prefix + a.Key))
		b.WriteByte(':')
		b.Write(asJSON(fieldValue(v)))
	}
}

// fieldValue is what encoding/json makes of a value as people want to see it.
func fieldValue(v slog.Value) any {
	switch x := v.Any().(type) {
	case error:
		return x.Error()
	case fmt.Stringer:
		return x.String()
	default:
		return x
	}
}

func asJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return asJSON(fmt.Sprint(v))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
