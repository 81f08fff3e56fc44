package cli

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) mountCommand() *cobra.Command {
	cmd := a.group("mount", "Manage mounts", a.mountListCommand(), a.mountEnableCommand(),
		a.mountDisableCommand(), a.mountMoveCommand(), a.mountTuneCommand())
	cmd.Long = "A mount is a path at which an engine offers its operations."
	cmd.Example = "  claviger mount list"
	return cmd
}

func (a *app) mountListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the mounts",
		Example: "  claviger mount list",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			mounts, err := c.Mounts(ctx)
			if err != nil {
				return err
			}
			return a.show(mounts, func(t *table) {
				t.head = true
				t.add("path", "type", "description")
				for _, path := range slices.Sorted(maps.Keys(mounts)) {
					t.add(path, mounts[path].Type, mounts[path].Description)
				}
			})
		}),
	}
}

func (a *app) mountEnableCommand() *cobra.Command {
	var req api.CreateMount
	cmd := &cobra.Command{
		Use:     "enable TYPE",
		Short:   "Mount an engine",
		Example: "  claviger mount enable transit --path payments --description 'keys of payments'",
		Args:    takes("TYPE"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			req.Type = args[0]
			if req.Path == "" {
				req.Path = args[0]
			}
			if err := c.EnableMount(ctx, req); err != nil {
				return err
			}
			a.say("%s is mounted at %s/.", req.Type, strings.Trim(req.Path, "/"))
			return nil
		}),
	}
	cmd.Flags().StringVar(&req.Path, "path", "", "path of the mount; default is the type's name")
	cmd.Flags().StringVar(&req.Description, "description", "", "for people")
	return cmd
}
