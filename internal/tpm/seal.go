package tpm

import (
	"bytes"
	"errors"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/claviger/claviger/internal/fault"
)

// SealOptions say what opens a secret again, beside the TPM itself.
type SealOptions struct {
	// Password has 0 to 32 bytes, the last of which is not zero. Without one and
	// without PCRs whoever may use the TPM can open the secret. The TPM counts
	// wrong passwords and locks after some.
	Password []byte
	// PCRs are numbers from 0 to 23 of the bank SHA-256: the secret opens only as
	// long as they have the values that they have now. 7 is the state of Secure
	// Boot, 0 to 5 the firmware and its settings.
	PCRs []int
}

// nonceSize is that of sessions: as much as the hash has.
const nonceSize = 32

// sealedTemplate is a sealed object (TPM 2.0 part 3, 12.1: a keyed hash without
// a scheme that neither signs nor decrypts) under dictionary attack protection.
func sealedTemplate(policy []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgKeyedHash,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true,
			// With a policy the password alone opens nothing.
			UserWithAuth: policy == nil, AdminWithPolicy: policy != nil,
		},
		AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
	}
}

// Seal gives the TPM a secret of 1 to MaxSecret bytes and returns what only this
// TPM can open. It changes nothing in the TPM. Errors are *fault.Error.
func (d *Device) Seal(secret []byte, o SealOptions) (*Sealed, error) {
	if len(secret) == 0 || len(secret) > MaxSecret {
		return nil, fault.New(fault.Invalid, "a secret of %d bytes can't be sealed to a TPM; 1 to %d can", len(secret), MaxSecret)
	}
	if err := checkPassword(o.Password); err != nil {
		return nil, err
	}
	values, err := d.readPCRs(o.PCRs)
	if err != nil {
		return nil, err
	}
	p, err := d.anyParent()
	if err != nil {
		return nil, err
	}
	defer p.flush()
	policy, err := policyDigest(values)
	if err != nil {
		return nil, err
	}
	created, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: p.handle, Name: p.name, Auth: p.session(nil, inbound)},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: o.Password},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
		}},
		InPublic: tpm2.New2B(sealedTemplate(policy)),
	}.Execute(d)
	if err != nil {
		return nil, d.explain(err, "seal a secret")
	}
	return &Sealed{
		parent: p.kind, parentName: p.name.Buffer, public: created.OutPublic.Bytes(), private: created.OutPrivate.Buffer,
		password: len(o.Password) > 0, pcrs: values,
	}, nil
}

// Unseal returns the secret; the caller wipes it. Errors are *fault.Error whose
// causes are ErrPassword, ErrLocked, ErrOther, ErrAltered or ErrPCR where the
// TPM will say the same again until something is changed.
func (d *Device) Unseal(s *Sealed, password []byte) ([]byte, error) {
	if err := checkPassword(password); err != nil {
		return nil, err
	}
	if s.password && len(password) == 0 {
		return nil, refused(ErrPassword, fault.Denied, "the secret was sealed under a password, and none was given")
	}
	if err := d.comparePCRs(s.pcrs); err != nil {
		return nil, err
	}
	p, err := d.parent(s.parent)
	if err != nil {
		return nil, err
	}
	defer p.flush()
	// The session key is agreed with the parent: were it another, a device in
	// between could have put its own key there.
	if !bytes.Equal(p.name.Buffer, s.parentName) {
		return nil, refused(ErrOther, fault.Invalid, "the secret was sealed by another TPM, or this one was cleared since").
			WithHint("seal the secret to this TPM again")
	}
	return d.open(p, s, password)
}

func (d *Device) open(p *parent, s *Sealed, password []byte) ([]byte, error) {
	loaded, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: p.handle, Name: p.name, Auth: p.session(nil, inbound)},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: s.private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](s.public),
	}.Execute(d)
	if err != nil {
		return nil, d.notLoaded(err)
	}
	defer d.flush(loaded.ObjectHandle)
	auth := p.session(password, outbound)
	if len(s.pcrs) > 0 {
		auth = p.policySession(password, s.pcrs)
	}
	opened, err := tpm2.Unseal{
		ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: auth},
	}.Execute(d)
	if err != nil {
		return nil, d.explain(err, "open a sealed secret")
	}
	return opened.OutData.Buffer, nil
}

// checkPassword holds the rules of TPM 2.0 part 1, 19.6.4.3: no longer than the
// object's hash, and zeros at the end do not count.
func checkPassword(password []byte) error {
	if len(password) > digestSize {
		return fault.New(fault.Invalid, "the password of a TPM object has at most %d bytes, not %d", digestSize, len(password))
	}
	if len(password) > 0 && password[len(password)-1] == 0 {
		return fault.New(fault.Invalid, "the password of a TPM object can't end with a zero byte")
	}
	return nil
}

// policyDigest is nil without PCRs, else that of PolicyPCR and PolicyAuthValue
// (TPM 2.0 part 3, 23.7 and 23.17).
func policyDigest(values map[int][]byte) ([]byte, error) {
	if len(values) == 0 {
		return nil, nil
	}
	c, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err == nil {
		err = errors.Join(
			tpm2.PolicyPCR{PcrDigest: digestOf(values), Pcrs: selection(pcrNumbers(values))}.Update(c),
			tpm2.PolicyAuthValue{}.Update(c),
		)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "compute the policy of a sealed secret")
	}
	return slices.Clone(c.Hash().Digest), nil
}
