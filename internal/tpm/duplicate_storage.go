package tpm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"github.com/claviger/claviger/internal/fault"
)

const (
	storageFormat = "claviger-tpm-parent-1"
	// parentRSA is the primary RSA-2048 storage key of the owner's hierarchy.
	parentRSA = "owner-rsa-2048"
	// maxHandles is what is asked of a TPM at once; real ones hold some ten.
	maxHandles = 64
)

// StorageKey is the public area of a storage key: what must be known of a TPM so
// that keys can be wrapped for it. It is no secret, but whoever can put another in
// its place gets the keys: compare its name.
type StorageKey struct {
	bytes []byte // TPMT_PUBLIC
	area  *tpm2.TPMTPublic
	name  []byte
}

type storageFile struct {
	Format string `json:"format"`
	Public []byte `json:"public"`
}

// StorageKey reads the public area of a storage key of the owner's hierarchy:
// "owner-ecc-p256" and "owner-rsa-2048" are the primary keys of the TCG's
// templates, 0x81… is one that lies in the TPM, and "" the first of them or, where
// making it needs the owner's password, the one at 0x81000001.
func (d *Device) StorageKey(which string) (*StorageKey, error) {
	p, err := d.storage(which)
	if err != nil {
		return nil, err
	}
	defer p.flush()
	return newStorageKey(tpm2.Marshal(p.public))
}

// storage makes or finds a storage key. The caller flushes it.
func (d *Device) storage(which string) (*parent, error) {
	switch which {
	case "":
		return d.anyParent()
	case parentPrimary:
		return d.parent(which)
	case parentRSA:
		return d.primary(which, tpm2.RSASRKTemplate)
	}
	handle, err := strconv.ParseUint(strings.TrimPrefix(which, "0x"), 16, 32)
	if err != nil || handle>>24 != uint64(tpm2.TPMHTPersistent) {
		return nil, fault.New(fault.Invalid, "%q is no storage key; write %s, %s, or the handle 0x81000001 of one that lies in the TPM",
			which, parentPrimary, parentRSA)
	}
	return d.persistent(tpm2.TPMHandle(handle))
}

// storageNamed finds the storage key that has the name: among those that lie in the
// TPM, then among the primary keys. The caller flushes it.
func (d *Device) storageNamed(name []byte) (*parent, error) {
	which, err := d.persistentKeys()
	if err != nil {
		return nil, err
	}
	var owner error
	for _, w := range append(which, parentPrimary, parentRSA) {
		p, err := d.storage(w)
		switch {
		case errors.Is(err, errOwner):
			owner = err
			continue
		case errors.Is(err, errNoStorage), errors.Is(err, ErrOther):
			continue // a key of another kind, or taken away meanwhile
		case err != nil:
			return nil, err
		case bytes.Equal(p.name.Buffer, name):
			return p, nil
		}
		p.flush()
	}
	e := refused(ErrOther, fault.Invalid, "the TPM %s does not have the storage key with the name %x: the file is for another TPM, or this one was cleared", d.name, name)
	if owner != nil {
		return nil, e.WithHint("its owner's hierarchy has a password, so that only storage keys that lie in it can be used")
	}
	return nil, e.WithHint("claviger tpm parent writes the storage key that this TPM has")
}

// persistentKeys lists the objects that lie in the TPM for the owner (part 2, 7.5).
func (d *Device) persistentKeys() ([]string, error) {
	rsp, err := tpm2.GetCapability{
		Capability: tpm2.TPMCapHandles, Property: uint32(tpm2.TPMHTPersistent) << 24, PropertyCount: maxHandles,
	}.Execute(d)
	if err != nil {
		return nil, d.explain(err, "list the storage keys")
	}
	handles, err := rsp.CapabilityData.Data.Handles()
	if err != nil {
		return nil, d.explain(err, "list the storage keys")
	}
	var which []string
	for _, h := range handles.Handle {
		which = append(which, fmt.Sprintf("%08x", uint32(h)))
	}
	return which, nil
}

func newStorageKey(public []byte) (*StorageKey, error) {
	area, err := publicArea(public)
	if err != nil {
		return nil, err
	}
	a := area.ObjectAttributes
	if !a.Restricted || !a.Decrypt || a.SignEncrypt {
		return nil, fault.New(fault.Invalid, "it is no storage key: those are restricted, and decrypt only")
	}
	if _, err := publicKey(area); err != nil {
		return nil, err
	}
	if _, err := tpm2.ImportEncapsulationKey(area); err != nil {
		return nil, fault.New(fault.Invalid, "nothing can be wrapped under it: %v", err)
	}
	if err := checkSymmetric(area); err != nil {
		return nil, err
	}
	name, err := nameOf(area)
	return &StorageKey{bytes: public, area: area, name: name}, err
}

// checkSymmetric sees that children are encrypted with AES in mode CFB.
func checkSymmetric(area *tpm2.TPMTPublic) error {
	bits, err := symmetricBits(area)
	if err != nil || bits != 128 && bits != 192 && bits != 256 {
		return fault.New(fault.Invalid, "it encrypts with another cipher than AES in mode CFB")
	}
	return nil
}

// symmetricBits is the size of the AES key of a storage key.
func symmetricBits(area *tpm2.TPMTPublic) (int, error) {
	key, err := tpm2.ImportEncapsulationKey(area)
	if err != nil {
		return 0, err
	}
	s := key.SymmetricParameters()
	if s.Algorithm != tpm2.TPMAlgAES {
		return 0, errors.New("not AES")
	}
	mode, err := s.Mode.AES()
	if err != nil || *mode != tpm2.TPMAlgCFB {
		return 0, errors.New("not CFB")
	}
	bits, err := s.KeyBits.AES()
	if err != nil {
		return 0, err
	}
	return int(*bits), nil
}

// Name returns the name of the key in hexadecimal, 68 digits: people compare it.
func (s *StorageKey) Name() string { return hex.EncodeToString(s.name) }

// Type returns "rsa-2048", "ecdsa-p256" or the like.
func (s *StorageKey) Type() string { return typeOf(s.area) }

// Public returns it as TPM2B_PUBLIC.
func (s *StorageKey) Public() []byte { return sized(s.bytes) }

// Encode returns the text of a file that ParseStorageKey reads.
func (s *StorageKey) Encode() ([]byte, error) {
	return encodeFile(storageFile{Format: storageFormat, Public: s.bytes})
}

// ParseStorageKey reads what Encode wrote, or a TPM2B_PUBLIC as tpm2_readpublic -o
// writes it. An error is a *fault.Error of kind Invalid.
func ParseStorageKey(text []byte) (*StorageKey, error) {
	const what = "the public area of a storage key"
	if !bytes.HasPrefix(text, []byte("{")) {
		public, err := unsized("TPM2B_PUBLIC", text)
		if err != nil {
			return nil, badFile(what, err)
		}
		s, err := newStorageKey(public)
		return s, badFile(what, err)
	}
	var f storageFile
	if err := decodeFile(text, &f); err != nil {
		return nil, badFile(what, err)
	}
	if f.Format != storageFormat {
		return nil, badFile(what, fault.New(fault.Invalid, "its format is %q, not %q", f.Format, storageFormat))
	}
	s, err := newStorageKey(f.Public)
	return s, badFile(what, err)
}
