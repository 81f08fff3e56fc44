package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/tpm"
	"github.com/claviger/claviger/internal/unsealer"
)

type enrollFlags struct {
	device     string
	out        string
	pcrs       []int
	share      secretSource
	password   secretSource
	generate   bool
	noPassword bool
	force      bool
}

func (a *app) unsealerEnrollCommand() *cobra.Command {
	var f enrollFlags
	cmd := &cobra.Command{
		Use:   "enroll",
		Short: "Seal a share to the TPM of this machine",
		Long: `Seal one share to a TPM. It is asked for without echo, or is the first line of
standard input, --share-file or --share-fd. The file that is written opens in this TPM only,
under the password and, with --pcr, only as long as the named PCRs (bank SHA-256)
are as they are now; it is opened once to prove that. Keep the share in its other
place until then: a TPM that is cleared or breaks has lost it.

The password comes from --password-file, which --generate-password makes, from
--password-fd or from a prompt. A TPM locks after some wrong passwords.`,
		Example: "  claviger unsealer enroll --password-file /etc/claviger/unsealer.password --generate-password\n" +
			"  claviger unsealer enroll --tpm /dev/tpmrm0 --pcr 7 --no-password --out unsealer.sealed",
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.enroll(cmd.Context(), &f)
		},
	}
	cmd.Flags().StringVar(&f.device, "tpm", tpm.DefaultDevice, "device of the TPM, or swtpm:host:port")
	cmd.Flags().StringVar(&f.out, "out", "/etc/claviger/unsealer.sealed", "file to write")
	cmd.Flags().IntSliceVar(&f.pcrs, "pcr", nil, "PCR that must stay as it is; may be repeated")
	f.share.flags(cmd, "share", "share")
	f.password.flags(cmd, "password", "password")
	cmd.Flags().BoolVar(&f.generate, "generate-password", false, "make the password at random and write it to --password-file")
	cmd.Flags().BoolVar(&f.noPassword, "no-password", false, "seal without a password: who uses this TPM opens it")
	cmd.Flags().BoolVar(&f.force, "force", false, "write over an existing file")
	return cmd
}

func (a *app) enroll(ctx context.Context, f *enrollFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	unsealer.Protect(slog.New(slog.DiscardHandler))
	share, err := f.readShare(ctx, a)
	if err != nil {
		return err
	}
	defer clear(share)
	password, err := f.readPassword(ctx, a)
	if err != nil {
		return err
	}
	defer clear(password)
	if err := f.seal(share, password); err != nil {
		return err
	}
	a.say("The share is sealed to the TPM %s, and opens again.", f.device)
	return a.lines(f.section())
}

func (f *enrollFlags) check() error {
	switch given := f.password.file != "" || f.password.fd >= 0; {
	case f.noPassword && (given || f.generate):
		return usagef("--no-password excludes --password-file, --password-fd and --generate-password")
	case f.generate && (f.password.file == "" || f.password.fd >= 0):
		return usagef("--generate-password needs --password-file: where to keep it")
	}
	if f.generate {
		if err := needNew(f.password.file, f.force); err != nil {
			return err
		}
	}
	return needNew(f.out, f.force)
}

// readShare sees that a server could take it.
func (f *enrollFlags) readShare(ctx context.Context, a *app) ([]byte, error) {
	line, err := f.share.read(ctx, a, "Share", false)
	if err != nil {
		return nil, err
	}
	share := bytes.TrimSpace(line)
	if err := unsealer.CheckShare(share); err != nil {
		clear(line)
		return nil, err
	}
	return share, nil
}

// readPassword returns it without blanks around it, as the unsealer reads its file.
func (f *enrollFlags) readPassword(ctx context.Context, a *app) ([]byte, error) {
	switch {
	case f.noPassword:
		return nil, nil
	case f.generate:
		return []byte(rand.Text()), nil // 26 letters and digits, 130 bits
	}
	// Standard input was for the share, unless that came from elsewhere.
	taken := f.share.file == "" && f.share.fd < 0 && !isTerminal(a.in)
	line, err := f.password.read(ctx, a, "Password for the TPM", taken)
	if err != nil {
		return nil, err
	}
	password := bytes.TrimSpace(line)
	if len(password) == 0 {
		return nil, usagef("the password is empty; --no-password seals without one")
	}
	if f.password.file != "" || f.password.fd >= 0 || !isTerminal(a.in) && !taken {
		return password, nil
	}
	again, err := f.password.read(ctx, a, "The same again", taken)
	defer clear(again)
	if err == nil && subtle.ConstantTimeCompare(password, bytes.TrimSpace(again)) != 1 {
		err = usagef("the two passwords are not the same")
	}
	return password, err
}

// seal seals the share, opens it again to prove it, and writes the files.
func (f *enrollFlags) seal(share, password []byte) error {
	device, err := tpm.Open(f.device)
	if err != nil {
		return err
	}
	defer device.Close()
	sealed, err := device.Seal(share, tpm.SealOptions{Password: password, PCRs: f.pcrs})
	if err != nil {
		return err
	}
	opened, err := device.Unseal(sealed, password)
	defer clear(opened)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(opened, share) != 1 {
		return fault.New(fault.Unavailable, "the TPM %s gives back something else than it sealed", f.device)
	}
	text, err := sealed.Encode()
	if err != nil {
		return err
	}
	if f.generate {
		line := append(bytes.Clone(password), '\n')
		defer clear(line)
		if err := writeFile(f.password.file, line, 0o600); err != nil {
			return err
		}
	}
	return writeFile(f.out, text, 0o600)
}

// section is what the configuration needs to use the sealed share.
func (f *enrollFlags) section() string {
	text := fmt.Sprintf("[share]\nsource = \"tpm\"\nfile = %q\n", absolute(f.out))
	if f.device != tpm.DefaultDevice {
		text += fmt.Sprintf("device = %q\n", f.device)
	}
	switch {
	case f.password.file != "":
		text += fmt.Sprintf("password_file = %q\n", absolute(f.password.file))
	case !f.noPassword:
		text += "# password_file = the file with the password that you gave\n"
	}
	return text
}
