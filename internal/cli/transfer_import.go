package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/transfer"
)

// hsmFlags name an HSM token that is worked on without a server.
type hsmFlags struct {
	hsm   doctorFlags
	pin   secretSource
	state string
}

func (f *hsmFlags) flags(cmd *cobra.Command) {
	p := cmd.Flags()
	p.StringVar(&f.hsm.module, "module", "", "work on an HSM token without a server: the module's shared object")
	p.StringVar(&f.hsm.label, "label", "", "label of the HSM token")
	p.StringVar(&f.hsm.serial, "serial", "", "serial number of the HSM token")
	p.StringToStringVar(&f.hsm.env, "env", nil, "NAME=value for the worker's environment; may be repeated")
	p.StringVar(&f.state, "state", "transfer-state.json", "with --module: file that the destination keeps between prepare and import")
	f.pin.flags(cmd, "pin", "PIN")
}

// open logs in to the HSM token for the time of do.
func (f *hsmFlags) open(ctx context.Context, a *app, do func(transfer.Token) error) error {
	refused := func(err error) error { return fault.Wrap(fault.Denied, err, "log in to the HSM token: %v", err) }
	return a.onModule(ctx, &f.hsm, func() ([]byte, error) { return f.pin.read(ctx, a, "User PIN", false) }, refused, func(hsm token.Mover) error {
		t, ok := hsm.(transfer.Token)
		if !ok {
			return errors.New("this HSM token takes part in no transfer")
		}
		return do(t)
	})
}

func (a *app) transferPrepareCommand() *cobra.Command {
	var f hsmFlags
	var req api.PrepareTransfer
	var output string
	var create bool
	cmd := &cobra.Command{
		Use:   "prepare",
		Short: "Make a KEKEK in the destination, and the statement of it",
		Long: `Make an RSA pair in the destination's HSM token, which unwraps and decrypts, can't
leave, and is destroyed by the import; and a signed statement: what the token says
of itself and of the pair. Send the statement to the source, and its fingerprint
over another way.

A server makes it for named keys. For the KEK name the HSM token by --module and
--label: it must be new, with a user PIN and without keys of Claviger. --create makes
it, with random PINs in a new file: the user PIN, and in a second line the SO PIN.`,
		Example: "  claviger transfer prepare --output statement.json\n" +
			"  claviger transfer prepare --module /usr/lib/softhsm/libsofthsm2.so --label spare --output statement.json --state state.json\n" +
			"  claviger transfer prepare --create --module /usr/lib/softhsm/libsofthsm2.so --label spare --pin-file spare.pin --output statement.json",
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.hsm.module != "" {
				return a.prepareHSM(cmd.Context(), &f, req.Bits, output, create)
			}
			if create {
				return usagef("--create is for --module: a server has its HSM token")
			}
			return a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
				p, err := c.PrepareTransfer(ctx, req)
				if err != nil {
					return err
				}
				return a.showPrepared(p, output)
			})(cmd, nil)
		},
	}
	cmd.Flags().IntVar(&req.Bits, "bits", transfer.DefaultBits, "size of the RSA pair, 3072 to 4096, a multiple of 256")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file for the statement")
	if err := cmd.MarkFlagRequired("output"); err != nil {
		panic(err) // the flag is defined above
	}
	cmd.Flags().BoolVar(&create, "create", false, "with --module: make the HSM token first, with random PINs in the file of --pin-file, which must be new")
	f.flags(cmd)
	return cmd
}

func (a *app) showPrepared(p *api.PreparedTransfer, output string) error {
	if err := writeFile(output, []byte(p.Statement), 0o644); err != nil {
		return err
	}
	return a.show(map[string]string{"fingerprint": p.Fingerprint, "kekek_fingerprint": p.KEKEKFingerprint, "file": output}, func(t *table) {
		t.field("Fingerprint", p.Fingerprint)
		t.field("KEKEK", p.KEKEKFingerprint)
		t.field("File", output)
	})
}

func (a *app) prepareHSM(ctx context.Context, f *hsmFlags, bits int, output string, create bool) error {
	if _, err := os.Stat(f.state); err == nil {
		return fmt.Errorf("%s is there already: it may belong to a statement that is in use; name another with --state", f.state)
	}
	if create {
		if err := f.create(ctx, a); err != nil {
			return err
		}
	}
	return f.open(ctx, a, func(t transfer.Token) error {
		line, state, err := transfer.Prepare(ctx, t, bits, time.Now())
		if err != nil {
			return err
		}
		b, err := json.MarshalIndent(state, "", "  ")
		if err == nil {
			err = writeFile(f.state, append(b, '\n'), 0o600)
		}
		if err != nil {
			return err
		}
		s, err := transfer.ParseStatement(line)
		if err != nil {
			return err
		}
		return a.showPrepared(&api.PreparedTransfer{Statement: string(line), Fingerprint: s.Fingerprint(), KEKEKFingerprint: s.KEKEKFingerprint()}, output)
	})
}

func (a *app) transferImportCommand() *cobra.Command {
	var f hsmFlags
	var input string
	var transferable bool
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Import a ring",
		Long: `Import a ring into the server that prepared it. Repeated, it goes on where it was
interrupted. The mounts of the keys must be there, and a key of the same name must
not, unless it is the very same.

With --module the KEK of a ring goes into the HSM token that prepared it; then
initialise a server with that token (claviger init --hsm-token adopt), or restore
one.`,
		Example: "  claviger transfer import --input keys.ring\n" +
			"  claviger transfer import --module /usr/lib/softhsm/libsofthsm2.so --label spare --input kek.ring --state state.json",
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := os.Open(input)
			if err != nil {
				return fmt.Errorf("read the ring: %w", err)
			}
			defer file.Close()
			r, err := transfer.NewReader(file)
			if err != nil {
				return err
			}
			if f.hsm.module != "" {
				return a.importKEK(cmd.Context(), &f, r, transferable)
			}
			return a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
				return a.importRing(ctx, c, r)
			})(cmd, nil)
		},
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "file of the ring")
	cmd.Flags().BoolVar(&transferable, "transferable-kek", false, "with --module: let the KEK go on from this HSM token; fixed for ever")
	if err := cmd.MarkFlagRequired("input"); err != nil {
		panic(err) // the flag is defined above
	}
	f.flags(cmd)
	return cmd
}

// importRing gives the lines to the server, from the one that it wants.
func (a *app) importRing(ctx context.Context, c *client.Client, r *transfer.Reader) error {
	st, err := c.StartImport(ctx, api.StartImport{Header: string(r.HeaderLine)})
	if err != nil {
		return err
	}
	bar := newProgress(&a.ui, "Imported")
	bar.unit = "lines"
	start, sent := st.Next, int64(0)
	for {
		line, err := r.Line()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("line %d: %w; what came before it is imported", r.Next, err)
		}
		if r.Next-1 < start {
			continue
		}
		if st, err = c.ImportLine(ctx, api.ImportLine{ID: st.ID, Line: string(line)}); err != nil {
			return err
		}
		sent += int64(len(line))
		bar.show(ringProgress(r.Next-1, st.Chunks, sent, r.Next-start))
	}
	bar.end()
	return a.show(st, func(t *table) {
		t.field("Ring", st.ID)
		t.field("Imported", fmt.Sprintf("%d of %d keys", st.Imported, st.Keys))
		t.field("Complete", st.Complete)
		t.field("Signer", st.SignerFingerprint)
	})
}

func (a *app) importKEK(ctx context.Context, f *hsmFlags, r *transfer.Reader, transferable bool) error {
	line, err := r.Line()
	if err != nil {
		return err
	}
	b, err := readFileAtMost(f.state, transfer.MaxLine)
	if err != nil {
		return err
	}
	state, err := transfer.ParseState(b)
	if err != nil {
		return err
	}
	return f.open(ctx, a, func(t transfer.Token) error {
		h, err := transfer.ImportKEK(ctx, t, state, r.HeaderLine, line, transferable)
		if err != nil {
			return err
		}
		return a.show(map[string]any{"ring": h.ID, "signer": h.SignerFingerprint(), "transferable": transferable}, func(t *table) {
			t.field("Ring", h.ID)
			t.field("Imported", "the KEK")
			t.field("Signer", h.SignerFingerprint())
			t.field("Transferable", transferable)
		})
	})
}
