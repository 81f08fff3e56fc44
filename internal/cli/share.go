package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/server"
)

func (a *app) shareCommand() *cobra.Command {
	cmd := a.group("share", "Check a share of the unseal secret", a.shareVerifyCommand(), a.shareSetCommand())
	cmd.Long = `A custodian checks a share without showing it to anybody. What is needed is the
share set, which is no secret: the server shows it, or wrote it to a file when
the shares were made.`
	cmd.Example = "  claviger share set --out shares.json\n  claviger share verify --set-file shares.json"
	return cmd
}

// shareSource adds the flag that says where a share is read.
func shareSource(cmd *cobra.Command, fd *int) {
	cmd.Flags().IntVar(fd, "fd", 0, "file descriptor to read the share from, 3 or more; default is the terminal or standard input")
}

// share reads a share, which the caller wipes.
func (a *app) share(ctx context.Context, fd int) (share []byte, err error) {
	switch {
	case fd == 0:
		share, err = a.secret(ctx, "Share")
	case fd < 3:
		return nil, usagef("--fd %d: must be 3 or more", fd)
	default:
		share, err = shareFromFD(fd)
	}
	if err == nil && len(share) == 0 {
		return nil, usagef("there is no share in what was read")
	}
	return share, err
}

// maxShareText is more than a share has in any of its forms, in bytes.
const maxShareText = 4096

func shareFromFD(fd int) ([]byte, error) {
	f := os.NewFile(uintptr(fd), "share")
	if f == nil {
		return nil, usagef("--fd %d: is not open", fd)
	}
	defer f.Close()
	text := make([]byte, maxShareText)
	defer clear(text)
	n, err := io.ReadFull(f, text)
	if err != io.ErrUnexpectedEOF && err != io.EOF {
		if err == nil {
			return nil, usagef("--fd %d: holds more than a share", fd)
		}
		return nil, fmt.Errorf("read the share from file descriptor %d: %w", fd, err)
	}
	line, _, _ := bytes.Cut(text[:n], []byte("\n"))
	return bytes.Clone(bytes.TrimSpace(line)), nil
}

func (a *app) shareVerifyCommand() *cobra.Command {
	var setFile string
	var fd int
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Tell whether a share is genuine, and its number",
		Long: `Tell whether a share is one of a share set, and which. The share is asked for
without echo, or is the first line of standard input or of --fd; it is never an
argument, goes to no server, and nothing of it is shown but its number. The share
set is read from --set-file, and without it asked of the server, to which no share
is sent either.

The exit status is 0 if the share is genuine, 1 if it is not.`,
		Example: "  claviger share verify --set-file shares.json\n  base64 -d share.b64 | gpg --decrypt | claviger share verify",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			set, err := a.shareSet(ctx, cmd, setFile)
			if err != nil {
				return err
			}
			share, err := a.share(ctx, fd)
			if err != nil {
				return err
			}
			defer clear(share)
			number, err := server.CheckShare(set, string(share))
			if err != nil {
				return err
			}
			answer := map[string]any{"number": number, "shares": set.Shares, "threshold": set.Threshold, "set_id": set.SetID}
			if a.format == "json" {
				return a.showJSON(answer)
			}
			_, err = fmt.Fprintf(a.out, "Genuine: this is share %d of %d in set %s, of which %d unseal the server.\n",
				number, set.Shares, set.SetID, set.Threshold)
			return err
		},
	}
	cmd.Flags().StringVar(&setFile, "set-file", "", "file with the share set; default is to ask the server")
	shareSource(cmd, &fd)
	return cmd
}

// shareSet reads a file, or asks the server.
func (a *app) shareSet(ctx context.Context, cmd *cobra.Command, file string) (*api.ShareSet, error) {
	if file == "" {
		var set *api.ShareSet
		err := a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) (err error) {
			set, err = c.ShareSet(ctx)
			return err
		})(cmd, nil)
		return set, err
	}
	data, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the share set: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	set := new(api.ShareSet)
	if err := d.Decode(set); err != nil {
		return nil, usagef("%s holds no share set: %v", file, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, usagef("%s holds more than a share set", file)
	}
	return set, nil
}

func (a *app) shareSetCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "set",
		Short: "Show what everybody may know of the shares",
		Long: `Show the share set of the server: how many shares there are, how many unseal, and
the commitments against which a share is checked. Nothing of it is secret; but take
it from a place that you trust, for a share of a false set would seem genuine.`,
		Example: "  claviger share set --out shares.json",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			set, err := c.ShareSet(ctx)
			if err != nil {
				return err
			}
			if out != "" {
				return writeShareSet(out, set)
			}
			return a.show(set, func(t *table) {
				t.field("Set", set.SetID)
				t.field("Shares", set.Shares)
				t.field("Threshold", set.Threshold)
				for i, c := range set.Commitments {
					t.field(fmt.Sprintf("Commitment %d", i), fmt.Sprintf("%x", c))
				}
			})
		}),
	}
	cmd.Flags().StringVar(&out, "out", "", "new file to write it to")
	return cmd
}
