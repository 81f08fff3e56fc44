package worker

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token"
)

// logLines collects what is logged.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), what)
}

// away is a token whose directory can be taken away.
type away struct {
	*hsm
	dir  string
	logs *logLines
}

func newAway(t *testing.T) *away {
	cfg := softConfig(t)
	a := &away{dir: filepath.Join(filepath.Dir(cfg.LockFile), "tokens"), logs: &logLines{}}
	cfg.Logger = slog.New(slog.NewTextHandler(a.logs, nil))
	a.hsm = openToken(t, cfg)
	waitWorkers(t, a.hsm)
	return a
}

func (a *away) leave(t *testing.T) {
	t.Helper()
	if err := os.Rename(a.dir, a.dir+".away"); err != nil {
		t.Fatal(err)
	}
}

func (a *away) comeBack(t *testing.T) {
	t.Helper()
	if err := os.Rename(a.dir+".away", a.dir); err != nil {
		t.Fatal(err)
	}
}

var signOp = token.Op{Kind: token.Sign}

func sign(t *testing.T, k token.Key) error {
	items := []token.Item{{In: make([]byte, 32)}}
	return errors.Join(k.Do(contextOf(t, 90*time.Second), signOp, items), items[0].Err)
}

// TestTokenAway: whatever is asked of a token that is not there fails soon and
// says so, and works again as soon as the token is back.
func TestTokenAway(t *testing.T) {
	t.Parallel()
	calls := map[string]func(t *testing.T, a *away, object, wrapped token.Key) error{
		"generate wrapped": func(t *testing.T, a *away, _, _ token.Key) error {
			_, err := a.Generate(contextOf(t, 90*time.Second), newSpec(token.AES256, token.PlaceWrapped))
			return err
		},
		"generate object": func(t *testing.T, a *away, _, _ token.Key) error {
			_, err := a.Generate(contextOf(t, 90*time.Second), newSpec(token.P256, token.PlaceObject))
			return err
		},
		"object key":  func(t *testing.T, _ *away, object, _ token.Key) error { return sign(t, object) },
		"wrapped key": func(t *testing.T, _ *away, _, wrapped token.Key) error { return sign(t, wrapped) },
		"secret": func(t *testing.T, a *away, _, _ token.Key) error {
			_, err := a.SealSecret(contextOf(t, 90*time.Second), []byte("x"), nil)
			return err
		},
		"audit key": func(t *testing.T, a *away, _, _ token.Key) error {
			_, err := a.AuditKey(contextOf(t, 90*time.Second))
			return err
		},
		"provision": func(t *testing.T, a *away, _, _ token.Key) error {
			return a.Provision(contextOf(t, 90*time.Second), false)
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAway(t)
			_, object := generate(t, a, token.P256, token.PlaceObject)
			_, wrapped := generate(t, a, token.P256, token.PlaceWrapped)
			a.leave(t)
			for i, limit := range []time.Duration{5 * time.Second, 2 * time.Second} {
				begin := time.Now()
				err := call(t, a, object, wrapped)
				if !errors.Is(err, token.ErrUnavailable) || !strings.Contains(err.Error(), "token") {
					t.Errorf("call %d: %v", i, err)
				}
				if d := time.Since(begin); d > limit {
					t.Errorf("call %d took %v", i, d)
				}
			}
			a.comeBack(t)
			begin := time.Now()
			if err := call(t, a, object, wrapped); err != nil {
				t.Errorf("with the token back: %v", err)
			}
			if d := time.Since(begin); d > 3*time.Second {
				t.Errorf("with the token back it took %v", d)
			}
			if n := len(inspect(t, a.dev.cfg, false)); n > 5 {
				t.Errorf("%d objects in the token", n)
			}
		})
	}
}

// TestOutageLog: an outage is told of at its begin and end, not at every attempt.
func TestOutageLog(t *testing.T) {
	t.Parallel()
	a := newAway(t)
	_, k := generate(t, a, token.P256, token.PlaceObject)
	a.leave(t)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for begin := time.Now(); time.Since(begin) < 4*time.Second; time.Sleep(20 * time.Millisecond) {
				if err := sign(t, k); !errors.Is(err, token.ErrUnavailable) {
					t.Errorf("without the token: %v", err)
					return
				}
			}
		})
	}
	callers.Wait()
	if n := a.logs.count("does not start"); n != 1 {
		t.Errorf("the outage was reported %d times", n)
	}
	a.comeBack(t)
	if err := sign(t, k); err != nil {
		t.Error(err)
	}
	if n := a.logs.count("start again"); n != 1 {
		t.Errorf("the end of the outage was reported %d times", n)
	}
	waitWorkers(t, a.hsm)
	if n := a.logs.count("is replaced"); n > 2 {
		t.Errorf("%d workers were replaced", n)
	}
}

// TestCallsDuringStart: a token that is away for a moment costs no call.
func TestCallsDuringStart(t *testing.T) {
	t.Parallel()
	a := newAway(t)
	_, k := generate(t, a, token.P256, token.PlaceObject)
	a.leave(t)
	done := make(chan error)
	go func() { done <- sign(t, k) }()
	time.Sleep(700 * time.Millisecond)
	a.comeBack(t)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestForeignDestroy: an object that is gone from a token that is there is not
// taken for an outage.
func TestForeignDestroy(t *testing.T) {
	t.Parallel()
	a := newAway(t)
	st, k := generate(t, a, token.P256, token.PlaceObject)
	if err := a.Destroy(within(t), st); err != nil {
		t.Fatal(err)
	}
	if err := sign(t, k); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("a destroyed object: %v", err)
	}
	if n := a.logs.count("is replaced"); n != 0 {
		t.Errorf("%d workers were replaced", n)
	}
}

func TestDigestLength(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ n, size, want int }{
		{1, 32, 32}, {20, 32, 32}, {32, 32, 32}, {28, 48, 32}, {32, 48, 32}, {33, 48, 48}, {48, 48, 48},
		{20, 66, 32}, {49, 66, 64}, {64, 66, 64}, {65, 66, 65}, {66, 66, 66},
	} {
		in := bytes.Repeat([]byte{0xA5}, c.n)
		got := digestLength(in, c.size)
		if len(got) != c.want || !bytes.Equal(bytes.TrimLeft(got, "\x00"), in) {
			t.Errorf("%d bytes for a curve of %d: %x", c.n, c.size, got)
		}
	}
}
