package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) keyDeriveCommand() *cobra.Command {
	var req api.DeriveKey
	var peer string
	cmd := &cobra.Command{
		Use:   "derive NAME",
		Short: "Make a key that another party can make too (ECDH)",
		Long: `Make a key of an own key, of type ecdsa-… and with protection software, and of
another party's public key. Who derives with the other halves gets the same key.`,
		Example: "  claviger key derive with-bob --base alice --peer bob.pem",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			if req.BaseKeyName == "" || peer == "" {
				return usagef("key derive needs --base and --peer")
			}
			pem, err := readFile(peer)
			if err != nil {
				return fmt.Errorf("read the public key: %w", err)
			}
			req.Name, req.PeerPublicKey = args[0], string(pem)
			if err := c.DeriveKey(ctx, req); err != nil {
				return err
			}
			a.say("Key %s is derived.", req.Name)
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&req.BaseKeyName, "base", "", "name of the own key")
	f.IntVar(&req.BaseKeyVersion, "base-version", 0, "version of the own key; default the newest")
	f.StringVar(&peer, "peer", "", "file with the other party's public key in PEM")
	f.StringVar(&req.DerivedKeyType, "type", "", "type of the new key; default aes256-gcm96")
	complete(cmd, "type", "aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305")
	return cmd
}
