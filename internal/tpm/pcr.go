package tpm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"github.com/claviger/claviger/internal/fault"
)

// maxPCRsPerRead is what every TPM answers at once: TPML_DIGEST holds eight.
const maxPCRsPerRead = 8

func selection(pcrs []int) tpm2.TPMLPCRSelection {
	numbers := make([]uint, len(pcrs))
	for i, n := range pcrs {
		numbers[i] = uint(n)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(numbers...),
	}}}
}

func pcrNumbers(values map[int][]byte) []int { return slices.Sorted(maps.Keys(values)) }

// digestOf is the digest that PolicyPCR compares (TPM 2.0 part 3, 23.7).
func digestOf(values map[int][]byte) tpm2.TPM2BDigest {
	h := sha256.New()
	for _, n := range pcrNumbers(values) {
		h.Write(values[n])
	}
	return tpm2.TPM2BDigest{Buffer: h.Sum(nil)}
}

// readPCRs returns the values of PCRs of the bank SHA-256, nil of none.
func (d *Device) readPCRs(pcrs []int) (map[int][]byte, error) {
	if len(pcrs) == 0 {
		return nil, nil
	}
	numbers := slices.Compact(slices.Sorted(slices.Values(pcrs)))
	if numbers[0] < 0 || numbers[len(numbers)-1] >= pcrCount {
		return nil, fault.New(fault.Invalid, "there are PCRs 0 to %d only", pcrCount-1)
	}
	values := make(map[int][]byte, len(numbers))
	for part := range slices.Chunk(numbers, maxPCRsPerRead) {
		rsp, err := tpm2.PCRRead{PCRSelectionIn: selection(part)}.Execute(d)
		if err != nil {
			return nil, d.explain(err, "read PCRs")
		}
		if len(rsp.PCRValues.Digests) != len(part) {
			return nil, fault.New(fault.Unavailable, "the TPM %s keeps no SHA-256 values of PCRs", d.name).
				WithHint("switch the SHA-256 bank on in the firmware's settings")
		}
		for i, n := range part {
			values[n] = rsp.PCRValues.Digests[i].Buffer
		}
	}
	return values, nil
}

// comparePCRs names the PCRs whose values are not those of the sealing. The TPM
// holds the policy by itself; this is for the person who reads the error.
func (d *Device) comparePCRs(want map[int][]byte) error {
	if len(want) == 0 {
		return nil
	}
	now, err := d.readPCRs(pcrNumbers(want))
	if err != nil {
		return err
	}
	var changed []string
	for _, n := range pcrNumbers(want) {
		if !bytes.Equal(now[n], want[n]) {
			changed = append(changed, fmt.Sprint(n))
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return changedPCRs("PCR " + strings.Join(changed, ", ") + " changed since the secret was sealed: the platform is not in the same state")
}

func changedPCRs(message string) error {
	return refused(ErrPCR, fault.Denied, "%s", message).
		WithHint("if firmware, boot loader or their settings were changed on purpose, seal the secret again")
}
