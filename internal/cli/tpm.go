package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/tpm"
)

// envTPM names the TPM where --tpm does not.
const envTPM = "CLAVIGER_TPM"

// maxTPMFile is beyond every file of these commands, in bytes.
const maxTPMFile = 1 << 20

// tpmFlags are those of tpm and its commands.
type tpmFlags struct {
	device     string
	password   secretSource
	noPassword bool
}

// tpmCommand moves keys between TPMs.
func (a *app) tpmCommand() *cobra.Command {
	f := &tpmFlags{}
	cmd := a.group("tpm", "Move keys from one TPM 2.0 to another, and from software into a TPM",
		a.tpmParentCommand(f), a.tpmCreateCommand(f), a.tpmDuplicateCommand(f), a.tpmImportCommand(f),
		a.tpmShowCommand(), a.tpmUnpackCommand(), a.tpmPackCommand())
	cmd.Long = `Move keys from one TPM 2.0 to another, and from software into a TPM. The commands
work on the TPM itself, without a server.

parent writes the public area of a storage key of the destination. create makes a
key in the source that may move there, duplicate wraps it for the destination (or
a private key in PEM, without a TPM), import makes it a key of the destination. Its
files load with tpm2_load and tpm2_ptool link once unpack has taken them apart.

NOTE WELL: who can exchange the file of parent on its way gets the key. Compare the
name of the storage key that parent and duplicate show over another way, or give
it to duplicate by --to-name.

The TPM is --tpm, ` + envTPM + ` or ` + tpm.DefaultDevice + `.`
	cmd.Example = "  claviger tpm parent --out spare.json\n" +
		"  claviger tpm create --type ecdsa-p256 --may-move-to spare.json --out key.json\n" +
		"  claviger tpm duplicate --key key.json --to spare.json --out moving.json\n" +
		"  claviger tpm import moving.json --out key.json"
	cmd.PersistentFlags().StringVar(&f.device, "tpm", "", "device of the TPM, or swtpm:host:port; default "+envTPM+" or "+tpm.DefaultDevice)
	return cmd
}

// passwordFlags adds where the password of a key comes from.
func (f *tpmFlags) passwordFlags(cmd *cobra.Command) {
	f.password.flags(cmd, "password", "password of the key")
}

// newPasswordFlags adds where the password of a new key comes from.
func (f *tpmFlags) newPasswordFlags(cmd *cobra.Command) {
	f.passwordFlags(cmd)
	cmd.Flags().BoolVar(&f.noPassword, "no-password", false, "give the key no password: who may use the TPM uses the key")
}

// newPassword returns the password of a new key, nil with --no-password; a person is
// asked twice. The caller wipes it.
func (f *tpmFlags) newPassword(ctx context.Context, a *app, stdinTaken bool) ([]byte, error) {
	s := &f.password
	if f.noPassword {
		if s.file != "" || s.fd >= 0 {
			return nil, usagef("--no-password excludes --password-file and --password-fd")
		}
		return nil, nil
	}
	first, err := s.read(ctx, a, "New password of the key", stdinTaken)
	if err == nil && len(first) == 0 {
		err = &usageError{"the password is empty", "--no-password makes a key without one"}
	}
	if err != nil || s.file != "" || s.fd >= 0 || !isTerminal(a.in) {
		return first, err
	}
	again, err := s.read(ctx, a, "The same again", stdinTaken)
	defer clear(again)
	if err == nil && !bytes.Equal(first, again) {
		err = fault.New(fault.Invalid, "the two passwords differ; nothing was made")
	}
	if err != nil {
		clear(first)
		return nil, err
	}
	return first, nil
}

// withTPM opens the TPM for the time of do.
func (f *tpmFlags) withTPM(do func(*tpm.Device) error) error {
	name := f.device
	if name == "" {
		name = os.Getenv(envTPM)
	}
	d, err := tpm.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(do(d), d.Close())
}

func (a *app) tpmParentCommand(f *tpmFlags) *cobra.Command {
	var which, out string
	cmd := &cobra.Command{
		Use:   "parent",
		Short: "Write the public area of a storage key, for which keys can be wrapped",
		Long: `Write the public area of a storage key of this TPM: what other machines need so
that they can wrap keys for it. Nothing is changed in the TPM.

--parent is owner-ecc-p256 (the default) or owner-rsa-2048, the primary keys of the
TCG's templates, or the handle of a key that lies in the TPM: tpm2_ptool makes one
at 0x81000000 or so, and links only keys under it.`,
		Example: "  claviger tpm parent --out spare.json\n  claviger tpm parent --parent 0x81000000 --out spare.json",
		Args:    takes(),
		RunE: func(*cobra.Command, []string) error {
			if err := needNewFiles(out); err != nil {
				return err
			}
			return f.withTPM(func(d *tpm.Device) error {
				s, err := d.StorageKey(which)
				if err != nil {
					return err
				}
				a.say("Storage key %s: compare this name where keys are wrapped.", s.Name())
				return writeTPMFile(out, s)
			})
		},
	}
	parentFlag(cmd, &which)
	newFileFlag(cmd, &out)
	return cmd
}

func parentFlag(cmd *cobra.Command, which *string) {
	cmd.Flags().StringVar(which, "parent", "", "storage key: owner-ecc-p256, owner-rsa-2048 or a handle such as 0x81000001")
	complete(cmd, "parent", "owner-ecc-p256", "owner-rsa-2048", "0x81000001")
}

func newFileFlag(cmd *cobra.Command, out *string) {
	cmd.Flags().StringVarP(out, "out", "o", "", "file to write, which must not exist yet")
}

// tpmCreateFlags say what a key may do.
type tpmCreateFlags struct {
	usage    string
	moveTo   string
	anywhere bool
}

func (c *tpmCreateFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.usage, "usage", "", "sign (default), or of an RSA key decrypt or both; tpm2-pkcs11 signs with RSA keys for both only")
	complete(cmd, "usage", tpm.UsageSign, tpm.UsageDecrypt, tpm.UsageBoth)
	cmd.Flags().StringVar(&c.moveTo, "may-move-to", "", "file of claviger tpm parent: the one storage key to which it may be duplicated")
	cmd.Flags().BoolVar(&c.anywhere, "may-move-anywhere", false, "it may be duplicated to every storage key, under its password")
}

func (c *tpmCreateFlags) options(password []byte) (tpm.KeyOptions, error) {
	o := tpm.KeyOptions{Usage: c.usage, Password: password, MoveAnywhere: c.anywhere}
	var err error
	if c.moveTo != "" {
		o.MoveTo, err = readTPMFile(c.moveTo, tpm.ParseStorageKey)
	}
	return o, err
}

func (a *app) tpmCreateCommand(f *tpmFlags) *cobra.Command {
	var c tpmCreateFlags
	var which, keyType, out string
	var inner bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a key in the TPM that may move to another",
		Long: `Make a key in the TPM that may move to another. Where it may move is part of the
key and can't be changed: to one storage key, or anywhere under its password.

The file is useless without this TPM, and the TPM keeps nothing of the key: keep
the file, with its password.`,
		Example: "  claviger tpm create --type ecdsa-p256 --may-move-to spare.json --out key.json",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needNewFiles(out); err != nil {
				return err
			}
			password, err := f.newPassword(cmd.Context(), a, false)
			if err != nil {
				return err
			}
			defer clear(password)
			o, err := c.options(password)
			if err != nil {
				return err
			}
			o.InnerKey = inner
			return f.withTPM(func(d *tpm.Device) error {
				k, err := d.Create(which, keyType, o)
				if err != nil {
					return err
				}
				return writeTPMFile(out, k)
			})
		},
	}
	cmd.Flags().StringVar(&keyType, "type", tpm.ECDSAP256, "type of the key: ecdsa-p256 or rsa-2048")
	complete(cmd, "type", tpm.ECDSAP256, tpm.RSA2048)
	parentFlag(cmd, &which)
	c.flags(cmd)
	cmd.Flags().BoolVar(&inner, "demand-inner-key", false, "it may move with an inner wrapping only, whose key travels another way")
	f.newPasswordFlags(cmd)
	newFileFlag(cmd, &out)
	return cmd
}

// tpmFile is what the commands keep in files.
type tpmFile interface{ Encode() ([]byte, error) }

// writeTPMFile writes a new file. Only its owner reads it: a key without a password
// is open to who has its file and may use the TPM.
func writeTPMFile(path string, v tpmFile) error {
	text, err := v.Encode()
	if err != nil {
		return err
	}
	return writeNewFile(path, text)
}

// writeNewFile writes a file that does not exist yet, or nothing.
func writeNewFile(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write a new file: %w", err)
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(path)))
	}
	return nil
}

// needNewFiles refuses paths at which something is, before anything is done.
func needNewFiles(paths ...string) error {
	for _, path := range paths {
		if path == "" {
			return usagef("--out is missing")
		}
		if _, err := os.Lstat(path); err == nil {
			return &usageError{path + " is there already", "move it away, or name another file: a key may be lost with it"}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("write a new file: %w", err)
		}
	}
	return nil
}

// readTPMFile reads a file of these commands.
func readTPMFile[T any](path string, parse func([]byte) (T, error)) (T, error) {
	var none T
	text, err := readFile(path)
	if err != nil {
		return none, err
	}
	v, err := parse(text)
	if err != nil {
		return none, fault.Wrap(fault.Invalid, err, "%s", path)
	}
	return v, nil
}

func publicPEM(key any) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encode a public key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}
