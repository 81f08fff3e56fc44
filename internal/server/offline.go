package server

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
	"github.com/claviger/claviger/internal/token/worker"
)

// OpenModule logs in to a token of a PKCS#11 module without a server, for a command
// that works on the token itself. The caller wipes the PIN and closes the token. One
// worker process drives the module; it waits for servers that start on the same
// token, if they have the same lock file.
func OpenModule(ctx context.Context, c *config.Token, pin []byte, log *slog.Logger) (token.Mover, func() error, error) {
	wc := WorkerConfig(c)
	wc.Workers, wc.Logger = 1, log
	d, err := worker.NewDevice(wc)
	if err != nil {
		return nil, nil, fmt.Errorf("PKCS#11 module %s: %w", c.PKCS11.Module, err)
	}
	t, err := d.Open(ctx, pin)
	if err != nil {
		return nil, nil, err
	}
	m, ok := t.(token.Mover)
	if !ok {
		return nil, nil, fmt.Errorf("%w: moving keys (%w)", token.ErrUnsupported, t.Close())
	}
	return m, t.Close, nil
}

// Software is what works with keys in memory.
func Software() token.Software { return soft.Engine{} }
