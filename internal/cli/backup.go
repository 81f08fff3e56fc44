package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/transfer/cryptech"
)

// Environment variables that name the HSM token where flags don't.
const (
	envHSMModule = "CLAVIGER_HSM_MODULE"
	envHSMLabel  = "CLAVIGER_HSM_LABEL"
	envHSMSerial = "CLAVIGER_HSM_SERIAL"
)

// backupFlags are those of backup and its commands.
type backupFlags struct {
	hsm           doctorFlags
	pin           secretSource
	passphrase    secretSource
	argument      string // of -p
	input, output string
	compat        bool // called as cryptech_backup
}

// backupCommand is the transfer of keys between HSM tokens.
func (a *app) backupCommand() *cobra.Command { return a.backupTree("backup", false) }

// cryptechBackupCommand is Cryptech's cryptech_backup.
func (a *app) cryptechBackupCommand() *cobra.Command { return a.backupTree("cryptech_backup", true) }

func (a *app) backupTree(name string, compat bool) *cobra.Command {
	f := &backupFlags{compat: compat}
	cmd := a.group(name, "Move private keys from one HSM token to another",
		a.backupSetupCommand(name, f), a.backupExportCommand(name, f), a.backupImportCommand(name, f))
	cmd.Long = `Move private RSA and EC keys from one PKCS#11 token to another, encrypted, in the
files of Cryptech's cryptech_backup. Called as cryptech_backup (through a link: ln
-s claviger cryptech_backup) this program behaves the same.

setup makes an RSA pair in the destination (the KEKEK), whose public half goes to
the source. export wraps every extractable key of the source under a key of its
own, and that under the KEKEK, inside the HSM. import unwraps them, inside the
other HSM. The commands work on the HSM tokens themselves, without a server.

NOTE WELL: anybody can make a KEKEK. Compare the fingerprint that setup and export
show over another way, or give it to export by --fingerprint, before you trust a
file.

The HSM token is named by --module and --label, by --config of a server, or by
` + envHSMModule + `, ` + envHSMLabel + ` and ` + envHSMSerial + `.`
	cmd.Example = "  claviger " + name + " --module /usr/lib/softhsm/libsofthsm2.so --label spare setup --output kekek.json\n" +
		"  claviger " + name + " --module /usr/lib/softhsm/libsofthsm2.so --label main export --input kekek.json --output backup.json\n" +
		"  claviger " + name + " --module /usr/lib/softhsm/libsofthsm2.so --label spare import --input backup.json"
	p := cmd.PersistentFlags()
	p.StringVar(&f.hsm.config, "config", "", "take module, label and the rest from this configuration file")
	p.StringVar(&f.hsm.module, "module", "", "the module's shared object; default "+envHSMModule)
	p.StringVar(&f.hsm.label, "label", "", "label of the HSM token; default "+envHSMLabel)
	p.StringVar(&f.hsm.serial, "serial", "", "serial number of the HSM token; default "+envHSMSerial)
	p.StringToStringVar(&f.hsm.env, "env", nil, "NAME=value for the worker's environment; may be repeated")
	f.pin.flags(cmd, "pin", "PIN")
	if compat {
		p.StringVarP(&f.argument, "pin", "p", "", "refused: every process of the machine can read it; use --pin-fd or --pin-file")
	}
	return cmd
}

func (a *app) backupSetupCommand(name string, f *backupFlags) *cobra.Command {
	o := cryptech.SetupOptions{}
	var kdf string
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Prepare a destination: find or make a KEKEK",
		Long: `Find a KEKEK in the HSM token, or make one, and write its public half into a file
for export. With --soft-backup the KEKEK is made in this machine's memory and
written into the file under a passphrase, for the case that there is no second HSM:
then the keys are only as safe as the memory and the passphrase.`,
		Example: "  claviger " + name + " --module /usr/lib/softhsm/libsofthsm2.so --label spare setup --output kekek.json",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.KDF = cryptech.KDF(kdf)
			if o.New && o.Soft || o.UUID != "" && (o.New || o.Soft) {
				return usagef("--new, --uuid and --soft-backup exclude each other")
			}
			return a.backupSetup(cmd.Context(), f, o)
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&o.New, "new", "n", false, "make a new KEKEK in any case")
	fl.StringVarP(&o.UUID, "uuid", "u", "", "UUID of the key of the HSM token that is to be the KEKEK")
	fl.BoolVarP(&o.Soft, "soft-backup", "s", false, "make the KEKEK in software, kept under a passphrase")
	fl.IntVarP(&o.Bits, "keylen", "k", cryptech.MinBits, fmt.Sprintf("bits of a new KEKEK, %d to %d", cryptech.MinBits, cryptech.MaxBits))
	fl.StringVar(&kdf, "kdf", string(cryptech.PBKDF2), "with --soft-backup: pbkdf2, or argon2id, which cryptech_backup does not know")
	complete(cmd, "kdf", string(cryptech.PBKDF2), string(cryptech.Argon2id))
	f.outputFlag(cmd)
	f.passphrase.flags(cmd, "passphrase", "passphrase of a software KEKEK")
	return cmd
}

func (a *app) backupExportCommand(name string, f *backupFlags) *cobra.Command {
	var o cryptech.ExportOptions
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Wrap the extractable keys of the source for a KEKEK",
		Long: `Take the file of setup, and write one with every RSA and EC key of the HSM token
that is CKA_EXTRACTABLE, wrapped for the KEKEK, and with the public keys. What is
exported is listed on standard error.`,
		Example: "  claviger " + name + " --module /usr/lib/softhsm/libsofthsm2.so --label main export --input kekek.json --output backup.json",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.backupExport(cmd.Context(), f, o)
		},
	}
	f.inputFlag(cmd)
	f.outputFlag(cmd)
	cmd.Flags().StringVar(&o.Fingerprint, "fingerprint", "", "SHA-256 of the KEKEK, in hexadecimal, as setup showed it; another is refused")
	cmd.Flags().BoolVar(&o.Labels, "labels", false, "add the labels of the keys, which cryptech_backup ignores")
	return cmd
}

func (a *app) backupImportCommand(name string, f *backupFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Unwrap the keys of a file into the destination",
		Long: `Take the file of export, and make its keys in the HSM token that made the KEKEK, or
in any with the passphrase of a software KEKEK. Each key gets a new UUID, its
CKA_ID, and a public key object beside it. If one can't come, none stays.`,
		Example: "  claviger " + name + " --module /usr/lib/softhsm/libsofthsm2.so --label spare import --input backup.json",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.backupImport(cmd.Context(), f)
		},
	}
	f.inputFlag(cmd)
	f.passphrase.flags(cmd, "passphrase", "passphrase of a software KEKEK")
	return cmd
}

func (f *backupFlags) inputFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.input, "input", "i", "-", "file to read; - is standard input")
}

func (f *backupFlags) outputFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.output, "output", "o", "-", "file to write; - is standard output")
}

func (a *app) backupSetup(ctx context.Context, f *backupFlags, o cryptech.SetupOptions) error {
	if o.Soft {
		if err := errors.Join(f.refuseArgument(), f.skipPIN(ctx, a)); err != nil {
			return err
		}
		file, err := a.newBackup(f, true).Setup(ctx, o)
		if err != nil {
			return err
		}
		return a.writeBackup(f, file)
	}
	return a.withHSM(ctx, f, false, func(b *cryptech.Backup) error {
		file, err := b.Setup(ctx, o)
		if err != nil {
			return err
		}
		return a.writeBackup(f, file)
	})
}

func (a *app) backupExport(ctx context.Context, f *backupFlags, o cryptech.ExportOptions) error {
	in, err := a.readBackup(f)
	if err != nil {
		return err
	}
	return a.withHSM(ctx, f, f.input == "-", func(b *cryptech.Backup) error {
		file, err := b.Export(ctx, in, o)
		if err != nil {
			return err
		}
		return a.writeBackup(f, file)
	})
}

func (a *app) backupImport(ctx context.Context, f *backupFlags) error {
	in, err := a.readBackup(f)
	if err != nil {
		return err
	}
	return a.withHSM(ctx, f, f.input == "-", func(b *cryptech.Backup) error {
		list, err := b.Import(ctx, in)
		if err != nil {
			return err
		}
		if a.format == "json" {
			return a.showJSON(map[string]any{"keys": append([]cryptech.Imported{}, list...)})
		}
		for _, key := range list {
			if _, err := fmt.Fprintln(a.out, printable(key.String())); err != nil {
				return err
			}
		}
		return nil
	})
}

// refuseArgument refuses the PIN of the original's -p.
func (f *backupFlags) refuseArgument() error {
	if f.argument == "" {
		return nil
	}
	e := usagef("-p shows the PIN to every process of the machine, and is refused")
	e.hint = "leave it out to be asked, or use --pin-fd N or --pin-file FILE"
	return e
}

// skipPIN takes the PIN off standard input where cryptech_backup gets it there before
// the passphrase: a software KEKEK needs no HSM token, and the PIN must not become
// its passphrase.
func (f *backupFlags) skipPIN(ctx context.Context, a *app) error {
	if !f.compat || isTerminal(a.in) || f.pin.file != "" || f.pin.fd >= 0 || f.passphrase.file != "" || f.passphrase.fd >= 0 {
		return nil
	}
	pin, err := f.pin.read(ctx, a, "", false)
	clear(pin)
	return err
}

// newBackup makes the steps without an HSM token. In setup the passphrase is a new
// one, which is asked for again where somebody types it.
func (a *app) newBackup(f *backupFlags, setup bool) *cryptech.Backup {
	return &cryptech.Backup{
		Software: server.Software(),
		Say:      a.say,
		Passphrase: func(ctx context.Context) ([]byte, error) {
			return a.askPassphrase(ctx, f, setup)
		},
	}
}

func (a *app) askPassphrase(ctx context.Context, f *backupFlags, setup bool) ([]byte, error) {
	s := &f.passphrase
	first, err := s.read(ctx, a, "KEKEK Passphrase", !setup && f.input == "-")
	// cryptech_backup asks once, and scripts answer once.
	if err != nil || !setup || f.compat || s.file != "" || s.fd >= 0 || !isTerminal(a.in) {
		return first, err
	}
	again, err := s.read(ctx, a, "The same again", false)
	defer clear(again)
	if err == nil && !bytes.Equal(first, again) {
		err = fault.New(fault.Invalid, "the two passphrases differ; nothing was made")
	}
	if err != nil {
		clear(first)
		return nil, err
	}
	return first, nil
}

// withHSM logs in to the HSM token for the time of do.
func (a *app) withHSM(ctx context.Context, f *backupFlags, stdinTaken bool, do func(*cryptech.Backup) error) error {
	if err := f.refuseArgument(); err != nil {
		return err
	}
	f.fromEnvironment()
	if f.hsm.module == "" && f.hsm.config == "" {
		return usagef("the HSM token must be named: --module FILE, with --label, or --config of a server")
	}
	refused := func(err error) error { return fault.Wrap(fault.Denied, err, "Couldn't log into HSM") }
	return a.onModule(ctx, &f.hsm, func() ([]byte, error) { return f.pin.read(ctx, a, "Wheel PIN", stdinTaken) }, refused, func(hsm token.Mover) error {
		b := a.newBackup(f, false)
		b.HSM = hsm
		return do(b)
	})
}

// fromEnvironment takes what names the HSM token from the environment, unless flags
// or a configuration do.
func (f *backupFlags) fromEnvironment() {
	for _, v := range []struct {
		flag *string
		name string
	}{{&f.hsm.module, envHSMModule}, {&f.hsm.label, envHSMLabel}, {&f.hsm.serial, envHSMSerial}} {
		if *v.flag == "" && f.hsm.config == "" {
			*v.flag = os.Getenv(v.name)
		}
	}
}

func (a *app) readBackup(f *backupFlags) ([]byte, error) {
	in := a.in
	if f.input != "-" {
		file, err := os.Open(f.input)
		if err != nil {
			return nil, fmt.Errorf("read the file: %w", err)
		}
		defer file.Close()
		in = file
	}
	b, err := readAtMost(in, cryptech.MaxDocument)
	if err != nil {
		return nil, fmt.Errorf("read the file: %w", err)
	}
	return b, nil
}

func (a *app) writeBackup(f *backupFlags, file []byte) error {
	if f.output == "-" {
		_, err := a.out.Write(file)
		return err
	}
	return writeFile(f.output, file, 0o600)
}
