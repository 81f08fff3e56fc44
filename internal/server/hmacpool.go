package server

import (
	"context"
	"strings"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/hmacpool"
)

func (s *Server) poolOptions() (hmacpool.Options, error) {
	o := hmacpool.Options{Store: s.records, Unwrap: s.openPoolKey, Dirs: s.cfg.HMACPool.Dirs, Logger: s.log}
	if c := &s.cfg.Front.Cryptoserver; c.Enabled && c.SecretDir != "" {
		set, err := hmacpool.NewSettings(c.SecretDir, c.PoolMode, c.Index)
		if err != nil {
			return o, err
		}
		o.Fixed = map[string]hmacpool.Settings{c.Mount: set}
	}
	return o, nil
}

// openPoolKey opens the key of a sealed pool by the named key of its header.
func (s *Server) openPoolKey(ctx context.Context, h *hmacpool.Header, aad []byte) ([]byte, error) {
	key, err := s.keys.OpenBytes(ctx, strings.Trim(h.Mount, "/")+"/", h.Key, h.Wrapped, aad)
	if err != nil {
		return nil, &fault.Error{Kind: fault.KindOf(err), Err: err, Msg: "the key of the sealed pool can't be opened: " + fault.Message(err)}
	}
	return key, nil
}

// Pool is what the command line needs to make and check the files of HMAC pools,
// which it does without a server.
type (
	PoolMode          = hmacpool.Mode
	PoolHeader        = hmacpool.Header
	PoolSealing       = hmacpool.Sealing
	PoolProgress      = hmacpool.Progress
	PoolReport        = hmacpool.Report
	PoolCreateOptions = hmacpool.CreateOptions
	PoolVerifyOptions = hmacpool.VerifyOptions
)

// ParsePoolMode reads the name of a mode: "MODE16".
func ParsePoolMode(name string) (PoolMode, error) { return hmacpool.ParseMode(name) }

// CreatePool makes the files of a pool that are missing.
func CreatePool(ctx context.Context, o PoolCreateOptions) (PoolProgress, error) {
	return hmacpool.Create(ctx, o)
}

// VerifyPool checks the files of a pool.
func VerifyPool(ctx context.Context, o PoolVerifyOptions) (*PoolReport, error) {
	return hmacpool.Verify(ctx, o)
}
