package audit

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/big"
	"os"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"golang.org/x/sys/unix"
)

// Where the store remembers the log.
const (
	headTable = "audit"
	headKey   = "head"
)

// headRecord is the newest place of the log that is known to be on the disk.
type headRecord struct {
	Seq    uint64 `json:"seq"`
	Hash   []byte `json:"hash"`
	Prev   []byte `json:"prev"`   // hash of the line before it
	Offset int64  `json:"offset"` // where its line begins in its file
	// Unsigned is the number of records up to here that no checkpoint covers.
	Unsigned int `json:"unsigned,omitempty"`
	// Moved says that this file is complete and a new one was to follow.
	Moved bool `json:"moved,omitempty"`

	version int64 // of the record in the store
}

func headOf(p place, unsigned int) headRecord {
	return headRecord{Seq: p.seq, Hash: p.hash[:], Prev: p.prev[:], Offset: p.offset, Unsigned: unsigned}
}

func (l *Log) loadHead(ctx context.Context) error {
	version, err := l.cfg.Store.Get(ctx, headTable, headKey, &l.head)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("reading where the audit log ended: %w", err)
	}
	l.head.version = version
	return nil
}

func (l *Log) saveHead(ctx context.Context, h headRecord) error {
	change, err := l.cfg.Store.Put(headTable, headKey, l.head.version, h)
	if err == nil {
		err = l.cfg.Store.Apply(ctx, change)
	}
	if err != nil {
		return fmt.Errorf("storing where the audit log ends: %w", err)
	}
	h.version = l.head.version + 1
	l.head = h
	return nil
}

// Checkpoint signs all records that are there now, makes them durable against a
// loss of power, and has the store remember them. Writing goes on meanwhile.
func (l *Log) Checkpoint(ctx context.Context) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	return l.checkpoint(ctx)
}

// checkpoint needs turn. If the key does not sign, the records are made durable
// and remembered nevertheless.
func (l *Log) checkpoint(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	l.mu.Lock()
	covered, count, f := l.last, l.pending, l.f
	err := l.failed
	l.mu.Unlock()
	if count == 0 || err != nil {
		return err
	}
	signature, signErr := l.sign(ctx, covered)
	end := headOf(covered, count)
	if signErr == nil {
		if end, err = l.appendCheckpoint(covered, signature, count); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return errors.Join(signErr, l.fail(err, "the audit log's disk does not keep what is written"))
	}
	return errors.Join(signErr, l.saveHead(ctx, end))
}

func (l *Log) appendCheckpoint(covered place, signature []byte, count int) (headRecord, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var r renderer
	r.checkpoint(covered.seq, covered.hash, l.key, signature)
	if err := l.append(&r); err != nil {
		return headRecord{}, err
	}
	l.pending -= count
	return headOf(l.last, l.pending), nil
}

// sign has the HSM sign a place and checks that it did: a signature that nobody
// can verify later must not pass for a checkpoint now.
func (l *Log) sign(ctx context.Context, p place) ([]byte, error) {
	digest := checkpointDigest(p.seq, p.hash)
	signature, err := l.cfg.Sign(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("signing a checkpoint of the audit log: %w", err)
	}
	if !verifySignature(l.public, digest, signature) {
		return nil, errors.New("the audit key's signature does not fit its public key")
	}
	return signature, nil
}

func verifySignature(public *ecdsa.PublicKey, digest [32]byte, signature []byte) bool {
	if len(signature) != 64 {
		return false
	}
	r := new(big.Int).SetBytes(signature[:32])
	s := new(big.Int).SetBytes(signature[32:])
	return ecdsa.Verify(public, digest[:], r, s)
}

// fail stops all writing until Reopen.
func (l *Log) fail(err error, msg string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failLocked(err, msg)
}

func (l *Log) failLocked(err error, msg string) error {
	e := &fault.Error{Kind: fault.Unavailable, Msg: msg, Err: err}
	l.failed = e.WithHint("Operations are refused. Find out what happened to the file, move it away and send SIGHUP: a new one goes on with the chain.")
	return l.failed
}

// inspect looks whether somebody else removed or changed the file: what was
// written there would be lost.
func (l *Log) inspect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil || l.torn {
		return
	}
	var st unix.Stat_t
	err := unix.Fstat(int(l.f.Fd()), &st)
	switch {
	case err != nil:
		err = os.NewSyscallError("fstat", err)
	case st.Nlink == 0:
		err = errors.New("it has no name any more")
	case st.Size != l.size:
		err = fmt.Errorf("it has %d bytes, %d were written", st.Size, l.size)
	default:
		return
	}
	err = l.failLocked(err, "another program removed or changed the audit log")
	l.cfg.Logger.Error("audit log: all operations are refused", "error", err)
}
