package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/server"
)

func (a *app) hmacPoolCommand() *cobra.Command {
	cmd := a.group("hmacpool", "Make, check and use pools of HMAC secrets",
		a.poolCreateCommand(), a.poolVerifyCommand(), a.poolConfigCommand(), a.poolStatusCommand(), a.poolHMACCommand())
	cmd.Long = `A pool is a directory with 1, 2^16 or 2^32 secrets, of which each message chooses
one: the files of cryptoserver, plain or sealed under a key of the HSM token.

create and verify work on files of this machine; config, status and hmac call a
server where the pool is mounted (claviger mount enable hmacpool).`
	cmd.Example = "  claviger hmacpool create --mode 16 /secrets\n  claviger hmacpool verify --mode 16 /secrets"
	return cmd
}

// poolFlags are the flags of what works on files.
type poolFlags struct {
	mode int
	key  string
}

func (f *poolFlags) parse() (server.PoolMode, error) {
	mode, err := server.ParsePoolMode("MODE" + strconv.Itoa(f.mode))
	if err != nil {
		return 0, usagef("--mode %d: must be 0, 16 or 32", f.mode)
	}
	return mode, nil
}

func (f *poolFlags) flags(cmd *cobra.Command) {
	cmd.Flags().IntVar(&f.mode, "mode", 0, "0, 16 or 32: 1, 2^16 (2 MB) or 2^32 (137 GB) secrets")
	if err := cmd.MarkFlagRequired("mode"); err != nil {
		panic(err) // the flag is defined above
	}
	complete(cmd, "mode", "0", "16", "32")
}

func (a *app) poolCreateCommand() *cobra.Command {
	var f poolFlags
	var sealed bool
	cmd := &cobra.Command{
		Use:   "create DIRECTORY",
		Short: "Make the secrets of a pool",
		Long: `Make the files of a pool that are missing in a directory, and the directory. It
can be interrupted and started again at any time. No file that is there is ever
changed.

--sealed encrypts the records under a new pool key, which is wrapped by the key
--key of the server's transit engine (--mount): the files are worthless without
its HSM token. The server is called for that only; it must be able to reach the
files when it serves them.`,
		Example: "  claviger hmacpool create --mode 16 /secrets\n" +
			"  claviger key create --type aes256-gcm96 hmacpool\n  claviger hmacpool create --mode 32 --sealed --key hmacpool /secrets",
		Args: takes("DIRECTORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			mode, err := f.parse()
			if err != nil {
				return err
			}
			o := server.PoolCreateOptions{Dir: args[0], Mode: mode}
			if sealed != (f.key != "") {
				return usagef("--sealed and --key go together: the key of the transit engine that wraps the pool key")
			}
			if sealed {
				if o.Sealing, err = a.poolSealing(f.key); err != nil {
					return err
				}
			}
			p := newProgress(&a.ui, "Made")
			o.Progress = p.show
			done, err := server.CreatePool(cmd.Context(), o)
			p.end()
			if err != nil {
				if errors.Is(err, context.Canceled) && done.Files > 0 {
					a.say("%d of %d files are there; the same command goes on.", done.Files, done.Total)
				}
				return err
			}
			if done.Bytes == 0 {
				a.say("The pool in %s was complete already; nothing was changed.", args[0])
				return nil
			}
			a.say("The pool in %s is complete: %s of %d bytes.", args[0], files(done.Total), done.FileSize)
			return nil
		},
	}
	f.flags(cmd)
	cmd.Flags().BoolVar(&sealed, "sealed", false, "encrypt the records under a key of the HSM token")
	cmd.Flags().StringVar(&f.key, "key", "", "of --sealed: the key that wraps the pool key, of type aes256-gcm96 or alike")
	return cmd
}

// poolSealing wraps pool keys by a named key of the server.
func (a *app) poolSealing(key string) (*server.PoolSealing, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	return &server.PoolSealing{Mount: a.mount, Key: key, Unwrap: a.unwrapPool,
		Wrap: func(ctx context.Context, _ *server.PoolHeader, poolKey, aad []byte) (string, error) {
			// Encrypting under a new name would make a key.
			if _, err := c.ReadKey(ctx, key); err != nil {
				return "", fmt.Errorf("look at the key %s: %w", key, err)
			}
			r, err := c.Encrypt(ctx, api.Encrypt{Name: key, Plaintext: poolKey, AssociatedData: aad})
			if err != nil {
				return "", fmt.Errorf("wrap the pool key by %s: %w", key, err)
			}
			return r.Ciphertext, nil
		}}, nil
}

// unwrapPool opens the key of a sealed pool by the server.
func (a *app) unwrapPool(ctx context.Context, h *server.PoolHeader, aad []byte) ([]byte, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	r, err := c.WithMount(h.Mount).Decrypt(ctx, api.Decrypt{Name: h.Key, Ciphertext: h.Wrapped, AssociatedData: aad})
	if err != nil {
		return nil, fmt.Errorf("open the pool key by %s: %w", h.Key, err)
	}
	if r.Plaintext == nil {
		return nil, errors.New("the server's answer has no plaintext")
	}
	return *r.Plaintext, nil
}

func (a *app) poolVerifyCommand() *cobra.Command {
	var f poolFlags
	var quick bool
	cmd := &cobra.Command{
		Use:   "verify DIRECTORY",
		Short: "Check the files of a pool",
		Long: `Check that every file of a pool is there and has its size, that no record is all
zeros, and that those of a sealed pool are authentic (which takes the server that
has the key). Everything is read once; --quick looks at names and sizes only.`,
		Example: "  claviger hmacpool verify --mode 16 /secrets\n  claviger hmacpool verify --mode 32 --quick /secrets",
		Args:    takes("DIRECTORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			mode, err := f.parse()
			if err != nil {
				return err
			}
			p := newProgress(&a.ui, "Checked")
			r, err := server.VerifyPool(cmd.Context(), server.PoolVerifyOptions{Dir: args[0], Mode: mode, Quick: quick, Unwrap: a.unwrapPool, Progress: p.show})
			p.end()
			if err != nil {
				return err
			}
			return a.showPoolReport(args[0], r)
		},
	}
	f.flags(cmd)
	cmd.Flags().BoolVar(&quick, "quick", false, "look at names and sizes only")
	return cmd
}

func (a *app) showPoolReport(dir string, r *server.PoolReport) error {
	for _, problem := range r.Problem {
		a.say("%s", problem)
	}
	if more := r.Faults - len(r.Problem); more > 0 {
		a.say("… and %d more", more)
	}
	if r.Faults > 0 {
		return fmt.Errorf("the pool in %s is not whole; faults: %d, good files: %d of %d", dir, r.Faults, r.Files, r.Total)
	}
	kind := "plain"
	if r.Sealed {
		kind = "sealed"
	}
	a.say("The %s pool in %s is whole: %s.", kind, dir, files(r.Files))
	return nil
}

func files(n int) string {
	if n == 1 {
		return "1 file"
	}
	return strconv.Itoa(n) + " files"
}

// onPool makes the function of a command that calls the mount of a pool.
func (a *app) onPool(at *string, run func(ctx context.Context, c *client.Client, cmd *cobra.Command) error) func(*cobra.Command, []string) error {
	return a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, _ []string) error {
		return run(ctx, c.WithMount(*at), cmd)
	})
}

func poolMountFlag(cmd *cobra.Command, at *string) {
	cmd.Flags().StringVar(at, "at", "hmacpool", "path of the pool's mount")
}

func (a *app) poolConfigCommand() *cobra.Command {
	var f poolFlags
	var at, index, dir string
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Say where the pool of a mount is",
		Long: `Say in which directory of the server the pool of a mount is. It must lie in or
below one that hmacpool.dirs of the server's configuration names.`,
		Example: "  claviger mount enable hmacpool\n  claviger hmacpool config --mode 16 --directory /var/lib/claviger/hmacpool",
		Args:    takes(),
		RunE: a.onPool(&at, func(ctx context.Context, c *client.Client, _ *cobra.Command) error {
			mode, err := f.parse()
			if err != nil {
				return err
			}
			if !filepath.IsAbs(dir) {
				return usagef("--directory %s: must be an absolute path, as the server sees it", dir)
			}
			r, err := c.ConfigPool(ctx, api.PoolConfig{Directory: dir, Mode: mode.String(), Index: index})
			if err != nil {
				return err
			}
			return a.show(r, func(t *table) { poolRows(t, r) })
		}),
	}
	f.flags(cmd)
	poolMountFlag(cmd, &at)
	cmd.Flags().StringVar(&dir, "directory", "", "absolute path on the server")
	cmd.Flags().StringVar(&index, "index", "current", "current, or pre-2021-09-13 for pools of old builds of cryptoserver")
	complete(cmd, "index", "current", "pre-2021-09-13")
	return cmd
}

func poolRows(t *table, r *api.PoolConfig) {
	t.field("Directory", r.Directory)
	t.field("Mode", r.Mode)
	t.field("Index", r.Index)
}

func (a *app) poolStatusCommand() *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show the state of the pool of a mount",
		Example: "  claviger hmacpool status",
		Args:    takes(),
		RunE: a.onPool(&at, func(ctx context.Context, c *client.Client, _ *cobra.Command) error {
			r, err := c.PoolStatus(ctx)
			if err != nil {
				return err
			}
			return a.show(r, func(t *table) {
				poolRows(t, &r.PoolConfig)
				t.field("Secrets", r.Secrets)
				t.field("Sealed", r.Sealed)
				if r.Key != "" {
					t.field("Key", r.Key)
				}
				t.field("Usable", r.Usable)
				if r.Problem != "" {
					t.field("Problem", r.Problem)
				}
			})
		}),
	}
	poolMountFlag(cmd, &at)
	return cmd
}

func (a *app) poolHMACCommand() *cobra.Command {
	var in input
	var at string
	cmd := &cobra.Command{
		Use:     "hmac",
		Short:   "Compute an HMAC with the secret that the message chooses",
		Long:    "Compute HMAC-SHA-256 of standard input or a file with the secret of the pool that\nit chooses, and print it in base64.",
		Example: "  echo -n hello world | claviger hmacpool hmac",
		Args:    takes(),
		RunE: a.onPool(&at, func(ctx context.Context, c *client.Client, cmd *cobra.Command) error {
			message, err := a.bytes(cmd, &in)
			if err != nil {
				return err
			}
			defer clear(message)
			r, err := c.PoolHMAC(ctx, api.PoolHMAC{Input: message})
			if err != nil {
				return err
			}
			return a.text(r, base64.StdEncoding.EncodeToString(r.HMAC), "")
		}),
	}
	in.flags(cmd, "message")
	poolMountFlag(cmd, &at)
	return cmd
}
