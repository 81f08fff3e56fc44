package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/snapshot"
	"github.com/claviger/claviger/internal/store"
)

// Where the store remembers the last snapshot.
const (
	snapshotTable = "snapshots"
	snapshotKey   = "last"
)

// snapshotTimeout is what the putting together of a snapshot may take; its caller's
// deadline is one of small requests.
const snapshotTimeout = time.Hour

// snapshots is what the server knows of snapshots.
type snapshots struct {
	busy atomic.Bool  // one is being put together
	last atomic.Int64 // Unix seconds of the last one, 0 if there is none
}

// taken is a snapshot as an answer. Its fields go to the audit log.
type taken struct {
	api.SnapshotStatus
	file *os.File
}

// Raw is the form of the answer.
func (t *taken) Raw() (contentType string, body []byte) { return snapshot.MediaType, nil }

// Stream is the answer itself; the caller closes the body.
func (t *taken) Stream() (size int64, body io.ReadCloser) { return t.Size, t.file }

func (s *Server) snapshotOperations() []*op.Operation {
	meta := op.Meta{Name: "sys.snapshot", Mount: "sys", Path: "storage/raft/snapshot", Verb: op.Read, Sudo: true, Bare: true,
		Help: "Take a snapshot of the store while it is in use: an archive, signed by the HSM token. claviger snapshot restore restores it."}
	status := op.Meta{Name: "sys.snapshot.status", Mount: "sys", Path: "snapshot", Verb: op.Read, MayMiss: true,
		Help: "Show when the last snapshot of the store was taken, and its digest."}
	return []*op.Operation{op.Define(meta, s.takeSnapshot), op.Define(status, s.snapshotStatus)}
}

func (s *Server) takeSnapshot(ctx context.Context, c *op.Call, req *api.TakeSnapshot) (*taken, error) {
	switch req.Proofs {
	case "", api.ProofsLatest, api.ProofsAll, api.ProofsNone:
	default:
		return nil, fault.New(fault.Invalid, "proofs is %.40q; it must be %s, %s or %s", req.Proofs, api.ProofsAll, api.ProofsLatest, api.ProofsNone)
	}
	archive, ok := s.db.(store.Archive)
	if !ok {
		return nil, fault.New(fault.Invalid, "a store of the kind %s is saved by its own means", s.cfg.Store.Driver)
	}
	if !s.snapshots.busy.CompareAndSwap(false, true) {
		return nil, fault.New(fault.Conflict, "another snapshot is being taken; wait until it is done")
	}
	defer s.snapshots.busy.Store(false)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), snapshotTimeout)
	defer cancel()
	t, err := s.taking(ctx, archive, req.Proofs)
	if err != nil {
		return nil, err
	}
	shot, err := snapshot.Take(ctx, *t)
	if err != nil {
		return nil, err
	}
	answer := &taken{file: shot.File, SnapshotStatus: api.SnapshotStatus{ID: shot.Manifest.ID, Created: shot.Manifest.Created,
		Size: shot.Size, SHA256: shot.SHA256, Records: shot.Manifest.Records}}
	if err := s.noteSnapshot(ctx, &answer.SnapshotStatus); err != nil {
		shot.File.Close()
		return nil, err
	}
	s.log.Info("a snapshot of the store was taken", "id", answer.ID, "records", answer.Records, "bytes", answer.Size, "sha256", answer.SHA256, "caller", c.Caller.DisplayName)
	return answer, nil
}

// taking describes the snapshot that is to be taken. The audit log is signed first, so
// that the snapshot knows it up to now.
func (s *Server) taking(ctx context.Context, archive store.Archive, proofs string) (*snapshot.Taking, error) {
	l, custody := s.trail.log.Load(), s.custody.Describe()
	tok, err := s.hsm.Get()
	if err != nil || l == nil || custody == nil {
		return nil, fault.New(fault.Sealed, "Vault is sealed")
	}
	key, err := tok.AuditKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("audit key of the HSM token: %w", err)
	}
	signer, err := tok.Key(key)
	if err != nil {
		return nil, fmt.Errorf("audit key of the HSM token: %w", err)
	}
	if err := l.Checkpoint(ctx); err != nil {
		return nil, fmt.Errorf("signing the audit log: %w", err)
	}
	head, info := l.Status().Head, tok.Info()
	t := &snapshot.Taking{
		Store: archive, PublicKey: key.Public, Dir: s.cfg.DataDir,
		Sign: func(ctx context.Context, digest [32]byte) ([]byte, error) { return sign(ctx, signer, digest) },
		Manifest: snapshot.Manifest{
			ID: uuid.NewString(), Created: time.Now().UTC().Truncate(time.Second), Release: s.version,
			StoreID: custody.ClusterID, ClusterName: s.cfg.ClusterName, Term: custody.Term, Driver: s.cfg.Store.Driver,
			Token: snapshot.Token{Label: info.Label, Serial: info.Serial, Manufacturer: info.Manufacturer, Model: info.Model},
			Audit: snapshot.Audit{Seq: head.Seq, Hash: fmt.Sprintf("%x", head.Hash)},
		},
	}
	if t.Manifest.Recovery, err = s.recovery(ctx, tok, custody.ClusterID); err != nil {
		return nil, err
	}
	if proofs != api.ProofsNone {
		t.Proofs = func(ctx context.Context, put func([]byte) error) error {
			failed, err := s.keys.Proofs(ctx, proofs != api.ProofsLatest, put)
			if err == nil && failed > 0 {
				s.log.Warn("a snapshot is taken although some keys can't be used now", "keys", failed)
			}
			return err
		}
	}
	return t, nil
}

// noteSnapshot remembers the last snapshot.
func (s *Server) noteSnapshot(ctx context.Context, last *api.SnapshotStatus) error {
	var before api.SnapshotStatus
	version, err := s.records.Get(ctx, snapshotTable, snapshotKey, &before)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("reading when the last snapshot was taken: %w", err)
	}
	put, err := s.records.Put(snapshotTable, snapshotKey, version, last)
	if err == nil {
		err = s.records.Apply(ctx, put)
	}
	if err != nil {
		return fmt.Errorf("storing when the snapshot was taken: %w", err)
	}
	s.snapshots.last.Store(last.Created.Unix())
	return nil
}

func (s *Server) snapshotStatus(ctx context.Context, _ *op.Call, _ *api.Empty) (*api.SnapshotStatus, error) {
	var last api.SnapshotStatus
	_, err := s.records.Get(ctx, snapshotTable, snapshotKey, &last)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.New(fault.NotFound, "no snapshot was taken yet").WithHint("claviger snapshot save takes one")
	}
	if err != nil {
		return nil, fmt.Errorf("reading when the last snapshot was taken: %w", err)
	}
	return &last, nil
}

// startSnapshots reads when the last snapshot was taken, for the metrics.
func (s *Server) startSnapshots(ctx context.Context) error {
	last, err := s.snapshotStatus(ctx, nil, nil)
	if fault.KindOf(err) == fault.NotFound {
		return nil
	}
	if err == nil {
		s.snapshots.last.Store(last.Created.Unix())
	}
	return err
}

// watchSnapshots adds the time of the last snapshot to the metrics.
func (m *metrics) watchSnapshots(s *snapshots) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "claviger_snapshot_last_timestamp_seconds",
		Help: "When the last snapshot of the store was taken, in Unix seconds; 0 if none was, or while sealed after a start.",
	}, func() float64 { return float64(s.last.Load()) }))
}
