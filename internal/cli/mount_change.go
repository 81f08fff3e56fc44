package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) mountDisableCommand() *cobra.Command {
	var confirmed bool
	cmd := &cobra.Command{
		Use:   "disable PATH",
		Short: "Unmount an engine and delete all its keys",
		Long: `Unmount an engine and delete all its keys for ever, those too whose rules forbid
deletion: what they encrypted can't be read again. --delete-keys says that this
is meant. An unmount that was interrupted is finished by the same command.`,
		Example: "  claviger mount disable payments --delete-keys",
		Args:    takes("PATH"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			if !confirmed {
				return &usageError{"this deletes all keys of " + args[0] + " for ever", "if it is meant, add --delete-keys"}
			}
			if err := c.DisableMount(ctx, args[0]); err != nil {
				return err
			}
			a.say("There is no mount at %s/ any more.", strings.Trim(args[0], "/"))
			return nil
		}),
	}
	cmd.Flags().BoolVar(&confirmed, "delete-keys", false, "delete all keys of the mount for ever")
	return cmd
}

func (a *app) mountTuneCommand() *cobra.Command {
	req := api.TuneMount{}
	var description string
	cmd := &cobra.Command{
		Use:     "tune PATH",
		Short:   "Show or change the tuning of a mount",
		Long:    "Change what flags say of the tuning of a mount, and show it.",
		Example: "  claviger mount tune payments\n  claviger mount tune payments --description 'keys of payments' --max-lease-ttl 24h",
		Args:    takes("PATH"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			req.Path = args[0]
			if cmd.Flags().Changed("description") {
				req.Description = &description
			}
			if req.Description != nil || req.DefaultLeaseTTL != "" || req.MaxLeaseTTL != "" {
				if err := c.TuneMount(ctx, req); err != nil {
					return err
				}
			}
			tuning, err := c.MountTuning(ctx, args[0])
			if err != nil {
				return err
			}
			return a.show(tuning, func(t *table) {
				t.field("Description", tuning.Description)
				t.field("Default lease", tuning.DefaultLeaseTTL.Duration())
				t.field("Longest lease", tuning.MaxLeaseTTL.Duration())
			})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&description, "description", "", "for people")
	f.StringVar(&req.DefaultLeaseTTL, "default-lease-ttl", "", "time of a lease for which nothing else is said; system for the server's")
	f.StringVar(&req.MaxLeaseTTL, "max-lease-ttl", "", "longest time of a lease; system for the server's")
	return cmd
}
