package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/client"
)

func (a *app) auditHashCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hash",
		Short: "Show how the audit log shows a value",
		Long: `Show the HMAC in whose place the audit log shows a sensitive value, to find it
there. The value is asked for without echo, or is the first line of standard input.`,
		Example: "  claviger audit hash < value | xargs -I {} grep -F {} audit.log",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			value, err := a.secret(ctx, "Value")
			if err != nil {
				return err
			}
			defer clear(value)
			if len(value) == 0 {
				return usagef("there is no value on standard input")
			}
			h, err := c.AuditHash(ctx, string(value))
			if err != nil {
				return err
			}
			if a.format == "json" {
				return a.showJSON(map[string]string{"hash": h})
			}
			_, err = fmt.Fprintln(a.out, printable(h))
			return err
		}),
	}
}
