package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/server"
)

// cryptoserverFlags are what the original does not know. Its own settings come
// from the environment.
type cryptoserverFlags struct {
	stateDir        string
	index           string
	tlsCert, tlsKey string
}

func (a *app) cryptoserverCommand() *cobra.Command {
	var f cryptoserverFlags
	cmd := &cobra.Command{
		Use:   "cryptoserver",
		Short: "Run in the place of cryptoserver",
		Long: `Answer POST /hmac with the HMAC of the body, as cryptoserver does, with its
files and its settings:

  CRYPTOSERVER_MODE       MODE0 (default), MODE16 or MODE32; nothing else
  CRYPTOSERVER_SECRETDIR  directory of the secrets, default /secrets
  CRYPTOSERVER_BIND       address, default 0.0.0.0:8080
  RUST_LOG                off, error, warn (default), info, debug or trace

Everybody who reaches the address is served. Called by the name "cryptoserver"
the program is this command.

The audit log, and what signs it, are in the state directory: CRYPTOSERVER_STATE,
by default /var/lib/claviger/cryptoserver for root and
~/.local/state/claviger/cryptoserver for others. Every answer adds a line of
about 400 bytes to it; SIGHUP after a rename begins another file.`,
		Example: "  claviger cryptoserver\n  CRYPTOSERVER_MODE=MODE16 CRYPTOSERVER_BIND=127.0.0.1:8080 claviger cryptoserver",
		Args:    takes(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.runCryptoserver(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.stateDir, "state-dir", "", "directory of the audit log, instead of CRYPTOSERVER_STATE")
	cmd.Flags().StringVar(&f.index, "index", "current", "current, or pre-2021-09-13 for pools of builds of that time")
	cmd.Flags().StringVar(&f.tlsCert, "tls-cert", "", "PEM file of a certificate: serve HTTPS")
	cmd.Flags().StringVar(&f.tlsKey, "tls-key", "", "PEM file of its key")
	complete(cmd, "index", "current", "pre-2021-09-13")
	return cmd
}

func (a *app) runCryptoserver(ctx context.Context, f cryptoserverFlags) error {
	alone, cfg, err := f.configuration()
	if err != nil {
		return err
	}
	log := slog.New(newRustHandler(a.err, "cryptoserver", rustLevel(os.Getenv("RUST_LOG"), "cryptoserver", slog.LevelWarn)))
	err = a.serve(ctx, cfg, server.Options{Version: version, Logger: log, Standalone: alone}, func(s *server.Server) {
		log.Info("cryptoserver started", "address", s.FrontAddress("cryptoserver"))
	})
	if err != nil && fault.HintOf(err) == "" {
		if _, statErr := os.Stat(alone.Dir); statErr != nil {
			return fault.Wrap(fault.Invalid, err, "start with the state directory %s", alone.Dir)
		}
	}
	return err
}

// configuration is made of the environment, as the original reads it, and of the flags.
func (f *cryptoserverFlags) configuration() (*server.Standalone, *config.Config, error) {
	dir, err := f.state()
	if err != nil {
		return nil, nil, err
	}
	alone := &server.Standalone{Dir: dir, PIN: func() ([]byte, error) { return statePIN(dir) }, Mounts: map[string]string{"hmacpool": "hmacpool"}}
	cfg, err := alone.Config()
	if err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, err, "make the configuration")
	}
	c := &cfg.Front.Cryptoserver
	c.Enabled, c.Open = true, true
	c.Address = environment("CRYPTOSERVER_BIND", "0.0.0.0:8080")
	c.TLSCert, c.TLSKey = f.tlsCert, f.tlsKey
	c.Insecure = f.tlsCert == "" && !c.Local()
	if c.SecretDir, err = filepath.Abs(environment("CRYPTOSERVER_SECRETDIR", "/secrets")); err != nil {
		return nil, nil, fmt.Errorf("CRYPTOSERVER_SECRETDIR: %w", err)
	}
	c.Index = f.index
	mode, err := server.ParsePoolMode(environment("CRYPTOSERVER_MODE", "MODE0"))
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "CRYPTOSERVER_MODE: %v", err)
	}
	c.PoolMode = mode.String()
	if err := cfg.Validate(); err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, err, "the settings")
	}
	return alone, cfg, nil
}

// environment returns a variable. As for the original, one that is set and empty
// is not unset.
func environment(name, unset string) string {
	if value, ok := os.LookupEnv(name); ok {
		return value
	}
	return unset
}

// state is the directory of what the server keeps.
func (f *cryptoserverFlags) state() (string, error) {
	switch {
	case f.stateDir != "":
		return f.stateDir, nil
	case os.Getenv("CRYPTOSERVER_STATE") != "":
		return os.Getenv("CRYPTOSERVER_STATE"), nil
	case os.Geteuid() == 0:
		return "/var/lib/claviger/cryptoserver", nil
	case filepath.IsAbs(os.Getenv("XDG_STATE_HOME")):
		return filepath.Join(os.Getenv("XDG_STATE_HOME"), "claviger", "cryptoserver"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", usagef("name the state directory with --state-dir or CRYPTOSERVER_STATE: %v", err)
	}
	return filepath.Join(home, ".local", "state", "claviger", "cryptoserver"), nil
}

// statePIN returns the PIN of the embedded token in the state directory, which
// the first start makes. It protects the key that signs the audit log only as far
// as the directory's permissions do.
func statePIN(dir string) ([]byte, error) {
	path := filepath.Join(dir, "pin")
	pin, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return pin, fault.Wrap(fault.Invalid, err, "read the PIN of the state directory")
	}
	if _, err := os.Stat(filepath.Join(dir, "token")); err == nil {
		return nil, fault.New(fault.Invalid, "%s is gone, without which nothing in %s opens", path, dir).
			WithHint("put it back, or begin with another state directory")
	}
	pin = []byte(rand.Text())
	if err := writeFile(path, pin, 0o600); err != nil {
		return nil, err
	}
	return pin, nil
}
