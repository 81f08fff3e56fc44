package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/server"
)

func (a *app) snapshotRehearseCommand() *cobra.Command {
	var f snapshotFlags
	var r server.Rehearsing
	cmd := &cobra.Command{
		Use:   "rehearse FILE",
		Short: "Show that every key of a snapshot opens",
		Long: `Restore a snapshot into a scratch directory, unseal it there with the shares of the
custodians, and use every version of every key: test ciphertexts of the snapshot are
opened, signatures verified with the public keys. The running server is not touched.

--hsm-backup is a backup of the HSM token's files, for the embedded token and for
SoftHSM2: it is copied, and the copy is used. Without it the embedded token of the
configuration is copied; a token of another PKCS#11 module is logged in to and used,
and nothing in it is changed.

--new-hsm rehearses the loss of the HSM token: the configured one, which has got the
KEK, takes its place as in a restore. Keys that failed are those which would be lost.
The PIN is asked for unless --pin-file has it. A token that is not copied gets the
system keys that it lacks, which the restore would make.

Shares are asked for without echo, or read from standard input, one a line. The exit
status is 0 if every key opened, 1 if not.`,
		Example: "  claviger snapshot rehearse --config /etc/claviger/claviger.toml /backup/claviger.snap\n" +
			"  claviger snapshot rehearse --hsm-backup /backup/tokens --public-key audit.pem /backup/claviger.snap\n" +
			"  claviger snapshot rehearse --config spare.toml --new-hsm --pin-file spare.pin /backup/claviger.snap",
		Args: takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ask := a.secretReader()
			var err error
			if r.PIN, err = f.newHSM(a, ask, r.NewToken); err != nil {
				return err
			}
			cfg, err := config.Load(configPath(cmd, f.config))
			if err != nil {
				return err
			}
			p := newProgress(&a.ui, "Read")
			r.File = f.file(args[0], p)
			r.Share, r.Logger = shares(ask), slog.New(slog.DiscardHandler)
			result, err := r.Run(cmd.Context(), cfg)
			p.end()
			if err != nil {
				return err
			}
			return a.showRehearsal(result)
		},
	}
	f.all(cmd)
	f.pin(cmd, &r.NewToken, "rehearse for the configured HSM token, which has got the KEK")
	cmd.Flags().StringVar(&r.TokenDir, "hsm-backup", "", "backup of the HSM token's files, which is copied")
	cmd.Flags().StringVar(&r.Scratch, "scratch", "", "directory for the copies; default is that for temporary files")
	return cmd
}

// secretReader asks for secrets one after the other, or takes the lines of standard
// input.
func (a *app) secretReader() func(ctx context.Context, prompt string) ([]byte, error) {
	lines := bufio.NewReader(io.LimitReader(a.in, 256*maxSecret))
	return func(ctx context.Context, prompt string) ([]byte, error) {
		if isTerminal(a.in) {
			return a.secret(ctx, prompt)
		}
		line, err := lines.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read from standard input: %w", err)
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			return nil, usagef("standard input ends before: %s; each stands on a line", prompt)
		}
		return line, nil
	}
}

// shares asks for shares.
func shares(ask func(context.Context, string) ([]byte, error)) func(ctx context.Context, n, needed int) ([]byte, error) {
	return func(ctx context.Context, n, needed int) ([]byte, error) {
		return ask(ctx, fmt.Sprintf("Share %d of %d", n, needed))
	}
}

// shownRehearsal is what rehearse shows as JSON.
type shownRehearsal struct {
	Snapshot   string      `json:"snapshot"`
	Keys       int         `json:"keys"`
	Versions   int         `json:"versions"`
	Proved     int         `json:"proved"`
	Worked     int         `json:"worked"`
	PublicOnly int         `json:"public_only"`
	Failed     []failedKey `json:"failed"`
}

type failedKey struct {
	Key        string `json:"key"`
	Version    int    `json:"version"`
	Type       string `json:"type"`
	Protection string `json:"protection"`
	Error      string `json:"error"`
}

func (a *app) showRehearsal(r *server.Rehearsal) error {
	out := shownRehearsal{Snapshot: r.Report.Manifest.ID, Keys: r.Keys, Versions: r.Versions, Proved: r.Proved,
		Worked: r.Worked, PublicOnly: r.PublicOnly, Failed: []failedKey{}}
	for _, c := range r.Failed {
		out.Failed = append(out.Failed, failedKey{c.Mount + c.Name, c.Version, c.Type.String(), string(c.Protection), c.Err.Error()})
	}
	err := a.show(out, func(t *table) {
		t.field("Snapshot", out.Snapshot)
		t.field("Keys", out.Keys)
		t.field("Versions", out.Versions)
		t.field("Proved", out.Proved)
		t.field("Worked, without a test ciphertext", out.Worked)
		t.field("Public keys only", out.PublicOnly)
		t.field("Failed", len(out.Failed))
		for _, k := range out.Failed {
			t.add(k.Key, strconv.Itoa(k.Version), k.Type, k.Protection, k.Error)
		}
	})
	if err != nil {
		return err
	}
	if n := len(out.Failed); n > 0 {
		return &statusError{status: exitError, message: fmt.Sprintf("%d of %d versions of keys do not open", n, out.Versions)}
	}
	return nil
}
