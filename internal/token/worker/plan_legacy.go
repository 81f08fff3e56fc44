package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// Operations that only keys of older systems need.

// rawRSA is the scheme of the RSA operation without any padding. It is for the
// driver itself: a caller has no name for it.
const rawRSA token.Scheme = 255

const blockAES = 16

var errIV = errors.New("AES-CBC needs an initialisation vector of 16 bytes")

// planCBC is CKM_AES_CBC_PAD.
func (k *key) planCBC(op token.Op) (plan, error) {
	p := plan{op: pkcs11.Op{Func: pkcs11.Encrypt, Param: pkcs11.IV, Mech: pkcs11.AESCBCPad}, cost: 2, chunk: 256}
	flag := pkcs11.FlagEncrypt
	if op.Kind == token.DecryptCBC {
		p.op.Func, p.auth, flag = pkcs11.Decrypt, true, pkcs11.FlagDecrypt
	}
	p.prep = func(it *token.Item) (unit, error) {
		if len(it.Nonce) != blockAES {
			return unit{}, errIV
		}
		if op.Kind == token.DecryptCBC && (len(it.In) == 0 || len(it.In)%blockAES != 0) {
			return unit{}, token.ErrOpen
		}
		return unit{nonce: it.Nonce, in: it.In, room: len(it.In) + blockAES}, nil
	}
	return p, k.need(pkcs11.AESCBCPad, flag)
}

// planOpenPKCS1 is decryption with the padding of PKCS #1 v1.5. Where the module
// has raw RSA, wrong padding is no error: see token.OpenPKCS1v15. Otherwise the
// module takes the padding off, and all its failures are one.
func (k *key) planOpenPKCS1() (plan, error) {
	modulus, err := k.modulus()
	if err != nil {
		return plan{}, err
	}
	if secret := k.knownRejection(); len(secret) > 0 {
		p, err := k.planRaw()
		size := k.stored.Type.Bits() / 8
		p.after = func(it *token.Item, out []byte) error {
			em, err := leftPad(out, size)
			if err == nil {
				it.Out = token.OpenPKCS1v15(it.Out, em, secret, it.In)
			}
			return err
		}
		return p, err
	}
	p, size := k.rsaPlan(pkcs11.Op{Func: pkcs11.Decrypt, Mech: pkcs11.RSAPKCS})
	p.auth = true
	p.prep = func(it *token.Item) (unit, error) {
		if !inRange(it.In, modulus, size) {
			return unit{}, token.ErrOpen
		}
		return unit{in: it.In, room: size}, nil
	}
	return p, k.need(pkcs11.RSAPKCS, pkcs11.FlagDecrypt)
}

// planRaw is the RSA operation alone; out has the length of the modulus.
func (k *key) planRaw() (plan, error) {
	modulus, err := k.modulus()
	if err != nil {
		return plan{}, err
	}
	p, size := k.rsaPlan(pkcs11.Op{Func: pkcs11.Decrypt, Mech: pkcs11.RSAX509})
	p.prep = func(it *token.Item) (unit, error) {
		if !inRange(it.In, modulus, size) {
			return unit{}, token.ErrOpen
		}
		return unit{in: it.In, room: size}, nil
	}
	p.after = func(it *token.Item, out []byte) error {
		em, err := leftPad(out, size)
		it.Out = append(it.Out, em...)
		clear(em)
		return err
	}
	return p, k.need(pkcs11.RSAX509, pkcs11.FlagDecrypt)
}

// leftPad gives out as many bytes as the modulus has: some modules leave leading
// zeros out.
func leftPad(out []byte, size int) ([]byte, error) {
	if len(out) > size {
		return nil, fmt.Errorf("the module made %d bytes of an RSA operation of %d", len(out), size)
	}
	em := make([]byte, size)
	copy(em[size-len(out):], out)
	return em, nil
}

func (k *key) knownRejection() []byte {
	k.rejectMu.Lock()
	defer k.rejectMu.Unlock()
	return k.rejection
}

// learnRejection makes the secret that messages of wrong padding come from. The
// private exponent, of which a software key makes it, stays in the token, so it
// is the hash of the raw operation on a number that nobody else asks for: it has
// no padding of any kind. A module without raw RSA gets none.
func (k *key) learnRejection(ctx context.Context) error {
	if k.stored.Type.Class() != token.ClassRSA || !k.h.has(pkcs11.RSAX509, pkcs11.FlagDecrypt) || k.knownRejection() != nil {
		return nil
	}
	modulus, err := k.modulus()
	if err != nil {
		return err
	}
	items := []token.Item{{In: rejectionSeed(modulus, k.stored.Type.Bits()/8)}}
	err = k.Do(ctx, token.Op{Kind: token.Decrypt, Scheme: rawRSA}, items)
	if err == nil {
		err = items[0].Err
	}
	secret := []byte{} // known to be none
	switch {
	case err == nil:
		sum := sha256.Sum256(items[0].Out)
		clear(items[0].Out)
		secret = sum[:]
	case !errors.Is(err, token.ErrUnsupported):
		return err
	}
	k.rejectMu.Lock()
	defer k.rejectMu.Unlock()
	k.rejection = secret
	return nil
}

// rejectionSeed is a number below the modulus that follows from it.
func rejectionSeed(modulus *big.Int, size int) []byte {
	seed := sha256.Sum256(append([]byte("claviger implicit rejection\x00"), modulus.Bytes()...))
	out := bytes.NewBuffer(make([]byte, 1, size+sha256.Size)) // the first byte 0: below the modulus
	for i := uint32(0); out.Len() < size; i++ {
		block := sha256.Sum256(binary.BigEndian.AppendUint32(seed[:], i))
		out.Write(block[:])
	}
	return out.Bytes()[:size]
}
