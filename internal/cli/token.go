package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := a.group("token", "Manage client tokens; examine a PKCS#11 module",
		a.tokenCreateCommand(), a.tokenLookupCommand(), a.tokenRenewCommand(), a.tokenRevokeCommand(),
		a.tokenAccessorsCommand(), a.tokenTidyCommand(), a.tokenRoleCommand(), a.doctorCommand())
	cmd.Long = `A client token says who calls. Commands act on the client's own token; --stdin
takes another one from a prompt without echo or standard input, --accessor names
another one without its text.

doctor concerns the other kind of token, the HSM's; it is "hsm doctor" too.`
	cmd.Example = "  claviger token create --policy signer --ttl 8h\n  claviger token lookup"
	return cmd
}

func (a *app) tokenCreateCommand() *cobra.Command {
	var req api.CreateToken
	var ttl, maxTTL, period time.Duration
	var renewable bool
	var wrap time.Duration
	cmd := &cobra.Command{
		Use:     "create",
		Short:   "Make a client token",
		Long:    "Make a client token, a child of the caller's: it ends when that ends.",
		Example: "  claviger token create --policy signer --ttl 8h --display-name build\n  claviger token create --policy signer --orphan --period 24h --format json",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			req.TTL, req.ExplicitMaxTTL, req.Period = seconds(ttl), seconds(maxTTL), seconds(period)
			req.Renewable = &renewable
			if wrap != 0 {
				return a.showWrapOf(c.CreateTokenWrapped(ctx, req, wrap))
			}
			return a.showAuthOf(c.CreateToken(ctx, req))
		}),
	}
	f := cmd.Flags()
	f.StringVar(&req.Role, "role", "", "role that says what the token may be")
	f.StringVar(&req.Type, "type", "", "service (default) or batch, which is stored nowhere and can't be renewed or revoked")
	f.StringSliceVar(&req.Policies, "policy", nil, "policy of the token; may be repeated; default those of the caller")
	f.DurationVar(&ttl, "ttl", 0, "time to live, such as 8h")
	f.DurationVar(&maxTTL, "explicit-max-ttl", 0, "no renewal goes beyond this")
	f.DurationVar(&period, "period", 0, "each renewal gives this; needs sudo")
	f.IntVar(&req.NumUses, "use-limit", 0, "number of calls that the token is good for, 0 without limit")
	f.BoolVar(&renewable, "renewable", true, "whether it may be renewed")
	f.BoolVar(&req.NoParent, "orphan", false, "the token does not end with its parent; needs sudo")
	f.BoolVar(&req.NoDefaultPolicy, "no-default-policy", false, "without the policy default")
	f.StringVar(&req.DisplayName, "display-name", "", "name for people and the audit log")
	f.DurationVar(&wrap, "wrap-ttl", 0, "show a wrapping token instead, which opens the new token once within this time")
	f.StringToStringVar(&req.Meta, "metadata", nil, "name=value for the audit log; may be repeated")
	return cmd
}

// other is the flag that chooses another token than the caller's own.
type other struct {
	stdin    bool
	accessor string
}

func (o *other) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.stdin, "stdin", false, "another client token, from a prompt without echo or standard input")
	cmd.Flags().StringVar(&o.accessor, "accessor", "", "another client token, by its accessor")
}

// token returns the other token, "" for the caller's own or that of an accessor.
func (o *other) token(ctx context.Context, a *app) (string, error) {
	if o.stdin && o.accessor != "" {
		return "", usagef("--stdin and --accessor name one token each")
	}
	if !o.stdin {
		return "", nil
	}
	b, err := a.secret(ctx, "Client token")
	if err != nil {
		return "", err
	}
	if len(b) == 0 {
		return "", usagef("there is no token on standard input")
	}
	defer clear(b)
	return string(b), nil
}

func (a *app) tokenLookupCommand() *cobra.Command {
	var o other
	cmd := &cobra.Command{
		Use:     "lookup",
		Short:   "Describe a client token",
		Example: "  claviger token lookup\n  claviger token lookup --stdin < token",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			token, err := o.token(ctx, a)
			if err != nil {
				return err
			}
			lookup := c.LookupSelf
			switch {
			case token != "":
				lookup = func(ctx context.Context) (*api.TokenInfo, error) { return c.LookupToken(ctx, token) }
			case o.accessor != "":
				lookup = func(ctx context.Context) (*api.TokenInfo, error) { return c.LookupAccessor(ctx, o.accessor) }
			}
			info, err := lookup(ctx)
			if err != nil {
				return err
			}
			return a.showTokenInfo(info)
		}),
	}
	o.flags(cmd)
	return cmd
}

func (a *app) tokenRenewCommand() *cobra.Command {
	var o other
	var increment time.Duration
	cmd := &cobra.Command{
		Use:     "renew",
		Short:   "Give a client token more time",
		Example: "  claviger token renew --increment 8h",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			token, err := o.token(ctx, a)
			if err != nil {
				return err
			}
			switch {
			case token != "":
				return a.showAuthOf(c.RenewToken(ctx, token, seconds(increment)))
			case o.accessor != "":
				return a.showAuthOf(c.RenewAccessor(ctx, o.accessor, seconds(increment)))
			}
			return a.showAuthOf(c.RenewSelf(ctx, seconds(increment)))
		}),
	}
	o.flags(cmd)
	cmd.Flags().DurationVar(&increment, "increment", 0, "time wished for; default is the server's choice")
	return cmd
}

func (a *app) tokenRevokeCommand() *cobra.Command {
	var o other
	var self, keep bool
	cmd := &cobra.Command{
		Use:     "revoke",
		Short:   "End a client token and its children",
		Long:    "End a client token and all that were made with it. Say which: --self, --stdin or --accessor.",
		Example: "  claviger token revoke --self\n  claviger token revoke --stdin < token\n  claviger token revoke --accessor 8FqkvbgHJlPCwQD1cz2LhXnA",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			if self == (o.stdin || o.accessor != "") {
				return usagef("token revoke needs one of --self, --stdin and --accessor")
			}
			if keep && !o.stdin {
				return usagef("token revoke --keep-children needs --stdin")
			}
			token, err := o.token(ctx, a)
			if err != nil {
				return err
			}
			revoke := c.RevokeSelf
			switch {
			case keep:
				revoke = func(ctx context.Context) error { return c.RevokeOrphan(ctx, token) }
			case token != "":
				revoke = func(ctx context.Context) error { return c.RevokeToken(ctx, token) }
			case o.accessor != "":
				revoke = func(ctx context.Context) error { return c.RevokeAccessor(ctx, o.accessor) }
			}
			if err := revoke(ctx); err != nil {
				return err
			}
			a.say("The token is revoked.")
			return nil
		}),
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&self, "self", false, "the token of this call")
	cmd.Flags().BoolVar(&keep, "keep-children", false, "leave the tokens that were made with it as orphans; needs sudo")
	return cmd
}

func (a *app) showAuthOf(auth *api.Auth, err error) error {
	if err != nil {
		return err
	}
	return a.show(auth, func(t *table) {
		if auth.ClientToken != "" {
			t.field("Token", auth.ClientToken)
		}
		if auth.Accessor != "" {
			t.field("Accessor", auth.Accessor)
		}
		t.field("Policies", strings.Join(auth.Policies, ", "))
		t.field("Time to live", lifetime(auth.LeaseDuration))
		t.field("Renewable", auth.Renewable)
	})
}

func (a *app) showTokenInfo(i *api.TokenInfo) error {
	return a.show(i, func(t *table) {
		if i.Accessor != "" {
			t.field("Accessor", i.Accessor)
		}
		t.field("Type", i.Type)
		t.field("Display name", i.DisplayName)
		t.field("Policies", strings.Join(i.Policies, ", "))
		t.field("Time to live", lifetime(i.TTL))
		if i.ExpireTime != nil {
			t.field("Expires", i.ExpireTime.Format(time.RFC3339))
		}
		t.field("Renewable", i.Renewable)
		t.field("Orphan", i.Orphan)
		if i.NumUses > 0 {
			t.field("Uses left", i.NumUses)
		}
	})
}

// lifetime shows a time to live; 0 is without end.
func lifetime(s api.Seconds) string {
	if s == 0 {
		return "without end"
	}
	return s.Duration().String()
}
