package tpm

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/claviger/claviger/internal/fault"
)

// Reasons for which a TPM refuses. They are the causes of the *fault.Error, and
// none of them goes away by trying again.
var (
	ErrPassword = errors.New("wrong password")
	ErrLocked   = errors.New("dictionary attack lockout")
	ErrOther    = errors.New("unknown storage root key")
	ErrAltered  = errors.New("integrity check failed")
	ErrPCR      = errors.New("policy not satisfied")
)

// Refused tells whether err is for a reason that another try would not change,
// or would make worse: a wrong password counts towards the TPM's lock.
func Refused(err error) bool {
	for _, reason := range []error{ErrPassword, ErrLocked, ErrOther, ErrAltered, ErrPCR} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

func refused(cause error, kind fault.Kind, format string, args ...any) *fault.Error {
	return &fault.Error{Kind: kind, Msg: fmt.Sprintf(format, args...), Err: cause}
}

// explain puts a TPM's response code into words (TPM 2.0 part 2, 6.6.3).
func (d *Device) explain(err error, what string) error {
	switch {
	case errors.Is(err, tpm2.TPMRCAuthFail), errors.Is(err, tpm2.TPMRCBadAuth):
		return refused(ErrPassword, fault.Denied, "the TPM %s refuses the password", d.name).
			WithHint("every wrong one counts: after some the TPM locks itself for hours")
	case errors.Is(err, tpm2.TPMRCLockout):
		return d.lockedOut()
	case errors.Is(err, tpm2.TPMRCPolicyFail), errors.Is(err, tpm2.TPMRCPCRChanged):
		return changedPCRs("the TPM " + d.name + " refuses: the platform is not in the state of the sealing")
	case errors.Is(err, tpm2.TPMRCAuthUnavailable):
		return refused(ErrAltered, fault.Invalid, "the TPM %s asks for another proof than the sealed file says: it was altered", d.name)
	case errors.Is(err, tpm2.TPMRCInitialize):
		return refused(err, fault.Unavailable, "the TPM %s was not started", d.name).
			WithHint("a software TPM needs --flags not-need-init,startup-clear")
	case errors.Is(err, tpm2.TPMRCObjectMemory), errors.Is(err, tpm2.TPMRCSessionMemory), errors.Is(err, tpm2.TPMRCSessionHandles):
		return refused(err, fault.Unavailable, "the TPM %s has no room: other programs left objects or sessions in it", d.name).
			WithHint("use %s, or tpm2_flushcontext -t and -l", DefaultDevice)
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "%s with the TPM %s", what, d.name)
}

// notLoaded is explain for the loading of a sealed secret: what the TPM finds
// wrong with a parameter of it is wrong with the file.
func (d *Device) notLoaded(err error) error {
	code, _ := errors.AsType[tpm2.TPMRC](err)
	var detail tpm2.TPMFmt1Error
	if code.As(&detail) {
		if about, _ := detail.Parameter(); about {
			return refused(ErrAltered, fault.Invalid, "the TPM %s does not accept the sealed secret: it was altered", d.name).
				WithHint("take the file from its backup, or seal the secret again")
		}
	}
	if errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth) {
		return fault.New(fault.Unavailable, "the storage root key of the TPM %s has a password: such a TPM can't be used", d.name)
	}
	return d.explain(err, "load a sealed secret")
}

// lockedOut says when the TPM forgets one of the wrong passwords.
func (d *Device) lockedOut() error {
	e := refused(ErrLocked, fault.Exhausted, "the TPM %s is locked after too many wrong passwords", d.name)
	rsp, err := tpm2.GetCapability{
		Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTLockoutInterval), PropertyCount: 1,
	}.Execute(d)
	if err == nil {
		if props, perr := rsp.CapabilityData.Data.TPMProperties(); perr == nil && len(props.TPMProperty) == 1 {
			wait := time.Duration(props.TPMProperty[0].Value) * time.Second
			return e.WithHint("it takes one password again after %v, or at once when its owner resets it: tpm2_dictionarylockout -c", wait)
		}
	}
	return e.WithHint("its owner resets it with tpm2_dictionarylockout -c")
}
