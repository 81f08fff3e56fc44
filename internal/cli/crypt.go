package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) encryptCommand() *cobra.Command {
	var in input
	var b binding
	var version int
	var out string
	cmd := &cobra.Command{
		Use:   "encrypt NAME",
		Short: "Encrypt data with a key",
		Long: `Encrypt standard input or a file, and print the ciphertext as text
("vault:v1:…"). If there is no key of this name and the client token may make
one, the server makes it.`,
		Example: "  claviger encrypt data --in report.pdf --out report.enc\n  echo -n hello | claviger encrypt data --aad invoice-7",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			aad, keyContext, err := b.values()
			if err != nil {
				return err
			}
			plaintext, err := a.bytes(cmd, &in)
			if err != nil {
				return err
			}
			defer clear(plaintext)
			r, err := c.Encrypt(ctx, api.Encrypt{Name: args[0], Plaintext: plaintext, AssociatedData: aad, Context: keyContext, KeyVersion: version})
			if err != nil {
				return err
			}
			return a.text(r, r.Ciphertext, out)
		}),
	}
	in.flags(cmd, "plaintext")
	b.flags(cmd)
	keyVersionFlag(cmd, &version)
	outFlag(cmd, &out)
	return cmd
}

func (a *app) decryptCommand() *cobra.Command {
	var in input
	var b binding
	var out string
	cmd := &cobra.Command{
		Use:   "decrypt NAME",
		Short: "Decrypt data with a key",
		Long: `Decrypt a ciphertext ("vault:v1:…") from standard input or a file, and print the
plaintext as it is. A file of --out can be read by its owner only.`,
		Example: "  claviger decrypt data --in report.enc --out report.pdf\n  claviger decrypt data --text vault:v1:…",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			aad, keyContext, err := b.values()
			if err != nil {
				return err
			}
			ciphertext, err := a.line(cmd, &in)
			if err != nil {
				return err
			}
			r, err := c.Decrypt(ctx, api.Decrypt{Name: args[0], Ciphertext: ciphertext, AssociatedData: aad, Context: keyContext})
			if err != nil {
				return err
			}
			if r.Plaintext == nil {
				return errors.New("the server's answer has no plaintext")
			}
			defer clear(*r.Plaintext)
			return a.raw(r, *r.Plaintext, out)
		}),
	}
	in.flags(cmd, "ciphertext")
	b.flags(cmd)
	outFlag(cmd, &out)
	return cmd
}

func (a *app) rewrapCommand() *cobra.Command {
	var in input
	var b binding
	var version int
	var out string
	cmd := &cobra.Command{
		Use:     "rewrap NAME",
		Short:   "Encrypt a ciphertext again with the newest version of its key",
		Long:    "Encrypt a ciphertext again with the newest version of its key. The plaintext does not leave the server.",
		Example: "  claviger rewrap data --in report.enc --out report.enc",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			aad, keyContext, err := b.values()
			if err != nil {
				return err
			}
			ciphertext, err := a.line(cmd, &in)
			if err != nil {
				return err
			}
			r, err := c.Rewrap(ctx, api.Rewrap{Name: args[0], Ciphertext: ciphertext, AssociatedData: aad, Context: keyContext, KeyVersion: version})
			if err != nil {
				return err
			}
			return a.text(r, r.Ciphertext, out)
		}),
	}
	in.flags(cmd, "ciphertext")
	b.flags(cmd)
	keyVersionFlag(cmd, &version)
	outFlag(cmd, &out)
	return cmd
}

func (a *app) dataKeyCommand() *cobra.Command {
	var b binding
	var req api.DataKey
	var plain bool
	cmd := &cobra.Command{
		Use:   "datakey NAME",
		Short: "Make a random key, encrypted under a named key",
		Long: `Make a random key for use elsewhere, and print it encrypted under a named key.
With --plaintext the random key itself is printed too, as base64.`,
		Example: "  claviger datakey data\n  claviger datakey data --plaintext --bits 128 --format json",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			var err error
			if req.AssociatedData, req.Context, err = b.values(); err != nil {
				return err
			}
			req.Name, req.Kind = args[0], "wrapped"
			if plain {
				req.Kind = "plaintext"
			}
			r, err := c.DataKey(ctx, req)
			if err != nil {
				return err
			}
			defer clear(r.Plaintext)
			return a.show(r, func(t *table) {
				t.field("Ciphertext", r.Ciphertext)
				t.field("Key version", r.KeyVersion)
				if plain {
					t.field("Plaintext", encode64(r.Plaintext))
				}
			})
		}),
	}
	cmd.Flags().BoolVar(&plain, "plaintext", false, "print the random key itself too")
	cmd.Flags().IntVar(&req.Bits, "bits", 256, "size: 128, 256 or 512")
	b.flags(cmd)
	keyVersionFlag(cmd, &req.KeyVersion)
	return cmd
}

func keyVersionFlag(cmd *cobra.Command, version *int) {
	cmd.Flags().IntVar(version, "version", 0, "version of the key to use; default the newest")
}

func outFlag(cmd *cobra.Command, out *string) {
	cmd.Flags().StringVar(out, "out", "", "write into this file instead of standard output")
}
