package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/ceremony/ca"
	"github.com/claviger/claviger/internal/server"
)

func (a *app) ceremonyCommand() *cobra.Command {
	cmd := a.group("ceremony", "Hold ceremonies: offline roots, CRLs, proved by transcripts",
		a.ceremonyRunCommand(), a.ceremonyRehearseCommand(), a.ceremonyVerifyCommand(), a.ceremonyExampleCommand())
	names, help := ca.Kinds()
	cmd.Long = `A ceremony is an act of custodians: one strict YAML file describes it beforehand,
one signed transcript proves it afterwards. It needs no server: its keys are in an
HSM token that is opened here. Kinds:

`
	for i := range names {
		cmd.Long += fmt.Sprintf("  %-15s %s\n", names[i], help[i])
	}
	cmd.Example = "  claviger ceremony example root > root.yaml\n  claviger ceremony rehearse root.yaml\n  claviger ceremony run root.yaml\n" +
		"  claviger ceremony verify root.transcript"
	return cmd
}

// ceremonyFlags are those of run and rehearse.
type ceremonyFlags struct {
	confirmations, pinFile, out string
	pinFD                       int
}

func (a *app) ceremonyRunCommand() *cobra.Command {
	var f ceremonyFlags
	cmd := &cobra.Command{
		Use:   "run FILE",
		Short: "Hold a ceremony",
		Long: `Show what will be signed in full, ask the custodians, sign, verify the result and
write it with a signed transcript. Each custodian types a phrase that is made of the
digest of what will be signed; with fewer than the threshold nothing is signed and
no key stays. No file is written over.

The PIN of the HSM token is asked for, or taken from --pin-fd, --pin-file, or the
pin_file of the document.

Where there is no terminal, --confirmations names a file that confirms in the place
of the custodians; the transcript says so:

  document: SHA-256 of the document in hexadecimal
  confirmed_by: [Alice Example, Bob Example]
  reason: why nobody is asked`,
		Example: "  claviger ceremony run root.yaml\n  claviger ceremony run --pin-file /run/pin crl.yaml",
		Args:    takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.holdCeremony(cmd.Context(), args[0], &f)
		},
	}
	cmd.Flags().StringVar(&f.confirmations, "confirmations", "", "YAML file that confirms instead of the custodians")
	cmd.Flags().StringVar(&f.pinFile, "pin-file", "", "file with the user PIN of the HSM token")
	cmd.Flags().IntVar(&f.pinFD, "pin-fd", -1, "file descriptor from which the user PIN is read")
	return cmd
}

func (a *app) ceremonyRehearseCommand() *cobra.Command {
	var f ceremonyFlags
	cmd := &cobra.Command{
		Use:   "rehearse FILE",
		Short: "Play a ceremony on a scratch token",
		Long: `Play a ceremony as run holds it, confirmations included, with keys of a software
token that lives in memory and ends with it. Where the document names an issuer, a
certificate with the same contents and a scratch key stands in for it. The HSM token
is not touched, no PIN is asked for, and the files of the document are not made: they
go to --out, or nowhere. The transcript says that it was a rehearsal.`,
		Example: "  claviger ceremony rehearse root.yaml\n  claviger ceremony rehearse --out /tmp/rehearsal root.yaml",
		Args:    takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.rehearseCeremony(cmd.Context(), args[0], &f)
		},
	}
	cmd.Flags().StringVar(&f.confirmations, "confirmations", "", "YAML file that confirms instead of the custodians")
	cmd.Flags().StringVar(&f.out, "out", "", "directory for what is made; default is a scratch one that is removed")
	return cmd
}

// readCeremony reads a document and, if there is one, the file of confirmations.
func readCeremony(path string, f *ceremonyFlags) (*ceremony.Document, ceremony.Act, *ceremony.Confirmations, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read the document: %w", err)
	}
	d, act, err := ca.Parse(text, path)
	if err != nil || f.confirmations == "" {
		return d, act, nil, err
	}
	if text, err = readFile(f.confirmations); err != nil {
		return nil, nil, nil, fmt.Errorf("read the confirmations: %w", err)
	}
	c, err := ceremony.ParseConfirmations(text)
	return d, act, c, err
}

func (a *app) ceremonyOptions(c *ceremony.Confirmations) (ceremony.Options, error) {
	o := ceremony.Options{Tool: "claviger " + version, People: newPeople(a), Confirmations: c}
	if c == nil && !isTerminal(a.in) {
		return o, &usageError{"the custodians must type their phrases, and standard input is no terminal",
			"where nobody can be asked, --confirmations names a file; the transcript records it"}
	}
	return o, nil
}

func (a *app) holdCeremony(ctx context.Context, path string, f *ceremonyFlags) error {
	d, act, c, err := readCeremony(path, f)
	if err != nil {
		return err
	}
	if err := ceremony.Check(d, act); err != nil {
		return err
	}
	// A piped PIN is no terminal, but then nobody could be asked.
	o, err := a.ceremonyOptions(c)
	if err != nil {
		return err
	}
	if o.Token, err = a.openCeremonyToken(ctx, d, f); err != nil {
		return err
	}
	r, err := ceremony.Run(ctx, d, act, o)
	if err := errors.Join(err, o.Token.Close()); err != nil {
		return err
	}
	return a.showCeremony(r)
}

func (a *app) rehearseCeremony(ctx context.Context, path string, f *ceremonyFlags) (err error) {
	d, act, c, err := readCeremony(path, f)
	if err != nil {
		return err
	}
	o, err := a.ceremonyOptions(c)
	if err != nil {
		return err
	}
	o.Rehearsal, o.Out = true, f.out
	if o.Out == "" {
		if o.Out, err = os.MkdirTemp("", "claviger-rehearsal-"); err != nil {
			return fmt.Errorf("make a scratch directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.Out)) }()
	}
	if o.Token, err = server.ScratchToken(ctx, "rehearsal"); err != nil {
		return err
	}
	r, err := ceremony.Run(ctx, d, act, o)
	if err := errors.Join(err, o.Token.Close()); err != nil {
		return err
	}
	if f.out == "" {
		r.Transcript, r.Files = "", nil
	}
	return a.showCeremony(r)
}

// showCeremony shows what was made.
func (a *app) showCeremony(r *ceremony.Result) error {
	type made struct {
		Transcript string           `json:"transcript,omitempty"`
		Files      []string         `json:"files"`
		Report     *ceremony.Report `json:"report"`
	}
	return a.show(made{r.Transcript, append([]string{}, r.Files...), r.Report}, func(t *table) {
		if r.Report.Rehearsal {
			t.field("Rehearsal", "it went well; nothing of it is of worth")
		}
		for _, f := range r.Files {
			t.field("Made", f)
		}
		if r.Transcript != "" {
			t.field("Transcript", r.Transcript)
		}
		t.field("Signed by", "SHA-256 "+r.Report.SigningKey)
		t.field("Confirmed by", confirmedBy(r.Report))
	})
}

func confirmedBy(r *ceremony.Report) string {
	var names []string
	for _, c := range r.Confirmed {
		name := c.Custodian
		if c.File != "" {
			name += " (by a file: " + c.Reason + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func (a *app) ceremonyExampleCommand() *cobra.Command {
	names, _ := ca.Kinds()
	return &cobra.Command{
		Use:       "example KIND",
		Short:     "Print a document of a kind, with remarks",
		Long:      "Print a document of a kind: " + strings.Join(names, ", ") + ".",
		Example:   "  claviger ceremony example root > root.yaml",
		ValidArgs: names,
		Args:      takes("KIND"),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := ca.Example(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.out, text)
			return err
		},
	}
}

// quietLog keeps warnings of the token's driver.
func (a *app) quietLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
