package cli

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) randomCommand() *cobra.Command {
	var count int
	var encoding, out string
	cmd := &cobra.Command{
		Use:     "random",
		Short:   "Print random bytes of the HSM token",
		Example: "  claviger random --bytes 16 --encoding hex\n  claviger random --bytes 32 --encoding raw --out seed",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			return a.random(ctx, c, count, encoding, out)
		}),
	}
	cmd.Flags().IntVar(&count, "bytes", 32, "number of bytes")
	cmd.Flags().StringVar(&encoding, "encoding", "base64", "base64, hex or raw")
	complete(cmd, "encoding", "base64", "hex", "raw")
	outFlag(cmd, &out)
	return cmd
}

func (a *app) random(ctx context.Context, c *client.Client, count int, encoding, out string) error {
	req := api.Random{Bytes: count, Format: encoding}
	switch {
	case count < 1:
		return usagef("--bytes %d: must be at least 1", count)
	case encoding == "raw":
		req.Format = "base64"
	case encoding != "base64" && encoding != "hex":
		return usagef("--encoding %s: must be base64, hex or raw", encoding)
	}
	r, err := c.Random(ctx, req)
	if err != nil {
		return err
	}
	if encoding != "raw" {
		if out != "" {
			return writeFile(out, []byte(r.RandomBytes+"\n"), 0o600)
		}
		return a.text(r, r.RandomBytes, "")
	}
	b, err := base64.StdEncoding.DecodeString(r.RandomBytes)
	if err != nil {
		return fmt.Errorf("decode the server's random bytes: %w", err)
	}
	defer clear(b)
	return a.raw(r, b, out)
}
