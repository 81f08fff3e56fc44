package keys

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"strconv"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

const (
	defaultRandom = 32      // bytes
	maxRandom     = 1 << 17 // bytes
)

// random answers "random": the number of bytes is in the body.
func (s *Service) random(ctx context.Context, _ *op.Call, r *api.Random) (*api.RandomBytes, error) {
	n := r.Bytes
	if n == 0 {
		n = defaultRandom
	}
	return s.randomBytes(ctx, n, r.Format)
}

// randomOne answers "random/x", where x is a number of bytes or a source.
func (s *Service) randomOne(ctx context.Context, c *op.Call, r *api.Random) (*api.RandomBytes, error) {
	if n, err := strconv.Atoi(r.Source); err == nil {
		return s.randomBytes(ctx, n, r.Format)
	}
	if err := checkSource(r.Source); err != nil {
		return nil, err
	}
	return s.random(ctx, c, r)
}

// randomBoth answers "random/source/bytes".
func (s *Service) randomBoth(ctx context.Context, _ *op.Call, r *api.Random) (*api.RandomBytes, error) {
	if err := checkSource(r.Source); err != nil {
		return nil, err
	}
	return s.randomBytes(ctx, r.URLBytes, r.Format)
}

// checkSource takes the words that clients send. They make no difference: the
// bytes are the HSM token's in any case.
func checkSource(source string) error {
	switch source {
	case "platform", "seal", "all":
		return nil
	}
	return invalid("unsupported entropy source %q: it is platform, seal or all", source)
}

func (s *Service) randomBytes(ctx context.Context, n int, format string) (*api.RandomBytes, error) {
	switch {
	case n < 1 || n > maxRandom:
		return nil, invalid("%d random bytes are asked for: it must be from 1 to %d", n, maxRandom)
	case format != "" && format != "base64" && format != "hex":
		return nil, invalid("unknown format %q: it is base64 or hex", format)
	}
	p := make([]byte, n)
	defer clear(p)
	if err := s.tokenRandom(ctx, p); err != nil {
		return nil, err
	}
	if format == "hex" {
		return &api.RandomBytes{RandomBytes: hex.EncodeToString(p)}, nil
	}
	return &api.RandomBytes{RandomBytes: base64.StdEncoding.EncodeToString(p)}, nil
}

func (s *Service) tokenRandom(ctx context.Context, p []byte) error {
	t, err := s.token.Get()
	if err == nil {
		err = t.Random(ctx, p)
	}
	return tokenFault(err, "make random bytes")
}
