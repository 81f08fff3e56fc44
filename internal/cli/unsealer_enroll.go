package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/tpm"
	"github.com/claviger/claviger/internal/unsealer"
)

type enrollFlags struct {
	device       string
	out          string
	pcrs         []int
	shareFD      int
	passwordFile string
	generate     bool
	noPassword   bool
	force        bool
}

func (a *app) unsealerEnrollCommand() *cobra.Command {
	var f enrollFlags
	cmd := &cobra.Command{
		Use:   "enroll",
		Short: "Seal a share to the TPM of this machine",
		Long: `Seal one share to a TPM. It is asked for without echo, or is the first line of
standard input or of --share-fd. The file that is written opens in this TPM only,
under the password and, with --pcr, only as long as the named PCRs (bank SHA-256)
are as they are now; it is opened once to prove that. Keep the share in its other
place until then: a TPM that is cleared or breaks has lost it.

The password comes from --password-file, which --generate-password makes, or from
a prompt. A TPM locks after some wrong passwords.`,
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
	cmd.Flags().IntVar(&f.shareFD, "share-fd", 0, "descriptor from which the share is read")
	cmd.Flags().StringVar(&f.passwordFile, "password-file", "", "file with the password, on its first line")
	cmd.Flags().BoolVar(&f.generate, "generate-password", false, "make the password at random and write it to --password-file")
	cmd.Flags().BoolVar(&f.noPassword, "no-password", false, "seal without a password: who uses this TPM opens it")
	cmd.Flags().BoolVar(&f.force, "force", false, "write over an existing file")
	return cmd
}

func (a *app) enroll(ctx context.Context, f *enrollFlags) error {
	if err := f.check(a); err != nil {
		return err
	}
	unsealer.Protect(slog.New(slog.DiscardHandler))
	share, err := a.enrolledShare(ctx, f)
	if err != nil {
		return err
	}
	defer clear(share)
	password, err := a.enrolledPassword(ctx, f)
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

func (f *enrollFlags) check(a *app) error {
	switch {
	case f.noPassword && (f.passwordFile != "" || f.generate):
		return usagef("--no-password excludes --password-file and --generate-password")
	case f.generate && f.passwordFile == "":
		return usagef("--generate-password needs --password-file: where to keep it")
	case !f.noPassword && f.passwordFile == "" && !isTerminal(a.in):
		return usagef("there is no terminal to ask for a password: give --password-file or --no-password")
	}
	if f.generate {
		if err := needNew(f.passwordFile, f.force); err != nil {
			return err
		}
	}
	return needNew(f.out, f.force)
}

// enrolledShare reads the share and sees that a server could take it.
func (a *app) enrolledShare(ctx context.Context, f *enrollFlags) ([]byte, error) {
	var share []byte
	var err error
	if f.shareFD > 0 {
		file := os.NewFile(uintptr(f.shareFD), "--share-fd")
		defer file.Close()
		share, err = firstLine(file)
	} else {
		share, err = a.secret(ctx, "Share")
	}
	if err != nil {
		return nil, err
	}
	if err := unsealer.CheckShare(share); err != nil {
		clear(share)
		return nil, err
	}
	return share, nil
}

func (a *app) enrolledPassword(ctx context.Context, f *enrollFlags) ([]byte, error) {
	switch {
	case f.noPassword:
		return nil, nil
	case f.generate:
		return []byte(rand.Text()), nil // 26 letters and digits, 130 bits
	case f.passwordFile != "":
		text, err := readFile(f.passwordFile)
		if err != nil {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		line, _, _ := bytes.Cut(text, []byte("\n"))
		if line = bytes.TrimSpace(line); len(line) == 0 {
			return nil, usagef("%s holds no password", f.passwordFile)
		}
		return line, nil
	}
	password, err := a.secret(ctx, "Password for the TPM")
	if err != nil {
		return nil, err
	}
	again, err := a.secret(ctx, "The same again")
	defer clear(again)
	if err != nil {
		return nil, err
	}
	if len(password) == 0 || subtle.ConstantTimeCompare(password, again) != 1 {
		return nil, usagef("the two passwords are not the same, or empty")
	}
	return password, nil
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
		if err := writeFile(f.passwordFile, line, 0o600); err != nil {
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
	case f.passwordFile != "":
		text += fmt.Sprintf("password_file = %q\n", absolute(f.passwordFile))
	case !f.noPassword:
		text += "# password_file = the file with the password that you gave\n"
	}
	return text
}
