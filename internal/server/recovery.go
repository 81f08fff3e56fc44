package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/custody"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/snapshot"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// recoveryAAD binds the storage keys of a snapshot to its store.
func recoveryAAD(storeID string) []byte {
	return []byte("claviger snapshot storage keys 1\x00" + storeID)
}

// recovery seals the storage keys under a new AES-256 key that the KEK wraps, so that
// another HSM token that got the KEK opens them; nil where the KEK can't leave.
func (s *Server) recovery(ctx context.Context, tok token.Token, storeID string) (*snapshot.Recovery, error) {
	if !tok.Info().Transferable || !tok.Info().Holds[token.AES256].Wrapped {
		return nil, nil
	}
	keys, err := s.custody.StorageKeys(ctx)
	if err != nil {
		return nil, err
	}
	defer keys.Wipe()
	plain := make([]byte, 0, len(keys)*store.StorageKeySize)
	defer func() { clear(plain) }()
	for _, k := range keys {
		plain = append(plain, k...)
	}
	r := &snapshot.Recovery{Nonce: make([]byte, token.AES256.NonceSize())}
	var id token.ID
	rand.Read(id[:])
	rand.Read(r.Nonce)
	stored, err := tok.Generate(ctx, token.Spec{Type: token.AES256, Place: token.PlaceWrapped, ID: id})
	if err != nil {
		return nil, fmt.Errorf("making a key for the snapshot's storage keys: %w", err)
	}
	r.Key = stored.Blob
	r.Sealed, err = recoveryDo(ctx, tok, token.Seal, r, token.Item{Nonce: r.Nonce, AAD: recoveryAAD(storeID), In: plain})
	if err != nil {
		return nil, fmt.Errorf("sealing the snapshot's storage keys: %w", err)
	}
	return r, nil
}

func recoveryDo(ctx context.Context, tok token.Token, kind token.Kind, r *snapshot.Recovery, item token.Item) ([]byte, error) {
	stored := token.Stored{Type: token.AES256, Place: token.PlaceWrapped, Blob: r.Key}
	copy(stored.ID[:], r.Nonce) // names it in the driver's cache, nothing else
	key, err := tok.Key(stored)
	if err != nil {
		return nil, err
	}
	items := []token.Item{item}
	err = key.Do(ctx, token.Op{Kind: kind}, items)
	if err == nil {
		err = items[0].Err
	}
	return items[0].Out, err
}

// openRecovery opens the storage keys of a snapshot in a token that has the KEK.
func openRecovery(ctx context.Context, tok token.Token, m *snapshot.Manifest) (store.Keyring, error) {
	r := m.Recovery
	plain, err := recoveryDo(ctx, tok, token.Open, r, token.Item{Nonce: r.Nonce, AAD: recoveryAAD(m.StoreID), In: r.Sealed})
	switch {
	case errors.Is(err, token.ErrBlob), errors.Is(err, token.ErrOpen), errors.Is(err, token.ErrNotFound):
		return nil, (&fault.Error{Kind: fault.Conflict, Err: err, Msg: "the HSM token does not have the KEK of the snapshot's token; nothing was changed"}).
			WithHint("transfer the KEK to it first, while the old token lives or from a token that has it")
	case err != nil:
		return nil, fault.Wrap(fault.Unavailable, err, "the HSM token does not open the storage keys")
	}
	defer clear(plain)
	if len(plain) != m.Term*store.StorageKeySize {
		return nil, fault.New(fault.Invalid, "the snapshot has %d bytes of storage keys for %d terms", len(plain), m.Term)
	}
	keys := make(store.Keyring, 0, m.Term)
	for i := range m.Term {
		keys = append(keys, append([]byte(nil), plain[i*store.StorageKeySize:][:store.StorageKeySize]...))
	}
	return keys, nil
}

// newToken is an HSM token that takes the place of the snapshot's, while it is open.
type newToken struct{ custody.NewToken }

func (n *newToken) close() error {
	clear(n.PIN)
	n.Keys.Wipe()
	return n.Token.Close()
}

// openNewToken logs in to the configured token, opens the snapshot's storage keys
// there, and makes the system keys that it lacks.
func (r *Restoring) openNewToken(ctx context.Context, s *Server, m *snapshot.Manifest) (*newToken, error) {
	if m.Recovery == nil {
		return nil, fault.New(fault.Invalid, "the snapshot opens with its own HSM token only: its KEK was not made transferable")
	}
	device, err := s.device(false)
	if err != nil {
		return nil, err
	}
	st, err := device.State(ctx)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the HSM cannot be asked for its token")
	}
	if !st.Present || !st.Initialized {
		return nil, fault.New(fault.Conflict, "the HSM shows no initialised token %q", s.cfg.Token.Label)
	}
	pin, err := r.PIN(ctx)
	if err != nil {
		return nil, err
	}
	n := &newToken{custody.NewToken{Label: st.Label, Serial: st.Serial, PIN: pin}}
	if n.Token, err = device.Open(ctx, pin); err != nil {
		clear(pin)
		return nil, fault.Wrap(fault.Invalid, err, "the login to the HSM token %q failed; the PIN was tried once", st.Label)
	}
	if n.Keys, err = openRecovery(ctx, n.Token, m); err == nil {
		err = fault.Wrap(fault.Unavailable, n.Token.Provision(ctx, false), "the system keys cannot be made in the HSM token")
	}
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// rebinding changes the seal record on its way from a snapshot to another HSM token;
// without one it changes nothing.
type rebinding struct {
	to    *newToken
	share func(ctx context.Context, n, needed int) ([]byte, error)
}

// rebinding checks the whole snapshot before anybody is asked for a PIN or a share.
func (r *Restoring) rebinding(ctx context.Context, cfg *config.Config, check func(*snapshot.Manifest) error) (*rebinding, error) {
	b := &rebinding{share: r.Share}
	if !r.NewToken {
		return b, nil
	}
	report, err := r.File.read(snapshot.Reading{Manifest: check})
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: beforeStart(cfg), log: slog.New(slog.DiscardHandler), metrics: newMetrics()}
	b.to, err = r.openNewToken(ctx, s, report.Manifest)
	return b, err
}

// beforeStart is a configuration without the lock file of the HSM token, where the
// server never ran and the file's directory is not there.
func beforeStart(cfg *config.Config) *config.Config {
	lock := cfg.Token.PKCS11.LockFile
	if _, err := os.Stat(filepath.Dir(lock)); lock == "" || !errors.Is(err, fs.ErrNotExist) {
		return cfg
	}
	c := *cfg
	c.Token.PKCS11.LockFile = ""
	return &c
}

func (b *rebinding) record(ctx context.Context, rec store.Record) (store.Record, error) {
	if b.to == nil || rec.Table != custody.SealTable || rec.Key != custody.SealKey {
		return rec, nil
	}
	data, err := custody.Rebind(ctx, rec.Data, b.to.NewToken, b.share)
	rec.Data = data
	rec.Version++
	return rec, err
}

func (b *rebinding) close() error {
	if b.to == nil {
		return nil
	}
	return b.to.close()
}
