package worker

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // a constant of the program
	}
	return b
}

var errOtherType = &failure{reason: reasonOpen, msg: "the wrapped secret can't be unwrapped"}

// examineSecret finds out whether an object that was unwrapped is a key of the
// announced type, by using it, and returns its public half. size is of HMAC keys
// and in bytes: what the module says, or, where it says nothing, the size of the
// wrapped secret, which is rounded up to a multiple of 8.
func (p *process) examineSecret(s *pkcs11.Session, h pkcs11.Handle, r *importRequest) (size int, public []byte, err error) {
	switch typ := r.spec.Type; typ.Class() {
	case token.ClassAEAD:
		err = p.worksAES(s, h)
	case token.ClassHMAC:
		size, err = p.worksHMAC(s, h, len(r.blob)-r.key.Bits()/8-8)
	default:
		public, err = p.publicOf(s, h, typ)
	}
	if err == nil {
		return size, public, nil
	}
	if code := pkcs11.CodeOf(err); sessionBroken(code) || deviceGone(err) {
		return 0, nil, failf(reasonCall, err, "trying an imported key")
	}
	return 0, nil, errOtherType
}

// useOnce performs op once; in is nonce ‖ data.
func useOnce(s *pkcs11.Session, op pkcs11.Op, key pkcs11.Handle, nonce int, in []byte, room int) ([]byte, error) {
	out := make([]byte, room)
	it := []pkcs11.Item{{NonceLen: uint32(nonce), In: uint32(nonce), InLen: uint32(len(in) - nonce), OutCap: uint32(room)}}
	s.Batch(op, key, in, out, it)
	if it[0].RV != pkcs11.OK {
		return nil, &pkcs11.Error{Func: pkcs11.FuncName(op.Func, it[0].At), Code: it[0].RV}
	}
	return out[:it[0].OutLen], nil
}

// worksAES: a secret that is no AES key, say of 31 bytes, is refused at its use at the latest.
func (p *process) worksAES(s *pkcs11.Session, h pkcs11.Handle) error {
	_, err := useOnce(s, pkcs11.Op{Func: pkcs11.Encrypt, Param: pkcs11.GCM, Mech: pkcs11.AESGCM}, h, 12, make([]byte, 28), 64)
	return err
}

func (p *process) worksHMAC(s *pkcs11.Session, h pkcs11.Handle, wrapped int) (size int, err error) {
	if _, err := useOnce(s, pkcs11.Op{Func: pkcs11.Sign, Mech: pkcs11.SHA256HMAC}, h, 0, make([]byte, 16), sha256.Size); err != nil {
		return 0, err
	}
	size = wrapped
	if v, err := s.Attribute(h, pkcs11.AttrValueLen); err == nil && len(v) == 8 {
		// SoftHSM2 says 0 of a key that it unwrapped.
		if n := binary.NativeEndian.Uint64(v); n != 0 && n <= uint64(wrapped) {
			size = int(n)
		}
	}
	if size < minHMAC || size > maxHMAC {
		return 0, fmt.Errorf("an HMAC key of %d bytes", size)
	}
	return size, nil
}

// publicOf returns the public half of a private key as PKIX DER: what the module
// shows of it, or what follows from its signatures. A signature proves it.
func (p *process) publicOf(s *pkcs11.Session, h pkcs11.Handle, typ token.Type) ([]byte, error) {
	switch typ.Class() {
	case token.ClassRSA:
		return p.publicRSA(s, h, typ)
	case token.ClassECDSA:
		params, err := s.Attribute(h, pkcs11.AttrECParams)
		if err == nil && !bytes.Equal(params, curveParams[typ]) {
			err = errors.New("it is on another curve")
		}
		if err != nil {
			return nil, err
		}
		return p.recoverPublic(s, h, typ)
	}
	return p.publicEdwards(s, h)
}

func (p *process) publicRSA(s *pkcs11.Session, h pkcs11.Handle, typ token.Type) ([]byte, error) {
	der, err := readPublic(s, h, typ)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok || public.N.BitLen() != typ.Bits() {
		return nil, errors.New("the RSA key has another size")
	}
	digest := sha256.Sum256(probeKey)
	sig, err := useOnce(s, pkcs11.Op{Func: pkcs11.Sign, Mech: pkcs11.RSAPKCS}, h, 0, digestInfo(crypto.SHA256, digest[:]), public.Size())
	if err != nil {
		return nil, err
	}
	return der, rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig)
}

// verifyEdwards proves by a signature that a public Ed25519 key is that of h.
func verifyEdwards(s *pkcs11.Session, h pkcs11.Handle, der []byte) error {
	sig, err := useOnce(s, pkcs11.Op{Func: pkcs11.Sign, Mech: pkcs11.EdDSA}, h, 0, probeKey, ed25519.SignatureSize)
	if err != nil {
		return err
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return err
	}
	if public, ok := parsed.(ed25519.PublicKey); !ok || !ed25519.Verify(public, probeKey, sig) {
		return errors.New("the public half is that of another key")
	}
	return nil
}

func (p *process) publicEdwards(s *pkcs11.Session, h pkcs11.Handle) ([]byte, error) {
	for _, a := range []pkcs11.CKA{pkcs11.AttrPublicKeyInfo, pkcs11.AttrECPoint} {
		v, err := s.Attribute(h, a)
		if err != nil || len(v) == 0 {
			continue
		}
		if a == pkcs11.AttrECPoint {
			if v, err = pointPKIX(token.Ed25519, v); err != nil {
				continue
			}
		}
		if verifyEdwards(s, h, v) == nil {
			return v, nil
		}
	}
	return nil, errors.New("the module does not show the public half")
}

// curves of ECDSA types, in the two forms that the standard library has.
var curves = map[token.Type]struct {
	curve elliptic.Curve
	ecdh  ecdh.Curve
	hash  int // bytes of a digest that every module takes
}{
	token.P256: {elliptic.P256(), ecdh.P256(), 32},
	token.P384: {elliptic.P384(), ecdh.P384(), 48},
	token.P521: {elliptic.P521(), ecdh.P521(), 64},
}

// recoverPublic finds the public key of an ECDSA key from signatures (SEC 1
// section 4.1.6). Of the digest 0 the signature (r, s) says Q = (s/r)·R, where R
// is a point with the coordinate r; so x of Q is what ECDH with the scalar s/r
// and R yields. A signature of another digest tells Q from -Q.
func (p *process) recoverPublic(s *pkcs11.Session, h pkcs11.Handle, typ token.Type) ([]byte, error) {
	c := curves[typ]
	size := (typ.Bits() + 7) / 8
	sign := func(digest []byte) ([]byte, error) {
		sig, err := useOnce(s, pkcs11.Op{Func: pkcs11.Sign, Mech: pkcs11.ECDSA}, h, 0, digest, 2*size)
		if err == nil && len(sig) != 2*size {
			err = fmt.Errorf("a signature of %d bytes", len(sig))
		}
		return sig, err
	}
	other := bytes.Repeat([]byte{1}, c.hash)
	proof, err := sign(other)
	if err != nil {
		return nil, err
	}
	// r + n may be the coordinate instead of r, which is next to impossible.
	for range 3 {
		sig, err := sign(make([]byte, c.hash))
		if err != nil {
			return nil, err
		}
		if public := recoverFrom(typ, sig, other, proof); public != nil {
			return x509.MarshalPKIXPublicKey(public)
		}
	}
	return nil, errors.New("no public key fits the signatures")
}

// recoverFrom returns the public key under which sig is a signature of the
// digest 0 and proof one of the digest other; nil if there is none.
func recoverFrom(typ token.Type, sig, other, proof []byte) *ecdsa.PublicKey {
	c := curves[typ]
	size := len(sig) / 2
	n := c.curve.Params().N
	r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
	inverse := new(big.Int).ModInverse(r, n)
	x, y := elliptic.UnmarshalCompressed(c.curve, append([]byte{2}, sig[:size]...))
	if x == nil || inverse == nil {
		return nil
	}
	scalar := s.Mul(s, inverse)
	scalar.Mod(scalar, n)
	point := append([]byte{4}, x.FillBytes(make([]byte, size))...)
	at, err := c.ecdh.NewPublicKey(append(point, y.FillBytes(make([]byte, size))...))
	if err != nil {
		return nil
	}
	k, err := c.ecdh.NewPrivateKey(scalar.FillBytes(make([]byte, size)))
	if err != nil {
		return nil
	}
	shared, err := k.ECDH(at)
	if err != nil {
		return nil
	}
	pr, ps := new(big.Int).SetBytes(proof[:size]), new(big.Int).SetBytes(proof[size:])
	for _, sign := range []byte{2, 3} {
		x, y := elliptic.UnmarshalCompressed(c.curve, append([]byte{sign}, shared...))
		if x == nil {
			continue
		}
		point := append([]byte{4}, x.FillBytes(make([]byte, size))...)
		public, err := ecdsa.ParseUncompressedPublicKey(c.curve, append(point, y.FillBytes(make([]byte, size))...))
		if err == nil && ecdsa.Verify(public, other, pr, ps) {
			return public
		}
	}
	return nil
}
