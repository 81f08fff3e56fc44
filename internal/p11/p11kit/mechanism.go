package p11kit

import (
	"slices"

	"github.com/claviger/claviger/internal/p11"
)

// parameters are the mechanisms that travel with one, and its form. All others have
// none, for the module lets no others through.
var parameters = map[uint64]uint8{
	p11.CKM_RSA_PKCS_PSS:        p11.ParamPSS,
	p11.CKM_SHA1_RSA_PKCS_PSS:   p11.ParamPSS,
	p11.CKM_SHA224_RSA_PKCS_PSS: p11.ParamPSS, p11.CKM_SHA256_RSA_PKCS_PSS: p11.ParamPSS,
	p11.CKM_SHA384_RSA_PKCS_PSS: p11.ParamPSS, p11.CKM_SHA512_RSA_PKCS_PSS: p11.ParamPSS,
	p11.CKM_RSA_PKCS_OAEP:      p11.ParamOAEP,
	p11.CKM_ECDH1_DERIVE:       p11.ParamECDH,
	p11.CKM_AES_CBC:            p11.ParamRaw,
	p11.CKM_AES_CBC_PAD:        p11.ParamRaw,
	p11.CKM_AES_GCM:            p11.ParamGCM,
	p11.CKM_SHA_1_HMAC_GENERAL: p11.ParamNumber, p11.CKM_SHA224_HMAC_GENERAL: p11.ParamNumber,
	p11.CKM_SHA256_HMAC_GENERAL: p11.ParamNumber, p11.CKM_SHA384_HMAC_GENERAL: p11.ParamNumber,
	p11.CKM_SHA512_HMAC_GENERAL: p11.ParamNumber,
}

// noMechanism stands for a NULL pointer: the operation under way ends.
const noMechanism = 0xffffffff

// mechanism takes an "M"; nil for a NULL pointer.
func (r *reader) mechanism() *p11.Mechanism {
	m := &p11.Mechanism{Number: uint64(r.U32())}
	if m.Number == noMechanism && r.version >= 2 {
		return nil
	}
	form, has := parameters[m.Number]
	if !has && !offered(m.Number) {
		r.refuse(p11.CKR_MECHANISM_INVALID, "the mechanism is not offered") // nobody knows where its parameter ends
		return m
	}
	switch {
	case has && (r.version < 2 || r.Bool()):
		r.parameter(m, form)
	case has: // none, though it could have one
	case r.version < 2: // others have room for bytes
		if b := r.blob(); b != nil {
			m.Form, m.Raw = p11.ParamRaw, slices.Clone(b)
		}
	}
	return m
}

// parameter takes a parameter. Its bytes are copied: it outlives the frame.
func (r *reader) parameter(m *p11.Mechanism, form uint8) {
	b := func() []byte { return slices.Clone(r.blob()) }
	m.Form = form
	switch form {
	case p11.ParamPSS:
		m.PSS = p11.PSS{Hash: r.number(), MGF: r.number(), Salt: r.number()}
	case p11.ParamOAEP:
		m.OAEP = p11.OAEP{Hash: r.number(), MGF: r.number(), Source: r.number(), Label: b()}
	case p11.ParamECDH:
		m.ECDH = p11.ECDH{KDF: r.number(), Shared: b(), Public: b()}
	case p11.ParamGCM:
		m.GCM = p11.GCM{IV: b(), IVBits: r.number(), AAD: b(), TagBits: r.number()}
	case p11.ParamNumber:
		m.Value = r.number()
	default:
		m.Raw = b()
	}
}

// offered tells whether a slot has the mechanism.
func offered(number uint64) bool {
	_, ok := p11.MechanismOf(number)
	return ok || slices.Contains(digests, number)
}
