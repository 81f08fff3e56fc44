package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/client"
)

func (a *app) leaseCommand() *cobra.Command {
	cmd := a.group("lease", "Look at and end leases", a.leaseLookupCommand(), a.leaseListCommand(), a.leaseRevokeCommand())
	cmd.Long = `What ends by itself has a lease; client tokens have one below the path that
made them, such as auth/token/create. The lease of a client token does not tell
the token.`
	cmd.Example = "  claviger lease list --below auth/token/create\n  claviger lease revoke --prefix auth/token/create/build"
	return cmd
}

func (a *app) leaseLookupCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "lookup ID",
		Short:   "Describe a lease",
		Example: "  claviger lease lookup auth/token/create/h0a1b2c...",
		Args:    takes("ID"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			i, err := c.LookupLease(ctx, args[0])
			if err != nil {
				return err
			}
			return a.show(i, func(t *table) {
				t.field("ID", i.ID)
				t.field("Issued", i.IssueTime.Format(time.RFC3339))
				if i.ExpireTime != nil {
					t.field("Expires", i.ExpireTime.Format(time.RFC3339))
				}
				if i.LastRenewal != nil {
					t.field("Renewed", i.LastRenewal.Format(time.RFC3339))
				}
				t.field("Time to live", lifetime(i.TTL))
				t.field("Renewable", i.Renewable)
			})
		}),
	}
}

func (a *app) leaseListCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the leases of a path",
		Long: `List the leases below a path, and the paths there that have any, which end in
a slash. It needs sudo.`,
		Example: "  claviger lease list\n  claviger lease list --below auth/token/create",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			names, err := c.ListLeases(ctx, path)
			if err != nil {
				return err
			}
			return a.showNames(names)
		}),
	}
	cmd.Flags().StringVar(&path, "below", "", "path that the leases are below; default is all")
	return cmd
}

func (a *app) leaseRevokeCommand() *cobra.Command {
	var prefix bool
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "End a lease, or all of a path",
		Long: `End a lease, and with that of a client token all that were made with it. With
--prefix end all leases below the path ID, which needs sudo.`,
		Example: "  claviger lease revoke auth/token/create/h0a1b2c...\n  claviger lease revoke --prefix auth/token/create/build",
		Args:    takes("ID"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			revoke := c.RevokeLease
			if prefix {
				revoke = c.RevokeLeases
			}
			if err := revoke(ctx, args[0]); err != nil {
				return err
			}
			a.say("Revoked.")
			return nil
		}),
	}
	cmd.Flags().BoolVar(&prefix, "prefix", false, "all leases below a path")
	return cmd
}
