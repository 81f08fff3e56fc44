package p11

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"slices"

	"github.com/claviger/claviger/api"
)

// Derive agrees on a secret by ECDH with a key of the server. The caller keeps what
// is derived: its handle is 0.
func (s *Service) Derive(ctx context.Context, c *Caller, k Key, m *Mechanism, template Attributes) (*Object, error) {
	if m.Number != CKM_ECDH1_DERIVE {
		return nil, fail(CKR_MECHANISM_INVALID, "mechanism 0x%x does not derive here: use CKM_ECDH1_DERIVE", m.Number)
	}
	if err := m.want(ParamECDH, "CK_ECDH1_DERIVE_PARAMS"); err != nil {
		return nil, err
	}
	hash, err := m.kdf()
	if err != nil {
		return nil, err
	}
	ckk, err := outside(template)
	if err != nil {
		return nil, err
	}
	if k.Handle == 0 {
		return nil, fail(CKR_KEY_HANDLE_INVALID, "ECDH needs the handle of a private key")
	}
	e, err := s.resolve(ctx, c, k.Handle, CKR_KEY_HANDLE_INVALID)
	if err != nil {
		return nil, err
	}
	if e.key == nil || e.class != CKO_PRIVATE_KEY || kindOf(e.key.Type).ckk != CKK_EC {
		return nil, fail(CKR_KEY_TYPE_INCONSISTENT, "ECDH needs a private key of an elliptic curve")
	}
	peer, err := kindOf(e.key.Type).curve.peer(m.ECDH.Public)
	if err != nil {
		return nil, err
	}
	var shared api.P11Shared
	q := &api.P11Agree{KeyID: e.record, Version: e.version.Version, Public: peer}
	err = s.call(ctx, c, Call{Verb: Write, Path: e.mount + "pkcs11/" + e.key.Name + "/agree", Repeatable: true}, q, &shared)
	if err != nil {
		return nil, s.failed(ctx, c, e, err, CKR_KEY_FUNCTION_NOT_PERMITTED)
	}
	defer clear(shared.Secret)
	value, err := m.derive(hash, shared.Secret, ckk, template)
	if err != nil {
		return nil, err
	}
	return secretObject(ckk, value, template, CKM_ECDH1_DERIVE), nil
}

// outside checks that a secret may live with the caller, and returns its type.
func outside(template Attributes) (uint64, error) {
	if class, ok := template.Number(CKA_CLASS); ok && class != CKO_SECRET_KEY {
		return 0, fail(CKR_TEMPLATE_INCONSISTENT, "CKA_CLASS %d is not that of a secret key", class)
	}
	if template.Flag(CKA_TOKEN, false) || template.Flag(CKA_SENSITIVE, false) || !template.Flag(CKA_EXTRACTABLE, true) {
		return 0, fail(CKR_TEMPLATE_INCONSISTENT,
			"what is derived or unwrapped for a session lives with the caller: it needs CKA_TOKEN false, CKA_SENSITIVE false and CKA_EXTRACTABLE true")
	}
	return template.keyType(CKK_GENERIC_SECRET), nil
}

// peer reads the other's point, bare or as the DER of an OCTET STRING, and checks
// that it is one of the curve.
func (c *curve) peer(b []byte) ([]byte, error) {
	for _, p := range [][]byte{b, point(b)} {
		if _, err := c.ecdh.NewPublicKey(p); err == nil {
			return p, nil
		}
	}
	return nil, fail(CKR_MECHANISM_PARAM_INVALID, "the other's public key is no uncompressed point of the curve")
}

// kdf is the hash of the key derivation function, 0 of CKD_NULL.
func (m *Mechanism) kdf() (crypto.Hash, error) {
	switch m.ECDH.KDF {
	case CKD_NULL:
		if len(m.ECDH.Shared) > 0 {
			return 0, fail(CKR_MECHANISM_PARAM_INVALID, "CKD_NULL takes no shared data")
		}
		return 0, nil
	case CKD_SHA1_KDF:
		return crypto.SHA1, nil
	case CKD_SHA224_KDF:
		return crypto.SHA224, nil
	case CKD_SHA256_KDF:
		return crypto.SHA256, nil
	case CKD_SHA384_KDF:
		return crypto.SHA384, nil
	case CKD_SHA512_KDF:
		return crypto.SHA512, nil
	}
	return 0, fail(CKR_MECHANISM_PARAM_INVALID, "key derivation function %d is not offered: use CKD_NULL or CKD_SHA…_KDF", m.ECDH.KDF)
}

// derive makes the value: the end of the shared secret, as long as the template says
// (PKCS#11 v2.40 Current Mechanisms, section 2.3.8), or the output of the KDF.
func (m *Mechanism) derive(h crypto.Hash, z []byte, ckk uint64, template Attributes) ([]byte, error) {
	n, given := template.Number(CKA_VALUE_LEN)
	switch {
	case !given && ckk == CKK_AES:
		return nil, fail(CKR_TEMPLATE_INCOMPLETE, "an AES key needs CKA_VALUE_LEN")
	case !given && h == 0:
		n = uint64(len(z))
	case !given:
		n = uint64(h.Size())
	}
	if n == 0 || n > maxSecret || h == 0 && n > uint64(len(z)) || ckk == CKK_AES && n != 16 && n != 24 && n != 32 {
		return nil, fail(CKR_KEY_SIZE_RANGE, "a key of %d bytes can't be derived with this mechanism", n)
	}
	if h == 0 {
		return slices.Clone(z[uint64(len(z))-n:]), nil
	}
	return x963(h, z, m.ECDH.Shared, int(n)), nil
}

// x963 is the key derivation function of ANSI X9.63 (SEC 1 v2 section 3.6.1).
func x963(h crypto.Hash, z, shared []byte, n int) []byte {
	var out []byte
	for counter := uint32(1); len(out) < n; counter++ {
		f := h.New()
		f.Write(z)
		f.Write(binary.BigEndian.AppendUint32(nil, counter))
		f.Write(shared)
		out = f.Sum(out)
	}
	return out[:n]
}

// Wrap always refuses: keys of the token do not leave it.
func (s *Service) Wrap(ctx context.Context, c *Caller, k Key, _ *Mechanism, handle uint64) ([]byte, error) {
	if k.Handle != 0 {
		if _, err := s.resolve(ctx, c, k.Handle, CKR_KEY_HANDLE_INVALID); err != nil {
			return nil, err
		}
	}
	if _, err := s.resolve(ctx, c, handle, CKR_KEY_HANDLE_INVALID); err != nil {
		return nil, err
	}
	return nil, fail(CKR_KEY_UNEXTRACTABLE, "keys of the token are not extractable")
}

// Unwrap decrypts a key with one of the server. One for the token is imported; one
// of a session lives with the caller, and its handle is 0.
func (s *Service) Unwrap(ctx context.Context, c *Caller, k Key, m *Mechanism, wrapped []byte, template Attributes) (*Object, error) {
	class, ok := template.Number(CKA_CLASS)
	if !ok || class != CKO_SECRET_KEY && class != CKO_PRIVATE_KEY {
		return nil, fail(CKR_TEMPLATE_INCOMPLETE, "the unwrapped key needs CKA_CLASS, private or secret key")
	}
	token := template.Flag(CKA_TOKEN, false)
	if !token {
		if _, err := outside(template); err != nil {
			return nil, err
		}
	}
	if _, ok := template.Number(CKA_KEY_TYPE); !ok {
		return nil, fail(CKR_TEMPLATE_INCOMPLETE, "the unwrapped key needs CKA_KEY_TYPE")
	}
	value, err := s.Decrypt(ctx, c, k, m, wrapped)
	if err != nil {
		if e, ok := err.(*Error); ok && (e.Code == CKR_ENCRYPTED_DATA_INVALID || e.Code == CKR_ENCRYPTED_DATA_LEN_RANGE) {
			err = &Error{CKR_WRAPPED_KEY_INVALID, e.Msg}
		}
		return nil, err
	}
	defer clear(value)
	if class == CKO_PRIVATE_KEY {
		return s.unwrapPrivate(ctx, c, value, template)
	}
	if n, ok := template.Number(CKA_VALUE_LEN); ok && n != uint64(len(value)) {
		return nil, fail(CKR_TEMPLATE_INCONSISTENT, "the unwrapped key has %d bytes, not CKA_VALUE_LEN %d", len(value), n)
	}
	if !token {
		if len(value) == 0 {
			return nil, fail(CKR_WRAPPED_KEY_INVALID, "the unwrapped key is empty")
		}
		return secretObject(template.keyType(CKK_GENERIC_SECRET), slices.Clone(value), template, CKM_UNAVAILABLE_INFORMATION), nil
	}
	full := slices.Clone(template)
	full.Set(api.P11Attribute{Type: CKA_VALUE, Form: FormBytes, Value: value})
	return s.importKey(ctx, c, s.slots[c.Slot].Mounts[0], class, full)
}

// unwrapPrivate imports an unwrapped private key, PKCS #8 DER.
func (s *Service) unwrapPrivate(ctx context.Context, c *Caller, der []byte, template Attributes) (*Object, error) {
	private, err := x509.ParsePKCS8PrivateKey(der)
	signer, ok := private.(crypto.Signer)
	if err != nil || !ok {
		return nil, fail(CKR_WRAPPED_KEY_INVALID, "what was unwrapped is no private key in PKCS #8")
	}
	k := kindOfPublic(signer.Public())
	if k.ckk == CKK_RSA {
		k = kindFor(CKM_RSA_PKCS_KEY_PAIR_GEN, k.bits, nil)
	}
	if k == nil || k.ckk != template.keyType(k.ckk) {
		return nil, fail(CKR_TEMPLATE_INCONSISTENT, "the unwrapped key is not of the type of CKA_KEY_TYPE, or of one that is kept")
	}
	return s.importMaterial(ctx, c, s.slots[c.Slot].Mounts[0], CKO_PRIVATE_KEY, template, k, der)
}
