package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/transfer"
)

// confirmEvery is how often export asks whether the custodians have confirmed.
const confirmEvery = time.Second

func (a *app) transferExportCommand() *cobra.Command {
	var req api.StartTransfer
	var statement, output string
	var wait bool
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Export the KEK or named keys to the destination of a statement",
		Long: `Begin an export, wait until enough custodians have confirmed it, and write the
ring. Repeated with the same file, it goes on where it was interrupted; a line that
was cut is fetched again. When the ring is whole the export has ended.

An adopted key goes if its object is CKA_EXTRACTABLE and the module wraps it; in the
destination it is a wrapped key. Other objects of the HSM token can't leave: of a
mount they are left out, each with the reason, and named by --key they are an error.`,
		Example: "  claviger transfer export --statement statement.json --fingerprint 1f0a... --mount transit --output keys.ring\n" +
			"  claviger transfer export --statement statement.json --kek --output kek.ring",
		Args: takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			b, err := readFileAtMost(statement, transfer.MaxLine)
			if err != nil {
				return err
			}
			req.Statement = string(b)
			return a.transferExport(ctx, c, req, output, wait)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&statement, "statement", "", "file with the destination's statement")
	f.StringVar(&req.Fingerprint, "fingerprint", "", "the statement's fingerprint, as prepare showed it; another is refused")
	f.BoolVar(&req.KEK, "kek", false, "export the KEK alone")
	f.StringArrayVar(&req.Mounts, "mount", nil, "export all keys of this transit mount; may be repeated")
	f.StringArrayVar(&req.Keys, "key", nil, "export this key, MOUNT/NAME; may be repeated")
	f.StringVarP(&output, "output", "o", "", "file of the ring")
	f.BoolVar(&wait, "wait", true, "wait for the custodians; otherwise end if they have not confirmed")
	for _, name := range []string{"statement", "output"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flags are defined above
		}
	}
	return cmd
}

func (a *app) transferExport(ctx context.Context, c *client.Client, req api.StartTransfer, output string, wait bool) error {
	to, err := transfer.ParseStatement([]byte(req.Statement))
	if err != nil {
		return err
	}
	st, err := c.TransferStatus(ctx)
	if isStatus(err, http.StatusNotFound) || err == nil && !st.Confirmed && (st.Fingerprint != to.Fingerprint() || st.Progress == 0) {
		st, err = c.StartTransfer(ctx, req)
	}
	if err != nil {
		return err
	}
	if st.Fingerprint != to.Fingerprint() {
		return fmt.Errorf("another export, to the statement %s, is under way: finish it, or end it with claviger transfer cancel", st.Fingerprint)
	}
	for _, name := range st.LeftOut {
		a.say("Left out: %s: %s", name, st.Reasons[name])
	}
	if !st.Confirmed {
		a.say("Statement %s of the HSM token %q, serial number %s.", st.Fingerprint, st.Destination.Label, st.Destination.Serial)
		a.say("%d custodians must confirm: claviger transfer confirm --nonce %s", st.Required, st.Nonce)
	}
	for !st.Confirmed && wait {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(confirmEvery):
		}
		nonce := st.Nonce
		if st, err = c.TransferStatus(ctx); err != nil {
			return err
		}
		if st.Nonce != nonce {
			return errors.New("another export was begun meanwhile")
		}
	}
	if !st.Confirmed {
		return a.showTransfer(st, nil)
	}
	if err := a.fetchRing(ctx, c, st, output); err != nil {
		return err
	}
	if err := c.CancelTransfer(ctx); err != nil {
		return err
	}
	return a.show(map[string]any{"ring": st.ID, "contents": st.Contents, "keys": st.Keys, "file": output}, func(t *table) {
		t.field("Ring", st.ID)
		t.field("Exported", exported(st))
		t.field("File", output)
	})
}

// fetchRing writes the lines that the file does not have yet.
func (a *app) fetchRing(ctx context.Context, c *client.Client, st *api.TransferStatus, output string) error {
	f, err := os.OpenFile(output, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("write the ring: %w", err)
	}
	defer f.Close()
	next, err := resumeAt(f, st)
	if err != nil {
		return err
	}
	bar := newProgress(&a.ui, "Exported")
	bar.unit = "lines"
	var written int64
	for n := next; n <= st.Chunks; n++ {
		line, err := c.FetchTransfer(ctx, api.FetchTransfer{Nonce: st.Nonce, Number: n})
		if err != nil {
			return err
		}
		if _, err := io.WriteString(f, line); err != nil {
			return fmt.Errorf("write the ring: %w", err)
		}
		written += int64(len(line))
		bar.show(ringProgress(n, st.Chunks, written, n-next+1))
	}
	bar.end()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write the ring: %w", err)
	}
	return f.Close()
}

// ringProgress has the mean of the lines so far as the size of each.
func ringProgress(done, total int, bytes int64, lines int) server.PoolProgress {
	return server.PoolProgress{Files: done, Total: total, Bytes: bytes, FileSize: bytes / int64(max(lines, 1))}
}

// resumeAt leaves of a file what is whole of this ring, and returns the number of the
// line that is next. A file of something else is not touched.
func resumeAt(f *os.File, st *api.TransferStatus) (next int, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("read the ring: %w", err)
	}
	if info.Size() == 0 {
		return 0, nil
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s is no regular file", f.Name())
	}
	var good int64
	r, err := transfer.NewReader(f)
	switch {
	case errors.Is(err, transfer.ErrCut): // not even the first line
		if err := startsAsRing(f); err != nil {
			return 0, err
		}
	case err != nil:
		return 0, fmt.Errorf("%s is there and is no ring: %w", f.Name(), err)
	case r.Header.ID != st.ID:
		return 0, fmt.Errorf("%s is another ring, %s: name another file: %w", f.Name(), r.Header.ID, fs.ErrExist)
	default:
		for err == nil {
			_, err = r.Line()
		}
		if err != io.EOF && !errors.Is(err, transfer.ErrCut) {
			return 0, fmt.Errorf("%s was altered: %w", f.Name(), err)
		}
		good, next = r.Good, r.Next
	}
	if err := f.Truncate(good); err != nil {
		return 0, fmt.Errorf("write the ring: %w", err)
	}
	_, err = f.Seek(good, io.SeekStart)
	return next, err
}

// startsAsRing tells whether a file with less than a line is the beginning of a ring.
func startsAsRing(f *os.File) error {
	const begin = `{"kind":"claviger-ring-1"`
	b := make([]byte, len(begin))
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the ring: %w", err)
	}
	if !strings.HasPrefix(begin, string(b[:n])) {
		return fmt.Errorf("%s is there and is no ring", f.Name())
	}
	return nil
}
