package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
)

func (a *app) configCommand() *cobra.Command {
	cmd := a.group("config", "Check and explain the server's configuration", a.configCheckCommand(), a.configExampleCommand())
	cmd.Long = "The server reads one TOML file, in which an unknown key is an error."
	cmd.Example = "  claviger config example > claviger.toml\n  claviger config check --config claviger.toml"
	return cmd
}

func (a *app) configCheckCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration file",
		Long: `Check a configuration file and the files that it names: everything that is wrong
is told at once. Nothing is changed and no server is called.`,
		Example: "  claviger config check --config /etc/claviger/claviger.toml",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			file := configPath(cmd, path)
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			if p, ok := errors.AsType[config.Problems](cfg.CheckFiles()); ok {
				return fault.New(fault.Invalid, "configuration %s: %v", file, p)
			}
			for _, w := range append(cfg.Warnings(), cfg.CertificateWarnings(time.Now())...) {
				a.warn(w)
			}
			a.say("%s is right.", file)
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration file; CLAVIGER_CONFIG is its default")
	return cmd
}

func (a *app) configExampleCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "example",
		Short:   "Print a configuration file that explains every option",
		Example: "  claviger config example > claviger.toml",
		Args:    takes(),
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(config.Example())
			return err
		},
	}
}
