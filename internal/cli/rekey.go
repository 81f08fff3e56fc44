package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) rekeyCommand() *cobra.Command {
	cmd := a.group("rekey", "Replace the shares: other custodians, another threshold, a new PIN",
		a.rekeyInitCommand(), a.rekeyShareCommand(), a.rekeyVerifyCommand(), a.rekeyStatusCommand(), a.rekeyCancelCommand(), a.rekeyBackupCommand())
	cmd.Long = `Replace the shares that unseal the server, while it serves. Somebody begins and
says how many new shares there are; as many custodians as unseal give theirs, and
the last one is shown the new ones. Then the new custodians give as many of them
as the new threshold: only that puts them in force. A client token with the
capability sudo on sys/rekey is needed.`
	cmd.Example = "  claviger custody rekey init -n 5 -t 3 --new-pin\n  claviger custody rekey share --nonce NONCE\n  claviger custody rekey verify --nonce VERIFICATION-NONCE"
	return cmd
}

func (a *app) rekeyInitCommand() *cobra.Command {
	var req api.StartRekey
	var pgpKeys []string
	var unverified bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Begin to replace the shares",
		Long: `Begin to replace the shares, and show the nonce that every custodian needs.

With --new-pin the HSM token gets a new user PIN and, if the server made it, a new
SO PIN, once the new shares were verified. With --without-verification the new
shares are in force as soon as they are made; the old ones go on to unseal until
the new ones did for the first time.`,
		Example: "  claviger custody rekey init -n 5 -t 3 --new-pin\n  claviger custody rekey init -n 2 -t 2 --pgp-key ada.asc --pgp-key grace.asc --backup",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			for _, file := range pgpKeys {
				key, err := publicKey(file)
				if err != nil {
					return err
				}
				req.PGPKeys = append(req.PGPKeys, key)
			}
			req.RequireVerification = !unverified
			s, err := c.StartRekey(ctx, req)
			return a.showRekey(s, err)
		}),
	}
	fl := cmd.Flags()
	fl.IntVarP(&req.SecretShares, "shares", "n", 5, "number of new shares, 1 to 255")
	fl.IntVarP(&req.SecretThreshold, "threshold", "t", 3, "number of them that unseal")
	fl.StringArrayVar(&pgpKeys, "pgp-key", nil, "file of a new custodian's OpenPGP public key; once a share")
	fl.BoolVar(&req.Backup, "backup", false, "keep the encrypted shares in the server, see claviger custody rekey backup")
	fl.BoolVar(&req.NewPIN, "new-pin", false, "give the HSM token new PINs")
	fl.BoolVar(&unverified, "without-verification", false, "put the new shares in force before anybody gave one back")
	return cmd
}

// rekeyShareFlags are those of the commands that give a share.
type rekeyShareFlags struct {
	nonce string
	fd    int
}

func (f *rekeyShareFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.nonce, "nonce", "", "nonce of the attempt: ask who began it, not the server")
	shareSource(cmd, &f.fd)
	if err := cmd.MarkFlagRequired("nonce"); err != nil {
		panic(err) // the flag is defined above
	}
}

func (a *app) rekeyShareCommand() *cobra.Command {
	var f rekeyShareFlags
	var setFile string
	cmd := &cobra.Command{
		Use:   "share",
		Short: "Give a share that is in force; the last one is shown the new ones",
		Long: `Give a share that is in force. It is asked for without echo, or is the first line
of standard input or of --fd; it is never an argument. Whoever gives the last one
is shown the new shares, once: encrypted if the attempt has OpenPGP keys.`,
		Example: "  claviger custody rekey share --nonce 2dbd10f1-8528-6246-09e7-82b25b8aba63 --set-file shares.json",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			req, err := a.rekeyShare(ctx, &f)
			if err != nil {
				return err
			}
			s, err := c.GiveRekeyShare(ctx, req)
			// The shares are shown first: they are shown only now.
			if err := a.showRekey(s, err); err != nil || !s.Complete || setFile == "" {
				return err
			}
			return writeShareSet(setFile, s.ShareSet)
		}),
	}
	f.flags(cmd)
	cmd.Flags().StringVar(&setFile, "set-file", "", "new file for the new share set, with which custodians check their shares")
	return cmd
}

func (a *app) rekeyShare(ctx context.Context, f *rekeyShareFlags) (api.GiveRekeyShare, error) {
	share, err := a.share(ctx, f.fd)
	if err != nil {
		return api.GiveRekeyShare{}, err
	}
	defer clear(share)
	return api.GiveRekeyShare{Key: string(share), Nonce: f.nonce}, nil
}

func (a *app) rekeyVerifyCommand() *cobra.Command {
	var f rekeyShareFlags
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Give a new share; the last one puts the new ones in force",
		Long: `Give a new share, read as by claviger custody rekey share. Once there are as many
as the new threshold, the new shares are in force, and the old ones open nothing.`,
		Example: "  claviger custody rekey verify --nonce 2dbd10f1-8528-6246-09e7-82b25b8aba63",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			req, err := a.rekeyShare(ctx, &f)
			if err != nil {
				return err
			}
			s, err := c.VerifyRekeyShare(ctx, req)
			if err != nil {
				return err
			}
			return a.show(s, func(t *table) {
				t.field("Nonce", s.Nonce)
				t.field("Progress", fmt.Sprintf("%d/%d", s.Progress, s.T))
				t.field("In force", s.Complete)
			})
		}),
	}
	f.flags(cmd)
	return cmd
}

func (a *app) rekeyStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show how far the replacing of the shares is",
		Example: "  claviger custody rekey status",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			s, err := c.RekeyStatus(ctx)
			return a.showRekey(s, err)
		}),
	}
}

func (a *app) rekeyCancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "cancel",
		Short:   "Forget the shares given and made; those in force stay",
		Example: "  claviger custody rekey cancel",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			if err := c.CancelRekey(ctx); err != nil {
				return err
			}
			a.say("The shares in force stay; new ones that were made open nothing.")
			return nil
		}),
	}
}

func (a *app) rekeyBackupCommand() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:     "backup",
		Short:   "Show or delete the encrypted shares of the last rekey that kept them",
		Example: "  claviger custody rekey backup --format json\n  claviger custody rekey backup --delete",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			if remove {
				return c.DeleteRekeyBackup(ctx)
			}
			b, err := c.RekeyBackup(ctx)
			if err != nil {
				return err
			}
			return a.show(b, func(t *table) {
				t.field("Nonce", b.Nonce)
				for _, fingerprint := range slices.Sorted(maps.Keys(b.KeysBase64)) {
					for _, message := range b.KeysBase64[fingerprint] {
						t.field(fingerprint, message)
					}
				}
			})
		}),
	}
	cmd.Flags().BoolVar(&remove, "delete", false, "delete them")
	return cmd
}

func (a *app) showRekey(s *api.RekeyStatus, err error) error {
	if err != nil {
		return err
	}
	if a.format == "json" {
		return a.showJSON(s)
	}
	err = a.show(s, func(t *table) {
		t.field("Started", s.Started)
		t.field("New shares", fmt.Sprintf("%d, of which %d unseal", s.N, s.T))
		t.field("Progress", fmt.Sprintf("%d/%d", s.Progress, s.Required))
		t.field("Verification", s.VerificationRequired)
		t.field("New PIN", s.NewPIN)
		for _, f := range [][2]string{{"Nonce", s.Nonce}, {"Verification nonce", s.VerificationNonce}} {
			if f[1] != "" {
				t.field(f[0], f[1])
			}
		}
	})
	for i, share := range s.KeysBase64 {
		fmt.Fprintf(a.out, "Unseal Key %d: %s\n", i+1, printable(share))
		if i < len(s.PGPFingerprints) {
			fmt.Fprintf(a.out, "  for %s\n", printable(s.PGPFingerprints[i]))
		}
	}
	if s.Complete && s.VerificationRequired {
		a.say("The new shares are shown only now, and are not in force: %d of them are to be given to claviger custody rekey verify.", s.T)
	}
	return err
}

// writeShareSet writes a new file that everybody may read.
func writeShareSet(path string, set *api.ShareSet) error {
	data, err := json.MarshalIndent(set, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write the share set: %w", err)
	}
	defer f.Close()
	if _, err := f.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("write the share set: %w", err)
	}
	return f.Sync()
}
