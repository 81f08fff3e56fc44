package worker

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// plan is how an operation of a key is done with the module: the mechanism, and
// what Go adds where the module lacks one.
type plan struct {
	op    pkcs11.Op
	auth  bool // a failed call means that the ciphertext is not authentic
	prep  func(it *token.Item) (unit, error)
	after func(it *token.Item, out []byte) error // nil: out is the result
	cost  int64
	chunk int // items in one request
	// other is the plan to use when the module refuses the mechanism or the
	// parameters of this one, which variant names.
	other   func() (plan, error)
	variant variant
}

// variant names a mechanism with parameters that a module may refuse.
type variant struct {
	mech pkcs11.CKM
	hash crypto.Hash
	salt int
}

// planFor chooses how k performs op.
func (k *key) planFor(op token.Op) (plan, error) {
	class := k.stored.Type.Class()
	switch {
	case op.Kind == token.Seal && class == token.ClassAEAD, op.Kind == token.Open && class == token.ClassAEAD:
		return k.planAEAD(op)
	case (op.Kind == token.EncryptCBC || op.Kind == token.DecryptCBC) && class == token.ClassAEAD:
		return k.planCBC(op)
	case op.Kind == token.Decrypt && class == token.ClassRSA && op.Scheme == token.PKCS1v15 && op.Hash == 0:
		return k.planOpenPKCS1()
	case op.Kind == token.Decrypt && class == token.ClassRSA && op.Scheme == rawRSA:
		return k.planRaw()
	case op.Kind == token.MAC && class == token.ClassHMAC:
		return k.planHMAC(op)
	case op.Kind == token.Sign && class == token.ClassECDSA:
		return k.planECDSA()
	case op.Kind == token.Agree && class == token.ClassECDSA:
		return k.planAgree()
	case op.Kind == token.Sign && class == token.ClassEd25519:
		return k.planEd25519()
	case op.Kind == token.Sign && class == token.ClassRSA && op.Scheme == token.PKCS1v15:
		return k.planPKCS1(op)
	case op.Kind == token.Sign && class == token.ClassRSA && op.Scheme == token.PSS:
		return k.planPSS(op)
	case op.Kind == token.Decrypt && class == token.ClassRSA && op.Scheme == token.OAEP:
		return k.planOAEP(op)
	}
	return plan{}, fmt.Errorf("%w: a key of type %s has no such operation", token.ErrUnsupported, k.stored.Type)
}

// need returns ErrUnsupported unless the token has the mechanism.
func (k *key) need(m pkcs11.CKM, flag uint64) error {
	if !k.h.has(m, flag) {
		return fmt.Errorf("%w: the token has no %s", token.ErrUnsupported, m)
	}
	return nil
}

const gcmTag = 16

var errNonce = errors.New("AES-GCM needs a nonce of 12 bytes")

func (k *key) planAEAD(op token.Op) (plan, error) {
	p := plan{op: pkcs11.Op{Func: pkcs11.Encrypt, Param: pkcs11.GCM, Mech: pkcs11.AESGCM}, cost: 2, chunk: 256}
	if k.stored.Type != token.AES128 && k.stored.Type != token.AES256 {
		return plan{}, fmt.Errorf("%w: PKCS#11 tokens hold no keys of type %s", token.ErrUnsupported, k.stored.Type)
	}
	p.prep = func(it *token.Item) (unit, error) {
		if len(it.Nonce) != 12 {
			return unit{}, errNonce
		}
		return unit{nonce: it.Nonce, aad: it.AAD, in: it.In, room: len(it.In) + gcmTag}, nil
	}
	if op.Kind == token.Open {
		p.op.Func, p.auth = pkcs11.Decrypt, true
		p.prep = func(it *token.Item) (unit, error) {
			if len(it.Nonce) != 12 {
				return unit{}, errNonce
			}
			if len(it.In) < gcmTag {
				return unit{}, token.ErrOpen
			}
			// Modules take the length of the ciphertext for that of the room they need.
			return unit{nonce: it.Nonce, aad: it.AAD, in: it.In, room: len(it.In)}, nil
		}
		return p, k.need(pkcs11.AESGCM, pkcs11.FlagDecrypt)
	}
	return p, k.need(pkcs11.AESGCM, pkcs11.FlagEncrypt)
}

var hmacMechs = map[crypto.Hash]pkcs11.CKM{
	crypto.SHA1: pkcs11.SHA1HMAC, crypto.SHA224: pkcs11.SHA224HMAC, crypto.SHA256: pkcs11.SHA256HMAC,
	crypto.SHA384: pkcs11.SHA384HMAC, crypto.SHA512: pkcs11.SHA512HMAC,
}

func (k *key) planHMAC(op token.Op) (plan, error) {
	m, ok := hmacMechs[op.Hash]
	if !ok {
		return plan{}, fmt.Errorf("%w: there is no PKCS#11 mechanism for HMAC with %v", token.ErrUnsupported, op.Hash)
	}
	p := plan{op: pkcs11.Op{Func: pkcs11.Sign, Mech: m}, cost: 2, chunk: 256}
	p.prep = func(it *token.Item) (unit, error) { return unit{in: it.In, room: op.Hash.Size()}, nil }
	return p, k.need(m, pkcs11.FlagSign)
}

func (k *key) planECDSA() (plan, error) {
	size := (k.stored.Type.Bits() + 7) / 8
	p := plan{op: pkcs11.Op{Func: pkcs11.Sign, Mech: pkcs11.ECDSA}, cost: 4, chunk: 16}
	if k.stored.Type != token.P256 {
		p.cost = 30
	}
	p.prep = func(it *token.Item) (unit, error) {
		if len(it.In) == 0 {
			return unit{}, errors.New("ECDSA signs a digest, and an empty one was given")
		}
		// A longer digest counts with its leftmost bits only (FIPS 186-5 section 6.4.1);
		// modules differ in what they do with it.
		return unit{in: digestLength(it.In[:min(len(it.In), size)], size), room: 2 * size}, nil
	}
	p.after = func(it *token.Item, out []byte) error {
		if len(out) != 2*size {
			return fmt.Errorf("the module made an ECDSA signature of %d bytes instead of %d", len(out), 2*size)
		}
		it.Out = append(it.Out, out...)
		return nil
	}
	return p, k.need(pkcs11.ECDSA, pkcs11.FlagSign)
}

// digestLength puts zeros in front of a digest of an unusual length, which does
// not change its value: a TPM takes digests of 32, 48 and 64 bytes only.
func digestLength(digest []byte, size int) []byte {
	for _, n := range []int{32, 48, 64} {
		if n > size || len(digest) == n {
			break
		}
		if len(digest) < n {
			return append(make([]byte, n-len(digest), n), digest...)
		}
	}
	return digest
}

func (k *key) planEd25519() (plan, error) {
	p := plan{op: pkcs11.Op{Func: pkcs11.Sign, Mech: pkcs11.EdDSA}, cost: 15, chunk: 16}
	p.prep = func(it *token.Item) (unit, error) { return unit{in: it.In, room: 64}, nil }
	return p, k.need(pkcs11.EdDSA, pkcs11.FlagSign)
}

// rsaPlan begins a plan of an RSA key; k bytes are the modulus.
func (k *key) rsaPlan(op pkcs11.Op) (p plan, size int) {
	bits := int64(k.stored.Type.Bits())
	cost := 40 * bits * bits * bits / (2048 * 2048 * 2048)
	return plan{op: op, cost: max(cost, 10), chunk: 4}, k.stored.Type.Bits() / 8
}

func digestError(hash crypto.Hash, got int) error {
	return fmt.Errorf("%v makes digests of %d bytes, and one of %d was given", hash, hash.Size(), got)
}

func (k *key) planPKCS1(op token.Op) (plan, error) {
	p, size := k.rsaPlan(pkcs11.Op{Func: pkcs11.Sign, Mech: pkcs11.RSAPKCS})
	if op.Hash != 0 && digestInfo(op.Hash, nil) == nil {
		return plan{}, fmt.Errorf("%w: PKCS#1 v1.5 has no form for %v", token.ErrUnsupported, op.Hash)
	}
	p.prep = func(it *token.Item) (unit, error) {
		in := it.In
		if op.Hash != 0 {
			if len(in) != op.Hash.Size() {
				return unit{}, digestError(op.Hash, len(in))
			}
			in = digestInfo(op.Hash, in)
		}
		if len(in) > size-11 {
			return unit{}, fmt.Errorf("PKCS#1 v1.5 with this key signs up to %d bytes, and %d were given", size-11, len(in))
		}
		return unit{in: in, room: size}, nil
	}
	return p, k.need(pkcs11.RSAPKCS, pkcs11.FlagSign)
}

var hashMechs = map[crypto.Hash]struct {
	mech pkcs11.CKM
	mgf  uint32
}{
	crypto.SHA1: {pkcs11.SHA1, pkcs11.MGFSHA1}, crypto.SHA224: {pkcs11.SHA224, pkcs11.MGFSHA224},
	crypto.SHA256: {pkcs11.SHA256, pkcs11.MGFSHA256}, crypto.SHA384: {pkcs11.SHA384, pkcs11.MGFSHA384},
	crypto.SHA512: {pkcs11.SHA512, pkcs11.MGFSHA512},
}

func (k *key) planPSS(op token.Op) (plan, error) {
	if !op.Hash.Available() {
		return plan{}, fmt.Errorf("%w: PSS with %v", token.ErrUnsupported, op.Hash)
	}
	if op.Salt < 0 || op.Salt > k.stored.Type.Bits()/8 {
		return plan{}, fmt.Errorf("%w: a PSS salt of %d bytes", token.ErrUnsupported, op.Salt)
	}
	h, native := hashMechs[op.Hash]
	v := variant{pkcs11.RSAPSS, op.Hash, op.Salt}
	if !native || !k.h.has(pkcs11.RSAPSS, pkcs11.FlagSign) || k.h.refuses(v) {
		return k.composePSS(op)
	}
	p, size := k.rsaPlan(pkcs11.Op{Func: pkcs11.Sign, Param: pkcs11.PSS, Mech: pkcs11.RSAPSS, Hash: h.mech, MGF: h.mgf,
		Salt: uint32(op.Salt)})
	p.prep = func(it *token.Item) (unit, error) {
		if len(it.In) != op.Hash.Size() {
			return unit{}, digestError(op.Hash, len(it.In))
		}
		if size < op.Hash.Size()+op.Salt+2 {
			return unit{}, errPadTooShort
		}
		return unit{in: it.In, room: size}, nil
	}
	p.variant, p.other = v, func() (plan, error) { return k.composePSS(op) }
	return p, nil
}

// composePSS encodes in Go and lets the token do the raw operation.
func (k *key) composePSS(op token.Op) (plan, error) {
	p, size := k.rsaPlan(pkcs11.Op{Func: pkcs11.Sign, Mech: pkcs11.RSAX509})
	p.prep = func(it *token.Item) (unit, error) {
		if len(it.In) != op.Hash.Size() {
			return unit{}, digestError(op.Hash, len(it.In))
		}
		salt := make([]byte, op.Salt)
		if _, err := rand.Read(salt); err != nil {
			return unit{}, err
		}
		em, err := emsaPSS(it.In, salt, k.stored.Type.Bits(), op.Hash)
		return unit{in: em, room: size}, err
	}
	return p, k.need(pkcs11.RSAX509, pkcs11.FlagSign)
}

// planOAEP composes the operation wherever the module has raw RSA: SoftHSM2's own
// OAEP knows SHA-1 only and does not look at the label. The module's mechanism
// is for those that refuse raw RSA.
func (k *key) planOAEP(op token.Op) (plan, error) {
	if !op.Hash.Available() {
		return plan{}, fmt.Errorf("%w: OAEP with %v", token.ErrUnsupported, op.Hash)
	}
	modulus, err := k.modulus()
	if err != nil {
		return plan{}, err
	}
	v := variant{pkcs11.RSAX509, 0, 0}
	if !k.h.has(pkcs11.RSAX509, pkcs11.FlagDecrypt) || k.h.refuses(v) {
		return k.nativeOAEP(op, modulus)
	}
	p := k.composeOAEP(op, modulus)
	p.variant, p.other = v, func() (plan, error) { return k.nativeOAEP(op, modulus) }
	return p, nil
}

// nativeOAEP leaves the padding to the module.
func (k *key) nativeOAEP(op token.Op, modulus *big.Int) (plan, error) {
	h, ok := hashMechs[op.Hash]
	if !ok {
		return plan{}, fmt.Errorf("%w: there is no PKCS#11 parameter for OAEP with %v, and the module refuses CKM_RSA_X_509",
			token.ErrUnsupported, op.Hash)
	}
	p, size := k.rsaPlan(pkcs11.Op{Func: pkcs11.Decrypt, Param: pkcs11.OAEP, Mech: pkcs11.RSAOAEP, Hash: h.mech, MGF: h.mgf})
	p.auth = true
	p.prep = func(it *token.Item) (unit, error) {
		if !inRange(it.In, modulus, size) {
			return unit{}, token.ErrOpen
		}
		return unit{aad: it.AAD, in: it.In, room: size}, nil
	}
	return p, k.need(pkcs11.RSAOAEP, pkcs11.FlagDecrypt)
}

// composeOAEP lets the token do the raw operation and takes the padding off in Go.
func (k *key) composeOAEP(op token.Op, modulus *big.Int) plan {
	p, size := k.rsaPlan(pkcs11.Op{Func: pkcs11.Decrypt, Mech: pkcs11.RSAX509})
	p.prep = func(it *token.Item) (unit, error) {
		if !inRange(it.In, modulus, size) {
			return unit{}, token.ErrOpen
		}
		return unit{in: it.In, room: size}, nil
	}
	p.after = func(it *token.Item, out []byte) error {
		em := make([]byte, size)
		defer clear(em)
		if len(out) > size {
			return fmt.Errorf("the module made %d bytes of an RSA operation of %d", len(out), size)
		}
		// Some modules leave leading zeros out.
		copy(em[size-len(out):], out)
		var ok bool
		if it.Out, ok = emeOAEP(it.Out, em, it.AAD, op.Hash); !ok {
			return token.ErrOpen
		}
		return nil
	}
	return p
}

// inRange tells whether an RSA ciphertext is one (RFC 8017 section 7.1.2 step 1
// and 5.1.2): as long as the modulus, and below it. Both are public.
func inRange(in []byte, modulus *big.Int, size int) bool {
	return len(in) == size && new(big.Int).SetBytes(in).Cmp(modulus) < 0
}

// modulus returns the public modulus of an RSA key, parsed once.
func (k *key) modulus() (*big.Int, error) {
	k.parse.Do(func() {
		if k.ident.from == fromEphemeral {
			// Only a worker knows it; no modulus of this size is above that.
			k.n = new(big.Int).Lsh(big.NewInt(1), uint(k.stored.Type.Bits()))
			return
		}
		pub, err := x509.ParsePKIXPublicKey(k.stored.Public)
		if err != nil {
			k.parseErr = fmt.Errorf("the public half of the key is damaged: %w", err)
			return
		}
		r, ok := pub.(*rsa.PublicKey)
		if !ok || r.N.BitLen() != k.stored.Type.Bits() {
			k.parseErr = fmt.Errorf("the public half of the key is not one of type %s", k.stored.Type)
			return
		}
		k.n = r.N
	})
	return k.n, k.parseErr
}
