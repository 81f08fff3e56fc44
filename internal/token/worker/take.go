package worker

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// opener unwraps the secret of a package as an object of a template. It can be
// used more than once.
type opener func(t *pkcs11.Template) (pkcs11.Handle, error)

// importKey makes a key of a package. The secret is first a session object: only
// what proved to be a key of the announced type becomes an object of the token.
func (p *process) importKey(r *importRequest) (token.Stored, error) {
	open, done, err := p.openPackage(r)
	if err != nil {
		return token.Stored{}, err
	}
	defer done()
	wrapped := r.spec.Place == token.PlaceWrapped
	trial, err := open(importTemplate(r.spec.Type, birth{extractable: wrapped, trustedOnly: wrapped && p.kekStrict.Load()}))
	if err != nil {
		return token.Stored{}, openFailure(err)
	}
	// A session object that stays costs memory only, until the process ends.
	defer func() { _ = p.slow.session.Destroy(trial) }()
	st := token.Stored{Type: r.spec.Type, Place: r.spec.Place, ID: r.spec.ID}
	if st.Size, st.Public, err = p.examineSecret(p.slow.session, trial, r); err != nil {
		return token.Stored{}, err
	}
	if wrapped {
		st.Blob, err = p.wrapImported(trial, r.spec.Type)
		return st, err
	}
	return st, p.importObject(open, r.spec)
}

// openFailure is one answer to everything that can be wrong with a package. What
// is the session's or the device's fault stays what it is.
func openFailure(err error) error {
	if isRefused(err) {
		return err
	}
	if code := pkcs11.CodeOf(err); sessionBroken(code) || deviceGone(err) {
		return failf(reasonCall, err, "unwrapping a secret")
	}
	return &failure{reason: reasonOpen, msg: "the wrapped secret can't be unwrapped"}
}

func importTemplate(typ token.Type, b birth) *pkcs11.Template {
	class, keyType := classOf(typ)
	return usage(b.common().Ulong(pkcs11.AttrClass, class).Ulong(pkcs11.AttrKeyType, keyType), typ, b.agree)
}

// openPackage prepares a package for being opened; done ends what was made for that.
func (p *process) openPackage(r *importRequest) (open opener, done func(), err error) {
	s := p.slow.session
	if r.mode == importBetween {
		t := betweenTemplate().Bytes(pkcs11.AttrValue, r.between)
		between, err := s.Create(t)
		t.Wipe()
		if err != nil {
			return nil, nil, holdFailure(err, token.AES256, "taking in")
		}
		return p.openerOf(between, r), func() { _ = s.Destroy(between) }, nil
	}
	key, end, err := p.loadWrappingKey(r)
	if err != nil {
		return nil, nil, err
	}
	if r.mode == importWhole {
		return func(t *pkcs11.Template) (pkcs11.Handle, error) {
			h, err := s.UnwrapOAEP(pkcs11.RSAAESWrap, r.hash, r.mgf, 8*token.ImportAES, key, r.blob, t)
			if refused(err) {
				return 0, &failure{reason: reasonRefused, msg: "CKM_RSA_AES_KEY_WRAP"}
			}
			return h, err
		}, end, nil
	}
	defer end()
	between, err := s.UnwrapOAEP(pkcs11.RSAOAEP, r.hash, r.mgf, 0, key, r.blob[:r.key.Bits()/8], betweenTemplate())
	switch {
	case err == nil:
	case refused(err):
		return nil, nil, failf(reasonRefused, err, "unwrapping the AES key")
	case sessionBroken(pkcs11.CodeOf(err)), deviceGone(err):
		return nil, nil, failf(reasonCall, err, "unwrapping the AES key")
	default:
		// The failure shows with the second part, as any other does.
		if between, err = s.GenerateKey(pkcs11.AESKeyGen, betweenTemplate().Ulong(pkcs11.AttrValueLen, token.ImportAES)); err != nil {
			return nil, nil, failf(reasonCall, err, "making an AES key")
		}
	}
	return p.openerOf(between, r), func() { _ = s.Destroy(between) }, nil
}

// openerOf opens the second part of a package with the AES key of the first.
func (p *process) openerOf(between pkcs11.Handle, r *importRequest) opener {
	return func(t *pkcs11.Template) (pkcs11.Handle, error) {
		return p.slow.session.Unwrap(r.kwp, between, r.blob[r.key.Bits()/8:], t)
	}
}

// betweenTemplate is that of the AES key of a package: it unwraps, and no more.
func betweenTemplate() *pkcs11.Template {
	return birth{}.common().Ulong(pkcs11.AttrClass, pkcs11.ClassSecret).Ulong(pkcs11.AttrKeyType, pkcs11.KeyAES).
		Bool(true, pkcs11.AttrUnwrap).
		Bool(false, pkcs11.AttrEncrypt, pkcs11.AttrDecrypt, pkcs11.AttrSign, pkcs11.AttrVerify, pkcs11.AttrWrap, pkcs11.AttrDerive)
}

// loadWrappingKey makes the wrapping key ready to unwrap; end ends it if it is a
// session object.
func (p *process) loadWrappingKey(r *importRequest) (key pkcs11.Handle, end func(), err error) {
	s := p.slow.session
	if r.key.Place == token.PlaceObject {
		key, err = findOne(s, objectTemplate(pkcs11.ClassPrivate, r.key.ID), fmt.Sprintf("no wrapping key of the ID %x", r.key.ID))
		return key, func() {}, err
	}
	kek, err := p.findKEK(s)
	if err != nil {
		return 0, nil, err
	}
	t := birth{}.common().Ulong(pkcs11.AttrClass, pkcs11.ClassPrivate).Ulong(pkcs11.AttrKeyType, pkcs11.KeyRSA).
		Bool(true, pkcs11.AttrUnwrap).Bool(false, pkcs11.AttrSign, pkcs11.AttrDecrypt, pkcs11.AttrDerive)
	key, err = s.Unwrap(p.wrap, kek, r.key.Blob, t)
	if err != nil {
		p.kek.Store(0) // in case that it was the KEK's handle
		return 0, nil, failf(reasonUnwrap, err, "unwrapping the wrapping key")
	}
	return key, func() { _ = s.Destroy(key) }, nil
}

func objectTemplate(class uint64, id token.ID) *pkcs11.Template {
	return (&pkcs11.Template{}).Bool(true, pkcs11.AttrToken).Ulong(pkcs11.AttrClass, class).Bytes(pkcs11.AttrID, id[:])
}

// wrapImported wraps the session object under the KEK, once.
func (p *process) wrapImported(trial pkcs11.Handle, typ token.Type) ([]byte, error) {
	s := p.slow.session
	for again := false; ; again = true {
		kek, err := p.findKEK(s)
		if err != nil {
			return nil, err
		}
		blob, err := s.Wrap(p.wrap, kek, trial)
		if err == nil && typ == token.HMAC {
			return blob, p.sameHMAC(kek, trial, blob)
		}
		if err == nil {
			return blob, nil
		}
		p.kek.Store(0)
		if again || !staleHandle(pkcs11.CodeOf(err)) {
			return nil, holdFailure(err, typ, "wrapping")
		}
	}
}

// sameHMAC tells whether a wrapped HMAC key is still the one that was imported.
// SoftHSM2 fills a secret with zeros to a multiple of 8 bytes when it wraps it. An
// HMAC does not change by that (RFC 2104 section 2 does the same) as long as the
// key is not longer than a block of the hash.
func (p *process) sameHMAC(kek, key pkcs11.Handle, blob []byte) error {
	s := p.slow.session
	again, err := s.Unwrap(p.wrap, kek, blob, unwrapTemplate(token.HMAC, false))
	if err != nil {
		return failf(reasonHold, err, "unwrapping an imported key again")
	}
	defer func() { _ = s.Destroy(again) }()
	var codes [2][]byte
	for n, h := range []pkcs11.Handle{key, again} {
		if codes[n], err = useOnce(s, pkcs11.Op{Func: pkcs11.Sign, Mech: pkcs11.SHA256HMAC}, h, 0, make([]byte, 16), sha256.Size); err != nil {
			return failf(reasonCall, err, "trying an imported key")
		}
	}
	if !bytes.Equal(codes[0], codes[1]) {
		return &failure{reason: reasonHold, msg: "the module changes an HMAC key of this size when it wraps it"}
	}
	return nil
}

// importObject unwraps the secret again as an object of the token, which is not
// extractable from its birth.
func (p *process) importObject(open opener, spec token.Spec) error {
	// What an interrupted call left under this ID was never acknowledged.
	if err := p.destroy(spec.ID); err != nil {
		return orGone(p.slow.session, err)
	}
	if _, err := open(importTemplate(spec.Type, birth{object: true, label: spec.Label, id: spec.ID[:]})); err != nil {
		// A module may leave half an object in the token when it refuses one.
		return errors.Join(holdFailure(err, spec.Type, "importing"), p.destroy(spec.ID))
	}
	return nil
}

// A known AES key, and what RFC 5649 makes under it of 32 zero bytes and of the
// PKCS #8 DER of an Ed25519 key whose seed is the same, with its public half: they
// show what a module's mechanism is.
var (
	probeKey = []byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f" +
		"\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f")
	probeAES     = unhex("8b940aebb30e4357d9a42c0e504fe502e81e6a6881f4496ae319064912877bbdeb95445235be11a9")
	probeEdwards = unhex("87c43fd6ff638919215b7fa15c74583a1361b1479fffc25a48827838a44c89e7dbbeefda48eab6d5172671b642b8279938f2d70e5907cd38")
	probePublic  = unhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8")
)

// learnIntake finds out how the module takes secrets in.
func (p *process) learnIntake() (f intake) {
	s := p.slow.session
	key, err := s.Create(betweenTemplate().Bytes(pkcs11.AttrValue, probeKey))
	f.creates = err == nil
	if f.creates {
		defer func() { _ = s.Destroy(key) }()
	}
	for _, m := range []pkcs11.CKM{pkcs11.AESWrapKWP, pkcs11.AESWrapPad} {
		if !p.has(m, pkcs11.FlagUnwrap) {
			continue
		}
		// CKM_AES_KEY_WRAP_KWP is RFC 5649; the padding of the other must be seen.
		if !f.creates && m == pkcs11.AESWrapPad {
			continue
		}
		if !f.creates || p.unwrapsProbe(m, key) {
			f.kwp = m
			break
		}
	}
	if f.kwp == 0 || !f.creates || !p.has(pkcs11.EdDSA, pkcs11.FlagSign) {
		return f
	}
	h, err := s.Unwrap(f.kwp, key, probeEdwards, importTemplate(token.Ed25519, birth{}))
	if err != nil {
		return f
	}
	public, err := p.publicOf(s, h, token.Ed25519)
	f.edwards = err == nil && bytes.HasSuffix(public, probePublic)
	_ = s.Destroy(h)
	return f
}

func (p *process) unwrapsProbe(m pkcs11.CKM, key pkcs11.Handle) bool {
	s := p.slow.session
	h, err := s.Unwrap(m, key, probeAES, importTemplate(token.AES256, birth{}))
	if err != nil {
		return false
	}
	err = p.worksAES(s, h)
	_ = s.Destroy(h)
	return err == nil
}
