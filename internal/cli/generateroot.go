package cli

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) generateRootCommand() *cobra.Command {
	var open bool
	cmd := a.group("generate-root", "Make a root token with the shares of custodians",
		a.rootStartCommand(&open), a.rootShareCommand(&open), a.rootStatusCommand(&open), a.rootCancelCommand(&open), a.rootDecodeCommand())
	cmd.Long = `Custodians make a new root token together, as many as unseal the server. Somebody
begins and gets a one-time pad, or names an OpenPGP key; each custodian gives a
share with the attempt's nonce; the last one is shown the token, encrypted with
the pad or to the key, which only who began can read.

A client token with the capability sudo on sys/generate-root-token is needed. If
there is none left, set generate_root_without_token = true in the server's
configuration for that one time, and add --without-token.`
	cmd.Example = "  claviger generate-root start\n  claviger generate-root share --nonce NONCE\n  claviger generate-root decode --encoded TEXT"
	cmd.PersistentFlags().BoolVar(&open, "without-token", false, "use the form for callers without a client token, which the server's configuration must allow")
	return cmd
}

func (a *app) rootStartCommand(open *bool) *cobra.Command {
	var pgpKey string
	cmd := &cobra.Command{
		Use:     "start",
		Short:   "Begin to make a root token",
		Long:    "Begin to make a root token. The one-time pad is shown only now: keep it for decode.",
		Example: "  claviger generate-root start\n  claviger generate-root start --pgp-key ada.asc",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			var req api.StartGenerateRoot
			if pgpKey != "" {
				key, err := publicKey(pgpKey)
				if err != nil {
					return err
				}
				req.PGPKey = key
			}
			return a.showRootOf(c.StartGenerateRoot(ctx, *open, req))
		}),
	}
	cmd.Flags().StringVar(&pgpKey, "pgp-key", "", "file of the OpenPGP public key to which the token is encrypted, in place of a one-time pad")
	return cmd
}

func (a *app) rootShareCommand(open *bool) *cobra.Command {
	var req api.GiveRootShare
	cmd := &cobra.Command{
		Use:   "share",
		Short: "Give one share towards a root token",
		Long: `Give one share. It is asked for without echo, or is the first line of standard
input; it is never an argument. The nonce is that of the attempt that you mean to
take part in: ask who began it, not the server.`,
		Example: "  claviger generate-root share --nonce 2dbd10f1-8528-6246-09e7-82b25b8aba63\n" +
			"  base64 -d share.b64 | gpg --decrypt | claviger generate-root share --nonce 2dbd10f1-8528-6246-09e7-82b25b8aba63",
		Args: takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			share, err := a.secret(ctx, "Share")
			if err != nil {
				return err
			}
			defer clear(share)
			if len(share) == 0 {
				return usagef("there is no share on standard input")
			}
			req.Key = string(share)
			return a.showRootOf(c.GiveRootShare(ctx, *open, req))
		}),
	}
	cmd.Flags().StringVar(&req.Nonce, "nonce", "", "nonce of the attempt, as start showed it")
	if err := cmd.MarkFlagRequired("nonce"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func (a *app) rootStatusCommand(open *bool) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show how far the making of a root token is",
		Example: "  claviger generate-root status",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			return a.showRootOf(c.GenerateRootStatus(ctx, *open))
		}),
	}
}

func (a *app) rootCancelCommand(open *bool) *cobra.Command {
	return &cobra.Command{
		Use:     "cancel",
		Short:   "Forget the shares given for a root token",
		Example: "  claviger generate-root cancel",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			if err := c.CancelGenerateRoot(ctx, *open); err != nil {
				return err
			}
			a.say("No root token is being made.")
			return nil
		}),
	}
}

func (a *app) rootDecodeCommand() *cobra.Command {
	var encoded string
	cmd := &cobra.Command{
		Use:   "decode",
		Short: "Read the root token with the one-time pad",
		Long: `Read the root token. The one-time pad is asked for without echo, or is the first
line of standard input. No server is asked.`,
		Example: "  claviger generate-root decode --encoded GwIlBmQ... < pad",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			pad, err := a.secret(cmd.Context(), "One-time pad")
			if err != nil {
				return err
			}
			defer clear(pad)
			token, err := decodeRoot(encoded, pad)
			if err != nil {
				return err
			}
			defer clear(token)
			if a.format == "json" {
				return a.showJSON(map[string]string{"token": string(token)})
			}
			_, err = fmt.Fprintln(a.out, printable(string(token)))
			return err
		},
	}
	cmd.Flags().StringVar(&encoded, "encoded", "", "the encoded token, which is no secret without the pad")
	if err := cmd.MarkFlagRequired("encoded"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// decodeRoot returns the token, which the caller wipes.
func decodeRoot(encoded string, pad []byte) ([]byte, error) {
	token, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, usagef("--encoded is not base64 without padding, as the server shows it")
	}
	if len(token) != len(pad) {
		return nil, usagef("the one-time pad has %d characters, and the encoded token %d", len(pad), len(token))
	}
	subtle.XORBytes(token, token, pad)
	return token, nil
}

func (a *app) showRootOf(s *api.GenerateRootStatus, err error) error {
	if err != nil {
		return err
	}
	return a.show(s, func(t *table) {
		t.field("Started", s.Started)
		t.field("Progress", fmt.Sprintf("%d/%d", s.Progress, s.Required))
		t.field("Complete", s.Complete)
		for _, f := range [][2]string{{"Nonce", s.Nonce}, {"One-time pad", s.OTP}, {"OpenPGP key", s.PGPFingerprint}, {"Encoded token", s.EncodedToken}} {
			if f[1] != "" {
				t.field(f[0], f[1])
			}
		}
	})
}
