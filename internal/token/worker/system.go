package worker

import (
	"bytes"
	"crypto/x509"
	"errors"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// findKEK returns the KEK's handle, looked up once.
func (p *process) findKEK(s *pkcs11.Session) (pkcs11.Handle, error) {
	if h := p.kek.Load(); h != 0 {
		return pkcs11.Handle(h), nil
	}
	h, err := findLabel(s, pkcs11.ClassSecret, labelKEK)
	if err != nil {
		if f := asFailure(err); f.reason == reasonFind {
			return 0, &failure{reason: reasonKEK, msg: "the token has no key-encryption key (" + labelKEK + "): it was not provisioned"}
		}
		return 0, err
	}
	p.kekStrict.Store(flag(s, h, pkcs11.AttrTrusted))
	p.kek.Store(uint64(h))
	return h, nil
}

// orGone returns err, unless the token shows none of the system keys: then it
// was taken away, or was not provisioned yet, which the server knows.
func orGone(s *pkcs11.Session, err error) error {
	for _, k := range []struct {
		class uint64
		label string
	}{{pkcs11.ClassSecret, labelKEK}, {pkcs11.ClassSecret, labelStorage}, {pkcs11.ClassPrivate, labelStorage}} {
		if _, found := findLabel(s, k.class, k.label); found == nil {
			return err
		}
	}
	f := asFailure(err)
	return &failure{reason: reasonGone, fn: f.fn, code: f.code, msg: "the token shows no system keys: " + f.msg}
}

// staleHandle tells whether a code means that the handle of a key is of no use any more.
func staleHandle(code pkcs11.CKR) bool {
	switch code {
	case pkcs11.WrappingKeyInvalid, pkcs11.UnwrappingKeyInvalid, pkcs11.KeyHandleInvalid, pkcs11.ObjectHandleInvalid:
		return true
	}
	return false
}

// flag reads a CK_BBOOL; a token that does not know the attribute has it false.
func flag(s *pkcs11.Session, h pkcs11.Handle, a pkcs11.CKA) bool {
	v, err := s.Attribute(h, a)
	return err == nil && bytes.Equal(v, []byte{1})
}

// learn finds the system keys and how the module answers to forgeries. It runs
// before the lanes do, so it may use any session.
func (p *process) learn() (facts, error) {
	f := facts{wrap: p.wrap, canWrap: p.wraps, forgedTag: pkcs11.OK, forgedBlob: pkcs11.OK}
	if err := p.learnSystem(p.keeper, &f); err != nil {
		return f, err
	}
	f.forgedTag = p.forgedTag()
	f.forgedBlob = p.forgedBlob()
	return f, nil
}

// learnSystem fills in what the token holds of the system keys.
func (p *process) learnSystem(s *pkcs11.Session, f *facts) error {
	f.wrap, f.canWrap = p.wrap, p.wraps
	p.kek.Store(0)
	kek, err := p.findKEK(s)
	switch {
	case err == nil:
		f.kek = true
		f.transferable = flag(s, kek, pkcs11.AttrExtractable)
		f.trusted = p.kekStrict.Load()
	case asFailure(err).reason != reasonKEK:
		return err
	}
	if _, err := findLabel(s, pkcs11.ClassSecret, labelStorage); err == nil {
		f.storage = token.AES256
		return nil
	} else if asFailure(err).reason != reasonFind {
		return err
	}
	h, err := findLabel(s, pkcs11.ClassPrivate, labelStorage)
	if err != nil {
		if asFailure(err).reason == reasonFind {
			return nil
		}
		return err
	}
	f.storage = token.RSA2048
	// A private RSA key has the public values too (v2.40 section 2.1.3).
	f.storageKey, err = readPublic(s, h, token.RSA2048)
	return err
}

// forgedTag returns what the module answers to a forged AES-GCM tag, or OK if
// it has no AES-GCM. Modules differ: SoftHSM2 says CKR_GENERAL_ERROR.
func (p *process) forgedTag() pkcs11.CKR {
	if !p.has(pkcs11.AESGCM, pkcs11.FlagDecrypt) {
		return pkcs11.OK
	}
	k, err := p.bear(p.hot, token.AES256, 0, birth{})
	if err != nil {
		return pkcs11.OK
	}
	it := []pkcs11.Item{{NonceLen: 12, In: 12, InLen: 32, OutCap: 32}}
	p.hot.Batch(pkcs11.Op{Func: pkcs11.Decrypt, Param: pkcs11.GCM, Mech: pkcs11.AESGCM}, k.secret,
		make([]byte, 44), make([]byte, 32), it)
	_ = p.hot.Destroy(k.secret)
	if it[0].At != pkcs11.AtCall {
		return pkcs11.OK
	}
	return it[0].RV
}

// forgedBlob returns what the module answers to a wrapped key that is none.
func (p *process) forgedBlob() pkcs11.CKR {
	if !p.wraps {
		return pkcs11.OK
	}
	kek, err := p.hot.GenerateKey(pkcs11.AESKeyGen, kekTemplate(birth{}, false))
	if err != nil {
		return pkcs11.OK
	}
	_, err = p.hot.Unwrap(p.wrap, kek, make([]byte, 40), unwrapTemplate(token.AES256, false))
	_ = p.hot.Destroy(kek)
	return pkcs11.CodeOf(err)
}

func (p *process) has(m pkcs11.CKM, flags uint64) bool {
	i, ok := p.mechs[m]
	return ok && i.Flags&flags == flags
}

// provision makes the system keys that are missing. If there were some before
// and none is seen now, the token is not there, and no second KEK may be made.
func (p *process) provision(transferable, provisioned bool) (facts, error) {
	s := p.slow.session
	var f facts
	if err := p.learnSystem(s, &f); err != nil {
		return f, err
	}
	if provisioned && !f.kek && f.storage == 0 {
		return f, &failure{reason: reasonGone, msg: "the token shows no system keys any more"}
	}
	if !f.kek && p.wraps {
		if err := makeKEK(s, transferable); err != nil {
			return f, failf(reasonCall, err, "making the key-encryption key")
		}
	}
	if f.storage == 0 {
		if err := p.makeStorage(s); err != nil {
			return f, failf(reasonCall, err, "making the storage key")
		}
	}
	if _, err := p.auditKey(s); err != nil {
		if asFailure(err).reason != reasonFind {
			return f, err
		}
		if err := p.makeAudit(s); err != nil {
			return f, failf(reasonCall, err, "making the audit key")
		}
	}
	f = facts{}
	err := p.learnSystem(s, &f)
	return f, err
}

func newID(s *pkcs11.Session) ([]byte, error) {
	id := make([]byte, len(token.ID{}))
	return id, s.Random(id)
}

// makeKEK makes the KEK, trusted if the module lets a private key be it. That is
// tried with a session object: SoftHSM2 leaves half an object in the token when
// it refuses CKA_TRUSTED.
func makeKEK(s *pkcs11.Session, transferable bool) error {
	id, err := newID(s)
	if err != nil {
		return err
	}
	trial, err := s.GenerateKey(pkcs11.AESKeyGen, kekTemplate(birth{}, true))
	if err != nil && !refused(err) {
		return err
	}
	trusted := err == nil
	if trusted {
		if err := s.Destroy(trial); err != nil {
			return err
		}
	}
	b := birth{object: true, extractable: transferable, label: labelKEK, id: id}
	_, err = s.GenerateKey(pkcs11.AESKeyGen, kekTemplate(b, trusted))
	return err
}

// makeStorage makes the storage key: AES-256, or an RSA pair where the module
// has no AES-GCM.
func (p *process) makeStorage(s *pkcs11.Session) error {
	id, err := newID(s)
	if err != nil {
		return err
	}
	typ := token.AES256
	if !p.has(pkcs11.AESGCM, pkcs11.FlagEncrypt|pkcs11.FlagDecrypt) {
		typ = token.RSA2048
	}
	_, err = p.bear(s, typ, 0, birth{object: true, label: labelStorage, id: id})
	return err
}

// makeAudit makes the audit key. Its public half is kept in the private key's
// own attributes, so that the token lists private objects only.
func (p *process) makeAudit(s *pkcs11.Session) error {
	// One without a public key is what an interrupted call left.
	if h, err := findLabel(s, pkcs11.ClassPrivate, labelAudit); err == nil {
		if err := s.Destroy(h); err != nil {
			return err
		}
	}
	id, err := newID(s)
	if err != nil {
		return err
	}
	k, err := p.bear(s, token.P256, 0, birth{object: true, label: labelAudit, id: id})
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range publicAttributes {
		if err := s.SetAttribute(k.secret, a, k.public); err != nil {
			errs = append(errs, err)
		} else if v, err := s.Attribute(k.secret, a); err == nil && bytes.Equal(v, k.public) {
			return nil
		}
	}
	errs = append(errs, errors.New("the module keeps no public key with a private key"))
	return errors.Join(errors.Join(errs...), s.Destroy(k.secret))
}

// publicAttributes are those of a private key that may hold its public key:
// CKA_PUBLIC_KEY_INFO (v2.40 section 4.8) where it may be set, and CKA_SUBJECT,
// which every module lets one set to any bytes.
var publicAttributes = []pkcs11.CKA{pkcs11.AttrPublicKeyInfo, pkcs11.AttrSubject}

// auditKey returns the audit key; reasonFind if there is none with a public key.
func (p *process) auditKey(s *pkcs11.Session) (token.Stored, error) {
	st := token.Stored{Type: token.P256, Place: token.PlaceObject}
	h, err := findLabel(s, pkcs11.ClassPrivate, labelAudit)
	if err != nil {
		return st, err
	}
	id, err := s.Attribute(h, pkcs11.AttrID)
	if err != nil || copy(st.ID[:], id) != len(st.ID) {
		return st, failf(reasonFind, err, "the audit key has no ID of 16 bytes")
	}
	for _, a := range publicAttributes {
		der, err := s.Attribute(h, a)
		if err != nil || len(der) == 0 {
			continue
		}
		if _, err := x509.ParsePKIXPublicKey(der); err == nil {
			st.Public = der
			return st, nil
		}
	}
	return st, &failure{reason: reasonFind, msg: "the audit key has no public key"}
}
