package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

// exitSealed is the status of "claviger status" on a sealed server.
const exitSealed = 2

func (a *app) unsealCommand() *cobra.Command {
	var reset, migrate bool
	cmd := &cobra.Command{
		Use:   "unseal",
		Short: "Give one share towards unsealing the server",
		Long: `Give one share. It is asked for without echo, or is the first line of standard
input; it is never an argument. Once the threshold is reached the server opens.
A share that was encrypted to an OpenPGP key is decrypted first, see the example.

A server that a provider opens by itself takes its recovery shares here when the
provider can't. With --migrate, for all shares, the server gets the custody that its
configuration says: shares, or a provider, to which the secret is given anew.`,
		Example: "  claviger unseal\n  base64 -d share.b64 | gpg --decrypt | claviger unseal\n  claviger unseal --migrate\n  claviger unseal --reset",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			req := api.Unseal{Reset: reset, Migrate: migrate && !reset}
			if !reset {
				share, err := a.secret(ctx, "Share")
				if err != nil {
					return err
				}
				if len(share) == 0 {
					return usagef("there is no share on standard input")
				}
				req.Key = string(share)
				clear(share)
			}
			s, err := c.Unseal(ctx, req)
			if err != nil {
				return err
			}
			return a.showStatus(s)
		}),
	}
	cmd.Flags().BoolVar(&reset, "reset", false, "forget the shares given so far")
	cmd.Flags().BoolVar(&migrate, "migrate", false, "the share is given to change the custody to what the configuration says")
	return cmd
}

func (a *app) sealCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "seal",
		Short:   "Seal the server",
		Long:    "Seal the server: it forgets the PINs and closes the HSM token. Shares unseal it.",
		Example: "  claviger seal",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			if err := c.Seal(ctx); err != nil {
				return err
			}
			a.say("The server is sealed.")
			return nil
		}),
	}
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show whether the server is sealed",
		Long:    "Show the state of the seal. The exit status is 0 if the server is unsealed, 2 if it is sealed or not initialised, 1 after an error.",
		Example: "  claviger status\n  claviger status --format json",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			s, err := c.SealStatus(ctx)
			if err != nil {
				return err
			}
			if err := a.showStatus(s); err != nil {
				return err
			}
			if s.Sealed {
				return &statusError{status: exitSealed}
			}
			return nil
		}),
	}
}

func (a *app) showStatus(s *api.SealStatus) error {
	return a.show(s, func(t *table) {
		t.field("Seal Type", s.Type)
		t.field("Initialized", s.Initialized)
		t.field("Sealed", s.Sealed)
		t.field("Total Shares", s.N)
		t.field("Threshold", s.T)
		if s.Migration {
			t.field("Migration", "due: the configuration says another custody (claviger unseal --migrate)")
		}
		if s.Sealed {
			t.field("Unseal Progress", fmt.Sprintf("%d/%d", s.Progress, s.T))
		}
		t.field("Version", s.Version)
		t.field("Storage Type", s.StorageType)
		if s.ClusterName != "" {
			t.field("Cluster Name", s.ClusterName)
		}
		if s.ClusterID != "" {
			t.field("Cluster ID", s.ClusterID)
		}
	})
}
