package worker

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// carry performs a request of frameMove whose payload is JSON.
func (p *process) carry(kind byte, payload []byte) (body func([]byte) []byte, err error) {
	var r carryRequest
	if err := json.Unmarshal(payload, &r); err != nil {
		return nil, failf(reasonFrame, err, "carry")
	}
	var answer any
	switch kind {
	case carryMake:
		answer, err = p.makeCarrier(&r)
	case carryKEK:
		answer, err = p.carryKEK(&r)
	case takeKEK:
		answer, err = struct{}{}, p.takeKEK(&r)
	case carryKeys:
		answer, err = p.carryKeys(&r)
	case takeKeys:
		answer, err = p.takeKeys(&r)
	case tryKeys:
		answer, err = struct{}{}, p.tryKeys(&r)
	default:
		return nil, &failure{reason: reasonFrame, msg: "carry: no such request"}
	}
	if err != nil {
		return nil, err
	}
	out, err := json.Marshal(answer)
	if err != nil {
		return nil, failf(reasonCall, err, "encoding an answer")
	}
	return func(b []byte) []byte { return appendBytes(b, out) }, nil
}

// oaepHash is the hash of an OAEP padding, 0 of the other one.
func oaepHash(padding token.Padding) crypto.Hash {
	switch padding {
	case token.OAEPSHA256:
		return crypto.SHA256
	case token.OAEPSHA1:
		return crypto.SHA1
	}
	return 0
}

func known(padding token.Padding) bool {
	return padding == token.PKCS1 || oaepHash(padding) != 0
}

func wrapRSA(s *pkcs11.Session, padding token.Padding, over, key pkcs11.Handle) ([]byte, error) {
	if padding == token.PKCS1 {
		return s.Wrap(pkcs11.RSAPKCS, over, key)
	}
	h := hashMechs[oaepHash(padding)]
	return s.WrapOAEP(h.mech, h.mgf, over, key)
}

func unwrapRSA(s *pkcs11.Session, padding token.Padding, kekek pkcs11.Handle, blob []byte, t *pkcs11.Template) (pkcs11.Handle, error) {
	if padding == token.PKCS1 {
		return s.Unwrap(pkcs11.RSAPKCS, kekek, blob, t)
	}
	h := hashMechs[oaepHash(padding)]
	return s.UnwrapOAEP(pkcs11.RSAOAEP, h.mech, h.mgf, 0, kekek, blob, t)
}

// makeCarrier makes a KEKEK, reads back what it is, and tries what it can.
func (p *process) makeCarrier(r *carryRequest) (token.KEKEK, error) {
	s := p.slow.session
	if err := p.destroy(r.ID); err != nil {
		return token.KEKEK{}, err
	}
	uses := token.UseWrap | token.UseEncrypt
	public := newPublic(&token.NewHalf{ID: r.ID, Label: r.Label, Uses: uses, Visible: true}).
		Ulong(pkcs11.AttrModulusBits, uint64(r.Bits)).Bytes(pkcs11.AttrPublicExponent, []byte{1, 0, 1})
	private := permit(birth{object: true, label: r.Label, id: r.ID[:]}.common(), true, uses)
	pub, prv, err := s.GenerateKeyPair(pkcs11.RSAKeyGen, public, private)
	if err != nil {
		return token.KEKEK{}, errors.Join(holdFailure(err, token.RSAType(r.Bits), "generating"), p.destroy(r.ID))
	}
	k := token.KEKEK{ID: r.ID, Label: r.Label, Attributes: attributesOf(s, prv)}
	if k.Public, err = readPublic(s, pub, token.RSAType(r.Bits)); err != nil {
		return k, errors.Join(failf(reasonCall, err, "reading the new KEKEK"), p.destroy(r.ID))
	}
	if k.Paddings = p.paddings(k.Public, prv); len(k.Paddings) == 0 {
		err := &failure{reason: reasonHold, msg: "the module does not unwrap with the KEKEK what was wrapped for it"}
		return k, errors.Join(err, p.destroy(r.ID))
	}
	return k, nil
}

// attributesOf reads the attributes back that say whether a private key can leave
// the token, and what it does.
func attributesOf(s *pkcs11.Session, h pkcs11.Handle) map[string]bool {
	m := map[string]bool{}
	for _, a := range []struct {
		name string
		attr pkcs11.CKA
	}{
		{"CKA_TOKEN", pkcs11.AttrToken}, {"CKA_PRIVATE", pkcs11.AttrPrivate}, {"CKA_SENSITIVE", pkcs11.AttrSensitive},
		{"CKA_EXTRACTABLE", pkcs11.AttrExtractable}, {"CKA_ALWAYS_SENSITIVE", attrAlwaysSensitive},
		{"CKA_NEVER_EXTRACTABLE", attrNeverExtractable}, {"CKA_LOCAL", attrLocal}, {"CKA_UNWRAP", pkcs11.AttrUnwrap},
		{"CKA_DECRYPT", pkcs11.AttrDecrypt}, {"CKA_SIGN", pkcs11.AttrSign}, {"CKA_DERIVE", pkcs11.AttrDerive},
	} {
		if v, err := s.Attribute(h, a.attr); err == nil && len(v) == 1 {
			m[a.name] = v[0] == 1
		}
	}
	return m
}

// Attributes of PKCS #11 v2.40 section 4.9.
const (
	attrLocal            pkcs11.CKA = 0x163
	attrNeverExtractable pkcs11.CKA = 0x164
	attrAlwaysSensitive  pkcs11.CKA = 0x165
)

// paddings tries which paddings the token unwraps with.
func (p *process) paddings(public []byte, kekek pkcs11.Handle) (list []token.Padding) {
	s := p.slow.session
	over, err := loadKEKEK(s, public)
	if err != nil {
		return nil
	}
	defer func() { _ = s.Destroy(over) }()
	key, err := s.GenerateKey(pkcs11.AESKeyGen, kekOut())
	if err != nil {
		return nil
	}
	defer func() { _ = s.Destroy(key) }()
	for _, padding := range []token.Padding{token.OAEPSHA256, token.OAEPSHA1, token.PKCS1} {
		blob, err := wrapRSA(s, padding, over, key)
		if err != nil {
			continue
		}
		h, err := unwrapRSA(s, padding, kekek, blob, betweenTemplate())
		if err != nil {
			continue
		}
		_ = s.Destroy(h)
		list = append(list, padding)
	}
	return list
}

// wrapFor wraps a key for a KEKEK with the first padding that the module has.
func wrapFor(s *pkcs11.Session, public []byte, with []token.Padding, key pkcs11.Handle) (token.Padding, []byte, error) {
	over, err := loadKEKEK(s, public)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = s.Destroy(over) }()
	var last error
	for _, padding := range with {
		if !known(padding) {
			continue
		}
		blob, err := wrapRSA(s, padding, over, key)
		if err == nil {
			return padding, blob, nil
		}
		if last = err; !refused(err) {
			return "", nil, failf(reasonCall, err, "wrapping for the KEKEK")
		}
	}
	return "", nil, failf(reasonHold, last, "the module wraps with none of the paddings that the destination takes (%v)", with)
}

func (p *process) carryKEK(r *carryRequest) (w token.WrappedKEK, err error) {
	s := p.slow.session
	kek, err := p.findKEK(s)
	if err != nil {
		return w, err
	}
	if _, w.Proof, err = p.bearWrapped(token.Spec{Type: token.AES256}); err != nil {
		return w, err
	}
	w.Padding, w.Blob, err = wrapFor(s, r.Public, r.With, kek)
	return w, err
}

// kekIn is the template of a KEK that comes in.
func kekIn(b birth) *pkcs11.Template {
	return b.common().Ulong(pkcs11.AttrClass, pkcs11.ClassSecret).Ulong(pkcs11.AttrKeyType, pkcs11.KeyAES).
		Bool(true, pkcs11.AttrWrap, pkcs11.AttrUnwrap).
		Bool(false, pkcs11.AttrEncrypt, pkcs11.AttrDecrypt, pkcs11.AttrSign, pkcs11.AttrVerify, pkcs11.AttrDerive)
}

// takeKEK unwraps a KEK: first as a session object, so that only what opens the
// proof becomes an object of the token.
func (p *process) takeKEK(r *carryRequest) error {
	s := p.slow.session
	if !p.wraps {
		return &failure{reason: reasonHold, msg: "the module has no mechanism that wraps keys"}
	}
	p.kek.Store(0)
	switch here, err := p.findKEK(s); {
	case err == nil && p.opens(here, r.KEK.Proof) == nil:
		return nil
	case err == nil:
		return &failure{reason: reasonExists, msg: "the token has a key-encryption key of its own"}
	case asFailure(err).reason != reasonKEK:
		return err
	}
	kekek, err := findName(s, pkcs11.ClassPrivate, r.Label, r.ID[:])
	if err != nil {
		return err
	}
	if !known(r.KEK.Padding) {
		return openFailure(nil)
	}
	trial, err := unwrapRSA(s, r.KEK.Padding, kekek, r.KEK.Blob, kekIn(birth{}))
	if err != nil {
		return openFailure(err)
	}
	defer func() { _ = s.Destroy(trial) }()
	if err := p.opens(trial, r.KEK.Proof); err != nil {
		return err
	}
	id, err := newID(s)
	if err != nil {
		return failf(reasonCall, err, "naming the KEK")
	}
	b := birth{object: true, extractable: r.Transferable, label: labelKEK, id: id}
	if _, err := unwrapRSA(s, r.KEK.Padding, kekek, r.KEK.Blob, kekIn(b)); err != nil {
		var left token.ID
		copy(left[:], id)
		// A module may leave half an object in the token when it refuses one.
		return errors.Join(failMove(err, "unwrapping the KEK into the token"), p.destroy(left))
	}
	return nil
}

// opens tells whether an AES key opens the proof of a KEK.
func (p *process) opens(kek pkcs11.Handle, proof []byte) error {
	s := p.slow.session
	h, err := s.Unwrap(p.wrap, kek, proof, unwrapTemplate(token.AES256, false))
	if err != nil {
		return openFailure(err)
	}
	defer func() { _ = s.Destroy(h) }()
	if p.has(pkcs11.AESGCM, pkcs11.FlagEncrypt) {
		if err := p.worksAES(s, h); err != nil {
			return openFailure(err)
		}
	}
	return nil
}

// carryKeys wraps keys under an AES key of the moment, and that for the KEKEK.
func (p *process) carryKeys(r *carryRequest) (f token.Freight, err error) {
	s := p.slow.session
	over, err := s.GenerateKey(pkcs11.AESKeyGen, kekOut())
	if err != nil {
		return f, holdFailure(err, token.AES256, "generating")
	}
	defer func() { _ = s.Destroy(over) }()
	if f.Padding, f.Key, err = wrapFor(s, r.Public, r.With, over); err != nil {
		return f, err
	}
	for i := range r.Keys {
		blob, err := p.carryOne(r.KWP, over, &r.Keys[i])
		if err != nil {
			return f, err
		}
		k := &r.Keys[i]
		f.Keys = append(f.Keys, token.Carried{Type: k.Type, Size: k.Size, Blob: blob, Public: k.Public})
	}
	return f, nil
}

// tryKeys wraps keys under an AES key that is destroyed then, and forgets the result.
func (p *process) tryKeys(r *carryRequest) error {
	s := p.slow.session
	over, err := s.GenerateKey(pkcs11.AESKeyGen, kekOut())
	if err != nil {
		return holdFailure(err, token.AES256, "generating")
	}
	defer func() { _ = s.Destroy(over) }()
	for i := range r.Keys {
		if _, err := p.carryOne(r.KWP, over, &r.Keys[i]); err != nil {
			return err
		}
	}
	return nil
}

// carryOne wraps one key. A wrapped one is a session object for that moment, and
// extractable as it was at its birth.
func (p *process) carryOne(kwp pkcs11.CKM, over pkcs11.Handle, k *token.Stored) ([]byte, error) {
	s := p.slow.session
	h, err := p.openToCarry(k)
	if err != nil {
		return nil, err
	}
	if k.Place == token.PlaceWrapped {
		defer func() { _ = s.Destroy(h) }()
	}
	blob, err := s.Wrap(kwp, over, h)
	if err != nil {
		return nil, holdFailure(err, k.Type, "wrapping")
	}
	return blob, nil
}

func (p *process) openToCarry(k *token.Stored) (pkcs11.Handle, error) {
	s := p.slow.session
	if k.Place == token.PlaceObject {
		class, _ := classOf(k.Type)
		name := token.ObjectName{ID: k.ID[:]}
		if k.Name != nil {
			name = *k.Name
		}
		h, err := findName(s, class, name.Label, name.ID)
		if err == nil && !flag(s, h, pkcs11.AttrExtractable) {
			err = &failure{reason: reasonHold, msg: "the key is an object of the HSM token that is not CKA_EXTRACTABLE"}
		}
		return h, err
	}
	for again := false; ; again = true {
		kek, err := p.findKEK(s)
		if err != nil {
			return 0, err
		}
		h, err := s.Unwrap(p.wrap, kek, k.Blob, importTemplate(k.Type, birth{extractable: true}))
		if err == nil {
			return h, nil
		}
		p.kek.Store(0)
		if again || !staleHandle(pkcs11.CodeOf(err)) {
			return 0, failf(reasonUnwrap, err, "unwrapping the key")
		}
	}
}

// takeKeys unwraps keys and wraps each under the KEK.
func (p *process) takeKeys(r *carryRequest) ([]token.Stored, error) {
	over, err := p.openFreight(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.slow.session.Destroy(over) }()
	list := make([]token.Stored, 0, len(r.Freight.Keys))
	for i := range r.Freight.Keys {
		st, err := p.takeOne(r.KWP, over, &r.Freight.Keys[i])
		if err != nil {
			return nil, err
		}
		list = append(list, st)
	}
	return list, nil
}

// openFreight makes a session object of the AES key of a freight. Where that can't
// be opened it is a random one, so that the failure comes later, as all others do.
func (p *process) openFreight(r *carryRequest) (pkcs11.Handle, error) {
	s := p.slow.session
	kekek, err := findName(s, pkcs11.ClassPrivate, r.Label, r.ID[:])
	if err != nil {
		return 0, err
	}
	decoy, err := s.GenerateKey(pkcs11.AESKeyGen, betweenTemplate().Ulong(pkcs11.AttrValueLen, token.KEKSize))
	if err != nil {
		return 0, failf(reasonCall, err, "making an AES key")
	}
	if !known(r.Freight.Padding) {
		return decoy, nil
	}
	over, err := unwrapRSA(s, r.Freight.Padding, kekek, r.Freight.Key, betweenTemplate())
	switch {
	case err == nil:
		_ = s.Destroy(decoy)
		return over, nil
	case sessionBroken(pkcs11.CodeOf(err)), deviceGone(err):
		return 0, failf(reasonCall, err, "unwrapping with the KEKEK")
	}
	return decoy, nil
}

func (p *process) takeOne(kwp pkcs11.CKM, over pkcs11.Handle, c *token.Carried) (st token.Stored, err error) {
	s := p.slow.session
	if !c.Type.Made() {
		return st, errOtherType
	}
	h, err := s.Unwrap(kwp, over, c.Blob, importTemplate(c.Type, birth{extractable: true, trustedOnly: p.kekStrict.Load()}))
	if err != nil {
		return st, openFailure(err)
	}
	defer func() { _ = s.Destroy(h) }()
	// The same as for a package whose first part is empty.
	st = token.Stored{Type: c.Type, Size: c.Size, Place: token.PlaceWrapped}
	_, public, err := p.examineSecret(s, h, &importRequest{spec: token.Spec{Type: c.Type}, blob: c.Blob})
	if err != nil {
		return st, err
	}
	// Of a key from which others are derived no public half is known.
	if c.Public != nil && !bytes.Equal(public, c.Public) {
		return st, errOtherType
	}
	st.Public = c.Public
	if st.Blob, err = p.wrapImported(h, c.Type); err != nil {
		return st, err
	}
	id, err := newID(s)
	if err != nil {
		return st, failf(reasonCall, err, "naming a key")
	}
	if copy(st.ID[:], id) != len(st.ID) {
		return st, fmt.Errorf("an ID of %d bytes", len(id))
	}
	return st, nil
}
