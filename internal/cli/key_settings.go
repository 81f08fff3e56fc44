package cli

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) keyTrimCommand() *cobra.Command {
	var first int
	cmd := &cobra.Command{
		Use:   "trim NAME",
		Short: "Destroy the oldest versions of a key",
		Long: `Destroy all versions of a key before one, for ever: what they encrypted can't be
read again. The rules of the key must have given these versions up before: both
its oldest versions for decryption and for encryption must be set, and not be
older (key config).`,
		Example: "  claviger key config --min-decryption-version 3 --min-encryption-version 3 data\n  claviger key trim --min-available-version 3 data",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("min-available-version") {
				return usagef("key trim needs --min-available-version: the oldest version that is kept")
			}
			return a.showKeyOf(c.TrimKey(ctx, api.TrimKey{Name: args[0], MinAvailableVersion: &first}))
		}),
	}
	cmd.Flags().IntVar(&first, "min-available-version", 0, "oldest version that is kept")
	return cmd
}

func (a *app) keySettingsCommand() *cobra.Command {
	var disable bool
	var protection string
	cmd := &cobra.Command{
		Use:   "settings",
		Short: "Show or change what holds for all keys",
		Long: `Show what holds for all keys of a mount, or change what is given.

With --disable-upsert, encryption with a key that does not exist fails, instead
of making the key. New keys that ask for no protection get --default-protection;
"" lets the server choose.`,
		Example: "  claviger key settings\n  claviger --mount payments key settings --disable-upsert --default-protection token",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, _ []string) error {
			var change api.SetKeySettings
			if cmd.Flags().Changed("disable-upsert") {
				change.DisableUpsert = &disable
			}
			if cmd.Flags().Changed("default-protection") {
				change.DefaultProtection = &protection
			}
			var set *api.KeySettings
			var err error
			if change == (api.SetKeySettings{}) {
				set, err = c.KeySettings(ctx)
			} else {
				set, err = c.SetKeySettings(ctx, change)
			}
			if err != nil {
				return err
			}
			return a.show(set, func(t *table) {
				t.field("Disable upsert", set.DisableUpsert)
				t.field("Default protection", cmp.Or(set.DefaultProtection, "the server's choice"))
			})
		}),
	}
	cmd.Flags().BoolVar(&disable, "disable-upsert", false, "whether encryption makes no keys")
	cmd.Flags().StringVar(&protection, "default-protection", "", "protection of new keys that ask for none: token, wrapped or software")
	complete(cmd, "default-protection", api.ProtectionToken, api.ProtectionWrapped, api.ProtectionSoftware)
	return cmd
}
