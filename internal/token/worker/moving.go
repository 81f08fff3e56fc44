package worker

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// move performs a request of frameMove.
func (p *process) move(payload []byte) (body func([]byte) []byte, err error) {
	r := reader{b: payload}
	switch r.u8() {
	case moveList:
		list, err := p.halves()
		return func(b []byte) []byte { return appendHalves(b, list) }, err
	case moveKEKEK:
		bits, as := r.u32(), r.newHalf()
		if r.end() == nil {
			public, err := p.makeKEKEK(bits, &as)
			return func(b []byte) []byte { return appendBytes(b, public) }, err
		}
	case moveOut:
		kwp, name, kekek := pkcs11.CKM(r.u32()), r.name(), r.bytes()
		if r.end() == nil {
			wrapped, kek, err := p.moveOut(kwp, name, kekek)
			return func(b []byte) []byte { return appendBytes(appendBytes(b, wrapped), kek) }, err
		}
	case moveIn:
		kwp, parcel, as := pkcs11.CKM(r.u32()), r.parcel(), r.newHalf()
		if r.end() == nil {
			public, err := p.moveIn(kwp, &parcel, &as)
			return func(b []byte) []byte { return appendBytes(b, public) }, err
		}
	case movePublic:
		as, public := r.newHalf(), r.bytes()
		if r.end() == nil {
			return nil, p.putPublic(public, &as)
		}
	}
	if len(payload) > 0 && payload[0] >= carryMake {
		return p.carry(payload[0], payload[1:])
	}
	return nil, &failure{reason: reasonFrame, msg: "move: malformed"}
}

// halves lists the RSA and EC keys of the token.
func (p *process) halves() (list []token.Half, err error) {
	s := p.slow.session
	for _, class := range []uint64{pkcs11.ClassPrivate, pkcs11.ClassPublic} {
		for _, typ := range []uint64{pkcs11.KeyRSA, pkcs11.KeyEC} {
			hs, err := s.Find(nameTemplate(class, "", nil).Ulong(pkcs11.AttrKeyType, typ), token.MaxHalves)
			if err != nil {
				return nil, failf(reasonCall, err, "listing the keys of the token")
			}
			for _, h := range hs {
				half, err := readHalf(s, h, class == pkcs11.ClassPrivate, typ == pkcs11.KeyRSA)
				if pkcs11.CodeOf(err) == pkcs11.ObjectHandleInvalid {
					continue // destroyed meanwhile
				}
				if err != nil {
					return nil, failf(reasonCall, err, "reading a key of the token")
				}
				list = append(list, half)
			}
		}
	}
	return list, nil
}

func readHalf(s *pkcs11.Session, h pkcs11.Handle, private, isRSA bool) (half token.Half, err error) {
	half = token.Half{Private: private, RSA: isRSA}
	for _, a := range []struct {
		attr pkcs11.CKA
		to   *[]byte
	}{{pkcs11.AttrID, &half.ID}, {pkcs11.AttrLabel, new([]byte)}} {
		if *a.to, err = s.Attribute(h, a.attr); err != nil && pkcs11.CodeOf(err) != pkcs11.AttributeTypeInvalid {
			return half, err
		}
		if a.attr == pkcs11.AttrLabel {
			half.Label = string(*a.to)
		}
	}
	half.Type, _, half.Kind, _ = kindOf(s, h)
	half.Visible = !flag(s, h, pkcs11.AttrPrivate)
	half.Extractable = private && flag(s, h, pkcs11.AttrExtractable) && !flag(s, h, pkcs11.AttrWrapWithTrusted)
	for use, a := range useAttributes(private) {
		if flag(s, h, a) {
			half.Uses |= use
		}
	}
	// A private EC key shows no point, and a curve of another name has no form here.
	if der, err := readPublic(s, h, half.Type); err == nil && half.Type != 0 {
		half.Public = der
	}
	return half, nil
}

// useAttributes are the attributes that allow a use.
func useAttributes(private bool) map[token.Use]pkcs11.CKA {
	if private {
		return map[token.Use]pkcs11.CKA{
			token.UseSign: pkcs11.AttrSign, token.UseWrap: pkcs11.AttrUnwrap, token.UseEncrypt: pkcs11.AttrDecrypt,
		}
	}
	return map[token.Use]pkcs11.CKA{
		token.UseSign: pkcs11.AttrVerify, token.UseWrap: pkcs11.AttrWrap, token.UseEncrypt: pkcs11.AttrEncrypt,
	}
}

// permit adds the uses to a template, each one set or forbidden.
func permit(t *pkcs11.Template, private bool, uses token.Use) *pkcs11.Template {
	attributes := useAttributes(private)
	for _, use := range []token.Use{token.UseSign, token.UseWrap, token.UseEncrypt} {
		t.Bool(uses&use != 0, attributes[use])
	}
	if private {
		t.Bool(false, pkcs11.AttrDerive)
	}
	return t
}

// newPublic is the template of a public key object, without its value.
func newPublic(as *token.NewHalf) *pkcs11.Template {
	t := (&pkcs11.Template{}).Bool(true, pkcs11.AttrToken).Bool(!as.Visible, pkcs11.AttrPrivate).Bytes(pkcs11.AttrID, as.ID[:])
	if as.Label != "" {
		t.String(pkcs11.AttrLabel, as.Label)
	}
	return permit(t, false, as.Uses)
}

// makeKEKEK makes a pair that unwraps and wraps, and no more.
func (p *process) makeKEKEK(bits uint32, as *token.NewHalf) ([]byte, error) {
	s := p.slow.session
	// What an interrupted call left under this ID was never acknowledged.
	if err := p.destroy(as.ID); err != nil {
		return nil, err
	}
	public := newPublic(&token.NewHalf{ID: as.ID, Label: as.Label, Uses: token.UseWrap, Visible: true}).
		Ulong(pkcs11.AttrModulusBits, uint64(bits)).Bytes(pkcs11.AttrPublicExponent, []byte{1, 0, 1})
	private := permit(birth{object: true, label: as.Label, id: as.ID[:]}.common(), true, token.UseWrap)
	pub, _, err := s.GenerateKeyPair(pkcs11.RSAKeyGen, public, private)
	if err != nil {
		return nil, errors.Join(holdFailure(err, token.RSA2048, "generating"), p.destroy(as.ID))
	}
	der, err := readPublic(s, pub, token.RSA2048)
	if err != nil {
		return nil, errors.Join(failf(reasonCall, err, "reading the new KEKEK"), p.destroy(as.ID))
	}
	return der, nil
}

// moveOut wraps a key under a KEK of the moment, and that under the public KEKEK.
func (p *process) moveOut(kwp pkcs11.CKM, name token.ObjectName, kekek []byte) (wrapped, wrappedKEK []byte, err error) {
	s := p.slow.session
	key, err := findName(s, pkcs11.ClassPrivate, name.Label, name.ID)
	if err != nil {
		return nil, nil, err
	}
	if !flag(s, key, pkcs11.AttrExtractable) {
		return nil, nil, &failure{reason: reasonHold, msg: "the key is not CKA_EXTRACTABLE"}
	}
	over, err := loadKEKEK(s, kekek)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = s.Destroy(over) }()
	kek, err := s.GenerateKey(pkcs11.AESKeyGen, kekOut())
	if err != nil {
		return nil, nil, holdFailure(err, token.AES256, "generating")
	}
	defer func() { _ = s.Destroy(kek) }()
	if wrappedKEK, err = s.Wrap(pkcs11.RSAPKCS, over, kek); err != nil {
		return nil, nil, holdFailure(err, token.AES256, "wrapping")
	}
	if wrapped, err = s.Wrap(kwp, kek, key); err != nil {
		return nil, nil, failMove(err, "wrapping the key")
	}
	return wrapped, wrappedKEK, nil
}

// failMove is a refusal of the module, a lack of room, or a failed call.
func failMove(err error, doing string) error {
	switch {
	case outOfMemory(pkcs11.CodeOf(err)):
		// Without the code, which elsewhere is a reason for another session.
		return &failure{reason: reasonCall, msg: fmt.Sprintf("%s: the HSM token has no room for it (%v)", doing, err)}
	case refused(err):
		return failf(reasonHold, err, "%s", doing)
	}
	return failf(reasonCall, err, "%s", doing)
}

// kekOut is the template of a KEK: it wraps one key, and leaves wrapped itself.
func kekOut() *pkcs11.Template {
	return birth{extractable: true}.common().Ulong(pkcs11.AttrValueLen, token.KEKSize).Bool(true, pkcs11.AttrWrap).
		Bool(false, pkcs11.AttrUnwrap, pkcs11.AttrEncrypt, pkcs11.AttrDecrypt, pkcs11.AttrSign, pkcs11.AttrVerify, pkcs11.AttrDerive)
}

// loadKEKEK makes a session object of a public RSA key that wraps.
func loadKEKEK(s *pkcs11.Session, der []byte) (pkcs11.Handle, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return 0, failf(reasonHold, err, "reading the KEKEK")
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return 0, &failure{reason: reasonHold, msg: "the KEKEK is no RSA key"}
	}
	if public.E < minExponent {
		return 0, &failure{reason: reasonHold, msg: fmt.Sprintf("the KEKEK has the public exponent %d; it must have %d or more", public.E, minExponent)}
	}
	t := (&pkcs11.Template{}).Ulong(pkcs11.AttrClass, pkcs11.ClassPublic).Bool(false, pkcs11.AttrToken)
	h, err := s.Create(rsaValue(permit(t, false, token.UseWrap), public))
	if err != nil {
		return 0, failMove(err, "loading the KEKEK")
	}
	return h, nil
}

func rsaValue(t *pkcs11.Template, public *rsa.PublicKey) *pkcs11.Template {
	return t.Ulong(pkcs11.AttrKeyType, pkcs11.KeyRSA).Bytes(pkcs11.AttrModulus, public.N.Bytes()).
		Bytes(pkcs11.AttrPublicExponent, big.NewInt(int64(public.E)).Bytes())
}

// moveIn unwraps a private key: first as a session object, so that only what
// proved to be a key becomes an object of the token.
func (p *process) moveIn(kwp pkcs11.CKM, parcel *token.Parcel, as *token.NewHalf) ([]byte, error) {
	s := p.slow.session
	kek, err := p.openKEK(parcel)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Destroy(kek) }()
	trial, err := s.Unwrap(kwp, kek, parcel.Wrapped, movedTemplate(parcel.RSA, birth{}, token.UseSign))
	if err != nil {
		return nil, openFailure(err)
	}
	defer func() { _ = s.Destroy(trial) }()
	typ, _, _, _ := kindOf(s, trial)
	if typ == 0 {
		return nil, errOtherType
	}
	public, err := p.publicOf(s, trial, typ)
	if err != nil {
		return nil, openFailure(err)
	}
	b := birth{object: true, extractable: as.Extractable, label: as.Label, id: as.ID[:]}
	// What an interrupted call left under this ID was never acknowledged.
	if err := destroyClass(s, pkcs11.ClassPrivate, as); err != nil {
		return nil, err
	}
	if _, err := s.Unwrap(kwp, kek, parcel.Wrapped, movedTemplate(parcel.RSA, b, as.Uses)); err != nil {
		// A module may leave half an object in the token when it refuses one.
		return nil, errors.Join(failMove(err, "unwrapping the key into the token"), destroyClass(s, pkcs11.ClassPrivate, as))
	}
	return public, nil
}

func movedTemplate(isRSA bool, b birth, uses token.Use) *pkcs11.Template {
	keyType := pkcs11.KeyEC
	if isRSA {
		keyType = pkcs11.KeyRSA
	}
	t := b.common().Ulong(pkcs11.AttrClass, pkcs11.ClassPrivate).Ulong(pkcs11.AttrKeyType, keyType)
	return permit(t, true, uses)
}

// openKEK makes a session object of the KEK of a parcel. Where that can't be
// opened it is a random one, so that the failure comes later and in the same way
// and time as all others; a random one is made in any case.
func (p *process) openKEK(parcel *token.Parcel) (pkcs11.Handle, error) {
	s := p.slow.session
	if parcel.KEKEK == nil {
		t := betweenTemplate().Bytes(pkcs11.AttrValue, parcel.KEK)
		defer t.Wipe()
		h, err := s.Create(t)
		if err != nil {
			return 0, holdFailure(err, token.AES256, "taking in")
		}
		return h, nil
	}
	kekek, err := findName(s, pkcs11.ClassPrivate, parcel.KEKEK.Label, parcel.KEKEK.ID)
	if err != nil {
		return 0, err
	}
	decoy, err := s.GenerateKey(pkcs11.AESKeyGen, betweenTemplate().Ulong(pkcs11.AttrValueLen, token.KEKSize))
	if err != nil {
		return 0, failf(reasonCall, err, "making an AES key")
	}
	kek, err := s.Unwrap(pkcs11.RSAPKCS, kekek, parcel.WrappedKEK, betweenTemplate())
	code := pkcs11.CodeOf(err)
	switch {
	case err == nil:
		_ = s.Destroy(decoy)
		return kek, nil
	case sessionBroken(code), deviceGone(err):
		return 0, failf(reasonCall, err, "unwrapping the KEK")
	case code == pkcs11.KeyFunctionNotPermitted, code == pkcs11.MechanismInvalid, code == pkcs11.FunctionNotSupported:
		_ = s.Destroy(decoy)
		return 0, failf(reasonHold, err, "unwrapping the KEK")
	}
	return decoy, nil
}

// putPublic makes a public key object.
func (p *process) putPublic(der []byte, as *token.NewHalf) error {
	s := p.slow.session
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return failf(reasonHold, err, "reading a public key")
	}
	t := newPublic(as).Ulong(pkcs11.AttrClass, pkcs11.ClassPublic)
	switch public := parsed.(type) {
	case *rsa.PublicKey:
		rsaValue(t, public)
	case *ecdsa.PublicKey:
		if err := ecValue(t, public); err != nil {
			return err
		}
	default:
		return &failure{reason: reasonHold, msg: fmt.Sprintf("a public key of type %T", parsed)}
	}
	if err := destroyClass(s, pkcs11.ClassPublic, as); err != nil {
		return err
	}
	if _, err := s.Create(t); err != nil {
		return errors.Join(failMove(err, "making a public key object"), destroyClass(s, pkcs11.ClassPublic, as))
	}
	return nil
}

func ecValue(t *pkcs11.Template, public *ecdsa.PublicKey) error {
	for typ, c := range curves {
		if c.curve != public.Curve {
			continue
		}
		point, err := public.Bytes()
		if err != nil {
			return failf(reasonHold, err, "reading a public key")
		}
		// v2.40 section 2.3.3: DER of the point.
		wrapped, err := asn1.Marshal(point)
		if err != nil {
			return failf(reasonHold, err, "reading a public key")
		}
		t.Ulong(pkcs11.AttrKeyType, pkcs11.KeyEC).Bytes(pkcs11.AttrECParams, curveParams[typ]).Bytes(pkcs11.AttrECPoint, wrapped)
		return nil
	}
	return &failure{reason: reasonHold, msg: "a public key on " + public.Curve.Params().Name}
}

// destroyClass removes the objects of a class that have a new ID already.
func destroyClass(s *pkcs11.Session, class uint64, as *token.NewHalf) error {
	hs, err := s.Find(nameTemplate(class, "", as.ID[:]), 16)
	for _, h := range hs {
		if err == nil {
			err = s.Destroy(h)
		}
	}
	if err != nil && pkcs11.CodeOf(err) != pkcs11.ObjectHandleInvalid {
		return failf(reasonCall, err, "removing what an interrupted call left")
	}
	return nil
}
