package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) externalCommand() *cobra.Command {
	cmd := a.group("external", "Give names to keys that lie in the HSM token, and say which mounts may use them",
		a.externalConfigureCommand(), a.externalAddCommand(), a.externalListCommand(), a.externalShowCommand(),
		a.externalGrantCommand(true), a.externalGrantCommand(false), a.externalRemoveCommand())
	cmd.Long = `An external key is a name, CONFIG:KEY, for a key that lies in the HSM token
already. Who may make keys at a mount that was granted its use makes a named key
of it with "key create --external CONFIG:KEY"; "key adopt" does the same in one
step for those who may reach every object of the HSM token.`
	cmd.Example = `  claviger external configure house
  claviger external add house:signer --label ca-signer
  claviger external grant house:signer transit
  claviger key create --external house:signer ca`
	return cmd
}

// externalRef reads CONFIG:KEY.
func externalRef(ref string) (config, key string, err error) {
	config, key, ok := strings.Cut(ref, ":")
	if !ok || config == "" || key == "" {
		return "", "", usagef("%q is no external key: one is written CONFIG:KEY", ref)
	}
	return config, key, nil
}

func (a *app) externalConfigureCommand() *cobra.Command {
	var label, serial string
	cmd := &cobra.Command{
		Use:   "configure CONFIG",
		Short: "Make a configuration of external keys",
		Long: `Make a configuration, or replace it: a group of external keys of the server's HSM
token. --token-label and --serial must be those of the token.`,
		Example: "  claviger external configure house --token-label production",
		Args:    takes("CONFIG"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			plugin := "pkcs11"
			r := api.SetExternalConfig{Config: args[0], Plugin: &plugin}
			if cmd.Flags().Changed("token-label") {
				r.TokenLabel = &label
			}
			if cmd.Flags().Changed("serial") {
				r.Serial = &serial
			}
			if err := c.SetExternalConfig(ctx, r); err != nil {
				return err
			}
			a.say("%s is configured.", args[0])
			return nil
		}),
	}
	cmd.Flags().StringVar(&label, "token-label", "", "label that the HSM token must have")
	cmd.Flags().StringVar(&serial, "serial", "", "serial number that the HSM token must have")
	return cmd
}

func (a *app) externalAddCommand() *cobra.Command {
	var label, id, class string
	cmd := &cobra.Command{
		Use:     "add CONFIG:KEY",
		Short:   "Give a name to a key that lies in the HSM token",
		Long:    `Give a name to a key that lies in the HSM token; "hsm objects" lists those that do.`,
		Example: "  claviger external add house:signer --label ca-signer\n  claviger external add house:old --id 0a1b --class private",
		Args:    takes("CONFIG:KEY"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			config, key, err := externalRef(args[0])
			if err != nil {
				return err
			}
			if label == "" && id == "" {
				return usagef("--label or --id must say which key is meant")
			}
			if err := c.SetExternalKey(ctx, api.SetExternalKey{Config: config, Key: key, Label: &label, ID: &id, Class: &class}); err != nil {
				return err
			}
			a.say("%s is known. No mount may use it before \"external grant\".", args[0])
			return nil
		}),
	}
	objectFlags(cmd, &label, &id, &class)
	return cmd
}

func (a *app) externalListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list [CONFIG]",
		Short:   "List the configurations, or the external keys of one",
		Example: "  claviger external list\n  claviger external list house",
		Args:    takes("[CONFIG]"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			list := c.ExternalConfigs
			if len(args) > 0 {
				list = func(ctx context.Context) ([]string, error) { return c.ExternalKeys(ctx, args[0]) }
			}
			names, err := list(ctx)
			if err != nil {
				return err
			}
			return a.showNames(names)
		}),
	}
}

// externalShown is an external key with the mounts that may use it.
type externalShown struct {
	Name string `json:"name"`
	*api.ExternalKey
	Grants []string `json:"grants"`
}

func (a *app) externalShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show CONFIG:KEY",
		Short:   "Show an external key and the mounts that may use it",
		Example: "  claviger external show house:signer",
		Args:    takes("CONFIG:KEY"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			config, name, err := externalRef(args[0])
			if err != nil {
				return err
			}
			key, err := c.ExternalKey(ctx, config, name)
			if err != nil {
				return err
			}
			grants, err := c.ExternalGrants(ctx, config, name)
			if err != nil {
				return err
			}
			return a.show(externalShown{args[0], key, append([]string{}, grants...)}, func(t *table) {
				t.field("Name", args[0])
				for _, f := range [][2]string{{"Label", key.Label}, {"ID", key.ID}, {"Class", key.Class}, {"Mechanism", key.Mechanism}} {
					if f[1] != "" {
						t.field(f[0], f[1])
					}
				}
				t.field("Mounts", strings.Join(grants, ", "))
			})
		}),
	}
}

func (a *app) externalGrantCommand(granted bool) *cobra.Command {
	cmd := &cobra.Command{
		Use: "grant CONFIG:KEY MOUNT", Short: "Let a mount use an external key",
		Example: "  claviger external grant house:signer transit",
		Args:    takes("CONFIG:KEY", "MOUNT"),
	}
	if !granted {
		cmd.Use, cmd.Short = "revoke CONFIG:KEY MOUNT", "Let a mount use an external key no more"
		cmd.Long = "Let a mount use an external key no more. Named keys that were made of it stay, and work."
		cmd.Example = "  claviger external revoke house:signer transit"
	}
	cmd.RunE = a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
		config, key, err := externalRef(args[0])
		if err != nil {
			return err
		}
		change, said := c.GrantExternalKey, "%s may be used at %s/."
		if !granted {
			change, said = c.RevokeExternalKey, "%s may not be used at %s/."
		}
		if err := change(ctx, config, key, args[1]); err != nil {
			return err
		}
		a.say(said, args[0], strings.Trim(args[1], "/"))
		return nil
	})
	return cmd
}

func (a *app) externalRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "remove CONFIG[:KEY]",
		Short:   "Forget an external key, or a configuration with all of its keys",
		Long:    "Forget an external key, or a configuration with all of its keys. Nothing is destroyed in the HSM token, and named keys that were made of them stay.",
		Example: "  claviger external remove house:signer\n  claviger external remove house",
		Args:    takes("CONFIG[:KEY]"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			forget := func() error { return c.DeleteExternalConfig(ctx, args[0]) }
			if strings.Contains(args[0], ":") {
				config, key, err := externalRef(args[0])
				if err != nil {
					return err
				}
				forget = func() error { return c.DeleteExternalKey(ctx, config, key) }
			}
			if err := forget(); err != nil {
				return err
			}
			a.say("%s is forgotten.", args[0])
			return nil
		}),
	}
}
