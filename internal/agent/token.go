package agent

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
)

const (
	maxTokenFile = 4096
	// lookEvery is how often the file of the client token is looked at.
	lookEvery = 5 * time.Second
	// renewLeast is how soon a client token is renewed again at the earliest.
	renewLeast = 5 * time.Second
)

// ownToken is the agent's client token. It is read again when its file changes, and
// renewed before it ends.
type ownToken struct {
	path   string
	renews bool
	log    *slog.Logger
	look   time.Duration // lookEvery, less in tests

	mu   sync.Mutex
	text string
}

// newOwnToken reads the token once, so that a wrong configuration is noticed at the
// start. It returns nil if the agent has none.
func newOwnToken(c config.AgentToken, log *slog.Logger) (*ownToken, error) {
	path := c.File
	switch c.Source {
	case config.TokenNone:
		return nil, nil
	case config.TokenCredential:
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return nil, fault.New(fault.Invalid, "systemd gave this process no credentials: CREDENTIALS_DIRECTORY is not set").
				WithHint("run it as a unit with LoadCredential=%s:/path", c.Credential)
		}
		path = filepath.Join(dir, c.Credential)
	}
	t := &ownToken{path: path, renews: c.Renew, log: log, look: lookEvery}
	text, err := t.read()
	if err != nil {
		return nil, err
	}
	t.text = text
	return t, nil
}

func (t *ownToken) read() (string, error) {
	b, err := os.ReadFile(t.path)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "read the client token")
	}
	defer clear(b)
	text := bytes.TrimSpace(b)
	if len(text) == 0 || len(text) > maxTokenFile || bytes.ContainsAny(text, "\r\n\x00 ") {
		return "", fault.New(fault.Invalid, "%s holds no client token: it needs one line of 1 to %d bytes", t.path, maxTokenFile)
	}
	return string(text), nil
}

func (t *ownToken) get() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text
}

// changed reads the file again, and tells whether there is another token in it.
func (t *ownToken) changed() bool {
	text, err := t.read()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil || text == t.text {
		return false // one that is being written, or gone: the token stays what it is
	}
	t.text = text
	return true
}

// run keeps the token until ctx ends.
func (t *ownToken) run(ctx context.Context, c *client.Client) {
	ticker := time.NewTicker(t.look)
	defer ticker.Stop()
	next := time.Now()
	for {
		if t.changed() {
			t.log.Info("The client token was changed", "file", t.path)
			next = time.Now()
		}
		if !time.Now().Before(next) {
			next = time.Now().Add(t.tend(ctx, c.WithToken(t.get())))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// tend looks at the token, renews it if that is due, and returns when to look again.
func (t *ownToken) tend(ctx context.Context, c *client.Client) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	info, err := c.LookupSelf(ctx)
	if err != nil {
		t.complain(ctx, "the client token can't be looked at", err)
		return 2 * renewLeast
	}
	left := time.Duration(info.TTL) * time.Second
	switch {
	case left == 0: // it does not end
		return time.Hour
	case !t.renews || !info.Renewable:
		if left < time.Hour {
			t.log.Warn("The client token ends soon and is not renewed", "in", left.String())
		}
		return max(left/3, renewLeast)
	}
	auth, err := c.RenewSelf(ctx, 0)
	if err != nil {
		t.complain(ctx, "the client token can't be renewed", err)
		return renewLeast
	}
	return max(time.Duration(auth.LeaseDuration)*time.Second/3, renewLeast)
}

// complain logs an error, of which no part is the token.
func (t *ownToken) complain(ctx context.Context, what string, err error) {
	if ctx.Err() == nil || ctx.Err() == context.DeadlineExceeded {
		t.log.Warn(what, "error", strings.ReplaceAll(err.Error(), t.get(), "(the token)"))
	}
}
