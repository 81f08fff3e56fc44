package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/openapi"
	"github.com/claviger/claviger/internal/server"
)

func (a *app) openAPICommand() *cobra.Command {
	return &cobra.Command{
		Use:   "openapi",
		Short: "Print the OpenAPI document of the API",
		Long: `Print the OpenAPI 3.1 document of everything that a server of this build offers,
with its engines at their usual paths. No server is called; a server shows what
it has mounted at sys/internal/specs/openapi.`,
		Example: "  claviger openapi > openapi.json",
		Args:    takes(),
		RunE: func(*cobra.Command, []string) error {
			table, err := server.Table()
			if err != nil {
				return err
			}
			return a.showJSON(openapi.New(table, openapi.DefaultMounts(table), version))
		},
	}
}

func (a *app) pathHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "path-help PATH",
		Short: "Explain a path of the API",
		Long: `Explain what can be done with a path of the API, or with a whole mount. The text
is that of the API reference, for the mounts that the server has.`,
		Example: "  claviger path-help transit/encrypt/app\n  claviger path-help sys",
		Args:    takes("PATH"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			help, err := c.Help(ctx, args[0])
			if err != nil {
				return err
			}
			if a.format == "json" {
				return a.showJSON(help)
			}
			return a.lines(help.Help)
		}),
	}
}
