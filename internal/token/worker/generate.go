package worker

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// born is a new key: its secret's handle and, of a pair, the public key as PKIX DER.
type born struct {
	secret pkcs11.Handle
	public []byte
}

// bear generates a key of a type in session s.
func (p *process) bear(s *pkcs11.Session, typ token.Type, size int, b birth) (born, error) {
	switch typ.Class() {
	case token.ClassAEAD:
		return bearSecret(s, pkcs11.AESKeyGen, usage(b.common(), typ, false).Ulong(pkcs11.AttrValueLen, uint64(typ.Bits()/8)))
	case token.ClassHMAC:
		return bearSecret(s, pkcs11.GenericKeyGen, usage(b.common(), typ, false).Ulong(pkcs11.AttrValueLen, uint64(size)))
	case token.ClassRSA:
		return p.bearPair(s, pkcs11.RSAKeyGen, typ, nil, b)
	case token.ClassECDSA:
		return p.bearPair(s, pkcs11.ECKeyGen, typ, curveParams[typ], b)
	case token.ClassEd25519:
		return p.bearEd25519(s, b)
	}
	return born{}, &failure{reason: reasonHold, msg: fmt.Sprintf("PKCS#11 tokens hold no keys of type %s", typ)}
}

func bearSecret(s *pkcs11.Session, m pkcs11.CKM, t *pkcs11.Template) (born, error) {
	h, err := s.GenerateKey(m, t)
	return born{secret: h}, err
}

func (p *process) bearEd25519(s *pkcs11.Session, b birth) (k born, err error) {
	for _, params := range ed25519Params {
		if k, err = p.bearPair(s, pkcs11.EdwardsKeyGen, token.Ed25519, params, b); err == nil {
			return k, nil
		}
	}
	return born{}, err
}

// bearPair generates a pair. A module that refuses the templates is asked again
// with plain ones, and that is remembered if it helps.
func (p *process) bearPair(s *pkcs11.Session, m pkcs11.CKM, typ token.Type, params []byte, b birth) (born, error) {
	plain := p.plain.Load()
	pub, prv, err := s.GenerateKeyPair(m, publicTemplate(typ, params, plain, b), privateTemplate(typ, plain, b))
	if err != nil && !plain && refused(err) {
		plain = true
		var again error
		pub, prv, again = s.GenerateKeyPair(m, publicTemplate(typ, params, plain, b), privateTemplate(typ, plain, b))
		if again == nil {
			p.plain.Store(true)
		}
		if again == nil || !refused(again) {
			err = again
		}
	}
	if err != nil {
		return born{}, err
	}
	der, err := readPublic(s, pub, typ)
	if !plain || err != nil {
		// Mostly a session object; one that stays costs memory only.
		_ = s.Destroy(pub)
	}
	if err != nil {
		return born{}, errors.Join(err, s.Destroy(prv))
	}
	return born{prv, der}, nil
}

// readPublic returns a public key object as PKIX DER.
func readPublic(s *pkcs11.Session, o pkcs11.Handle, typ token.Type) ([]byte, error) {
	if typ.Class() == token.ClassRSA {
		n, err := s.Attribute(o, pkcs11.AttrModulus)
		if err != nil {
			return nil, err
		}
		e, err := s.Attribute(o, pkcs11.AttrPublicExponent)
		if err != nil {
			return nil, err
		}
		return rsaPKIX(n, e)
	}
	point, err := s.Attribute(o, pkcs11.AttrECPoint)
	if err != nil {
		return nil, err
	}
	return pointPKIX(typ, point)
}

func rsaPKIX(n, e []byte) ([]byte, error) {
	exp := new(big.Int).SetBytes(e)
	if !exp.IsInt64() || exp.Int64() > 1<<31-1 || exp.Int64() < 3 {
		return nil, fmt.Errorf("the module made an RSA key with the public exponent %x", e)
	}
	return x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exp.Int64())})
}

// pointPKIX makes PKIX DER of a CKA_EC_POINT: an OCTET STRING around the point
// (v2.40 section 2.3.3), or the bare point, as some modules have it.
func pointPKIX(typ token.Type, value []byte) ([]byte, error) {
	point := value
	var inner []byte
	if rest, err := asn1.Unmarshal(value, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	if typ == token.Ed25519 {
		if len(point) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("the module made an Ed25519 public key of %d bytes", len(point))
		}
		return x509.MarshalPKIXPublicKey(ed25519.PublicKey(point))
	}
	curve := map[token.Type]elliptic.Curve{
		token.P256: elliptic.P256(), token.P384: elliptic.P384(), token.P521: elliptic.P521(),
	}[typ]
	if curve == nil {
		return nil, fmt.Errorf("%s has no curve", typ)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, fmt.Errorf("the module made a public key that is not on the curve: %w", err)
	}
	return x509.MarshalPKIXPublicKey(pub)
}

// generate makes the key of a specification.
func (p *process) generate(spec token.Spec) (token.Stored, error) {
	st := token.Stored{Type: spec.Type, Size: spec.Size, Place: token.PlaceWrapped, ID: spec.ID}
	if spec.Name != nil {
		k, err := p.bearNamed(spec)
		st.Place, st.Public = token.PlaceObject, k.public
		return st, err
	}
	if spec.Place != token.PlaceObject {
		k, blob, err := p.bearWrapped(spec)
		if err == nil {
			st.Blob, st.Public = blob, k.public
			return st, nil
		}
		if spec.Place == token.PlaceWrapped || asFailure(err).reason != reasonHold {
			return token.Stored{}, err
		}
	}
	k, err := p.bearObject(spec)
	if err != nil {
		return token.Stored{}, holdFailure(err, spec.Type, "generating")
	}
	st.Place, st.Public = token.PlaceObject, k.public
	return st, nil
}

// bearObject makes a token object. SoftHSM2 fails now and then when another
// process reads the token's directory at the same moment, so a failure without
// a reason is tried again.
func (p *process) bearObject(spec token.Spec) (k born, err error) {
	b := birth{object: true, label: spec.Label, id: spec.ID[:], agree: spec.Agree}
	for try := 1; ; try++ {
		// What an interrupted call left under this ID was never acknowledged.
		if err := p.destroy(spec.ID); err != nil {
			return born{}, orGone(p.slow.session, err)
		}
		k, err = p.bear(p.slow.session, spec.Type, spec.Size, b)
		if err == nil {
			return k, nil
		}
		code := pkcs11.CodeOf(err)
		if code != pkcs11.GeneralError && code != pkcs11.FunctionFailed {
			return born{}, err
		}
		if try == 3 {
			return born{}, orGone(p.slow.session, err)
		}
		time.Sleep(time.Duration(try) * 10 * time.Millisecond)
	}
}

// refused tells whether the token can't do a thing with a key at all.
func refused(err error) bool {
	switch pkcs11.CodeOf(err) {
	case pkcs11.MechanismInvalid, pkcs11.MechanismParamInvalid, pkcs11.FunctionNotSupported, pkcs11.KeySizeRange,
		pkcs11.KeyTypeInconsistent, pkcs11.KeyNotWrappable, pkcs11.KeyUnextractable, pkcs11.CurveNotSupported,
		pkcs11.AttributeValueInvalid, pkcs11.AttributeTypeInvalid, pkcs11.TemplateInconsistent, pkcs11.ArgumentsBad,
		pkcs11.KeyFunctionNotPermitted, pkcs11.TemplateIncomplete, pkcs11.AttributeReadOnly:
		return true
	}
	return false
}

func holdFailure(err error, typ token.Type, doing string) error {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	r := reasonCall
	if refused(err) {
		r = reasonHold
	}
	return failf(r, err, "%s a key of type %s", doing, typ)
}

// bearWrapped makes a session object, wraps it under the KEK and destroys it.
// It is extractable between its birth and that.
func (p *process) bearWrapped(spec token.Spec) (born, []byte, error) {
	if !p.wraps {
		return born{}, nil, &failure{reason: reasonHold,
			msg: "the module has no mechanism that wraps keys (CKM_AES_KEY_WRAP_KWP, CKM_AES_KEY_WRAP_PAD or CKM_AES_KEY_WRAP)"}
	}
	s := p.slow.session
	for again := false; ; again = true {
		kek, err := p.findKEK(s)
		if err != nil {
			return born{}, nil, err
		}
		k, blob, err := p.wrapNew(s, kek, spec.Type, spec.Size, birth{extractable: true, trustedOnly: p.kekStrict.Load(), agree: spec.Agree})
		if err == nil {
			return k, blob, nil
		}
		p.kek.Store(0) // in case that it was the KEK's handle
		if again || !staleHandle(pkcs11.CodeOf(err)) {
			return born{}, nil, err
		}
	}
}

// wrapNew makes a key and wraps it under kek. A type's first blob is unwrapped
// at once, since a blob that its module does not take back is a lost key.
func (p *process) wrapNew(s *pkcs11.Session, kek pkcs11.Handle, typ token.Type, size int, b birth) (born, []byte, error) {
	k, err := p.bear(s, typ, size, b)
	if err != nil {
		return born{}, nil, holdFailure(err, typ, "generating")
	}
	blob, err := s.Wrap(p.wrap, kek, k.secret)
	if derr := s.Destroy(k.secret); err == nil && derr != nil {
		err = derr
	}
	if err != nil {
		return born{}, nil, holdFailure(err, typ, "wrapping")
	}
	if !p.slow.verified[typ] {
		h, err := s.Unwrap(p.wrap, kek, blob, unwrapTemplate(typ, b.agree))
		if err != nil {
			return born{}, nil, failf(reasonHold, err, "the module wraps a key of type %s, but does not unwrap it again", typ)
		}
		if err := s.Destroy(h); err != nil {
			return born{}, nil, err
		}
		p.slow.verified[typ] = true
	}
	return k, blob, nil
}

// destroy removes every token object of an ID.
func (p *process) destroy(id token.ID) error {
	s := p.slow.session
	for range 4 {
		hs, err := s.Find((&pkcs11.Template{}).Bool(true, pkcs11.AttrToken).Bytes(pkcs11.AttrID, id[:]), 16)
		if err != nil {
			return failf(reasonCall, err, "looking for the object")
		}
		if len(hs) == 0 {
			return nil
		}
		for _, h := range hs {
			if err := s.Destroy(h); err != nil && pkcs11.CodeOf(err) != pkcs11.ObjectHandleInvalid {
				return failf(reasonCall, err, "destroying the object")
			}
		}
	}
	return &failure{reason: reasonCall, msg: "the token goes on showing an object that it has destroyed"}
}
