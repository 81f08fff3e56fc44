package worker

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// nameTemplate finds objects of a name; an empty part fits all.
func nameTemplate(class uint64, label string, id []byte) *pkcs11.Template {
	t := (&pkcs11.Template{}).Bool(true, pkcs11.AttrToken).Ulong(pkcs11.AttrClass, class)
	if label != "" {
		t.String(pkcs11.AttrLabel, label)
	}
	if len(id) > 0 {
		t.Bytes(pkcs11.AttrID, id)
	}
	return t
}

// findName returns the one object of a name.
func findName(s *pkcs11.Session, class uint64, label string, id []byte) (pkcs11.Handle, error) {
	hs, err := s.Find(nameTemplate(class, label, id), 2)
	switch {
	case err != nil:
		return 0, failf(reasonCall, err, "looking for a key")
	case len(hs) == 0:
		return 0, &failure{reason: reasonFind, msg: fmt.Sprintf("no object with the label %q and the ID %x", label, id)}
	case len(hs) > 1:
		return 0, &failure{reason: reasonMany, msg: fmt.Sprintf("label %q, ID %x", label, id)}
	}
	return hs[0], nil
}

// classes are those of an ObjectClass.
func classes(c token.ObjectClass) []uint64 {
	switch c {
	case token.PrivateObject:
		return []uint64{pkcs11.ClassPrivate}
	case token.SecretObject:
		return []uint64{pkcs11.ClassSecret}
	}
	return []uint64{pkcs11.ClassPrivate, pkcs11.ClassSecret}
}

// objects describes the keys that fit a name, no more than limit.
func (p *process) objects(like token.ObjectName, limit int) (list []token.Object, err error) {
	s := p.slow.session
	for _, class := range classes(like.Class) {
		if limit <= len(list) {
			break
		}
		hs, err := s.Find(nameTemplate(class, like.Label, like.ID), limit-len(list))
		if err != nil {
			return nil, failf(reasonCall, err, "listing the objects of the token")
		}
		for _, h := range hs {
			o, err := describe(s, h, class)
			if code := pkcs11.CodeOf(err); code == pkcs11.ObjectHandleInvalid {
				continue // destroyed meanwhile
			}
			if err != nil {
				return nil, failf(reasonCall, err, "reading an object of the token")
			}
			list = append(list, o)
		}
	}
	return list, nil
}

// describe reads what an object shows of itself.
func describe(s *pkcs11.Session, h pkcs11.Handle, class uint64) (token.Object, error) {
	o := token.Object{}
	id, err := s.Attribute(h, pkcs11.AttrID)
	if err != nil && pkcs11.CodeOf(err) != pkcs11.AttributeTypeInvalid {
		return o, err
	}
	label, err := s.Attribute(h, pkcs11.AttrLabel)
	if err != nil && pkcs11.CodeOf(err) != pkcs11.AttributeTypeInvalid {
		return o, err
	}
	o.ObjectName = token.ObjectName{Class: token.SecretObject, Label: string(label), ID: id}
	if class == pkcs11.ClassPrivate {
		o.Class = token.PrivateObject
		hs, err := s.Find(nameTemplate(pkcs11.ClassPublic, o.Label, o.ID), 1)
		if err != nil {
			return o, err
		}
		o.Public = len(hs) > 0
	}
	o.Private, o.Sensitive, o.Extractable = flag(s, h, pkcs11.AttrPrivate), flag(s, h, pkcs11.AttrSensitive), flag(s, h, pkcs11.AttrExtractable)
	for _, u := range []struct {
		attr pkcs11.CKA
		name string
	}{
		{pkcs11.AttrEncrypt, "encrypt"}, {pkcs11.AttrDecrypt, "decrypt"}, {pkcs11.AttrSign, "sign"}, {pkcs11.AttrWrap, "wrap"},
		{pkcs11.AttrUnwrap, "unwrap"}, {pkcs11.AttrDerive, "derive"},
	} {
		if flag(s, h, u.attr) {
			o.Uses = append(o.Uses, u.name)
		}
	}
	o.Type, o.Size, o.Kind, o.Note = kindOf(s, h)
	switch {
	case o.Label == labelKEK || o.Label == labelStorage || o.Label == labelAudit:
		o.System, o.Note = true, "it is a system key of Claviger"
	case flag(s, h, pkcs11.AttrAlwaysAuth):
		o.Note = "it wants the PIN before each use (CKA_ALWAYS_AUTHENTICATE)"
	case len(o.ID) > token.MaxObjectID || len(o.Label) > token.MaxObjectLabel || len(o.ID) == 0 && o.Label == "":
		o.Note = fmt.Sprintf("it has no name: an ID of up to %d bytes, a label of up to %d", token.MaxObjectID, token.MaxObjectLabel)
	}
	if o.Note != "" {
		o.Type, o.Size = 0, 0
	}
	return o, nil
}

func ulong(s *pkcs11.Session, h pkcs11.Handle, a pkcs11.CKA) (uint64, bool) {
	v, err := s.Attribute(h, a)
	if err != nil || len(v) != 8 {
		return 0, false
	}
	return binary.NativeEndian.Uint64(v), true
}

// kindOf finds the type of an object, or says why there is none.
func kindOf(s *pkcs11.Session, h pkcs11.Handle) (typ token.Type, size int, kind, note string) {
	keyType, ok := ulong(s, h, pkcs11.AttrKeyType)
	if !ok {
		return 0, 0, "unknown", "it shows no key type"
	}
	switch keyType {
	case pkcs11.KeyRSA:
		n, err := s.Attribute(h, pkcs11.AttrModulus)
		if err != nil || len(n) == 0 {
			return 0, 0, "RSA", "it shows no modulus"
		}
		bits := new(big.Int).SetBytes(n).BitLen()
		if typ = token.RSAType(bits); typ == 0 {
			note = "RSA keys of this size can't be used"
		}
		return typ, 0, fmt.Sprintf("RSA-%d", bits), note
	case pkcs11.KeyEC, pkcs11.KeyEdwards:
		return kindOfEC(s, h)
	case pkcs11.KeyAES, pkcs11.KeyGeneric, pkcs11.KeySHA256HMAC, pkcs11.KeySHA384HMAC, pkcs11.KeySHA512HMAC:
		return kindOfSecret(s, h, keyType)
	}
	return 0, 0, fmt.Sprintf("key type 0x%x", keyType), "keys of this type can't be used"
}

func kindOfEC(s *pkcs11.Session, h pkcs11.Handle) (typ token.Type, size int, kind, note string) {
	params, err := s.Attribute(h, pkcs11.AttrECParams)
	if err != nil {
		return 0, 0, "EC", "it shows no curve"
	}
	for _, t := range []token.Type{token.P256, token.P384, token.P521} {
		if bytes.Equal(params, curveParams[t]) {
			return t, 0, fmt.Sprintf("EC P-%d", t.Bits()), ""
		}
	}
	if slices.ContainsFunc(ed25519Params, func(p []byte) bool { return bytes.Equal(p, params) }) {
		return token.Ed25519, 0, "Ed25519", ""
	}
	return 0, 0, "EC", "keys of this curve can't be used"
}

func kindOfSecret(s *pkcs11.Session, h pkcs11.Handle, keyType uint64) (typ token.Type, size int, kind, note string) {
	n, ok := ulong(s, h, pkcs11.AttrValueLen)
	name := map[bool]string{true: "AES", false: "generic secret"}[keyType == pkcs11.KeyAES]
	switch {
	case !ok || n == 0:
		return 0, 0, name, "it does not show its size"
	case keyType != pkcs11.KeyAES && n > 1<<16:
		return 0, 0, name, "it is too long"
	case keyType != pkcs11.KeyAES:
		return token.HMAC, int(n), fmt.Sprintf("generic secret of %d bytes", n), ""
	case n == 16:
		return token.AES128, 0, "AES-128", ""
	case n == 32:
		return token.AES256, 0, "AES-256", ""
	}
	return 0, 0, fmt.Sprintf("AES-%d", 8*n), "AES keys of this size can't be used"
}

// adopt finds the one key that fits a name, and its public half.
func (p *process) adopt(like token.ObjectName) (token.Stored, error) {
	s := p.slow.session
	var found []pkcs11.Handle
	var class uint64
	for _, c := range classes(like.Class) {
		hs, err := s.Find(nameTemplate(c, like.Label, like.ID), 2)
		if err != nil {
			return token.Stored{}, failf(reasonCall, err, "looking for the object")
		}
		if len(hs) > 0 {
			found, class = append(found, hs...), c
		}
	}
	switch {
	case len(found) == 0:
		return token.Stored{}, orGone(s, &failure{reason: reasonFind, msg: fmt.Sprintf("no key with the label %q and the ID %x", like.Label, like.ID)})
	case len(found) > 1:
		return token.Stored{}, &failure{reason: reasonMany, msg: fmt.Sprintf("label %q, ID %x", like.Label, like.ID)}
	}
	o, err := describe(s, found[0], class)
	if err != nil {
		return token.Stored{}, failf(reasonCall, err, "reading the object")
	}
	if o.Note != "" {
		return token.Stored{}, &failure{reason: reasonHold, msg: "the object can't be used: " + o.Note}
	}
	// By its whole name it must be the only one too: so it is found again.
	if _, err := findName(s, class, o.Label, o.ID); err != nil {
		return token.Stored{}, err
	}
	st := token.Stored{Type: o.Type, Size: o.Size, Place: token.PlaceObject, Name: &o.ObjectName}
	if class == pkcs11.ClassPrivate {
		if st.Public, err = p.adoptPublic(s, found[0], &o); err != nil {
			return token.Stored{}, failf(reasonHold, err, "the public half of the object can't be found")
		}
	}
	return st, nil
}

// adoptPublic returns the public half: of an RSA key its own attributes, of
// others an object of the same name, or what signatures tell.
func (p *process) adoptPublic(s *pkcs11.Session, h pkcs11.Handle, o *token.Object) ([]byte, error) {
	if o.Type.Class() == token.ClassRSA {
		// A module may keep the public exponent with the public object only.
		der, err := readPublic(s, h, o.Type)
		if err == nil || !o.Public {
			return der, err
		}
		return readPublicOf(s, o)
	}
	if o.Public {
		der, err := readPublicOf(s, o)
		if err == nil && slices.Contains(o.Uses, "sign") {
			err = p.belongs(s, h, o.Type, der)
		}
		return der, err
	}
	if !slices.Contains(o.Uses, "sign") {
		return nil, errors.New("it is in no object, and the private key may not sign")
	}
	return p.publicOf(s, h, o.Type)
}

func readPublicOf(s *pkcs11.Session, o *token.Object) ([]byte, error) {
	h, err := findName(s, pkcs11.ClassPublic, o.Label, o.ID)
	if err != nil {
		return nil, err
	}
	return readPublic(s, h, o.Type)
}

// belongs proves by a signature that a public ECDSA or Ed25519 key is that of h.
func (p *process) belongs(s *pkcs11.Session, h pkcs11.Handle, typ token.Type, der []byte) error {
	if typ == token.Ed25519 {
		return verifyEdwards(s, h, der)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return err
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	size := (typ.Bits() + 7) / 8
	digest := bytes.Repeat([]byte{1}, curves[typ].hash)
	sig, err := useOnce(s, pkcs11.Op{Func: pkcs11.Sign, Mech: pkcs11.ECDSA}, h, 0, digest, 2*size)
	if err != nil {
		return err
	}
	if !ok || len(sig) != 2*size || !ecdsa.Verify(public, digest, new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])) {
		return errors.New("the public object of its name is that of another key")
	}
	return nil
}

// bearNamed makes a token object of a name, and the public half of a pair beside
// it, as other programs make them.
func (p *process) bearNamed(spec token.Spec) (born, error) {
	s := p.slow.session
	// What an interrupted call left of this name was never acknowledged.
	if err := p.erase(*spec.Name); err != nil {
		return born{}, orGone(s, err)
	}
	b := birth{object: true, label: spec.Name.Label, id: spec.Name.ID}
	if len(b.id) == 0 {
		b.id = nil
	}
	if spec.Name.Class == token.SecretObject {
		k, err := p.bear(s, spec.Type, spec.Size, b)
		if err != nil {
			return born{}, holdFailure(err, spec.Type, "generating")
		}
		return k, nil
	}
	m := map[token.Class]pkcs11.CKM{
		token.ClassRSA: pkcs11.RSAKeyGen, token.ClassECDSA: pkcs11.ECKeyGen, token.ClassEd25519: pkcs11.EdwardsKeyGen,
	}[spec.Type.Class()]
	pub, prv, err := s.GenerateKeyPair(m, namedPublic(spec.Type, b), privateTemplate(spec.Type, false, b))
	if err != nil {
		return born{}, holdFailure(err, spec.Type, "generating")
	}
	der, err := readPublic(s, pub, spec.Type)
	if err != nil {
		return born{}, errors.Join(err, p.erase(*spec.Name))
	}
	return born{prv, der}, nil
}

// namedPublic is the template of a public half that stays in the token, for
// everybody to see.
func namedPublic(typ token.Type, b birth) *pkcs11.Template {
	t := (&pkcs11.Template{}).Bool(true, pkcs11.AttrToken, pkcs11.AttrVerify).Bool(false, pkcs11.AttrPrivate)
	if b.label != "" {
		t.String(pkcs11.AttrLabel, b.label)
	}
	if b.id != nil {
		t.Bytes(pkcs11.AttrID, b.id)
	}
	if typ.Class() != token.ClassRSA {
		return t.Bytes(pkcs11.AttrECParams, curveParams[typ])
	}
	return t.Bool(true, pkcs11.AttrEncrypt).Ulong(pkcs11.AttrModulusBits, uint64(typ.Bits())).
		Bytes(pkcs11.AttrPublicExponent, []byte{1, 0, 1})
}

// erase destroys every object of exactly this name and class, with the public half.
func (p *process) erase(name token.ObjectName) error {
	s := p.slow.session
	wanted := classes(name.Class)
	if name.Class == token.PrivateObject {
		wanted = append(wanted, pkcs11.ClassPublic)
	}
	if name.Class == token.AnyObject || name.Label == "" && len(name.ID) == 0 {
		return &failure{reason: reasonFrame, msg: "erase: a whole name is needed"}
	}
	for _, class := range wanted {
		hs, err := s.Find(nameTemplate(class, name.Label, name.ID), 16)
		if err != nil {
			return failf(reasonCall, err, "looking for the object")
		}
		for _, h := range hs {
			// An empty part of the name fits all in a search, and here none but the empty one.
			if !hasName(s, h, name) {
				continue
			}
			if err := s.Destroy(h); err != nil && pkcs11.CodeOf(err) != pkcs11.ObjectHandleInvalid {
				return failf(reasonCall, err, "destroying the object")
			}
		}
	}
	return nil
}

func hasName(s *pkcs11.Session, h pkcs11.Handle, name token.ObjectName) bool {
	label, _ := s.Attribute(h, pkcs11.AttrLabel)
	id, _ := s.Attribute(h, pkcs11.AttrID)
	return string(label) == name.Label && bytes.Equal(id, name.ID)
}
