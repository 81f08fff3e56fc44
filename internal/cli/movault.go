package cli

import (
	"context"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/server"
)

type movaultFlags struct {
	listen, state, tokenFile string
	tlsCert, tlsKey          string
}

func (a *app) movaultCommand() *cobra.Command {
	var f movaultFlags
	cmd := &cobra.Command{
		Use:   "movault",
		Short: "Run in the place of Mo-Vault",
		Long: `Answer Mo-Vault's clients with its keys, which stay in its HSM token, by its
settings:

  TOKENLABEL      label of the HSM token
  PINSECRET       its user PIN; taken out of the environment at start
  PKCS11_MODULE   path of the PKCS#11 module

Without --token-file everybody who reaches the address may use every key, as with
the original. The same keys are at the API socket claviger.sock in the state
directory, with the token in the file root-token; each has its name from its
first use on.`,
		Example: "  claviger movault\n  claviger movault --listen 0.0.0.0:8443 --token-file /etc/movault/token",
		Args:    takes(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.runMoVault(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8443", `address: "host:port" or "unix:/path"`)
	cmd.Flags().StringVar(&f.state, "state-dir", "/var/lib/movault", "directory of records, audit log, API socket")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "file with the token that callers show")
	cmd.Flags().StringVar(&f.tlsCert, "tls-cert", "", "PEM file of a certificate: serve HTTPS")
	cmd.Flags().StringVar(&f.tlsKey, "tls-key", "", "PEM file of its key")
	return cmd
}

func (a *app) runMoVault(ctx context.Context, f movaultFlags) error {
	alone, cfg, err := f.configuration()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(a.err, nil))
	return a.serve(ctx, cfg, server.Options{Version: version, Logger: log, Standalone: alone}, func(s *server.Server) {
		log.Info("Mo-Vault's API is served", "address", s.FrontAddress("movault"))
	})
}

// configuration is made of the environment, as the original reads it, and of the flags.
func (f *movaultFlags) configuration() (*server.Standalone, *config.Config, error) {
	for _, name := range []string{"TOKENLABEL", "PINSECRET", "PKCS11_MODULE"} {
		if os.Getenv(name) == "" {
			return nil, nil, fault.New(fault.Invalid, "the environment variable %s is not set", name).
				WithHint("Mo-Vault's settings are TOKENLABEL, PINSECRET and PKCS11_MODULE; claviger custody combine-sss makes the PIN of its shares")
		}
	}
	pin := os.Getenv("PINSECRET")
	os.Unsetenv("PINSECRET") // the processes that drive the module inherit the rest
	alone := &server.Standalone{Dir: f.state, Module: os.Getenv("PKCS11_MODULE"), Label: os.Getenv("TOKENLABEL"),
		PIN: func() ([]byte, error) { return []byte(pin), nil }}
	cfg, err := alone.Config()
	if err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, err, "make the configuration")
	}
	c := &cfg.Front.MoVault
	c.Enabled, c.Open, c.TokenFile = true, f.tokenFile == "", f.tokenFile
	c.Address, c.TLSCert, c.TLSKey = f.listen, f.tlsCert, f.tlsKey
	c.Insecure = f.tlsCert == "" && !c.Local()
	if err := cfg.Validate(); err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, err, "the settings")
	}
	return alone, cfg, nil
}
