package keys

import (
	"cmp"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/hex"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

// hash computes the digest of an input. It needs no key.
func (s *Service) hash(_ context.Context, _ *op.Call, r *api.Hash) (*api.HashSum, error) {
	if r.Input == nil {
		return nil, invalid("input missing: it is the base64 of what to hash")
	}
	name := cmp.Or(r.URLAlgorithm, r.Algorithm, defaultHash)
	h, ok := hashes[name]
	if !ok || h == noHash || h == crypto.SHA1 {
		return nil, invalid("unsupported algorithm %s: it is sha2-224, sha2-256, sha2-384, sha2-512, sha3-224, sha3-256, sha3-384 or sha3-512", name)
	}
	sum := digest(h, r.Input)
	switch r.Format {
	case "", "hex":
		return &api.HashSum{Sum: hex.EncodeToString(sum)}, nil
	case "base64":
		return &api.HashSum{Sum: base64.StdEncoding.EncodeToString(sum)}, nil
	}
	return nil, invalid("unsupported encoding format %s; must be \"hex\" or \"base64\"", r.Format)
}
