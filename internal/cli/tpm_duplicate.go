package cli

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/tpm"
)

// duplicateFlags are those of tpm duplicate.
type duplicateFlags struct {
	key, pem string
	to, name string
	innerOut string
	out      string
	software tpmCreateFlags
}

func (a *app) tpmDuplicateCommand(f *tpmFlags) *cobra.Command {
	var x duplicateFlags
	cmd := &cobra.Command{
		Use:   "duplicate",
		Short: "Wrap a key of this TPM, or a private key in PEM, for the storage key of another TPM",
		Long: `Wrap a key of this TPM for the storage key of another (TPM2_Duplicate), or with
--pem a private key that is in software, without a TPM. Only the other TPM opens
the file; with --inner-key-out it needs a second file as well, which should travel
another way. A key of this TPM stays in it, too; its policy, said at its making,
must allow the move.

With --pem the key gets the password that is asked for, and leaves the other TPM
only as --may-move-to or --may-move-anywhere say: without them, never. Delete the
software key afterwards, with its copies.`,
		Example: "  claviger tpm duplicate --key key.json --to spare.json --out moving.json\n" +
			"  openssl pkey -in ca.pem | claviger tpm duplicate --pem - --to spare.json --inner-key-out inner.key --out moving.json",
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.tpmDuplicate(cmd.Context(), f, &x)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&x.key, "key", "", "file of claviger tpm create or import: the key of this TPM")
	fl.StringVar(&x.pem, "pem", "", "file of a private key in PEM that is not encrypted; - is standard input")
	fl.StringVar(&x.to, "to", "", "file of claviger tpm parent of the other TPM, or TPM2B_PUBLIC of tpm2_readpublic")
	fl.StringVar(&x.name, "to-name", "", "name of that storage key in hexadecimal, as parent showed it; another is refused")
	fl.StringVar(&x.innerOut, "inner-key-out", "", "make an inner wrapping, and write its key into this new file")
	x.software.flags(cmd)
	f.newPasswordFlags(cmd)
	newFileFlag(cmd, &x.out)
	return cmd
}

func (x *duplicateFlags) check() error {
	switch {
	case (x.key == "") == (x.pem == ""):
		return usagef("give either --key or --pem")
	case x.to == "":
		return &usageError{"--to is missing", "claviger tpm parent writes its file, on the machine with the other TPM"}
	case x.key != "" && x.software != tpmCreateFlags{}:
		return usagef("--usage, --may-move-to and --may-move-anywhere are for --pem: a key of a TPM has them from its making")
	case x.innerOut != "" && x.innerOut == x.out:
		return usagef("--inner-key-out and --out name the same file")
	}
	files := []string{x.out}
	if x.innerOut != "" {
		files = append(files, x.innerOut)
	}
	return needNewFiles(files...)
}

func (a *app) tpmDuplicate(ctx context.Context, f *tpmFlags, x *duplicateFlags) error {
	if err := x.check(); err != nil {
		return err
	}
	to, err := readTPMFile(x.to, tpm.ParseStorageKey)
	if err != nil {
		return err
	}
	if x.name != "" && !strings.EqualFold(x.name, to.Name()) {
		return fault.New(fault.Denied, "the storage key of %s has the name %s, not that of --to-name", x.to, to.Name()).
			WithHint("somebody may have exchanged the file; fetch it again")
	}
	var inner []byte
	if x.innerOut != "" {
		inner = tpm.NewInnerKey()
		defer clear(inner)
	}
	var made *tpm.Duplicate
	if x.pem != "" {
		made, err = a.wrapPEM(ctx, f, x, to, inner)
	} else {
		made, err = a.duplicateKey(ctx, f, x, to, inner)
	}
	if err != nil {
		return err
	}
	if err := x.write(made, inner); err != nil {
		return err
	}
	a.say("Wrapped for the storage key %s: compare the name with that of the other TPM.", to.Name())
	return nil
}

// write makes both files or none.
func (x *duplicateFlags) write(made *tpm.Duplicate, inner []byte) error {
	if inner == nil {
		return writeTPMFile(x.out, made)
	}
	if err := writeNewFile(x.innerOut, inner); err != nil {
		return err
	}
	if err := writeTPMFile(x.out, made); err != nil {
		return errors.Join(err, os.Remove(x.innerOut))
	}
	return nil
}

func (a *app) duplicateKey(ctx context.Context, f *tpmFlags, x *duplicateFlags, to *tpm.StorageKey, inner []byte) (*tpm.Duplicate, error) {
	k, err := readTPMFile(x.key, tpm.ParseKey)
	if err != nil {
		return nil, err
	}
	if f.noPassword {
		return nil, usagef("--no-password is for --pem: a key of a TPM has its password from its making")
	}
	password, err := f.keyPassword(ctx, a, k.NeedsPassword())
	if err != nil {
		return nil, err
	}
	defer clear(password)
	var made *tpm.Duplicate
	err = f.withTPM(func(d *tpm.Device) error {
		made, err = d.Duplicate(k, to, password, inner)
		return err
	})
	return made, err
}

// keyPassword asks for the password of a key that has one. The caller wipes it.
func (f *tpmFlags) keyPassword(ctx context.Context, a *app, needed bool) ([]byte, error) {
	if !needed {
		return nil, nil
	}
	return f.password.read(ctx, a, "Password of the key", false)
}

func (a *app) wrapPEM(ctx context.Context, f *tpmFlags, x *duplicateFlags, to *tpm.StorageKey, inner []byte) (*tpm.Duplicate, error) {
	key, err := a.readPEM(x.pem)
	if err != nil {
		return nil, err
	}
	password, err := f.newPassword(ctx, a, x.pem == "-")
	if err != nil {
		return nil, err
	}
	defer clear(password)
	o, err := x.software.options(password)
	if err != nil {
		return nil, err
	}
	o.InnerKey = inner != nil
	return tpm.Wrap(key, to, o, inner)
}

func (a *app) readPEM(path string) (crypto.PrivateKey, error) {
	in := a.in
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read the private key: %w", err)
		}
		defer file.Close()
		in = file
	}
	text, err := readAtMost(in, maxTPMFile)
	defer clear(text)
	if err != nil {
		return nil, fmt.Errorf("read the private key: %w", err)
	}
	return tpm.ParsePrivateKey(text)
}

func (a *app) tpmImportCommand(f *tpmFlags) *cobra.Command {
	var inner, out string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Make a duplicate a key of this TPM",
		Long: `Make the key of a duplicate a key of this TPM (TPM2_Import), under the storage key
for which it was wrapped. It is used once, to prove that it is whole. The file that
is written is useless without this TPM, and the TPM keeps nothing of the key: keep
the file.`,
		Example: "  claviger tpm import moving.json --out key.json\n  claviger tpm import moving.json --inner-key inner.key --out key.json",
		Args:    takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tpmImport(cmd.Context(), f, args[0], inner, out)
		},
	}
	cmd.Flags().StringVar(&inner, "inner-key", "", "file with the key of the inner wrapping, from --inner-key-out")
	f.passwordFlags(cmd)
	newFileFlag(cmd, &out)
	return cmd
}

func (a *app) tpmImport(ctx context.Context, f *tpmFlags, file, innerFile, out string) error {
	if err := needNewFiles(out); err != nil {
		return err
	}
	x, err := readTPMFile(file, tpm.ParseDuplicate)
	if err != nil {
		return err
	}
	var inner []byte
	if innerFile != "" {
		if inner, err = readTPMFile(innerFile, tpm.ParseInnerKey); err != nil {
			return err
		}
		defer clear(inner)
	}
	if x.NeedsInnerKey() && inner == nil {
		return usagef("the duplicate has an inner wrapping: name the file with its key by --inner-key")
	}
	password, err := f.keyPassword(ctx, a, x.NeedsPassword())
	if err != nil {
		return err
	}
	defer clear(password)
	return f.withTPM(func(d *tpm.Device) error {
		k, err := d.Import(x, password, inner)
		if err != nil {
			return err
		}
		return writeTPMFile(out, k)
	})
}
