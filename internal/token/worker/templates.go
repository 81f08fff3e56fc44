package worker

import (
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// Labels of the system keys.
const (
	labelKEK     = "claviger-kek"
	labelStorage = "claviger-storage"
	labelAudit   = "claviger-audit"
)

// curveParams are the DER of CKA_EC_PARAMS: named curves of RFC 5480, and RFC
// 8410's identifier of Ed25519.
var curveParams = map[token.Type][]byte{
	token.P256:    {0x06, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7},
	token.P384:    {0x06, 5, 0x2B, 0x81, 0x04, 0, 0x22},
	token.P521:    {0x06, 5, 0x2B, 0x81, 0x04, 0, 0x23},
	token.Ed25519: {0x06, 3, 0x2B, 0x65, 0x70},
}

// ed25519Params are all the forms in which modules want CKA_EC_PARAMS of
// Ed25519: the OID, and v3.0's PrintableString "edwards25519".
var ed25519Params = [][]byte{
	curveParams[token.Ed25519],
	append([]byte{0x13, 12}, "edwards25519"...),
	{0x06, 9, 0x2B, 6, 1, 4, 1, 0xDA, 0x47, 0x0F, 1},
}

// Where a new object lives and whether it may be wrapped.
type birth struct {
	object      bool // CKA_TOKEN
	extractable bool
	trustedOnly bool // CKA_WRAP_WITH_TRUSTED
	agree       bool // CKA_DERIVE of an EC key
	label       string
	id          []byte
}

// common begins every secret's template: sensitive and private from birth.
func (b birth) common() *pkcs11.Template {
	t := (&pkcs11.Template{}).
		Bool(b.object, pkcs11.AttrToken).
		Bool(true, pkcs11.AttrPrivate, pkcs11.AttrSensitive).
		Bool(b.extractable, pkcs11.AttrExtractable)
	if b.trustedOnly {
		t.Bool(true, pkcs11.AttrWrapWithTrusted)
	}
	if b.label != "" {
		t.String(pkcs11.AttrLabel, b.label)
	}
	if b.id != nil {
		t.Bytes(pkcs11.AttrID, b.id)
	}
	return t
}

// usage allows what a key of a type is for and forbids the rest, so that a
// secret can't be got out by using it for something else.
func usage(t *pkcs11.Template, typ token.Type, agree bool) *pkcs11.Template {
	switch typ.Class() {
	case token.ClassAEAD:
		return t.Bool(true, pkcs11.AttrEncrypt, pkcs11.AttrDecrypt).
			Bool(false, pkcs11.AttrSign, pkcs11.AttrVerify, pkcs11.AttrWrap, pkcs11.AttrUnwrap, pkcs11.AttrDerive)
	case token.ClassHMAC:
		return t.Bool(true, pkcs11.AttrSign).
			Bool(false, pkcs11.AttrEncrypt, pkcs11.AttrDecrypt, pkcs11.AttrVerify, pkcs11.AttrWrap, pkcs11.AttrUnwrap,
				pkcs11.AttrDerive)
	case token.ClassRSA:
		return t.Bool(true, pkcs11.AttrSign, pkcs11.AttrDecrypt).Bool(false, pkcs11.AttrUnwrap, pkcs11.AttrDerive)
	default:
		return t.Bool(true, pkcs11.AttrSign).Bool(false, pkcs11.AttrDecrypt, pkcs11.AttrUnwrap).Bool(agree, pkcs11.AttrDerive)
	}
}

// classOf returns CKA_CLASS and CKA_KEY_TYPE of a type's secret.
func classOf(typ token.Type) (class, keyType uint64) {
	switch typ.Class() {
	case token.ClassAEAD:
		return pkcs11.ClassSecret, pkcs11.KeyAES
	case token.ClassHMAC:
		return pkcs11.ClassSecret, pkcs11.KeyGeneric
	case token.ClassRSA:
		return pkcs11.ClassPrivate, pkcs11.KeyRSA
	case token.ClassEd25519:
		return pkcs11.ClassPrivate, pkcs11.KeyEdwards
	default:
		return pkcs11.ClassPrivate, pkcs11.KeyEC
	}
}

// unwrapTemplate is that of a wrapped key in use: a session object that can't
// leave again.
func unwrapTemplate(typ token.Type, agree bool) *pkcs11.Template {
	class, keyType := classOf(typ)
	t := birth{}.common().Ulong(pkcs11.AttrClass, class).Ulong(pkcs11.AttrKeyType, keyType)
	return usage(t, typ, agree)
}

// publicTemplate is that of a pair's public half. It is a session object, which
// is read once and dropped, so that the token keeps secrets only. A module that
// refuses that (tpm2-pkcs11) gets a plain template: a token object, with only
// what can't be left out.
func publicTemplate(typ token.Type, params []byte, plain bool, b birth) *pkcs11.Template {
	t := (&pkcs11.Template{}).Bool(plain && b.object, pkcs11.AttrToken)
	switch {
	case plain && b.id != nil:
		t.Bytes(pkcs11.AttrID, b.id)
	case !plain:
		t.Bool(true, pkcs11.AttrVerify)
	}
	if typ.Class() != token.ClassRSA {
		return t.Bytes(pkcs11.AttrECParams, params)
	}
	if !plain {
		t.Bool(true, pkcs11.AttrEncrypt)
	}
	return t.Ulong(pkcs11.AttrModulusBits, uint64(typ.Bits())).Bytes(pkcs11.AttrPublicExponent, []byte{1, 0, 1})
}

// privateTemplate is that of a pair's private half.
func privateTemplate(typ token.Type, plain bool, b birth) *pkcs11.Template {
	t := b.common()
	if !plain {
		return usage(t, typ, b.agree)
	}
	t.Bool(true, pkcs11.AttrSign)
	if b.agree {
		t.Bool(true, pkcs11.AttrDerive)
	}
	if typ.Class() == token.ClassRSA {
		t.Bool(true, pkcs11.AttrDecrypt)
	}
	return t
}

// kekTemplate is the KEK's: wrap and unwrap only.
func kekTemplate(b birth, trusted bool) *pkcs11.Template {
	t := b.common().Ulong(pkcs11.AttrValueLen, 32).
		Bool(true, pkcs11.AttrWrap, pkcs11.AttrUnwrap).
		Bool(false, pkcs11.AttrEncrypt, pkcs11.AttrDecrypt, pkcs11.AttrSign, pkcs11.AttrVerify, pkcs11.AttrDerive)
	if trusted {
		t.Bool(true, pkcs11.AttrTrusted)
	}
	return t
}
