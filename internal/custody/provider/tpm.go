package provider

import (
	"context"
	"errors"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/tpm"
)

// TPM seals to a TPM 2.0 of this machine.
type TPM struct {
	Device string // see tpm.Open
	// PCRs are the numbers of the bank SHA-256 that must have the values which they
	// have when the key is sealed; none: the machine opens in whatever state.
	PCRs []int
}

// Name returns "tpm".
func (t *TPM) Name() string { return "tpm" }

// Seal returns the text of a tpm.Sealed.
func (t *TPM) Seal(_ context.Context, key []byte) ([]byte, error) {
	d, err := tpm.Open(t.Device)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	sealed, err := d.Seal(key, tpm.SealOptions{PCRs: t.PCRs})
	if err != nil {
		return nil, err
	}
	return sealed.Encode()
}

// Open is the reverse of Seal.
func (t *TPM) Open(_ context.Context, blob []byte) ([]byte, error) {
	sealed, err := tpm.ParseSealed(blob)
	if err != nil {
		return nil, err
	}
	d, err := tpm.Open(t.Device)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	key, err := d.Unseal(sealed, nil)
	if !tpm.Refused(err) {
		return key, err
	}
	// The TPM will say the same until somebody acts.
	e, _ := errors.AsType[*fault.Error](err)
	c := *e
	c.Kind = fault.Conflict
	return nil, c.WithHint("if that is known and right, give the recovery shares with migrate (claviger unseal --migrate): then the secret is sealed to the TPM anew")
}
