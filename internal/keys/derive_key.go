package keys

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
)

func (s *Service) deriveOperations() []*op.Operation {
	return []*op.Operation{
		op.Define(meta("derive-key", "derive-key/{name}", op.Write, "Make a key of an own private key and another party's public key."), s.deriveKey),
	}
}

// deriveKey makes a software key of ECDH (SP 800-56A section 5.7.1.2) and
// HKDF-SHA256 (RFC 5869), so that the other party can make the same one. A
// private key in the HSM token must have been made for agreement.
func (s *Service) deriveKey(ctx context.Context, c *op.Call, r *api.DeriveKey) (*api.Empty, error) {
	p, err := s.planAgreement(ctx, keyName{c.Mount, r.Name}, r)
	if err != nil {
		return nil, err
	}
	secret, err := s.agree(ctx, keyName{c.Mount, r.BaseKeyName}, r, p.typ.Bits()/8)
	if err != nil {
		return nil, err
	}
	m := &material{main: secretRecord{Type: p.typ, Place: p.protection, Secret: secret}}
	if err := s.makeMAC(ctx, m, p); err != nil {
		s.discard(ctx, m)
		return nil, tokenFault(err, "make the key's HMAC secret")
	}
	_, existed, err := s.place(ctx, p, m)
	if err == nil && existed {
		err = derivedExists(p.name)
	}
	return nil, err
}

func derivedExists(n keyName) error {
	return invalid("key %s already exists", n.name).WithHint("derive under another name")
}

func (s *Service) planAgreement(ctx context.Context, n keyName, r *api.DeriveKey) (plan, error) {
	if err := checkName(r.Name); err != nil {
		return plan{}, err
	}
	switch {
	case r.Algorithm != "" && r.Algorithm != "ecdh":
		return plan{}, invalid("key derivation algorithm %s not supported; it is ecdh", r.Algorithm)
	case r.PeerPublicKey == "":
		return plan{}, invalid("peer public key not provided")
	}
	t := defaultType
	if r.DerivedKeyType != "" {
		var err error
		if t, err = token.ParseType(r.DerivedKeyType); err != nil || t.Class() != token.ClassAEAD {
			return plan{}, invalid("unknown key type %s", r.DerivedKeyType).
				WithHint("derived_key_type is aes128-gcm96, aes256-gcm96, chacha20-poly1305 or xchacha20-poly1305")
		}
	}
	existed, err := s.exists(ctx, n)
	if err == nil && existed {
		err = derivedExists(n)
	}
	return plan{name: n, typ: t, protection: api.ProtectionSoftware, imported: true}, err
}

// agree returns size bytes of secret, which the caller wipes.
func (s *Service) agree(ctx context.Context, base keyName, r *api.DeriveKey, size int) ([]byte, error) {
	k, err := s.find(ctx, base.mount, base.name, "specified base key not found")
	if err != nil {
		return nil, err
	}
	if k.meta.Type.Class() != token.ClassECDSA {
		return nil, invalid("base key type %v does not support key agreement", k.meta.Type)
	}
	peer, err := parsePeer(r.PeerPublicKey)
	if err != nil {
		return nil, err
	}
	v, err := s.inUse(ctx, k, r.BaseKeyVersion)
	if err != nil {
		return nil, err
	}
	if curve, err := curveOf(v); err != nil || curve != peer.Curve() {
		return nil, invalid("base private key type %v does not match peer public key curve", k.meta.Type)
	}
	if k.meta.Protection != api.ProtectionSoftware && !k.meta.PKCS11.agrees() {
		return nil, invalid("the base key is in the HSM token (protection %s) and was not made for agreement", k.meta.Protection).
			WithHint("make the base key with protection=software, or with pkcs11/:name/create and uses=agree")
	}
	shared, err := s.shared(ctx, k.name, v, peer)
	if err != nil {
		return nil, err
	}
	defer clear(shared)
	secret, err := hkdf.Key(sha256.New, shared, nil, "", size)
	return secret, fault.Wrap(fault.Internal, err, "can't derive a key")
}

// parsePeer reads a public key of a NIST curve in PEM.
func parsePeer(text string) (*ecdh.PublicKey, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, invalid("peer_public_key is no public key in PEM: it begins with -----BEGIN PUBLIC KEY-----")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, invalid("peer_public_key can't be read: %v", err)
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return nil, invalid("supplied peer public key is not an ECDSA key")
	}
	peer, err := public.ECDH()
	if err != nil {
		return nil, invalid("peer_public_key can't be used: %v", err)
	}
	return peer, nil
}
