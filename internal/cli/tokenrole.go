package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) tokenRoleCommand() *cobra.Command {
	cmd := a.group("role", "Manage roles of client tokens",
		a.tokenRoleWriteCommand(), a.tokenRoleReadCommand(), a.tokenRoleListCommand(), a.tokenRoleDeleteCommand())
	cmd.Long = `A role says what client tokens its users may make with "token create --role".
Policies that a role allows need not be those of the user, so whoever may write
roles decides who gets which policies.`
	cmd.Example = "  claviger token role write --allowed-policy signer --period 24h build\n  claviger token create --role build"
	return cmd
}

func (a *app) tokenRoleWriteCommand() *cobra.Command {
	var allowed, allowedGlob, disallowed, disallowedGlob []string
	var orphan, renewable, noDefault bool
	var suffix, typ string
	var uses int
	var period, maxTTL time.Duration
	cmd := &cobra.Command{
		Use:   "write NAME",
		Short: "Make or change a role of client tokens",
		Long:  "Make or change a role of client tokens. What is not given stays as it is.",
		Example: "  claviger token role write --allowed-policy signer,reader --explicit-max-ttl 8h build\n" +
			"  claviger token role write --allowed-policy-glob 'team-*' --orphan --period 24h teams",
		Args: takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			req := api.TokenRole{Name: args[0], AllowedPolicies: allowed, AllowedPoliciesGlob: allowedGlob,
				DisallowedPolicies: disallowed, DisallowedPoliciesGlob: disallowedGlob}
			given := cmd.Flags().Changed
			for name, set := range map[string]func(){
				"orphan":            func() { req.Orphan = &orphan },
				"renewable":         func() { req.Renewable = &renewable },
				"no-default-policy": func() { req.TokenNoDefaultPolicy = &noDefault },
				"path-suffix":       func() { req.PathSuffix = &suffix },
				"type":              func() { req.TokenType = &typ },
				"use-limit":         func() { req.TokenNumUses = &uses },
				"period":            func() { req.TokenPeriod = new(seconds(period)) },
				"explicit-max-ttl":  func() { req.TokenExplicitMaxTTL = new(seconds(maxTTL)) },
			} {
				if given(name) {
					set()
				}
			}
			if err := c.WriteTokenRole(ctx, req); err != nil {
				return err
			}
			a.say("Role %s is written.", req.Name)
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringSliceVar(&allowed, "allowed-policy", nil, "policy that tokens may have; may be repeated; '' for none")
	f.StringSliceVar(&allowedGlob, "allowed-policy-glob", nil, "pattern with * of policies that may be asked for as well; may be repeated")
	f.StringSliceVar(&disallowed, "disallowed-policy", nil, "policy that tokens may not have; may be repeated")
	f.StringSliceVar(&disallowedGlob, "disallowed-policy-glob", nil, "pattern with * of policies that tokens may not have; may be repeated")
	f.BoolVar(&orphan, "orphan", false, "tokens do not end with their maker's")
	f.BoolVar(&renewable, "renewable", true, "whether tokens may be renewed")
	f.BoolVar(&noDefault, "no-default-policy", false, "tokens are made without the policy default")
	f.StringVar(&suffix, "path-suffix", "", "appended to the path that is noted as a token's origin")
	f.StringVar(&typ, "type", "", "service, batch, default-service (default) or default-batch; with default- the caller may choose")
	f.IntVar(&uses, "use-limit", 0, "number of calls that tokens are good for, 0 without limit")
	f.DurationVar(&period, "period", 0, "each renewal gives this")
	f.DurationVar(&maxTTL, "explicit-max-ttl", 0, "no renewal goes beyond this")
	return cmd
}

func (a *app) tokenRoleReadCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "read NAME",
		Short:   "Describe a role of client tokens",
		Example: "  claviger token role read build",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			r, err := c.ReadTokenRole(ctx, args[0])
			if err != nil {
				return err
			}
			return a.show(r, func(t *table) {
				t.field("Name", r.Name)
				t.field("Allowed policies", strings.Join(append(r.AllowedPolicies, r.AllowedPoliciesGlob...), ", "))
				t.field("Disallowed policies", strings.Join(append(r.DisallowedPolicies, r.DisallowedPoliciesGlob...), ", "))
				t.field("Without default policy", r.TokenNoDefaultPolicy)
				t.field("Type", r.TokenType)
				t.field("Orphan", r.Orphan)
				t.field("Renewable", r.Renewable)
				if r.TokenPeriod > 0 {
					t.field("Period", lifetime(r.TokenPeriod))
				}
				if r.TokenExplicitMaxTTL > 0 {
					t.field("Explicit max TTL", lifetime(r.TokenExplicitMaxTTL))
				}
				if r.TokenNumUses > 0 {
					t.field("Uses", r.TokenNumUses)
				}
				if r.PathSuffix != "" {
					t.field("Path suffix", r.PathSuffix)
				}
			})
		}),
	}
}

func (a *app) tokenRoleListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the roles of client tokens",
		Example: "  claviger token role list",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			names, err := c.ListTokenRoles(ctx)
			if err != nil {
				return err
			}
			return a.showNames(names)
		}),
	}
}

func (a *app) tokenRoleDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a role of client tokens",
		Long:    "Delete a role. Client tokens that were made by it live on, but are not renewed any more.",
		Example: "  claviger token role delete build",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			if err := c.DeleteTokenRole(ctx, args[0]); err != nil {
				return err
			}
			a.say("Role %s is deleted.", args[0])
			return nil
		}),
	}
}

func (a *app) tokenAccessorsCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "accessors",
		Short:   "List the accessors of all client tokens",
		Long:    "List the accessors of all client tokens. It needs sudo.",
		Example: "  claviger token accessors",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			accessors, err := c.ListAccessors(ctx)
			if err != nil {
				return err
			}
			return a.showNames(accessors)
		}),
	}
}

func (a *app) tokenTidyCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "tidy",
		Short:   "Remove expired client tokens from the store",
		Long:    "Remove expired client tokens from the store, in the background. They are refused without it as well.",
		Example: "  claviger token tidy",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			return c.TidyTokens(ctx)
		}),
	}
}
