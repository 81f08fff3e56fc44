package cli

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) wrappingCommand() *cobra.Command {
	cmd := a.group("wrapping", "Hand a secret over by a token that opens it once",
		a.wrapCommand(), a.unwrapCommand(), a.rewrapWrappingCommand(), a.lookupWrappingCommand())
	cmd.Long = `A wrapped answer stays on the server, sealed, until its wrapping token opens it,
once, or its time is over. Who gets a wrapping token that does not open any more
knows that somebody else was faster. "token create --wrap-ttl" wraps a client
token.

The wrapping token is read from a prompt without echo or standard input.`
	cmd.Example = "  claviger token create --policy signer --wrap-ttl 5m\n  claviger wrapping unwrap < wrapping-token"
	return cmd
}

func (a *app) wrapCommand() *cobra.Command {
	var in input
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:     "wrap",
		Short:   "Keep a JSON object under a wrapping token",
		Example: "  claviger wrapping wrap --ttl 5m --in secret.json",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, _ []string) error {
			data, err := a.bytes(cmd, &in)
			if err != nil {
				return err
			}
			defer clear(data)
			var object map[string]json.RawMessage
			if err := json.Unmarshal(data, &object); err != nil || object == nil {
				return &usageError{"the data is no JSON object", `write it as {"name": "value"}`}
			}
			return a.showWrapOf(c.Wrap(ctx, json.RawMessage(data), ttl))
		}),
	}
	in.flags(cmd, "data")
	cmd.Flags().DurationVar(&ttl, "ttl", 5*time.Minute, "how long it is kept")
	return cmd
}

// wrappingToken reads the wrapping token.
func (a *app) wrappingToken(ctx context.Context) (string, error) {
	b, err := a.secret(ctx, "Wrapping token")
	if err != nil {
		return "", err
	}
	defer clear(b)
	if len(b) == 0 {
		return "", usagef("there is no wrapping token on standard input")
	}
	return string(b), nil
}

func (a *app) unwrapCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "unwrap",
		Short:   "Open a wrapped answer, once",
		Long:    "Open a wrapped answer, once. No client token is needed. A client token inside is shown as token create shows it, anything else as JSON.",
		Example: "  claviger wrapping unwrap < wrapping-token",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			token, err := a.wrappingToken(ctx)
			if err != nil {
				return err
			}
			u, err := c.Unwrap(ctx, token)
			if err != nil {
				return err
			}
			if u.Auth != nil {
				return a.showAuthOf(u.Auth, nil)
			}
			return a.showJSON(u.Data)
		}),
	}
}

func (a *app) rewrapWrappingCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rewrap",
		Short:   "Keep a wrapped answer under a new wrapping token",
		Long:    "Keep a wrapped answer under a new wrapping token, for its whole time again. The old token opens nothing any more.",
		Example: "  claviger wrapping rewrap < wrapping-token",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			token, err := a.wrappingToken(ctx)
			if err != nil {
				return err
			}
			return a.showWrapOf(c.RenewWrapping(ctx, token))
		}),
	}
}

func (a *app) lookupWrappingCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "lookup",
		Short:   "Describe a wrapped answer without opening it",
		Long:    "Describe a wrapped answer without opening it: which call it answers, and since when it is kept.",
		Example: "  claviger wrapping lookup < wrapping-token",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			token, err := a.wrappingToken(ctx)
			if err != nil {
				return err
			}
			i, err := c.LookupWrapping(ctx, token)
			if err != nil {
				return err
			}
			return a.show(i, func(t *table) {
				t.field("Path", i.CreationPath)
				t.field("Wrapped", i.CreationTime.Format(time.RFC3339))
				t.field("Kept for", i.CreationTTL.Duration())
			})
		}),
	}
}

func (a *app) showWrapOf(i *api.WrapInfo, err error) error {
	if err != nil {
		return err
	}
	return a.show(i, func(t *table) {
		t.field("Wrapping token", i.Token)
		t.field("Accessor", i.Accessor)
		t.field("Kept for", i.TTL.Duration())
		if i.WrappedAccessor != "" {
			t.field("Accessor inside", i.WrappedAccessor)
		}
	})
}
