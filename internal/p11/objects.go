package p11

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"slices"

	"github.com/claviger/claviger/api"
)

// show is the entry as callers see it.
func (e *entry) show() *Object {
	var as Attributes
	switch {
	case e.object != nil:
		as = e.stored()
	case e.issuer != nil:
		as = certificateAttributes(e.issuer.der, e.issuer.name, e.issuer.id)
		as.addFlag(CKA_MODIFIABLE, false)
		as.addFlag(CKA_DESTROYABLE, false)
	case e.class == CKO_CERTIFICATE:
		as = e.certificate()
	default:
		as = e.keyAttributes()
	}
	as.addBytes(CKA_UNIQUE_ID, uniqueID(e.handle))
	return &Object{e.handle, as}
}

func uniqueID(handle uint64) []byte {
	const digits = "0123456789abcdef"
	text := make([]byte, 0, 16)
	for shift := 60; shift >= 0; shift -= 4 {
		text = append(text, digits[handle>>shift&15])
	}
	return text
}

// stored are the attributes of a stored object with those that it always has.
func (e *entry) stored() Attributes {
	as := slices.Clone(Attributes(e.object.Attributes))
	may := e.object.May
	as.Set(api.P11Attribute{Type: CKA_TOKEN, Form: FormBool, Value: flagValues[1]})
	def := func(t uint64, v bool) {
		if as.Find(t) == nil {
			as.addFlag(t, v)
		}
	}
	def(CKA_PRIVATE, false)
	if as.Find(CKA_LABEL) == nil {
		as.addBytes(CKA_LABEL, nil)
	}
	if !slices.Contains(may, "change") {
		as.Set(api.P11Attribute{Type: CKA_MODIFIABLE, Form: FormBool, Value: flagValues[0]})
	}
	if !slices.Contains(may, "delete") {
		as.Set(api.P11Attribute{Type: CKA_DESTROYABLE, Form: FormBool, Value: flagValues[0]})
	}
	def(CKA_MODIFIABLE, true)
	def(CKA_DESTROYABLE, true)
	return as
}

// label is CKA_LABEL of a key.
func (e *entry) label() string {
	if e.key.Label != "" {
		return e.key.Label
	}
	return e.key.Name
}

// idOf is the CKA_ID of a public key, in PKIX DER, that was given no other: the
// server does the same for its keys.
func idOf(public []byte) []byte {
	sum := sha256.Sum256(public)
	return sum[:20]
}

func (e *entry) may(what string) bool { return slices.Contains(e.key.May, what) }

// signs tells whether the version may be used for new signatures.
func (e *entry) signs(what string) bool { return e.version.Signs && e.may(what) }

// common are the attributes of every key.
func (e *entry) common(k *kind) Attributes {
	as := make(Attributes, 0, 40)
	as.addNumber(CKA_CLASS, e.class)
	as.addFlag(CKA_TOKEN, !e.key.Session)
	as.addFlag(CKA_PRIVATE, e.class != CKO_PUBLIC_KEY)
	as.addFlag(CKA_MODIFIABLE, e.may("change"))
	as.addFlag(CKA_COPYABLE, e.key.Session)
	as.addFlag(CKA_DESTROYABLE, e.key.Deletable && e.may("delete"))
	as.addBytes(CKA_LABEL, []byte(e.label()))
	as.addNumber(CKA_KEY_TYPE, k.ckk)
	as.addBytes(CKA_ID, e.version.ID)
	as.addBytes(CKA_START_DATE, nil)
	as.addBytes(CKA_END_DATE, nil)
	as.addFlag(CKA_LOCAL, !e.key.Imported)
	gen := k.gen
	if e.key.Imported {
		gen = CKM_UNAVAILABLE_INFORMATION
	}
	as.addNumber(CKA_KEY_GEN_MECHANISM, gen)
	as.addNumbers(CKA_ALLOWED_MECHANISMS, mechanismsOf(k.ckk))
	return as
}

func (e *entry) keyAttributes() Attributes {
	k := kindOf(e.key.Type)
	as := e.common(k)
	switch e.class {
	case CKO_PUBLIC_KEY:
		as.addFlag(CKA_ENCRYPT, k.ckk == CKK_RSA)
		as.addFlag(CKA_VERIFY, true)
		as.addFlag(CKA_VERIFY_RECOVER, false)
		as.addFlag(CKA_WRAP, false)
		as.addFlag(CKA_DERIVE, false)
		as.addFlag(CKA_TRUSTED, false)
		as.addBytes(CKA_SUBJECT, e.subject())
		as.addPublic(k, e.version.Public)
	case CKO_PRIVATE_KEY:
		as.addPrivateFlags()
		decrypts := k.ckk == CKK_RSA && e.may("decrypt")
		as.addFlag(CKA_DECRYPT, decrypts)
		as.addFlag(CKA_UNWRAP, decrypts)
		as.addFlag(CKA_SIGN, e.signs("sign"))
		as.addFlag(CKA_SIGN_RECOVER, false)
		as.addFlag(CKA_DERIVE, k.ckk == CKK_EC && e.may("agree"))
		as.addBytes(CKA_SUBJECT, e.subject())
		as.addPublic(k, e.version.Public)
		if k.ckk == CKK_RSA {
			as.addWithheld(CKA_PRIVATE_EXPONENT, CKA_PRIME_1, CKA_PRIME_2, CKA_EXPONENT_1, CKA_EXPONENT_2, CKA_COEFFICIENT)
		} else {
			as.addWithheld(CKA_VALUE)
		}
	case CKO_SECRET_KEY:
		as.addPrivateFlags()
		aes := k.ckk == CKK_AES
		as.addFlag(CKA_ENCRYPT, aes && e.signs("encrypt"))
		as.addFlag(CKA_DECRYPT, aes && e.may("decrypt"))
		as.addFlag(CKA_SIGN, !aes && e.signs("hmac"))
		as.addFlag(CKA_VERIFY, !aes && e.may("hmac"))
		as.addFlag(CKA_WRAP, false)
		as.addFlag(CKA_UNWRAP, aes && e.may("decrypt"))
		as.addFlag(CKA_DERIVE, false)
		as.addFlag(CKA_TRUSTED, false)
		as.addNumber(CKA_VALUE_LEN, uint64(e.size(k)))
		as.addWithheld(CKA_VALUE)
	}
	return as
}

// size is CKA_VALUE_LEN of a secret key, in bytes.
func (e *entry) size(k *kind) int {
	if k.bits > 0 {
		return k.bits / 8
	}
	return e.key.KeySize
}

func (as *Attributes) addPrivateFlags() {
	as.addFlag(CKA_SENSITIVE, true)
	as.addFlag(CKA_ALWAYS_SENSITIVE, true)
	as.addFlag(CKA_EXTRACTABLE, false)
	as.addFlag(CKA_NEVER_EXTRACTABLE, true)
	as.addFlag(CKA_WRAP_WITH_TRUSTED, false)
	as.addFlag(CKA_ALWAYS_AUTHENTICATE, false)
}

// subject is CKA_SUBJECT of a key: the one that was set, else that of its
// certificate.
func (e *entry) subject() []byte {
	if len(e.key.Subject) > 0 {
		return e.key.Subject
	}
	if len(e.version.Certificates) > 0 {
		if c, err := x509.ParseCertificate(e.version.Certificates[0]); err == nil {
			return c.RawSubject
		}
	}
	return nil
}

// addPublic adds what a public key, in PKIX DER, consists of.
func (as *Attributes) addPublic(k *kind, der []byte) {
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return // the server showed it, and made it of a key
	}
	as.addBytes(CKA_PUBLIC_KEY_INFO, der)
	switch public := public.(type) {
	case *rsa.PublicKey:
		as.addBytes(CKA_MODULUS, public.N.Bytes())
		as.addNumber(CKA_MODULUS_BITS, uint64(public.N.BitLen()))
		as.addBytes(CKA_PUBLIC_EXPONENT, big.NewInt(int64(public.E)).Bytes())
	case *ecdsa.PublicKey:
		if p, err := public.Bytes(); err == nil && k.curve != nil {
			as.addBytes(CKA_EC_PARAMS, k.curve.params[0])
			as.addBytes(CKA_EC_POINT, octetString(p))
		}
	case ed25519.PublicKey:
		as.addBytes(CKA_EC_PARAMS, edwards.params[0])
		as.addBytes(CKA_EC_POINT, octetString(public))
	}
}

// certificate is a certificate of a version: the first has label and CKA_ID of
// the key. Those of its authorities have none of both, so that nobody takes them
// for the key's.
func (e *entry) certificate() Attributes {
	der := e.version.Certificates[e.chain]
	var as Attributes
	if e.chain == 0 {
		as = certificateAttributes(der, e.label(), e.version.ID)
	} else {
		as = certificateAttributes(der, "", nil)
	}
	as.addFlag(CKA_MODIFIABLE, false)
	as.addFlag(CKA_DESTROYABLE, false)
	return as
}

// certificateAttributes are those of an X.509 certificate.
func certificateAttributes(der []byte, label string, id []byte) Attributes {
	as := make(Attributes, 0, 20)
	as.addNumber(CKA_CLASS, CKO_CERTIFICATE)
	as.addFlag(CKA_TOKEN, true)
	as.addFlag(CKA_PRIVATE, false)
	as.addNumber(CKA_CERTIFICATE_TYPE, 0) // CKC_X_509
	as.addFlag(CKA_TRUSTED, false)
	as.addFlag(CKA_COPYABLE, true)
	as.addBytes(CKA_VALUE, der)
	as.addBytes(CKA_START_DATE, nil)
	as.addBytes(CKA_END_DATE, nil)
	sum := sha1.Sum(der) // CKA_CHECK_VALUE of certificates, section 4.6.2
	as.addBytes(CKA_CHECK_VALUE, sum[:3])
	category := uint64(2) // CK_CERTIFICATE_CATEGORY_AUTHORITY
	if c, err := x509.ParseCertificate(der); err == nil {
		as.addBytes(CKA_SUBJECT, c.RawSubject)
		as.addBytes(CKA_ISSUER, c.RawIssuer)
		if serial, err := serialDER(c.SerialNumber); err == nil {
			as.addBytes(CKA_SERIAL_NUMBER, serial)
		}
		as.addBytes(CKA_PUBLIC_KEY_INFO, c.RawSubjectPublicKeyInfo)
		if !c.IsCA {
			category = 3 // CK_CERTIFICATE_CATEGORY_OTHER_ENTITY
			if id != nil {
				category = 1 // CK_CERTIFICATE_CATEGORY_TOKEN_USER
			}
		}
	}
	as.addNumber(CKA_CERTIFICATE_CATEGORY, category)
	as.addBytes(CKA_LABEL, []byte(label))
	as.addBytes(CKA_ID, id)
	return as
}

// serialDER is CKA_SERIAL_NUMBER: the DER of the INTEGER.
func serialDER(n *big.Int) ([]byte, error) { return asn1.Marshal(n) }
