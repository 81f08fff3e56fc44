package tpm

import (
	"bytes"
	"errors"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/claviger/claviger/internal/fault"
)

// ErrPolicy is the cause of an error: the policy of the key does not allow the
// duplication.
var ErrPolicy = errors.New("policy not met")

// movePolicy is a policy that allows duplication: to one storage key
// (TPM2_PolicyDuplicationSelect, TPM 2.0 part 3, 23.15) or, where newParent is nil,
// to any (TPM2_PolicyCommandCode, 23.11); with the password or without.
type movePolicy struct {
	newParent []byte // name
	password  bool
}

// policyCommand is a command of a policy, for a TPM and on paper.
type policyCommand interface {
	Update(*tpm2.PolicyCalculator) error
}

// digest computes what stands in the public area of a key with the policy.
func (m movePolicy) digest() ([]byte, error) {
	c, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "compute a policy")
	}
	var commands []policyCommand
	if m.password {
		commands = append(commands, tpm2.PolicyAuthValue{})
	}
	if m.newParent != nil {
		commands = append(commands, tpm2.PolicyDuplicationSelect{NewParentName: tpm2.TPM2BName{Buffer: m.newParent}})
	} else {
		commands = append(commands, tpm2.PolicyCommandCode{Code: tpm2.TPMCCDuplicate})
	}
	for _, command := range commands {
		if err := command.Update(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "compute a policy")
		}
	}
	return slices.Clone(c.Hash().Digest), nil
}

// policy is that of a new key: nil if it may not move.
func (o *KeyOptions) policy() ([]byte, error) {
	m := movePolicy{password: len(o.Password) > 0}
	if o.MoveTo != nil {
		m.newParent = o.MoveTo.name
	} else if !o.MoveAnywhere {
		return nil, nil
	}
	return m.digest()
}

// moveOf finds the policy of a key by its digest. An error has the cause ErrPolicy.
func moveOf(k *Key, to *StorageKey) (movePolicy, error) {
	for _, m := range []movePolicy{{to.name, true}, {to.name, false}, {nil, true}, {nil, false}} {
		digest, err := m.digest()
		if err != nil {
			return movePolicy{}, err
		}
		if bytes.Equal(digest, k.area.AuthPolicy.Buffer) {
			return m, nil
		}
	}
	a := k.area.ObjectAttributes
	if a.FixedTPM || a.FixedParent || len(k.area.AuthPolicy.Buffer) == 0 {
		return movePolicy{}, refused(ErrPolicy, fault.Denied, "the key was made to stay in its TPM for ever").
			WithHint("claviger tpm create makes keys that may move")
	}
	return movePolicy{}, refused(ErrPolicy, fault.Denied, "the policy of the key does not let it move to the storage key %s", to.Name()).
		WithHint("where a key may move was said when it was made, and stays so")
}

// session satisfies the policy for the duplication of the object name.
func (m movePolicy) session(password []byte, name tpm2.TPM2BName) tpm2.Session {
	satisfy := func(t transport.TPM, handle tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		err := m.satisfy(t, handle, name)
		if err != nil {
			// Nobody else ends a session whose policy can't be satisfied.
			_, _ = tpm2.FlushContext{FlushHandle: handle}.Execute(t)
		}
		return err
	}
	if !m.password {
		return tpm2.Policy(tpm2.TPMAlgSHA256, nonceSize, satisfy)
	}
	return tpm2.Policy(tpm2.TPMAlgSHA256, nonceSize, satisfy, tpm2.Auth(password))
}

func (m movePolicy) satisfy(t transport.TPM, handle tpm2.TPMISHPolicy, name tpm2.TPM2BName) error {
	if m.password {
		if _, err := (tpm2.PolicyAuthValue{PolicySession: handle}).Execute(t); err != nil {
			return err
		}
	}
	if m.newParent == nil {
		_, err := tpm2.PolicyCommandCode{PolicySession: handle, Code: tpm2.TPMCCDuplicate}.Execute(t)
		return err
	}
	_, err := tpm2.PolicyDuplicationSelect{
		PolicySession: handle, ObjectName: name, NewParentName: tpm2.TPM2BName{Buffer: m.newParent},
	}.Execute(t)
	return err
}
