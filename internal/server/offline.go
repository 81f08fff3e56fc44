package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/custody"
	"github.com/claviger/claviger/internal/fault"
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

// CreateModuleToken makes the HSM token that the label of c names, with random PINs, for
// a command that works without a server. keep stores them before the token is made, and
// drop removes what keep stored if it is not made. A token of that label is refused.
func CreateModuleToken(ctx context.Context, c *config.Token, log *slog.Logger, keep func(user, so []byte) error, drop func() error) error {
	d, err := TokenDevice(c, log)
	if err != nil {
		return err
	}
	st, err := d.State(ctx)
	switch {
	case err != nil:
		return fault.Wrap(fault.Unavailable, err, "the HSM cannot be asked for its tokens")
	case !st.Present:
		return fault.New(fault.Invalid, "the module shows no token that is not initialised")
	case st.Initialized:
		return fault.New(fault.Conflict, "an HSM token %q is there already; nothing was changed", st.Label)
	}
	user, so := custody.NewPIN(st.MinPIN), custody.NewPIN(st.MinPIN)
	defer clear(user)
	defer clear(so)
	if err := keep(user, so); err != nil {
		return err
	}
	if err := d.Create(ctx, so, user); err != nil {
		return errors.Join(fault.Wrap(fault.Unavailable, err, "the HSM token can't be made"), drop())
	}
	return nil
}

// Software is what works with keys in memory.
func Software() token.Software { return soft.Engine{} }
