package cli

import (
	"context"
	"log/slog"
	"os"
	"strconv"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/token/worker"
)

// ceremony makes the HSM token and returns its PIN. If the token is there, the PIN
// has to come from its custodians.
func (f *movaultFlags) ceremony(ctx context.Context, cfg *config.Config, log *slog.Logger) ([]byte, error) {
	c := server.Ceremony{PublicKeys: f.publicKeys, ShareDir: f.shareDir}
	if c.ShareDir == "" {
		c.ShareDir = worker.SoftHSMTokenDir(os.Getenv)
	}
	if c.ShareDir == "" {
		return nil, usagef("movault --init needs --share-dir: SoftHSM2's configuration names no token directory")
	}
	var err error
	if c.Shares, err = ceremonyNumber(3, "HSM_KEYSHARES"); err != nil {
		return nil, err
	}
	// The first name is how Mo-Vault writes it.
	if c.Threshold, err = ceremonyNumber(2, "HSM_KEY_THESHOLD", "HSM_KEY_THRESHOLD"); err != nil {
		return nil, err
	}
	pin, err := c.Run(ctx, cfg, log)
	if err == nil && pin == nil {
		return nil, fault.New(fault.Invalid, "the HSM token %q is there already, and PINSECRET is not set", cfg.Token.Label).
			WithHint("claviger custody combine-sss makes the PIN of the custodians' shares")
	}
	return pin, err
}

// ceremonyNumber reads a number from the one of several variables that is set.
func ceremonyNumber(def int, names ...string) (int, error) {
	name := ""
	for _, n := range names {
		v := os.Getenv(n)
		if v == "" {
			continue
		}
		if name != "" && v != os.Getenv(name) {
			return 0, fault.New(fault.Invalid, "%s is %q and %s is %q; set one of them", name, os.Getenv(name), n, v)
		}
		name = n
	}
	if name == "" {
		return def, nil
	}
	number, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		return 0, fault.New(fault.Invalid, "%s is %q; it must be a whole number", name, os.Getenv(name))
	}
	return number, nil
}
