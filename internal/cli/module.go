package cli

import (
	"context"
	"log/slog"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/token"
)

// onModule logs in to the HSM token that the flags name, without a server, for the
// time of do. refused makes the error of a login that failed.
func (a *app) onModule(ctx context.Context, f *doctorFlags, ask func() ([]byte, error), refused func(error) error, do func(token.Mover) error) error {
	e, err := f.examination()
	if err != nil {
		return err
	}
	pin, err := ask()
	if err != nil {
		return err
	}
	defer clear(pin)
	if len(pin) == 0 {
		return usagef("the PIN is empty")
	}
	log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelError}))
	hsm, closeHSM, err := server.OpenModule(ctx, &config.Token{Label: e.Label, PKCS11: e.Module}, pin, log)
	if err != nil {
		return refused(err)
	}
	if err := do(hsm); err != nil {
		_ = closeHSM() // ends processes; the error counts
		return err
	}
	return closeHSM()
}
