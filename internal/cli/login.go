package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/client"
)

func (a *app) loginCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "login",
		Short: "Check a client token and keep it for later calls",
		Long: `Ask for a client token without echo, or take the first line of standard input,
show what it is, and keep it in ~/.vault-token, which only its owner can read.`,
		Example: "  claviger login\n  claviger login < token",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			return a.login(ctx, c)
		}),
	}
}

func (a *app) login(ctx context.Context, c *client.Client) error {
	token, err := a.secret(ctx, "Client token")
	if err != nil {
		return err
	}
	defer clear(token)
	if len(token) == 0 {
		return usagef("there is no token on standard input")
	}
	info, err := c.WithToken(string(token)).LookupSelf(ctx)
	if err != nil {
		return err
	}
	path, err := client.TokenFile()
	if err != nil {
		return err
	}
	if err := writeFile(path, append(token, '\n'), 0o600); err != nil {
		return err
	}
	if client.Getenv("TOKEN") != "" {
		a.warn("a token in the environment goes before the one that was stored now; unset it")
	}
	a.say("The token is valid and kept in %s.", path)
	info.ID = ""
	return a.showTokenInfo(info)
}
