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
	"github.com/claviger/claviger/internal/ceremony/custodians"
	"github.com/claviger/claviger/internal/server"
)

func (a *app) ceremonyCommand() *cobra.Command {
	cmd := a.group("ceremony", "Hold ceremonies: offline roots, CRLs, proved by transcripts",
		a.ceremonyShowCommand(), a.ceremonyRunCommand(), a.ceremonyRehearseCommand(), a.ceremonySignCommand(), a.ceremonyVerifyCommand(), a.ceremonyExampleCommand())
	cmd.Long = `A ceremony is an act of custodians: one strict YAML file describes it beforehand,
one signed transcript proves it afterwards. Kinds that need no server, with keys in
an HSM token that is opened here:

` + kindList(ca.Kinds()) + `
Kinds that a running server performs, whose HSM token signs what was done:

` + kindList(custodians.Kinds())
	cmd.Example = "  claviger ceremony example root > root.yaml\n  claviger ceremony rehearse root.yaml\n  claviger ceremony run root.yaml\n" +
		"  claviger ceremony verify root.transcript"
	return cmd
}

// ceremonyFlags are those of run and rehearse.
type ceremonyFlags struct {
	confirmations, pinFile, out    string
	pinFD, shareFD                 int
	restart, rehearse, scratchKeys bool
}

func kindList(names, help []string) string {
	var b strings.Builder
	for i := range names {
		fmt.Fprintf(&b, "  %-15s %s\n", names[i], help[i])
	}
	return b.String()
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

With a kind that a server performs the server is asked with the client token of the
environment. Shares are asked for without echo, or are lines of standard input or of
--share-fd: those in force first, then with rekey the new ones, which their custodians
decrypt from the files of the document. What the server hands over goes to files that
only their owner reads. A ceremony that was broken off is completed with --restart, or
held anew if the server did nothing; an act that failed changed nothing.

The PIN of the HSM token is asked for, or taken from --pin-fd, --pin-file, or the
pin_file of the document.

Where there is no terminal, --confirmations names a file that confirms in the place
of the custodians; the transcript says so:

  document: SHA-256 of the document in hexadecimal
  confirmed_by: [Alice Example, Bob Example]
  reason: why nobody is asked`,
		Example: "  claviger ceremony run root.yaml\n  claviger ceremony run --pin-file /run/pin crl.yaml\n  claviger ceremony run rekey.yaml",
		Args:    takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.holdCeremony(cmd.Context(), args[0], &f)
		},
	}
	cmd.Flags().StringVar(&f.confirmations, "confirmations", "", "YAML file that confirms instead of the custodians")
	cmd.Flags().StringVar(&f.pinFile, "pin-file", "", "file with the user PIN of the HSM token")
	cmd.Flags().IntVar(&f.pinFD, "pin-fd", -1, "file descriptor from which the user PIN is read")
	cmd.Flags().BoolVar(&f.restart, "restart", false, "complete or take back an act of a server that was broken off")
	f.shareFlag(cmd)
	cmd.Flags().BoolVar(&f.rehearse, "rehearse", false, "play it, as claviger ceremony rehearse does")
	f.rehearsalFlags(cmd)
	return cmd
}

func (f *ceremonyFlags) rehearsalFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.out, "out", "", "directory for what a rehearsal makes; default is a scratch one that is removed")
	cmd.Flags().BoolVar(&f.scratchKeys, "scratch-keys", false, "in a rehearsal, made-up keys in the place of the custodians' OpenPGP keys")
}

func (f *ceremonyFlags) shareFlag(cmd *cobra.Command) {
	cmd.Flags().IntVar(&f.shareFD, "share-fd", -1, "file descriptor whose lines are shares, in place of the terminal or standard input")
}

func (a *app) ceremonyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show FILE",
		Short: "Show what a ceremony with a server will do",
		Long: `Read a document of a kind that a server performs, and the OpenPGP keys that it names,
and show what will happen: the custodians with their keys, the threshold, the files. No
server is asked and nothing is changed. What a kind with an HSM token will sign is shown
by claviger ceremony rehearse.`,
		Example: "  claviger ceremony show rekey.yaml",
		Args:    takes("FILE"),
		RunE:    func(_ *cobra.Command, args []string) error { return a.showDocument(args[0]) },
	}
}

func (a *app) ceremonySignCommand() *cobra.Command {
	var custodian, signature string
	cmd := &cobra.Command{
		Use:   "sign TRANSCRIPT",
		Short: "Add a custodian's OpenPGP signature to a transcript",
		Long: `Write to standard output what a custodian signs of the transcript of an act that a
server performed (gpg --detach-sign --armor makes the signature); or, with --as and --signature, verify such a detached signature and
add it to the transcript. Each custodian whose key the document names, with a share or
as a signer, may sign once, in any order.`,
		Example: "  claviger ceremony sign rekey.transcript > signed\n" +
			"  claviger ceremony sign --as 'Ada Example' --signature signed.asc rekey.transcript",
		Args: takes("TRANSCRIPT"),
		RunE: func(_ *cobra.Command, args []string) error {
			if (custodian == "") != (signature == "") {
				return usagef("--as and --signature go together")
			}
			return a.signTranscript(args[0], custodian, signature)
		},
	}
	cmd.Flags().StringVar(&custodian, "as", "", "name of the custodian, as the document has it")
	cmd.Flags().StringVar(&signature, "signature", "", "file with the detached signature, armored or binary")
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
go to --out, or nowhere. The transcript says that it was a rehearsal.

A kind that a server performs is played on a server that is started for it with a new
software token, and removed. Shares that would be in force are made up. The custodians
decrypt the new ones with their own OpenPGP keys and give them, as in the ceremony, from
--out or the directory that is shown; with --scratch-keys made-up keys take their place,
and nobody is asked for a share.`,
		Example: "  claviger ceremony rehearse root.yaml\n  claviger ceremony rehearse --out /tmp/rehearsal root.yaml",
		Args:    takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.rehearseCeremony(cmd.Context(), args[0], &f)
		},
	}
	cmd.Flags().StringVar(&f.confirmations, "confirmations", "", "YAML file that confirms instead of the custodians")
	f.rehearsalFlags(cmd)
	f.shareFlag(cmd)
	return cmd
}

// readCeremony reads a document and, if there is one, the file of confirmations.
func readCeremony(path string, f *ceremonyFlags) (*ceremony.Document, ceremony.Act, *ceremony.Confirmations, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read the document: %w", err)
	}
	d, act, err := ca.Parse(text, path)
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := readConfirmations(f)
	return d, act, c, err
}

// readConfirmations returns nil if there is no such file.
func readConfirmations(f *ceremonyFlags) (*ceremony.Confirmations, error) {
	if f.confirmations == "" {
		return nil, nil
	}
	text, err := readFile(f.confirmations)
	if err != nil {
		return nil, fmt.Errorf("read the confirmations: %w", err)
	}
	return ceremony.ParseConfirmations(text)
}

// ceremonyOptions are those of package ceremony.
type ceremonyOptions struct{ ceremony.Options }

// rehearse makes them those of a rehearsal; remove removes what was made for it.
func (o *ceremonyOptions) rehearse(out string) (remove func() error, err error) {
	o.Rehearsal, o.Out = true, out
	if out != "" {
		return func() error { return nil }, nil
	}
	if o.Out, err = os.MkdirTemp("", "claviger-rehearsal-"); err != nil {
		return nil, fmt.Errorf("make a scratch directory: %w", err)
	}
	return func() error { return os.RemoveAll(o.Out) }, nil
}

func (a *app) ceremonyOptions(c *ceremony.Confirmations) (ceremonyOptions, error) {
	o := ceremonyOptions{ceremony.Options{Tool: "claviger " + version, People: newPeople(a), Confirmations: c}}
	if c == nil && !isTerminal(a.in) {
		return o, &usageError{"the custodians must type their phrases, and standard input is no terminal",
			"where nobody can be asked, --confirmations names a file; the transcript records it"}
	}
	return o, nil
}

func (a *app) holdCeremony(ctx context.Context, path string, f *ceremonyFlags) error {
	switch {
	case f.rehearse && f.restart:
		return usagef("--rehearse and --restart exclude each other")
	case f.rehearse:
		return a.rehearseCeremony(ctx, path, f)
	case f.out != "" || f.scratchKeys:
		return usagef("--out and --scratch-keys go with --rehearse")
	}
	remote, yes, err := serverCeremony(path, f)
	if err != nil {
		return err
	}
	if remote != nil {
		return a.holdServerCeremony(ctx, remote, yes, f)
	}
	if f.restart {
		return usagef("--restart is for acts that a server performs")
	}
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
	r, err := ceremony.Run(ctx, d, act, o.Options)
	if err := errors.Join(err, o.Token.Close()); err != nil {
		return err
	}
	return a.showCeremony(r)
}

func (a *app) rehearseCeremony(ctx context.Context, path string, f *ceremonyFlags) (err error) {
	remote, yes, err := serverCeremony(path, f)
	if err != nil {
		return err
	}
	if remote != nil {
		return a.rehearseServerCeremony(ctx, remote, yes, f)
	}
	if f.scratchKeys {
		return usagef("--scratch-keys is for acts that a server performs")
	}
	d, act, c, err := readCeremony(path, f)
	if err != nil {
		return err
	}
	o, err := a.ceremonyOptions(c)
	if err != nil {
		return err
	}
	remove, err := o.rehearse(f.out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if o.Token, err = server.ScratchToken(ctx, "rehearsal"); err != nil {
		return err
	}
	r, err := ceremony.Run(ctx, d, act, o.Options)
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
	more, _ := custodians.Kinds()
	names = append(names, more...)
	return &cobra.Command{
		Use:       "example KIND",
		Short:     "Print a document of a kind, with remarks",
		Long:      "Print a document of a kind: " + strings.Join(names, ", ") + ".",
		Example:   "  claviger ceremony example root > root.yaml",
		ValidArgs: names,
		Args:      takes("KIND"),
		RunE: func(_ *cobra.Command, args []string) error {
			example := ca.Example
			if custodians.Is(args[0]) {
				example = custodians.Example
			}
			text, err := example(args[0])
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
