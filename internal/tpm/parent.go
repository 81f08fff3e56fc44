package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/claviger/claviger/internal/fault"
)

// persistentSRK is where the storage root key of a provisioned TPM lies (TCG TPM
// v2.0 Provisioning Guidance, 7.8).
const persistentSRK = tpm2.TPMHandle(0x81000001)

// parent is a storage key of the owner's hierarchy under which secrets lie.
type parent struct {
	kind   string
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPMTPublic
	flush  func()
}

// anyParent returns the parent for a new secret: the primary key that the TPM
// derives from the owner's seed or, where making it needs the owner's password,
// the storage root key that lies in the TPM.
func (d *Device) anyParent() (*parent, error) {
	p, err := d.parent(parentPrimary)
	if !errors.Is(err, errOwner) {
		return p, err
	}
	if p, perr := d.parent(parentPersistent); perr == nil {
		return p, nil
	}
	return nil, err
}

// errOwner is the cause where the owner's hierarchy has a password.
var errOwner = errors.New("the owner's hierarchy has a password")

// errNoStorage is the cause where a key can be no parent.
var errNoStorage = errors.New("it is no storage key with SHA-256")

// parent makes or finds a parent. The caller flushes it.
func (d *Device) parent(kind string) (*parent, error) {
	if kind == parentPersistent {
		return d.persistent(persistentSRK)
	}
	return d.primary(kind, tpm2.ECCSRKTemplate)
}

// primary makes the primary key that the TPM derives from the owner's seed.
func (d *Device) primary(kind string, template tpm2.TPMTPublic) (*parent, error) {
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner,
		InPublic:      tpm2.New2B(template),
	}.Execute(d)
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return nil, refused(errOwner, fault.Unavailable, "the TPM's owner hierarchy has a password, and there is no storage root key at %s", parentPersistent).
			WithHint("let the TPM's owner make one: tpm2_createprimary -C o -G ecc -c srk.ctx; tpm2_evictcontrol -C o -c srk.ctx 0x%s", parentPersistent)
	}
	if err != nil {
		return nil, d.explain(err, "derive the storage root key")
	}
	return d.known(kind, rsp.ObjectHandle, rsp.OutPublic, func() { d.flush(rsp.ObjectHandle) })
}

// persistent finds the storage key that lies in the TPM at handle.
func (d *Device) persistent(handle tpm2.TPMHandle) (*parent, error) {
	rsp, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(d)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, refused(ErrOther, fault.Invalid, "the TPM has no storage root key at %08x any more: it was cleared, or is another", uint32(handle))
	}
	if err != nil {
		return nil, d.explain(err, "read the storage root key")
	}
	return d.known(fmt.Sprintf("%08x", uint32(handle)), handle, rsp.OutPublic, func() {})
}

// known computes the name of a parent from its public area, so that a name that
// was recorded vouches for the key with which sessions are salted.
func (d *Device) known(kind string, handle tpm2.TPMHandle, public tpm2.TPM2BPublic, flush func()) (*parent, error) {
	area, err := public.Contents()
	if err == nil && (!area.ObjectAttributes.Restricted || !area.ObjectAttributes.Decrypt || area.NameAlg != tpm2.TPMAlgSHA256) {
		err = errNoStorage
	}
	var name *tpm2.TPM2BName
	if err == nil {
		name, err = tpm2.ObjectName(area)
	}
	if err != nil {
		flush()
		return nil, fault.Wrap(fault.Unavailable, err, "read the storage root key of the TPM %s", d.name)
	}
	return &parent{kind: kind, handle: handle, name: *name, public: *area, flush: flush}, nil
}

// inbound and outbound encrypt what a command carries to the TPM and from it
// (its first parameter; TPM 2.0 part 1, clause 21) with AES-128-CFB.
var (
	inbound  = tpm2.AESEncryption(128, tpm2.EncryptIn)
	outbound = tpm2.AESEncryption(128, tpm2.EncryptOut)
)

// session authorises one command with an object's password.
func (p *parent) session(password []byte, encryption tpm2.AuthOption) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, tpm2.Auth(password), encryption, tpm2.Salted(p.handle, p.public))
}

// policySession is session for an object with a policy of PCRs.
func (p *parent) policySession(password []byte, values map[int][]byte) tpm2.Session {
	satisfy := func(t transport.TPM, handle tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicyPCR{
			PolicySession: handle, PcrDigest: digestOf(values), Pcrs: selection(pcrNumbers(values)),
		}.Execute(t)
		if err == nil {
			_, err = tpm2.PolicyAuthValue{PolicySession: handle}.Execute(t)
		}
		if err != nil {
			// Nobody else ends a session whose policy can't be satisfied.
			_, _ = tpm2.FlushContext{FlushHandle: handle}.Execute(t)
		}
		if errors.Is(err, tpm2.TPMRCValue) {
			return changedPCRs("PCRs changed while the secret was opened")
		}
		return err
	}
	return tpm2.Policy(tpm2.TPMAlgSHA256, nonceSize, satisfy, tpm2.Auth(password), outbound, tpm2.Salted(p.handle, p.public))
}

// flush takes an object out of the TPM. Behind a resource manager that happens
// at the end anyway, so a failure is not worth an error.
func (d *Device) flush(handle tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: handle}.Execute(d)
}
