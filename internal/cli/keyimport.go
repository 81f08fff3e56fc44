package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) keyWrappingKeyCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "wrapping-key",
		Short: "Print the public key that keys to be imported are wrapped with",
		Long: `Print the RSA-4096 public key, in PEM, that keys to be imported are wrapped with.
It is made at first use.`,
		Example: "  claviger key wrapping-key --out wrapping.pem",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			r, err := c.WrappingKey(ctx)
			switch {
			case err != nil:
				return err
			case out != "":
				return writeFile(out, []byte(r.PublicKey), 0o644)
			case a.format == "json":
				return a.showJSON(r)
			}
			return a.lines(r.PublicKey)
		}),
	}
	outFlag(cmd, &out)
	return cmd
}

// imported is the flags that say what is imported.
type imported struct {
	in           input
	public, hash string
}

func (i *imported) flags(cmd *cobra.Command) {
	i.in.what = "wrapped key"
	cmd.Flags().StringVar(&i.in.file, "in", "", "read the wrapped key, in binary, from this file; default is standard input")
	cmd.Flags().StringVar(&i.public, "public", "", "file with a public key in PEM to import alone, instead of a wrapped key")
	cmd.Flags().StringVar(&i.hash, "hash", "", "hash of RSA-OAEP: SHA1, SHA224, SHA256 (default), SHA384 or SHA512")
	complete(cmd, "hash", "SHA1", "SHA224", "SHA256", "SHA384", "SHA512")
}

// imported returns the wrapped key or the public key.
func (a *app) imported(cmd *cobra.Command, i *imported) (wrapped []byte, public string, err error) {
	if i.public == "" {
		wrapped, err = a.bytes(cmd, &i.in)
		return wrapped, "", err
	}
	if i.in.file != "" {
		return nil, "", usagef("--in and --public exclude each other")
	}
	pem, err := readFile(i.public)
	if err != nil {
		return nil, "", fmt.Errorf("read the public key: %w", err)
	}
	return nil, string(pem), nil
}

const wrappedForm = `The wrapped key is RSA-OAEP of an AES-256 key under "key wrapping-key" (512
bytes), followed by AES-KWP (RFC 5649) of the secret under that key: what HSMs
write with CKM_RSA_AES_KEY_WRAP. The secret is raw bytes for symmetric and hmac
keys and PKCS #8 DER for the others.`

func (a *app) keyImportCommand() *cobra.Command {
	var i imported
	var req api.ImportKey
	cmd := &cobra.Command{
		Use:   "import NAME",
		Short: "Make a key of a secret that was made elsewhere",
		Long: `Make a named key of a wrapped secret, or of a public key alone, which can only
verify and encrypt. The secret is unwrapped inside the HSM token and stays there,
or wrapped by it; where the token can't do that ("hsm status" says so for each
type), --protection software keeps it in server memory.

` + wrappedForm,
		Example: "  claviger key import --type rsa-4096 --in wrapped.bin old-ca\n" +
			"  claviger key import --type ed25519 --protection software --in wrapped.bin old-signer\n" +
			"  claviger key import --type ed25519 --public vendor.pem vendor",
		Args: takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			var err error
			if req.Ciphertext, req.PublicKey, err = a.imported(cmd, &i); err != nil {
				return err
			}
			req.Name, req.HashFunction = args[0], i.hash
			if err := c.ImportKey(ctx, req); err != nil {
				return err
			}
			a.say("Key %s is imported.", args[0])
			return nil
		}),
	}
	i.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&req.Type, "type", "aes256-gcm96", "type of the key")
	f.StringVar(&req.Protection, "protection", "", "token, wrapped or software; default as for a key that is made here")
	f.BoolVar(&req.AllowRotation, "allow-rotation", false, "whether \"key rotate\" may add versions made by the server")
	complete(cmd, "type", keyTypes...)
	complete(cmd, "protection", api.ProtectionWrapped, api.ProtectionToken, api.ProtectionSoftware)
	return cmd
}

func (a *app) keyImportVersionCommand() *cobra.Command {
	var i imported
	var req api.ImportKeyVersion
	cmd := &cobra.Command{
		Use:   "import-version NAME",
		Short: "Add a version to an imported key",
		Long: `Add a version to an imported key; or, with --version, the private key to a version
that has only the public one.

` + wrappedForm,
		Example: "  claviger key import-version --in wrapped.bin old-ca",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			var err error
			if req.Ciphertext, req.PublicKey, err = a.imported(cmd, &i); err != nil {
				return err
			}
			req.Name, req.HashFunction = args[0], i.hash
			if err := c.ImportKeyVersion(ctx, req); err != nil {
				return err
			}
			a.say("A version of key %s is imported.", args[0])
			return nil
		}),
	}
	i.flags(cmd)
	cmd.Flags().IntVar(&req.Version, "version", 0, "version that lacks its private key; default a new version")
	return cmd
}
