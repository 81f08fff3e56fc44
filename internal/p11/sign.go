package p11

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// Sign signs data, or a digest of it by the mechanism's hash. The signature has
// the form of PKCS#11: r‖s of ECDSA.
func (s *Service) Sign(ctx context.Context, c *Caller, k Key, m *Mechanism, digested bool, data []byte) ([]byte, error) {
	sig, ok := signatures[m.Number]
	if !ok {
		return nil, fail(CKR_MECHANISM_INVALID, "mechanism 0x%x does not sign here", m.Number)
	}
	if k.Handle == 0 {
		return signHere(k.Attributes, sig, m, data)
	}
	e, err := s.resolve(ctx, c, k.Handle, CKR_KEY_HANDLE_INVALID)
	if err != nil {
		return nil, err
	}
	kind, err := e.signer(sig, m)
	if err != nil {
		return nil, err
	}
	if sig.pad == padHMAC {
		return s.mac(ctx, c, e, sig, m, data)
	}
	if !e.version.Signs {
		return nil, errNotNew
	}
	if e.class != CKO_PRIVATE_KEY {
		return nil, fail(CKR_KEY_FUNCTION_NOT_PERMITTED, "the handle is that of a public key: it verifies only")
	}
	in, err := prepare(kind, sig, m, digested, data)
	if err != nil {
		return nil, err
	}
	return s.signThere(ctx, c, e, in)
}

// signer checks that a key works with a mechanism.
func (e *entry) signer(sig signature, m *Mechanism) (*kind, error) {
	if e.key == nil || e.class == CKO_CERTIFICATE {
		return nil, fail(CKR_KEY_HANDLE_INVALID, "the handle is that of an object which is no key")
	}
	k := kindOf(e.key.Type)
	if k.pad() != sig.pad && (k.ckk != CKK_RSA || sig.pad != padPSS) {
		return nil, fail(CKR_KEY_TYPE_INCONSISTENT, "mechanism 0x%x does not work with a key of type %s", m.Number, k.name)
	}
	return k, nil
}

// pad is how keys of the kind sign; RSA ones also with padPSS.
func (k *kind) pad() int {
	switch k.ckk {
	case CKK_RSA:
		return padPKCS1
	case CKK_EC:
		return padECDSA
	case CKK_EC_EDWARDS:
		return padEdDSA
	case CKK_GENERIC_SECRET:
		return padHMAC
	}
	return 0
}

// toSign is what is signed, ready for a key.
type toSign struct {
	pad   int
	hash  crypto.Hash // 0: RSA PKCS #1 v1.5 without one, and Ed25519
	salt  int         // of PSS, in bytes
	input []byte      // the digest; the message of Ed25519
}

// prepare makes of data what a key of the kind signs.
func prepare(k *kind, sig signature, m *Mechanism, digested bool, data []byte) (*toSign, error) {
	in := &toSign{pad: sig.pad, hash: sig.hash, input: data}
	if sig.hash != 0 && !digested {
		in.input = sum(sig.hash, data)
	}
	var err error
	switch sig.pad {
	case padPKCS1:
		err = in.pkcs1(k, m)
	case padPSS:
		err = in.pss(k, m)
	case padECDSA:
		err = in.ecdsa(k, m)
	case padEdDSA:
		err = in.eddsa(m)
	}
	if err == nil && sig.hash != 0 && len(in.input) != in.hash.Size() && sig.pad != padECDSA {
		err = fail(CKR_DATA_LEN_RANGE, "the digest of mechanism 0x%x has %d bytes, not %d", m.Number, sig.hash.Size(), len(in.input))
	}
	return in, err
}

func sum(h crypto.Hash, data []byte) []byte {
	f := h.New()
	f.Write(data)
	return f.Sum(nil)
}

func (in *toSign) pkcs1(k *kind, m *Mechanism) error {
	if most := k.bits/8 - 11; in.hash == 0 && len(in.input) > most {
		return fail(CKR_DATA_LEN_RANGE, "%d bytes are more than the %d that a key of type %s signs without a hash", len(in.input), most, k.name)
	}
	return m.plain()
}

// pss reads the parameter: the hash must be the mechanism's, or is that of the digest.
func (in *toSign) pss(k *kind, m *Mechanism) error {
	if err := m.want(ParamPSS, "CK_RSA_PKCS_PSS_PARAMS"); err != nil {
		return err
	}
	h, err := m.pairedHash(m.PSS.Hash, m.PSS.MGF)
	if err != nil {
		return err
	}
	if in.hash != 0 && in.hash != h {
		return fail(CKR_MECHANISM_PARAM_INVALID, "hashAlg of the parameter is not the hash of mechanism 0x%x", m.Number)
	}
	in.hash = h
	if len(in.input) != h.Size() {
		return fail(CKR_DATA_LEN_RANGE, "a digest of the hash has %d bytes, not %d", h.Size(), len(in.input))
	}
	most := (k.bits-1+7)/8 - h.Size() - 2 // RFC 8017 section 9.1.1
	if most < 0 || m.PSS.Salt > uint64(most) {
		return fail(CKR_MECHANISM_PARAM_INVALID, "a salt of %d bytes is not possible: with this key and hash it has 0 to %d", m.PSS.Salt, most)
	}
	in.salt = int(m.PSS.Salt)
	return nil
}

// ecdsa brings what is signed to the length of a hash. ECDSA takes of a digest the
// leftmost bits, as many as the order of the curve has, as a number (FIPS 186-5
// section 6.4.1): so a longer one is cut, and a shorter one gets zeros in front.
func (in *toSign) ecdsa(k *kind, m *Mechanism) error {
	if err := m.plain(); err != nil {
		return err
	}
	if in.hash != 0 {
		if len(in.input) != in.hash.Size() {
			return fail(CKR_DATA_LEN_RANGE, "the digest of mechanism 0x%x has %d bytes, not %d", m.Number, in.hash.Size(), len(in.input))
		}
		return nil
	}
	order := (k.bits + 7) / 8
	if k == kindOf("ecdsa-p521") {
		order = 64 // what is longer would need a hash that nobody has
		if len(in.input) > order {
			return fail(CKR_DATA_LEN_RANGE, "a key of type %s signs digests of at most %d bytes, not %d", k.name, order, len(in.input))
		}
	}
	if len(in.input) == 0 {
		return fail(CKR_DATA_LEN_RANGE, "there is nothing to sign: CKM_ECDSA needs a digest")
	}
	in.input = in.input[:min(len(in.input), order)]
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		if len(in.input) <= h.Size() {
			in.hash = h
			in.input = append(make([]byte, h.Size()-len(in.input)), in.input...)
			return nil
		}
	}
	return fail(CKR_DATA_LEN_RANGE, "a digest has at most 64 bytes")
}

func (in *toSign) eddsa(m *Mechanism) error {
	if m.Form != ParamEdDSA {
		return m.plain()
	}
	if m.EdDSA.Prehash || len(m.EdDSA.Context) > 0 {
		return fail(CKR_MECHANISM_PARAM_INVALID, "Ed25519ph and Ed25519ctx are not offered: leave the parameter away")
	}
	return nil
}

// signThere asks the server for a signature.
func (s *Service) signThere(ctx context.Context, c *Caller, e *entry, in *toSign) ([]byte, error) {
	q := &api.Sign{Input: in.input, KeyID: e.record, KeyVersion: e.version.Version, Prehashed: true, HashAlgorithm: hashNames[in.hash]}
	if q.Input == nil {
		q.Input = []byte{}
	}
	decode := base64.StdEncoding
	switch in.pad {
	case padPKCS1:
		q.SignatureAlgorithm = "pkcs1v15"
		if in.hash == 0 {
			q.HashAlgorithm = "none"
		}
	case padPSS:
		q.SignatureAlgorithm, q.SaltLength = "pss", strconv.Itoa(in.salt)
		if in.salt == 0 {
			q.SaltLength = "none" // 0 lets the server choose
		}
	case padECDSA:
		q.MarshalingAlgorithm, decode = "jws", base64.RawURLEncoding
	case padEdDSA:
		q.Prehashed, q.HashAlgorithm = false, ""
	}
	var answer api.Signature
	err := s.call(ctx, c, Call{Verb: Write, Path: e.mount + "sign/" + e.key.Name, Repeatable: true}, q, &answer)
	if err != nil {
		return nil, s.failed(ctx, c, e, err, CKR_DATA_INVALID)
	}
	return unprefixed(answer.Signature, e.version.Version, decode)
}

// unprefixed reads the text of a signature or HMAC: "vault:v1:" and base64.
func unprefixed(text string, version int, encoding *base64.Encoding) ([]byte, error) {
	if rest, ok := strings.CutPrefix(text, "vault:v"+strconv.Itoa(version)+":"); ok {
		if b, err := encoding.DecodeString(rest); err == nil {
			return b, nil
		}
	}
	return nil, fail(CKR_FUNCTION_FAILED, "the server's answer %.16q… is not of version %d of the key", text, version)
}

var errNotNew = fail(CKR_KEY_FUNCTION_NOT_PERMITTED, "this version of the key makes nothing new any more: use the newest")

// failed explains the error of an operation with a key. If the key is gone, that is
// the reason, whatever the server said of it.
func (s *Service) failed(ctx context.Context, c *Caller, e *entry, err error, invalid Code) error {
	switch fault.KindOf(err) {
	case fault.Invalid, fault.NotFound, fault.Denied:
		v := s.view(c)
		now, ferr := s.refresh(ctx, c, v, &entry{handle: e.handle, mount: e.mount, record: e.record})
		if ferr == nil && now == nil {
			return fail(CKR_KEY_HANDLE_INVALID, "the key, or this version of it, is gone")
		}
		if ferr == nil && invalid == CKR_DATA_INVALID && now.version != nil && !now.version.Signs {
			return errNotNew
		}
	}
	return s.explain(ctx, c, err, invalid)
}

// mac makes an HMAC with a key of the server.
func (s *Service) mac(ctx context.Context, c *Caller, e *entry, sig signature, m *Mechanism, data []byte) ([]byte, error) {
	size, err := macSize(sig, m)
	if err != nil {
		return nil, err
	}
	q := &api.HMAC{Algorithm: hashNames[sig.hash], Input: data, KeyID: e.record, KeyVersion: e.version.Version}
	if q.Input == nil {
		q.Input = []byte{}
	}
	var answer api.HMACResult
	err = s.call(ctx, c, Call{Verb: Write, Path: e.mount + "hmac/" + e.key.Name, Repeatable: true}, q, &answer)
	if err != nil {
		return nil, s.failed(ctx, c, e, err, CKR_DATA_INVALID)
	}
	full, err := unprefixed(answer.HMAC, e.version.Version, base64.StdEncoding)
	if err != nil {
		return nil, err
	}
	if len(full) < size {
		return nil, fail(CKR_FUNCTION_FAILED, "the server's HMAC has %d bytes, not %d", len(full), size)
	}
	return bytes.Clone(full[:size]), nil
}

// macSize is the length of an HMAC, in bytes.
func macSize(sig signature, m *Mechanism) (int, error) {
	if !general(m.Number) {
		return sig.hash.Size(), m.plain()
	}
	if err := m.want(ParamNumber, "CK_MAC_GENERAL_PARAMS"); err != nil {
		return 0, err
	}
	if m.Value == 0 || m.Value > uint64(sig.hash.Size()) {
		return 0, fail(CKR_MECHANISM_PARAM_INVALID, "an HMAC of %d bytes is not possible: it has 1 to %d", m.Value, sig.hash.Size())
	}
	return int(m.Value), nil
}
