package server

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/custody"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/snapshot"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/sqlite"
)

// SnapshotFile is a snapshot on the disk, to be read.
type SnapshotFile struct {
	Path string
	// PublicKey is a PEM file of the audit keys of which one must have signed; "" takes
	// any signature.
	PublicKey string
	// Progress is told how many bytes of the file were read; it may be nil.
	Progress func(done, total int64)
}

// Verify reads the whole file and checks everything that shows without the HSM token.
func (f SnapshotFile) Verify() (*snapshot.Report, error) { return f.read(snapshot.Reading{}) }

func (f SnapshotFile) read(g snapshot.Reading) (*snapshot.Report, error) {
	if f.PublicKey != "" {
		var err error
		if g.Keys, err = readPublicKeys(f.PublicKey); err != nil {
			return nil, err
		}
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "the snapshot cannot be opened")
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the snapshot cannot be read")
	}
	return snapshot.Read(&watched{r: file, total: info.Size(), tell: f.Progress}, g)
}

// watched tells how much was read.
type watched struct {
	r           io.Reader
	done, total int64
	tell        func(done, total int64)
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	w.done += int64(n)
	if w.tell != nil {
		w.tell(w.done, w.total)
	}
	return n, err
}

// Restoring says how a snapshot becomes the store of a configuration.
type Restoring struct {
	File SnapshotFile
	// Replace sets a store of the same identity aside that is there already.
	Replace bool
	// AnyToken restores although the HSM shows another token than the snapshot's, or
	// none.
	AnyToken bool
	// NewToken takes the configured HSM token, which has got the KEK of the snapshot's
	// token, in the place of that one. PIN asks for its user PIN, Share for share n of
	// as many as unseal; what they return is wiped.
	NewToken bool
	PIN      func(ctx context.Context) ([]byte, error)
	Share    func(ctx context.Context, n, needed int) ([]byte, error)
}

// Restored is the outcome of Run.
type Restored struct {
	Report *snapshot.Report
	Aside  string // where the store is now that was there, "" if none was
	// NoAuditLog: there is no file where the configuration has the audit log, and the
	// snapshot's server had one.
	NoAuditLog bool
}

// Run restores a snapshot into the state directory of a server that does not run. The
// store appears whole or not at all, and nothing else is touched.
func (r Restoring) Run(ctx context.Context, cfg *config.Config) (_ *Restored, err error) {
	there, err := describeStore(ctx, cfg, r.Replace)
	if err != nil {
		return nil, err
	}
	check := func(m *snapshot.Manifest) error {
		if there != nil && there.ClusterID != m.StoreID {
			return fault.New(fault.Conflict, "the store at %s is another one (%s) than that of the snapshot (%s); nothing was changed", cfg.Store.Path, there.ClusterID, m.StoreID).
				WithHint("move it away yourself if the snapshot is really to take its place")
		}
		if r.AnyToken || r.NewToken {
			return nil
		}
		return checkSnapshotToken(ctx, cfg, &m.Token)
	}
	rebind, err := r.rebinding(ctx, cfg, check)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rebind.close()) }()
	out := &Restored{}
	out.Aside, err = sqlite.Build(ctx, cfg.Store.Path, r.Replace, func(put func(store.Record) error) (err error) {
		out.Report, err = r.File.read(snapshot.Reading{Manifest: check, Record: func(rec store.Record) (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if rec, err = rebind.record(ctx, rec); err != nil {
				return err
			}
			return put(rec)
		}})
		return err
	})
	if err != nil {
		return nil, err
	}
	_, err = os.Stat(cfg.Audit.Path)
	out.NoAuditLog = errors.Is(err, fs.ErrNotExist) && out.Report.Manifest.Audit.Seq > 0
	return out, nil
}

// describeStore says whose store is at the configured place, if it is to be replaced;
// nil if there is none, or none that can be read.
func describeStore(ctx context.Context, cfg *config.Config, replace bool) (*custody.Description, error) {
	if _, err := os.Stat(cfg.Store.Path); err != nil || !replace {
		return nil, nil
	}
	db, err := sqlite.Open(ctx, sqlite.Config{Path: cfg.Store.Path, Logger: slog.New(slog.DiscardHandler)})
	if errors.Is(err, store.ErrBusy) {
		return nil, err
	}
	if err != nil {
		return nil, nil
	}
	defer db.Close()
	d, err := custody.Describe(ctx, db)
	if err != nil {
		return nil, nil
	}
	return d, nil
}

// checkSnapshotToken compares the HSM token of a configuration with the snapshot's,
// without logging in.
func checkSnapshotToken(ctx context.Context, cfg *config.Config, want *snapshot.Token) error {
	s := &Server{cfg: cfg, log: slog.New(slog.DiscardHandler), metrics: newMetrics()}
	device, err := s.device(false)
	if err != nil {
		return err
	}
	const hint = "bring that token back, or restore it from the HSM's own backup; a token that has got its KEK is taken with --new-hsm; to restore without looking at the HSM say --any-token, and the server stays sealed until its token is there"
	st, err := device.State(ctx)
	switch {
	case err != nil:
		return (&fault.Error{Kind: fault.Unavailable, Msg: "the HSM cannot be asked for its token", Err: err}).WithHint(hint)
	case !st.Present || !st.Initialized:
		return fault.New(fault.Conflict, "the snapshot belongs to the HSM token %q with serial number %q, which is not there", want.Label, want.Serial).WithHint(hint)
	case st.Label != want.Label || st.Serial != want.Serial:
		return fault.New(fault.Conflict, "the snapshot belongs to the HSM token %q with serial number %q, but the HSM shows %q with serial number %q",
			want.Label, want.Serial, st.Label, st.Serial).WithHint(hint)
	}
	return nil
}
