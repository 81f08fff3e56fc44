package audit

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

// MacKeySize is the length in bytes of the key for sensitive values.
const MacKeySize = 32

// Defaults and bounds of Config.
const (
	DefaultCheckpointEvery    = 10_000
	DefaultCheckpointInterval = time.Minute
	// maxCheckpointEvery keeps Verify's memory small: it remembers the chain
	// of every line that no checkpoint covers yet, up to maxUncovered.
	maxCheckpointEvery = 500_000
	maxUncovered       = 4 * maxCheckpointEvery
)

// signTimeout bounds how long a checkpoint waits for the HSM and the store.
const signTimeout = 30 * time.Second

// ErrMismatch: the file is not the one that the store remembers.
var ErrMismatch = errors.New("the audit log was cut or rewritten")

// Config says where the log is and what it needs.
type Config struct {
	// Path of the file, a regular one.
	Path string
	// MacKey hashes sensitive values; MacKeySize bytes. The caller wipes its copy.
	MacKey []byte
	// Sign signs a SHA-256 digest with the HSM's audit key, ECDSA P-256. It
	// returns r‖s, 64 bytes.
	Sign func(ctx context.Context, digest [32]byte) ([]byte, error)
	// PublicKey of that key as PKIX (RFC 5280 SubjectPublicKeyInfo).
	PublicKey []byte
	// Store remembers how far the log went.
	Store *store.Sealed
	// CheckpointEvery is the number of records after which a checkpoint is
	// signed, 0 for DefaultCheckpointEvery.
	CheckpointEvery int
	// CheckpointInterval is the time after which records are signed however few
	// they are, 0 for DefaultCheckpointInterval.
	CheckpointInterval time.Duration
	// Restart lets the log go on although the file is not the one that the
	// store remembers. What lies at Path is kept under another name.
	Restart bool
	// Logger hears of repairs and failing checkpoints; nil is slog.Default().
	Logger *slog.Logger
}

// check fills in defaults and says what is wrong.
func (c *Config) check() (*ecdsa.PublicKey, error) {
	if c.Path == "" || c.Path == "-" {
		return nil, fault.New(fault.Invalid, "the audit log needs the path of a file, not %q", c.Path)
	}
	if len(c.MacKey) != MacKeySize {
		return nil, fmt.Errorf("the audit log's HMAC key has %d bytes, not %d", len(c.MacKey), MacKeySize)
	}
	if c.Sign == nil || c.Store == nil {
		return nil, errors.New("the audit log needs a signing key and a store")
	}
	if c.CheckpointEvery == 0 {
		c.CheckpointEvery = DefaultCheckpointEvery
	}
	if c.CheckpointInterval == 0 {
		c.CheckpointInterval = DefaultCheckpointInterval
	}
	if c.CheckpointEvery < 1 || c.CheckpointEvery > maxCheckpointEvery {
		return nil, fault.New(fault.Invalid, "the audit log signs a checkpoint after 1 to %d records, not %d", maxCheckpointEvery, c.CheckpointEvery)
	}
	if c.CheckpointInterval < 0 {
		return nil, fault.New(fault.Invalid, "the interval of checkpoints must be positive, not %v", c.CheckpointInterval)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return parsePublicKey(c.PublicKey)
}

// parsePublicKey reads a P-256 key in PKIX form.
func parsePublicKey(der []byte) (*ecdsa.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the audit log's public key cannot be read")
	}
	public, ok := key.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, fault.New(fault.Invalid, "the audit log's public key must be ECDSA P-256, not %T", key)
	}
	return public, nil
}

// keyID names a public key in the log.
func keyID(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
