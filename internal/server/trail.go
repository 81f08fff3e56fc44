package server

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/token"
)

// trail is the audit log as the guard sees it: open while the server is unsealed.
type trail struct {
	log atomic.Pointer[audit.Log]
}

// recorder returns the open log, nil if there is none.
func (t *trail) recorder() guard.Recorder {
	if l := t.log.Load(); l != nil {
		return recorder{l}
	}
	return nil
}

type recorder struct{ log *audit.Log }

// Record writes an event. Guard and audit describe it alike, without knowing
// each other.
func (r recorder) Record(e *guard.Event) error { return r.log.Write((*audit.Entry)(e)) }

// start opens the log; the HSM's audit key signs its checkpoints.
func (t *trail) start(ctx context.Context, s *Server, tok token.Token, mac []byte) error {
	stored, err := tok.AuditKey(ctx)
	if err != nil {
		return fmt.Errorf("audit key of the HSM token: %w", err)
	}
	key, err := tok.Key(stored)
	if err != nil {
		return fmt.Errorf("audit key of the HSM token: %w", err)
	}
	l, err := audit.Open(audit.Config{
		Path:               s.cfg.Audit.Path,
		MacKey:             mac,
		Sign:               func(ctx context.Context, digest [32]byte) ([]byte, error) { return sign(ctx, key, digest) },
		PublicKey:          stored.Public,
		Store:              s.records,
		CheckpointEvery:    s.cfg.Audit.CheckpointEvery,
		CheckpointInterval: s.cfg.Audit.CheckpointInterval.Duration,
		Restart:            s.cfg.Audit.Restart,
		Logger:             s.log,
	})
	if err != nil {
		return err
	}
	t.log.Store(l)
	return nil
}

func sign(ctx context.Context, key token.Key, digest [32]byte) ([]byte, error) {
	items := []token.Item{{In: digest[:]}}
	if err := key.Do(ctx, token.Op{Kind: token.Sign}, items); err != nil {
		return nil, err
	}
	return items[0].Out, items[0].Err
}

// close signs what is unsigned and closes the log, if it is open.
func (t *trail) close() error {
	if l := t.log.Swap(nil); l != nil {
		return l.Close()
	}
	return nil
}

// reopen goes on in a new file after a rotation.
func (t *trail) reopen() error {
	l := t.log.Load()
	if l == nil {
		return nil
	}
	if err := l.Reopen(context.Background()); err != nil {
		return fmt.Errorf("re-opening the audit log: %w", err)
	}
	return nil
}

// VerifyAudit checks the files of an audit log offline and writes a report to
// w. publicKeyFile has the audit keys in PEM, as sys/hsm shows them; several if
// the HSM token was another one before. The error names the first fault.
func VerifyAudit(files []string, publicKeyFile string, w io.Writer) error {
	keys, err := readPublicKeys(publicKeyFile)
	if err != nil {
		return err
	}
	r, err := audit.VerifyFiles(audit.VerifyOptions{PublicKeys: keys}, files...)
	if err != nil {
		return err
	}
	if r.Fault != nil {
		return r.Fault
	}
	fmt.Fprintf(w, "%s in %s are whole: records %d to %d, %s to %s\n", count(r.Lines, "line"), count(r.Files, "file"), r.First, r.Last.Seq, r.FirstTime, r.LastTime)
	fmt.Fprintf(w, "%s, signed by the given key; %d lines after the last are not signed yet\n", count(r.Checkpoints, "checkpoint"), r.Unsigned)
	return nil
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func readPublicKeys(file string) ([][]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "the audit key cannot be read")
	}
	var keys [][]byte
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		keys, text = append(keys, block.Bytes), rest
	}
	if len(keys) == 0 {
		return nil, fault.New(fault.Invalid, "%s holds no public key in PEM", file)
	}
	return keys, nil
}
