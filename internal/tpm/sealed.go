package tpm

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/google/go-tpm/tpm2"

	"github.com/claviger/claviger/internal/fault"
)

// MaxSecret is the size of the largest secret that can be sealed, in bytes: what
// a TPM takes as sealed data at least (MAX_SYM_DATA).
const MaxSecret = 128

const (
	sealedFormat = "claviger-tpm-sealed-1"
	maxSealed    = 16 << 10
	// pcrCount is the number of PCRs of the PC Client profile.
	pcrCount   = 24
	digestSize = 32
)

// The parents under which a secret can be sealed.
const (
	parentPrimary    = "owner-ecc-p256"
	parentPersistent = "81000001"
)

// Sealed is a secret that one TPM can open. It is no secret itself.
type Sealed struct {
	parent     string // parentPrimary or parentPersistent
	parentName []byte // TPM 2.0 part 1, clause 16: hash algorithm ‖ digest
	public     []byte // TPMT_PUBLIC
	private    []byte // content of TPM2B_PRIVATE
	password   bool
	pcrs       map[int][]byte // SHA-256 bank at the time of the sealing
}

// sealedFile is the form of a Sealed in a file: JSON with base64.
type sealedFile struct {
	Format     string            `json:"format"`
	Parent     string            `json:"parent"`
	ParentName []byte            `json:"parent_name"`
	Public     []byte            `json:"public"`
	Private    []byte            `json:"private"`
	Password   bool              `json:"password"`
	PCRs       map[string]string `json:"pcrs_sha256,omitempty"`
}

// NeedsPassword tells whether it was sealed under a password.
func (s *Sealed) NeedsPassword() bool { return s.password }

// PCRs returns the numbers of the PCRs (bank SHA-256) on which it depends, sorted.
func (s *Sealed) PCRs() []int { return slices.Sorted(maps.Keys(s.pcrs)) }

// Encode returns the text of a file that ParseSealed reads: one JSON object,
// less than 16 KiB.
func (s *Sealed) Encode() ([]byte, error) {
	f := sealedFile{
		Format: sealedFormat, Parent: s.parent, ParentName: s.parentName,
		Public: s.public, Private: s.private, Password: s.password,
	}
	if len(s.pcrs) > 0 {
		f.PCRs = make(map[string]string, len(s.pcrs))
	}
	for i, v := range s.pcrs {
		f.PCRs[strconv.Itoa(i)] = hex.EncodeToString(v)
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "encode a sealed secret")
	}
	return append(b, '\n'), nil
}

// ParseSealed reads what Encode wrote. An error is a *fault.Error of kind
// Invalid. That the content is genuine the TPM says when it is opened.
func ParseSealed(text []byte) (*Sealed, error) {
	if len(text) > maxSealed {
		return nil, badSealed("it has %d bytes; a sealed secret has at most %d", len(text), maxSealed)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var f sealedFile
	if err := d.Decode(&f); err != nil {
		return nil, badSealed("%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, badSealed("something follows its end")
	}
	return f.sealed()
}

func (f *sealedFile) sealed() (*Sealed, error) {
	s := &Sealed{parent: f.Parent, parentName: f.ParentName, public: f.Public, private: f.Private, password: f.Password}
	switch {
	case f.Format != sealedFormat:
		return nil, badSealed("its format is %q, not %q", f.Format, sealedFormat)
	case s.parent != parentPrimary && s.parent != parentPersistent:
		return nil, badSealed("its parent is %q, not %q or %q", f.Parent, parentPrimary, parentPersistent)
	case len(s.parentName) != 2+digestSize:
		return nil, badSealed("parent_name has %d bytes, not %d", len(s.parentName), 2+digestSize)
	case len(s.private) == 0:
		return nil, badSealed("private is missing")
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](s.public)
	if err != nil || public.Type != tpm2.TPMAlgKeyedHash || !bytes.Equal(tpm2.Marshal(public), s.public) {
		return nil, badSealed("public is not the public area of a sealed object")
	}
	s.pcrs, err = f.values()
	return s, err
}

func (f *sealedFile) values() (map[int][]byte, error) {
	if len(f.PCRs) == 0 {
		return nil, nil
	}
	values := make(map[int][]byte, len(f.PCRs))
	for name, text := range f.PCRs {
		i, err := strconv.Atoi(name)
		if err != nil || i < 0 || i >= pcrCount || strconv.Itoa(i) != name {
			return nil, badSealed("%q is no PCR; there are 0 to %d", name, pcrCount-1)
		}
		v, err := hex.DecodeString(text)
		if err != nil || len(v) != digestSize {
			return nil, badSealed("PCR %d is not %d hexadecimal digits", i, 2*digestSize)
		}
		values[i] = v
	}
	return values, nil
}

func badSealed(format string, args ...any) error {
	e := fault.New(fault.Invalid, format, args...)
	e.Msg = "this is no secret that was sealed to a TPM: " + e.Msg
	return e
}
