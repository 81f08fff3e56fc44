package cli

import (
	"bytes"
	"cmp"
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
	init                     bool
	publicKeys, shareDir     string // with init
}

func (a *app) movaultCommand() *cobra.Command {
	var f movaultFlags
	cmd := &cobra.Command{
		Use:   "movault",
		Short: "Run in the place of Mo-Vault",
		Long: `Answer Mo-Vault's clients with its keys, which stay in its HSM token, by its
settings:

  TOKENLABEL      label of the HSM token; MY_TOKENLABEL is its default
  PINSECRET       its user PIN; taken out of the environment at start
  PKCS11_MODULE   path of the PKCS#11 module

Without --token-file everybody who reaches the address may use every key, as with
the original. The same keys are at the API socket claviger.sock in the state
directory, with the token in the file root-token; each has its name from its
first use on.

With --init, and only if the HSM token is not there yet, it is made as Mo-Vault's
container does: user PIN and SO PIN are random and split into HSM_KEYSHARES shares
(default 3), of which HSM_KEY_THESHOLD or HSM_KEY_THRESHOLD (default 2, less than
the shares) have the PIN together; each is encrypted to the OpenPGP public key of
one custodian and written as KEYID.pin.gpg and KEYID.sopin.gpg. This run keeps the
PIN in memory; the next one needs it in PINSECRET (claviger custody combine-sss).`,
		Example: "  claviger movault\n  claviger movault --listen 0.0.0.0:8443 --token-file /etc/movault/token\n  claviger movault --init --public-keys /opt/publickeys",
		Args:    takes(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.runMoVault(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8443", `address: "host:port" or "unix:/path"`)
	cmd.Flags().StringVar(&f.state, "state-dir", "/var/lib/movault", "directory of records, audit log, API socket")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "file with the token that callers show")
	cmd.Flags().StringVar(&f.tlsCert, "tls-cert", "", "PEM file of a certificate: serve HTTPS")
	cmd.Flags().StringVar(&f.tlsKey, "tls-key", "", "PEM file of its key")
	cmd.Flags().BoolVar(&f.init, "init", false, "make the HSM token if it is not there")
	cmd.Flags().StringVar(&f.publicKeys, "public-keys", "/opt/publickeys", "directory of the custodians' OpenPGP public keys, one a file")
	cmd.Flags().StringVar(&f.shareDir, "share-dir", "", "directory for the encrypted shares; default SoftHSM2's token directory")
	return cmd
}

func (a *app) runMoVault(ctx context.Context, f movaultFlags) error {
	log := slog.New(slog.NewJSONHandler(a.err, nil))
	alone, cfg, err := f.configuration(ctx, log)
	if err != nil {
		return err
	}
	return a.serve(ctx, cfg, server.Options{Version: version, Logger: log, Standalone: alone}, func(s *server.Server) {
		log.Info("Mo-Vault's API is served", "address", s.FrontAddress("movault"))
	})
}

// configuration is made of the environment, as the original reads it, and of the flags.
func (f *movaultFlags) configuration(ctx context.Context, log *slog.Logger) (*server.Standalone, *config.Config, error) {
	pin := []byte(os.Getenv("PINSECRET"))
	os.Unsetenv("PINSECRET") // the processes that drive the module inherit the rest
	label, module := cmp.Or(os.Getenv("TOKENLABEL"), os.Getenv("MY_TOKENLABEL")), os.Getenv("PKCS11_MODULE")
	switch {
	case label == "":
		return nil, nil, movaultUnset("TOKENLABEL")
	case module == "":
		return nil, nil, movaultUnset("PKCS11_MODULE")
	case len(pin) == 0 && !f.init:
		return nil, nil, movaultUnset("PINSECRET")
	}
	alone := &server.Standalone{Dir: f.state, Module: module, Label: label,
		PIN: func() ([]byte, error) { return bytes.Clone(pin), nil }}
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
	if f.init && len(pin) == 0 {
		if pin, err = f.ceremony(ctx, cfg, log); err != nil {
			return nil, nil, err
		}
	}
	return alone, cfg, nil
}

func movaultUnset(name string) error {
	return fault.New(fault.Invalid, "the environment variable %s is not set", name).
		WithHint("Mo-Vault's settings are TOKENLABEL, PINSECRET and PKCS11_MODULE; claviger custody combine-sss makes the PIN of its shares, --init the HSM token")
}
