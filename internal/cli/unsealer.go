package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/unsealer"
)

// exitRefused is the status where a TPM refuses for a reason that stays: starting
// again would only bring it nearer to its lock.
const exitRefused = 3

type unsealerFlags struct {
	config    string
	servers   []string
	interval  time.Duration
	shareFile string
	stdin     bool
	once      bool
}

func (a *app) unsealerCommand() *cobra.Command {
	var f unsealerFlags
	cmd := &cobra.Command{
		Use:   "unsealer",
		Short: "Keep servers unsealed with one custodian's share",
		Long: `Look at each server again and again, and give the one share of this unsealer to
those that are sealed. Custodians who want no night calls run one each, on machines
that have nothing else to do; no unsealer alone opens anything where the threshold
is 2 or more. The servers may be Claviger, OpenBao or Vault.

The share comes from a file, a TPM (see enroll), a credential of systemd or
standard input: the configuration says which. Flags go before the file, which may
be absent where they say enough.

The exit status is 3 where a TPM refuses the share for a reason that another start
would not change: a wrong password, changed PCRs, a lock.`,
		Example: "  claviger unsealer --config /etc/claviger/unsealer.toml\n  claviger unsealer --once\n" +
			"  claviger unsealer --server https://keys1:8200 --server https://keys2:8200 --share-file /etc/claviger/unsealer.share",
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.unsealerConfig(cmd, &f)
			if err != nil {
				return err
			}
			return a.runUnsealer(cmd.Context(), c, f.once)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.once, "once", false, "look at each server one time and end; 1 is the exit status if one was not reached or refuses")
	cmd.AddCommand(a.unsealerCheckCommand(), a.unsealerEnrollCommand(), a.unsealerExampleCommand())
	return cmd
}

// add adds the flags that stand for options of the file.
func (f *unsealerFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.config, "config", config.DefaultUnsealerFile, "configuration file")
	cmd.Flags().StringArrayVar(&f.servers, "server", nil, "server instead of the configured ones: https://host:port; may be repeated")
	cmd.Flags().DurationVar(&f.interval, "interval", 0, "how often each server is looked at; default 1m")
	cmd.Flags().StringVar(&f.shareFile, "share-file", "", "file with the share, in hex or base64")
	cmd.Flags().BoolVar(&f.stdin, "stdin", false, "take the share from the first line of standard input")
}

// unsealerConfig joins file and flags.
func (a *app) unsealerConfig(cmd *cobra.Command, f *unsealerFlags) (*config.Unsealer, error) {
	c, err := config.LoadUnsealer(f.config)
	if fault.KindOf(err) == fault.NotFound && !cmd.Flags().Changed("config") && (f.stdin || f.shareFile != "") {
		c, err = config.DefaultUnsealer(), nil
	}
	if err != nil {
		return nil, err
	}
	if err := f.override(c); err != nil {
		return nil, err
	}
	if a.address != "" {
		f.servers = append(f.servers, a.address)
	}
	if len(f.servers) > 0 {
		c.Servers = nil
	}
	for _, address := range f.servers {
		c.Servers = append(c.Servers, config.Unsealed{Address: address})
	}
	override(&c.TLS.CACert, absolute(a.caCert))
	override(&c.TLS.ClientCert, absolute(a.clientCert))
	override(&c.TLS.ClientKey, absolute(a.clientKey))
	if err := c.Validate(); err != nil {
		return nil, fault.New(fault.Invalid, "configuration %s: %v", f.config, err).WithHint("claviger unsealer example shows every option")
	}
	if p, ok := errors.AsType[config.Problems](c.CheckFiles()); ok {
		return nil, fault.New(fault.Invalid, "configuration %s: %v", f.config, p)
	}
	return c, nil
}

func (f *unsealerFlags) override(c *config.Unsealer) error {
	switch {
	case f.stdin && f.shareFile != "":
		return usagef("--stdin and --share-file exclude each other")
	case f.stdin:
		c.Share = config.UnsealerShare{Source: config.ShareStdin}
	case f.shareFile != "":
		c.Share = config.UnsealerShare{Source: config.ShareFile, File: absolute(f.shareFile)}
	}
	if f.interval != 0 {
		c.Interval = config.Duration{Duration: f.interval}
	}
	return nil
}

// absolute returns the path from the root, "" for "".
func absolute(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path // Validate refuses it
}

func (a *app) runUnsealer(ctx context.Context, c *config.Unsealer, once bool) error {
	log := newLogger(c.Log, a)
	for _, w := range c.Warnings() {
		log.Warn(w)
	}
	if once {
		c.Metrics.Address = "" // nobody could ask in time
	}
	unsealer.Protect(log)
	u, err := unsealer.New(unsealer.Options{Config: c, Log: log, Stdin: a.in})
	if err != nil {
		return err
	}
	if once {
		return u.Once(ctx)
	}
	return u.Run(ctx)
}

func (a *app) unsealerCheckCommand() *cobra.Command {
	var f unsealerFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check an unsealer's configuration and that it can have its share",
		Long: `Check the configuration, the files that it names, and that the share can be had:
with a TPM that it opens. No server is called. Standard input is not read.`,
		Example: "  claviger unsealer check --config /etc/claviger/unsealer.toml",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.unsealerConfig(cmd, &f)
			if err != nil {
				return err
			}
			if c.Share.Source != config.ShareStdin {
				if err := unsealer.Check(c); err != nil {
					return err
				}
			}
			for _, w := range c.Warnings() {
				a.warn(w)
			}
			a.say("%s is right.", f.config)
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) unsealerExampleCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "example",
		Short:   "Print an unsealer's configuration that explains every option",
		Example: "  claviger unsealer example > unsealer.toml",
		Args:    takes(),
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(config.UnsealerExample())
			return err
		},
	}
}

// needNew refuses to write over a file.
func needNew(path string, force bool) error {
	if _, err := os.Lstat(path); err == nil && !force {
		e := usagef("%s exists already", path)
		e.hint = "name another file, or take --force if what is in it is needed no more"
		return e
	}
	return nil
}
