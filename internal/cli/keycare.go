package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) keySoftDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "soft-delete NAME",
		Short: "Refuse every use of a key until it is restored",
		Long: `Refuse every use of a key, by everybody, until "key undelete" brings it back.
Nothing is lost. See what still needs a key before it is deleted for ever.`,
		Example: "  claviger key soft-delete old\n  claviger key undelete old",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			if err := c.SoftDeleteKey(ctx, args[0]); err != nil {
				return err
			}
			a.say("Key %s is soft-deleted; \"key undelete\" brings it back.", args[0])
			return nil
		}),
	}
}

func (a *app) keyUndeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "undelete NAME",
		Short:   "Bring a soft-deleted key back into use",
		Example: "  claviger key undelete old",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			if err := c.RestoreSoftDeletedKey(ctx, args[0]); err != nil {
				return err
			}
			a.say("Key %s is in use again.", args[0])
			return nil
		}),
	}
}

func (a *app) keyCSRCommand() *cobra.Command {
	var template, out string
	var version int
	cmd := &cobra.Command{
		Use:   "csr NAME",
		Short: "Make a certificate request, signed by the key",
		Long: `Make a certificate request (PKCS #10, PEM) for a key's public key, signed by its
private key, which stays where it is. The subject and the extensions are those
of the template, a certificate request that any other key has signed; without
one the subject is empty.`,
		Example: "  claviger key csr web --template web.csr --out web-hsm.csr",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			req := api.SignCSR{Name: args[0], Version: version}
			if template != "" {
				pem, err := readFile(template)
				if err != nil {
					return fmt.Errorf("read the template: %w", err)
				}
				req.CSR = string(pem)
			}
			r, err := c.SignCSR(ctx, req)
			switch {
			case err != nil:
				return err
			case out != "":
				return writeFile(out, []byte(r.CSR), 0o644)
			case a.format == "json":
				return a.showJSON(r)
			}
			return a.lines(r.CSR)
		}),
	}
	cmd.Flags().StringVar(&template, "template", "", "file with a certificate request to take subject and extensions of")
	keyVersionFlag(cmd, &version)
	outFlag(cmd, &out)
	return cmd
}

func (a *app) keySetCertificateCommand() *cobra.Command {
	var in input
	var version int
	cmd := &cobra.Command{
		Use:   "set-certificate NAME",
		Short: "Keep a certificate chain beside a version of a key",
		Long: `Keep a certificate chain (PEM, the key's certificate first, then its issuers in
order) beside a version of a key, where "key read" shows it.`,
		Example: "  claviger key set-certificate web --in web-chain.pem",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			chain, err := a.line(cmd, &in)
			if err != nil {
				return err
			}
			req := api.SetCertificate{Name: args[0], Version: version, CertificateChain: chain}
			if err := c.SetCertificate(ctx, req); err != nil {
				return err
			}
			a.say("The certificates of key %s are stored.", args[0])
			return nil
		}),
	}
	in.flags(cmd, "certificate chain")
	keyVersionFlag(cmd, &version)
	return cmd
}

func (a *app) keyBackupCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "backup NAME",
		Short: "Back a key up as a blob that only this cluster opens",
		Long: `Print a key with all its versions as a sealed blob. Only a server with the same
storage key and the same HSM token restores it. It is a protection against
deleting the key by mistake, not against losing the database or the HSM. Keys
that are objects of the HSM token can't be backed up this way.`,
		Example: "  claviger key backup data --out data.backup",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			r, err := c.BackupKey(ctx, args[0])
			if err != nil {
				return err
			}
			return a.text(r, r.Backup, out)
		}),
	}
	outFlag(cmd, &out)
	return cmd
}

func (a *app) keyRestoreCommand() *cobra.Command {
	var in input
	var req api.Restore
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Restore a key from its backup",
		Long: `Restore a key from what "key backup" printed, under the name that it had
or another one. With --force a key of that name is replaced, for ever, if its rules allow
its deletion.`,
		Example: "  claviger key restore --in data.backup\n  claviger key restore --as data-copy --in data.backup",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, _ []string) error {
			var err error
			if req.Backup, err = a.line(cmd, &in); err != nil {
				return err
			}
			if err := c.RestoreKey(ctx, req); err != nil {
				return err
			}
			a.say("The key is restored.")
			return nil
		}),
	}
	in.flags(cmd, "backup")
	cmd.Flags().StringVar(&req.Name, "as", "", "restore under this name")
	cmd.Flags().BoolVar(&req.Force, "force", false, "replace a key of that name")
	return cmd
}
