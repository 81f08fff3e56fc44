package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/custody/sss"
	"github.com/claviger/claviger/internal/fault"
)

func (a *app) custodyCommand() *cobra.Command {
	cmd := a.group("custody", "Replace the shares, and work with those of other programs", a.rekeyCommand(), a.combineSSSCommand())
	cmd.Long = "Shares of this server are given by claviger unseal, and replaced by claviger custody rekey."
	cmd.Example = "  claviger custody rekey init -n 5 -t 3\n  claviger custody combine-sss --out pin a.pin.gpg b.pin.gpg"
	return cmd
}

func (a *app) combineSSSCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "combine-sss FILE...",
		Short: "Combine shares that secret-share-split made, as of a Mo-Vault PIN",
		Long: `Combine shares in the format of secret-share-split, one a line in the files, and
write the secret to a new file that only its owner can read. Files that are no
text are decrypted by gpg, which asks for the custodian's passphrase.`,
		Example: "  claviger custody combine-sss --out pin 1111222233334444.pin.gpg 5555666677778888.pin.gpg",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.combineSSS(cmd.Context(), out, args)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write the secret to")
	_ = cmd.MarkFlagRequired("out")
	return cmd
}

func (a *app) combineSSS(ctx context.Context, out string, files []string) error {
	var lines [][]byte
	for _, file := range files {
		text, err := shareFile(ctx, file)
		if err != nil {
			return err
		}
		defer clear(text)
		lines = append(lines, bytes.Split(text, []byte("\n"))...)
	}
	secret, err := sss.Combine(lines)
	if err != nil {
		return fault.New(fault.Invalid, "%v", err)
	}
	defer clear(secret)
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the secret: %w", err)
	}
	defer f.Close()
	if _, err := f.Write(secret); err != nil {
		return fmt.Errorf("write the secret: %w", err)
	}
	return f.Sync()
}

// shareFile returns the text of a file with shares, decrypted if it is encrypted.
func shareFile(ctx context.Context, path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read a share: %w", err)
	}
	if !bytes.HasPrefix(b, []byte("-----BEGIN PGP")) && (len(b) == 0 || b[0] < 0x80) {
		return b, nil
	}
	gpg := exec.CommandContext(ctx, "gpg", "--quiet", "--decrypt", "--", path)
	gpg.Stdin, gpg.Stderr = os.Stdin, os.Stderr
	text, err := gpg.Output()
	if err != nil {
		clear(text)
		return nil, fault.New(fault.Invalid, "gpg can't decrypt %s: %v", path, err)
	}
	return text, nil
}
