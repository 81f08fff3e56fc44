package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/client"
)

func (a *app) mountMoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "move FROM TO",
		Short: "Move an engine with all its keys to another path",
		Long: `Move an engine with all its keys to another path, at once. Policies stay as they
are: write those that name the new path first.`,
		Example: "  claviger mount move payments old/payments",
		Args:    takes("FROM", "TO"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			if err := c.MoveMount(ctx, args[0], args[1]); err != nil {
				return err
			}
			a.say("The engine is mounted at %s/ now.", strings.Trim(args[1], "/"))
			return nil
		}),
	}
}
