package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) storageKeyCommand() *cobra.Command {
	cmd := a.group("storage-key", "Show and replace the key that seals the store",
		a.storageKeyStatusCommand(), a.storageKeyRotateCommand(), a.storageKeyConfigCommand())
	cmd.Long = `The storage key seals every record of the database. The HSM token keeps it. A new
one takes its place by hand, by age or by use; what the ones before it sealed
opens as before, backups included.`
	cmd.Example = "  claviger storage-key status\n  claviger storage-key rotate"
	return cmd
}

func (a *app) storageKeyStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show the storage key in use",
		Example: "  claviger storage-key status",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			s, err := c.KeyStatus(ctx)
			if err != nil {
				return err
			}
			return a.show(s, func(t *table) {
				t.field("Term", s.Term)
				t.field("In use since", s.InstallTime.Format(time.RFC3339))
				t.field("Records sealed", s.Encryptions)
			})
		}),
	}
}

func (a *app) storageKeyRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rotate",
		Short:   "Replace the storage key",
		Long:    "Replace the storage key. Records that are written from now on are sealed under the new one.",
		Example: "  claviger storage-key rotate",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			if err := c.RotateStorageKey(ctx); err != nil {
				return err
			}
			a.say("There is a new storage key.")
			return nil
		}),
	}
}

func (a *app) storageKeyConfigCommand() *cobra.Command {
	var records int64
	var interval time.Duration
	var enabled bool
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Show or change when the storage key is replaced by itself",
		Long:    "Change what flags say of when the storage key is replaced by itself, and show it.",
		Example: "  claviger storage-key config\n  claviger storage-key config --interval 2160h",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, _ []string) error {
			var req api.WriteRotationConfig
			f := cmd.Flags()
			if f.Changed("records") {
				req.MaxOperations = &records
			}
			if f.Changed("interval") {
				if interval%time.Second != 0 {
					return usagef("--interval %v: must be whole seconds", interval)
				}
				req.Interval = new(api.Seconds(interval / time.Second))
			}
			if f.Changed("enabled") {
				req.Enabled = &enabled
			}
			if req != (api.WriteRotationConfig{}) {
				if err := c.WriteRotationConfig(ctx, req); err != nil {
					return err
				}
			}
			r, err := c.RotationConfig(ctx)
			if err != nil {
				return err
			}
			return a.show(r, func(t *table) {
				t.field("Enabled", r.Enabled)
				t.field("After records", r.MaxOperations)
				t.field("After time", r.Interval.Duration())
			})
		}),
	}
	f := cmd.Flags()
	f.Int64Var(&records, "records", 0, "replace it after so many records, 1000000 to 3865470566")
	f.DurationVar(&interval, "interval", 0, "replace it at this age, 24h or more; 0: its age does not matter")
	f.BoolVar(&enabled, "enabled", true, "replace it by itself at all")
	return cmd
}
