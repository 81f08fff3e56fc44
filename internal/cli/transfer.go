package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/transfer"
)

func (a *app) transferCommand() *cobra.Command {
	cmd := a.group("transfer", "Move the KEK or named keys to another HSM token",
		a.transferPrepareCommand(), a.transferExportCommand(), a.transferConfirmCommand(), a.transferCancelCommand(),
		a.transferImportCommand(), a.transferStatusCommand(), a.transferVerifyCommand())
	cmd.Long = `Move the KEK alone, so that another HSM token serves every wrapped key, or named
keys with their versions and rules. The destination prepares: its HSM token makes a
KEKEK, and a signed statement of it. The source exports to that statement, as soon
as as many custodians as unseal it have confirmed that with their shares. What
comes out is a ring, a file that the destination alone can open, once.

Compare the fingerprint of the statement over another way before you confirm:
anybody can make a statement. The KEK must have been made transferable
(claviger init --transferable-kek).

With --module, prepare and import work on an HSM token without a server: for the
KEK, which a token must get before a server is initialised with it.`
	cmd.Example = "  claviger transfer prepare --output statement.json\n" +
		"  claviger transfer export --statement statement.json --mount transit --output keys.ring\n" +
		"  claviger transfer confirm --nonce NONCE\n" +
		"  claviger transfer import --input keys.ring"
	return cmd
}

func (a *app) transferConfirmCommand() *cobra.Command {
	var req api.ConfirmTransfer
	cmd := &cobra.Command{
		Use:   "confirm",
		Short: "Give a custodian's share for an export",
		Long: `Show the export and its destination, and give a share for it. The share is asked
for without echo, or is the first line of standard input; it is never an argument.
Take the nonce from who began the export, and compare the fingerprint with what the
destination showed.`,
		Example: "  claviger transfer confirm --nonce 2dbd10f1-8528-6246-09e7-82b25b8aba63",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			st, err := c.TransferStatus(ctx)
			if err != nil {
				return err
			}
			a.say("Export of %s to the HSM token %q (%s %s, serial number %s), statement %s", exported(st),
				st.Destination.Label, st.Destination.Manufacturer, st.Destination.Model, st.Destination.Serial, st.Fingerprint)
			share, err := a.secret(ctx, "Share")
			if err != nil {
				return err
			}
			defer clear(share)
			if len(share) == 0 {
				return usagef("there is no share on standard input")
			}
			req.Key = string(share)
			return a.showTransfer(c.ConfirmTransfer(ctx, req))
		}),
	}
	cmd.Flags().StringVar(&req.Nonce, "nonce", "", "nonce of the export, as export showed it")
	if err := cmd.MarkFlagRequired("nonce"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func (a *app) transferCancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "cancel",
		Short:   "End the export under way",
		Example: "  claviger transfer cancel",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			if err := c.CancelTransfer(ctx); err != nil {
				return err
			}
			a.say("No export is under way.")
			return nil
		}),
	}
}

func (a *app) transferStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show the export under way and its destination",
		Example: "  claviger transfer status",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			return a.showTransfer(c.TransferStatus(ctx))
		}),
	}
}

func exported(st *api.TransferStatus) string {
	if st.Contents == transfer.ContentsKEK {
		return "the KEK"
	}
	return fmt.Sprintf("%d keys", st.Keys)
}

func (a *app) showTransfer(st *api.TransferStatus, err error) error {
	if err != nil {
		return err
	}
	return a.show(st, func(t *table) {
		t.field("Nonce", st.Nonce)
		t.field("Exports", exported(st))
		t.field("Left out", len(st.LeftOut))
		for _, name := range st.LeftOut {
			t.field("", name+": "+st.Reasons[name])
		}
		t.field("Confirmed", st.Confirmed)
		t.field("Shares", fmt.Sprintf("%d/%d", st.Progress, st.Required))
		t.field("Fingerprint", st.Fingerprint)
		t.field("KEKEK", fmt.Sprintf("RSA-%d %s", st.Bits, st.KEKEKFingerprint))
		t.field("Stated", st.Created)
		d := st.Destination
		t.field("Token", fmt.Sprintf("%s, serial number %s", d.Label, d.Serial))
		t.field("Device", strings.Join([]string{d.Manufacturer, d.Model, d.Firmware}, " "))
		t.field("Module", d.Module)
		t.field("Paddings", strings.Join(st.Paddings, ", "))
		for _, name := range slices.Sorted(maps.Keys(st.Attributes)) {
			t.field(name, st.Attributes[name])
		}
	})
}

func (a *app) transferVerifyCommand() *cobra.Command {
	var input, statement string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check a statement or a ring without a server",
		Long: `Check every signature and number of a ring, and that none of its lines is missing;
or check a statement alone. Compare the fingerprints that are shown with those that
the two servers show (sys/hsm has the audit key of the signer). What a ring holds
stays encrypted.`,
		Example: "  claviger transfer verify --statement statement.json\n  claviger transfer verify --input keys.ring --statement statement.json",
		Args:    takes(),
		RunE: func(*cobra.Command, []string) error {
			return a.transferVerify(input, statement)
		},
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "the ring")
	cmd.Flags().StringVar(&statement, "statement", "", "the destination's statement")
	return cmd
}

// verified is what verify shows.
type verified struct {
	Statement string `json:"statement,omitempty"`
	Serial    string `json:"destination_serial,omitempty"`
	Ring      string `json:"ring,omitempty"`
	Contents  string `json:"contents,omitempty"`
	Keys      int    `json:"keys,omitempty"`
	Chunks    int    `json:"chunks,omitempty"`
	Signer    string `json:"signer,omitempty"`
}

func (a *app) transferVerify(input, statement string) error {
	var v verified
	if input == "" && statement == "" {
		return usagef("name what is to be checked: --input FILE, --statement FILE, or both")
	}
	if statement != "" {
		b, err := readFileAtMost(statement, transfer.MaxLine)
		if err != nil {
			return err
		}
		s, err := transfer.ParseStatement(b)
		if err != nil {
			return err
		}
		v.Statement, v.Serial = s.Fingerprint(), s.Device.Serial
	}
	if input != "" {
		if err := v.ring(input); err != nil {
			return err
		}
	}
	return a.show(v, func(t *table) {
		for _, f := range [][2]string{{"Statement", v.Statement}, {"Serial number", v.Serial}, {"Ring", v.Ring}, {"Contents", v.Contents}, {"Signer", v.Signer}} {
			if f[1] != "" {
				t.field(f[0], f[1])
			}
		}
		if v.Ring != "" {
			t.field("Keys", v.Keys)
			t.field("Lines", v.Chunks)
		}
	})
}

// ring checks a ring, and that it is for the statement, if there is one.
func (v *verified) ring(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the ring: %w", err)
	}
	defer f.Close()
	r, err := transfer.NewReader(f)
	if err != nil {
		return err
	}
	if v.Statement != "" && r.Header.Statement != v.Statement {
		return fmt.Errorf("the ring was made for the statement %s, not for this one", r.Header.Statement)
	}
	for err == nil {
		_, err = r.Line()
	}
	if err != io.EOF {
		return err
	}
	h := r.Header
	v.Ring, v.Contents, v.Keys, v.Chunks, v.Signer, v.Statement = h.ID, h.Contents, h.Keys, h.Chunks, h.SignerFingerprint(), h.Statement
	return nil
}

func readFileAtMost(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	defer f.Close()
	b, err := readAtMost(f, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}
