package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/custody"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token/worker"
)

// maxPublicKey bounds the file of an OpenPGP public key, in bytes.
const maxPublicKey = 1 << 20

// Ceremony makes the HSM token of a Standalone that has none yet.
type Ceremony struct {
	Shares, Threshold int    // of the PINs, see custody.Ceremony
	PublicKeys        string // directory with one file for each custodian's OpenPGP key
	ShareDir          string // directory that gets the encrypted shares
}

// Run makes the token of a configuration with a PKCS#11 module, and returns its user
// PIN, which the caller wipes; nil if the token is there already. Records of another
// token in the state directory are an error, before anything is changed.
func (c *Ceremony) Run(ctx context.Context, cfg *config.Config, log *slog.Logger) ([]byte, error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil { // the token's lock file is there
		return nil, fmt.Errorf("making the state directory: %w", err)
	}
	wc := WorkerConfig(&cfg.Token)
	wc.Logger = log
	device, err := worker.NewDevice(wc)
	if err != nil {
		return nil, fmt.Errorf("PKCS#11 module %s: %w", cfg.Token.PKCS11.Module, err)
	}
	st, err := device.State(ctx)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "look at the HSM token")
	}
	if st.Initialized {
		return nil, nil
	}
	if _, err := os.Stat(cfg.Store.Path); !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Conflict, "%s has records, but there is no HSM token %q that they could belong to; nothing was changed", cfg.Store.Path, cfg.Token.Label).
			WithHint("bring the HSM token back (is its directory mounted?), or move the state directory away to begin anew")
	}
	do := &custody.Ceremony{Device: device, Shares: c.Shares, Threshold: c.Threshold, Dir: c.ShareDir}
	if do.Keys, do.Names, err = publicKeys(c.PublicKeys); err != nil {
		return nil, err
	}
	pin, files, err := do.Run(ctx)
	if err != nil {
		return nil, err
	}
	log.Warn("The HSM token is made. Its PIN is in this process and in the shares of the custodians, nowhere else: the next start needs it",
		"hsm_token", cfg.Token.Label, "shares", c.Shares, "threshold", c.Threshold, "files", files)
	return pin, nil
}

// publicKeys reads the files of a directory, in the order of their names.
func publicKeys(dir string) (keys [][]byte, names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "the directory of the custodians' OpenPGP public keys: %v", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		// By its target: a mounted secret is a link.
		info, err := os.Stat(path)
		if err == nil && (strings.HasPrefix(e.Name(), ".") || info.IsDir()) {
			continue
		}
		var key []byte
		if err == nil {
			key, err = readBounded(path, maxPublicKey)
		}
		if err != nil {
			return nil, nil, fault.New(fault.Invalid, "read an OpenPGP public key: %v", err)
		}
		keys, names = append(keys, key), append(names, path)
	}
	return keys, names, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return b, err
}
