package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"github.com/claviger/claviger/internal/fault"
)

// Import makes a duplicate a key of this TPM, under the storage key for which it was
// wrapped: inner is the key of its inner wrapping or nil. The key is used once with
// password, to prove that it is the private half of its public key. Nothing of it
// stays in the TPM: the Key that is returned loads again. Errors are *fault.Error,
// with the causes ErrPassword, ErrLocked, ErrOther or ErrAltered.
func (d *Device) Import(x *Duplicate, password, inner []byte) (*Key, error) {
	if err := x.checkSecrets(password, inner); err != nil {
		return nil, err
	}
	p, err := d.storageNamed(x.parentName)
	if err != nil {
		return nil, err
	}
	defer p.flush()
	rsp, err := tpm2.Import{
		ParentHandle:  tpm2.AuthHandle{Handle: p.handle, Name: p.name, Auth: p.session(nil, inbound)},
		EncryptionKey: tpm2.TPM2BData{Buffer: inner},
		ObjectPublic:  tpm2.BytesAs2B[tpm2.TPMTPublic](x.public),
		Duplicate:     tpm2.TPM2BPrivate{Buffer: x.duplicate},
		InSymSeed:     tpm2.TPM2BEncryptedSecret{Buffer: x.seed},
		Symmetric:     innerCipher(inner),
	}.Execute(d)
	if err != nil {
		return nil, d.notTaken(err, "the duplicate", "import a duplicate")
	}
	k := &Key{parentName: x.parentName, public: x.public, private: rsp.OutPrivate.Buffer, password: x.password, area: x.area}
	if err := d.prove(p, k, password); err != nil {
		return nil, err
	}
	return k, nil
}

func (x *Duplicate) checkSecrets(password, inner []byte) error {
	switch {
	case x.inner && inner == nil:
		return fault.New(fault.Invalid, "the duplicate has an inner wrapping: give its key, which came another way")
	case !x.inner && inner != nil:
		return fault.New(fault.Invalid, "the duplicate has no inner wrapping, and a key for one was given")
	case x.password && len(password) == 0:
		return refused(ErrPassword, fault.Denied, "the key has a password, and none was given")
	}
	return errors.Join(checkPassword(password), checkInner(x.area, inner))
}

// prove uses a key once.
func (d *Device) prove(p *parent, k *Key, password []byte) error {
	loaded, err := d.load(p, k)
	if err != nil {
		return err
	}
	defer d.flush(loaded.ObjectHandle)
	use := tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: p.session(password, inbound)}
	public, err := k.PublicKey()
	if err != nil {
		return err
	}
	if k.area.ObjectAttributes.SignEncrypt {
		err = d.proveSigning(use, public)
	} else {
		err = d.proveDecryption(use, public.(*rsa.PublicKey))
	}
	if errors.Is(err, errUnproved) {
		return refused(ErrAltered, fault.Invalid, "the imported key is not the private half of its public key")
	}
	if err != nil {
		return d.explain(err, "use the imported key")
	}
	return nil
}

var errUnproved = errors.New("another key")

func (d *Device) proveSigning(use tpm2.AuthHandle, public crypto.PublicKey) error {
	digest := make([]byte, sha256.Size)
	rand.Read(digest)
	scheme := tpm2.TPMAlgRSASSA
	if _, ok := public.(*ecdsa.PublicKey); ok {
		scheme = tpm2.TPMAlgECDSA
	}
	rsp, err := tpm2.Sign{
		KeyHandle: use, Digest: tpm2.TPM2BDigest{Buffer: digest},
		InScheme: tpm2.TPMTSigScheme{
			Scheme: scheme, Details: tpm2.NewTPMUSigScheme(scheme, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256}),
		},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
	}.Execute(d)
	if err != nil {
		return err
	}
	if !verified(public, digest, &rsp.Signature) {
		return errUnproved
	}
	return nil
}

func verified(public crypto.PublicKey, digest []byte, signature *tpm2.TPMTSignature) bool {
	switch key := public.(type) {
	case *rsa.PublicKey:
		s, err := signature.Signature.RSASSA()
		return err == nil && rsa.VerifyPKCS1v15(key, crypto.SHA256, digest, s.Sig.Buffer) == nil
	case *ecdsa.PublicKey:
		s, err := signature.Signature.ECDSA()
		return err == nil && ecdsa.Verify(key, digest, new(big.Int).SetBytes(s.SignatureR.Buffer), new(big.Int).SetBytes(s.SignatureS.Buffer))
	}
	return false
}

func (d *Device) proveDecryption(use tpm2.AuthHandle, public *rsa.PublicKey) error {
	message := make([]byte, sha256.Size)
	rand.Read(message)
	ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, message, nil)
	if err != nil {
		return err
	}
	rsp, err := tpm2.RSADecrypt{
		KeyHandle: use, CipherText: tpm2.TPM2BPublicKeyRSA{Buffer: ciphertext},
		InScheme: tpm2.TPMTRSADecrypt{
			Scheme:  tpm2.TPMAlgOAEP,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgOAEP, &tpm2.TPMSEncSchemeOAEP{HashAlg: tpm2.TPMAlgSHA256}),
		},
	}.Execute(d)
	if err != nil {
		return err
	}
	if !bytes.Equal(rsp.Message.Buffer, message) {
		return errUnproved
	}
	return nil
}
