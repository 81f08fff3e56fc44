package unsealer

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/tpm"
)

// Outcomes of a look at a server, as the log and the metrics name them.
const (
	outUnsealed      = "unsealed"
	outGiven         = "share given"
	outWaiting       = "waiting for other shares"
	outUninitialized = "not initialised"
	outItself        = "unseals itself"
	outMigration     = "in migration"
	outBackOff       = "waiting after a refusal"
	outRefused       = "refused"
	outUnreachable   = "not reachable"
	outNoShare       = "no share"
)

// watcher keeps one server unsealed. It is one goroutine's.
type watcher struct {
	address  string
	client   *client.Client
	share    *share
	interval time.Duration
	log      *slog.Logger
	metrics  *metrics
	now      func() time.Time

	memory
	state string // the last outcome
}

// memory is what a watcher knows of its server.
type memory struct {
	given    bool // the share, in the attempt of this nonce
	nonce    string
	progress int // after the share was given

	refusals  int       // since it was unsealed or restarted
	notBefore time.Time // after a refusal
}

// run looks at the server until ctx ends. It returns an error only if the share
// can't be had, now or by another try.
func (w *watcher) run(ctx context.Context) error {
	for {
		began := w.now()
		if _, err := w.look(ctx); err != nil {
			return err
		}
		timer := time.NewTimer(max(time.Until(began.Add(w.period())), w.interval/10))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// period is somewhat less than the interval, so that the unsealing itself is over
// within it, and never the same, so that unsealers do not come all at once.
func (w *watcher) period() time.Duration {
	return w.interval*8/10 + rand.N(w.interval/10)
}

// look asks the server once and gives it the share if it needs it.
func (w *watcher) look(ctx context.Context) (outcome string, fatal error) {
	status, err := w.client.SealStatus(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.forget() // it may be another process that answers next
			w.become(outUnreachable, slog.LevelWarn, "error", redact(err, nil))
		}
		return outUnreachable, nil
	}
	w.metrics.seen(w.address, status)
	if out := w.decide(status, w.now()); out != outGiven {
		w.settle(out, status)
		return out, nil
	}
	return w.give(ctx, status)
}

// decide says whether the share is to be given (outGiven), or why not.
func (m *memory) decide(s *api.SealStatus, now time.Time) string {
	switch {
	case !s.Initialized:
		return outUninitialized
	case !s.Sealed:
		return outUnsealed
	case s.RecoverySeal:
		return outItself
	case s.Migration:
		return outMigration
	case m.given && s.Progress >= max(m.progress, 1) && s.Nonce == m.nonce:
		return outWaiting
	case now.Before(m.notBefore):
		return outBackOff
	}
	return outGiven
}

// settle is the end of a look that gives nothing.
func (w *watcher) settle(out string, s *api.SealStatus) {
	switch out {
	case outUnsealed:
		w.forget()
		w.become(out, slog.LevelInfo, "version", s.Version)
	case outWaiting:
		w.become(out, slog.LevelInfo, "progress", s.Progress, "threshold", s.T)
	case outBackOff: // the refusal was logged
		w.metrics.looked(w.address, out)
	default:
		w.become(out, slog.LevelWarn)
	}
}

// give reads the share and posts it.
func (w *watcher) give(ctx context.Context, s *api.SealStatus) (outcome string, fatal error) {
	key, err := w.share.read()
	if err != nil {
		if tpm.Refused(err) {
			return outNoShare, err
		}
		w.become(outNoShare, slog.LevelError, "error", err.Error())
		return outNoShare, nil
	}
	defer key.free()
	w.log.Info("The server is sealed: giving the share", "server", w.address, "progress", s.Progress, "threshold", s.T, "nonce", s.Nonce)
	after, err := w.client.Unseal(ctx, api.Unseal{Key: string(key.text)})
	if repeated(err) {
		after, err = s, nil
	}
	if err != nil {
		return w.failed(ctx, err, key.text), nil
	}
	w.metrics.posted(w.address, "accepted")
	w.metrics.seen(w.address, after)
	if !after.Sealed {
		w.forget()
		w.become(outUnsealed, slog.LevelInfo, "version", after.Version)
		return outUnsealed, nil
	}
	w.given, w.nonce, w.progress = true, after.Nonce, after.Progress
	w.become(outWaiting, slog.LevelInfo, "progress", after.Progress, "threshold", after.T, "nonce", after.Nonce)
	return outGiven, nil
}

// repeated tells whether the server has the share already, as after a restart of
// the unsealer. Claviger says so; other servers take it without a word.
func repeated(err error) bool {
	answer, ok := errors.AsType[*api.Error](err)
	return ok && answer.Status == http.StatusBadRequest && strings.Contains(answer.Error(), " was given already")
}

// failed takes note of a post without success. An answer means that the server
// does not want the share: the next one waits, longer each time. Without an answer
// nothing is known, and the next look says more.
func (w *watcher) failed(ctx context.Context, err error, key []byte) string {
	answer, refused := errors.AsType[*api.Error](err)
	if !refused {
		w.metrics.posted(w.address, "unknown")
		if ctx.Err() == nil {
			w.become(outUnreachable, slog.LevelWarn, "error", redact(err, key))
		}
		return outUnreachable
	}
	w.metrics.posted(w.address, "refused")
	wait := w.refused()
	w.become(outRefused, slog.LevelError, "status", answer.Status, "error", redact(err, key), "next_try_in", wait.String())
	return outRefused
}

// maxDoublings bounds the time between two refused posts: 16 intervals.
const maxDoublings = 4

// refused computes when the share may be given again: after one interval, two,
// four, up to sixteen.
func (w *watcher) refused() time.Duration {
	wait := w.interval << min(w.refusals, maxDoublings)
	w.refusals++
	w.given = false
	// The look of that time must not come a moment too early.
	w.notBefore = w.now().Add(wait - w.interval/4)
	return wait
}

func (w *watcher) forget() { w.memory = memory{} }

// become logs a state when it is new, and each time at the level "debug".
func (w *watcher) become(state string, level slog.Level, attrs ...any) {
	w.metrics.looked(w.address, state)
	if state == w.state && state != outRefused {
		level = slog.LevelDebug
	}
	w.state = state
	w.log.Log(context.Background(), level, "Server: "+state, append([]any{"server", w.address}, attrs...)...)
}
