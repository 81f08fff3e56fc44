package keys

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
)

// p11Agree is CKM_ECDH1_DERIVE without a KDF. The secret is the caller's.
func (s *Service) p11Agree(ctx context.Context, c *op.Call, r *api.P11Agree) (*api.P11Shared, error) {
	k, err := s.findThis(ctx, c.Mount, r.Name, r.KeyID, "key not found")
	if err != nil {
		return nil, err
	}
	if k.meta.Type.Class() != token.ClassECDSA {
		return nil, invalid("key type %v does not support key agreement; ecdsa-p256, ecdsa-p384 and ecdsa-p521 do", k.meta.Type)
	}
	if !k.meta.PKCS11.agrees() {
		return nil, invalid("the key %s was not made for key agreement", r.Name).
			WithHint("make one with pkcs11/:name/create and uses=agree: a key for signatures serves nothing else unless that is asked for")
	}
	v, err := s.inUse(ctx, k, r.Version)
	if err != nil {
		return nil, err
	}
	curve, err := curveOf(v)
	if err != nil {
		return nil, err
	}
	peer, err := curve.NewPublicKey(r.Public)
	if err != nil {
		return nil, invalid("public is no uncompressed point on the curve of a key of type %v", k.meta.Type)
	}
	secret, err := s.shared(ctx, k.name, v, peer)
	if err != nil {
		return nil, err
	}
	return &api.P11Shared{Secret: secret}, nil
}

// shared is the x-coordinate of the point that a version shares with a peer of the
// same curve.
func (s *Service) shared(ctx context.Context, n keyName, v *version, peer *ecdh.PublicKey) ([]byte, error) {
	return s.one(ctx, n, v, token.Op{Kind: token.Agree}, token.Item{In: peer.Bytes()}, "agree on a key")
}

func curveOf(v *version) (ecdh.Curve, error) {
	if public, ok := v.public.(*ecdsa.PublicKey); ok {
		if own, err := public.ECDH(); err == nil {
			return own.Curve(), nil
		}
	}
	return nil, fault.New(fault.Internal, "version %d of the key has no public key of a curve", v.number)
}
