package tpm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"errors"

	"github.com/google/go-tpm/tpm2"

	"github.com/claviger/claviger/internal/fault"
)

const (
	duplicateFormat = "claviger-tpm-duplicate-1"
	// InnerKeySize is that of the key of an inner wrapping, AES-128, in bytes.
	InnerKeySize = 16
	// maxPart is beyond the size of every part of a duplicate, in bytes.
	maxPart = 4096
)

// Duplicate is a key pair that was wrapped for another storage key (TPM 2.0 part 1,
// 23.3): the outer wrapping is encrypted to it, an inner one, if there is one, with a
// key that travels another way.
type Duplicate struct {
	parentName []byte // of the storage key for which it was wrapped
	public     []byte // TPMT_PUBLIC
	duplicate  []byte // content of TPM2B_PRIVATE
	seed       []byte // content of TPM2B_ENCRYPTED_SECRET
	inner      bool
	password   bool
	area       *tpm2.TPMTPublic
}

type duplicateFile struct {
	Format     string `json:"format"`
	ParentName []byte `json:"parent_name"`
	Public     []byte `json:"public"`
	Duplicate  []byte `json:"duplicate"`
	Seed       []byte `json:"seed"`
	InnerKey   bool   `json:"inner_key"`
	Password   bool   `json:"password"`
}

// NewDuplicate makes a Duplicate of what TPM2_Duplicate gave (TPM2B_PUBLIC,
// TPM2B_PRIVATE and TPM2B_ENCRYPTED_SECRET, as tpm2_duplicate writes them) for the
// storage key to. An error is a *fault.Error of kind Invalid.
func NewDuplicate(to *StorageKey, public, duplicate, seed []byte, innerKey, password bool) (*Duplicate, error) {
	x := &Duplicate{parentName: to.name, inner: innerKey, password: password}
	for _, part := range []struct {
		to   *[]byte
		what string
		from []byte
	}{{&x.public, "TPM2B_PUBLIC", public}, {&x.duplicate, "TPM2B_PRIVATE", duplicate}, {&x.seed, "TPM2B_ENCRYPTED_SECRET", seed}} {
		var err error
		if *part.to, err = unsized(part.what, part.from); err != nil {
			return nil, err
		}
	}
	return x, badFile("a duplicate of a key", x.check())
}

func (x *Duplicate) check() error {
	if err := checkName(x.parentName); err != nil {
		return err
	}
	if len(x.duplicate) == 0 || len(x.duplicate) > maxPart || len(x.seed) == 0 || len(x.seed) > maxPart {
		return fault.New(fault.Invalid, "its private area or its seed is missing or too long")
	}
	var err error
	if x.area, err = pairArea(x.public); err != nil {
		return err
	}
	if a := x.area.ObjectAttributes; a.FixedTPM || a.FixedParent || a.EncryptedDuplication && !x.inner {
		return fault.New(fault.Invalid, "its attributes are not those of a duplicate")
	}
	return nil
}

// Type returns "rsa-2048", "ecdsa-p256" or the like.
func (x *Duplicate) Type() string { return typeOf(x.area) }

// PublicKey returns an *rsa.PublicKey or *ecdsa.PublicKey.
func (x *Duplicate) PublicKey() (crypto.PublicKey, error) { return publicKey(x.area) }

// ParentName returns the name of the storage key for which it was wrapped, in
// hexadecimal.
func (x *Duplicate) ParentName() string { return hex.EncodeToString(x.parentName) }

// NeedsInnerKey tells whether there is an inner wrapping.
func (x *Duplicate) NeedsInnerKey() bool { return x.inner }

// NeedsPassword tells whether the use of the key needs a password.
func (x *Duplicate) NeedsPassword() bool { return x.password }

// Public returns the public area as TPM2B_PUBLIC.
func (x *Duplicate) Public() []byte { return sized(x.public) }

// Private returns the wrapped private area as TPM2B_PRIVATE.
func (x *Duplicate) Private() []byte { return sized(x.duplicate) }

// Seed returns the encrypted seed of the outer wrapping as TPM2B_ENCRYPTED_SECRET.
func (x *Duplicate) Seed() []byte { return sized(x.seed) }

// Encode returns the text of a file that ParseDuplicate reads.
func (x *Duplicate) Encode() ([]byte, error) {
	return encodeFile(duplicateFile{
		Format: duplicateFormat, ParentName: x.parentName, Public: x.public, Duplicate: x.duplicate, Seed: x.seed,
		InnerKey: x.inner, Password: x.password,
	})
}

// ParseDuplicate reads what Encode wrote. An error is a *fault.Error of kind
// Invalid. That the content is genuine the TPM says when it is imported.
func ParseDuplicate(text []byte) (*Duplicate, error) {
	const what = "a duplicate of a key"
	var f duplicateFile
	if err := decodeFile(text, &f); err != nil {
		return nil, badFile(what, err)
	}
	if f.Format != duplicateFormat {
		return nil, badFile(what, fault.New(fault.Invalid, "its format is %q, not %q", f.Format, duplicateFormat))
	}
	x := &Duplicate{
		parentName: f.ParentName, public: f.Public, duplicate: f.Duplicate, seed: f.Seed, inner: f.InnerKey, password: f.Password,
	}
	return x, badFile(what, x.check())
}

// NewInnerKey makes the key of an inner wrapping: InnerKeySize random bytes.
func NewInnerKey() []byte {
	key := make([]byte, InnerKeySize)
	rand.Read(key)
	return key
}

// ParseInnerKey reads the key of an inner wrapping: InnerKeySize bytes, as
// tpm2_duplicate has them, or a TPM2B_DATA of them. An error is a *fault.Error of
// kind Invalid.
func ParseInnerKey(b []byte) ([]byte, error) {
	if len(b) == InnerKeySize+2 && bytes.HasPrefix(b, []byte{0, InnerKeySize}) {
		b = b[2:]
	}
	if len(b) != InnerKeySize {
		return nil, fault.New(fault.Invalid, "the key of an inner wrapping has %d bytes, or %d as TPM2B_DATA", InnerKeySize, InnerKeySize+2)
	}
	return b, nil
}

// innerCipher is how a TPM names the cipher of an inner wrapping.
func innerCipher(key []byte) tpm2.TPMTSymDef {
	if key == nil {
		return tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull}
	}
	return tpm2.TPMTSymDef{
		Algorithm: tpm2.TPMAlgAES,
		KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(8*len(key))),
		Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
	}
}

func checkInner(area *tpm2.TPMTPublic, inner []byte) error {
	if inner != nil && len(inner) != InnerKeySize {
		return fault.New(fault.Invalid, "the key of an inner wrapping has %d bytes, not %d", InnerKeySize, len(inner))
	}
	if inner == nil && area.ObjectAttributes.EncryptedDuplication {
		return fault.New(fault.Invalid, "the key was made so that it moves with an inner wrapping only: give one a key")
	}
	return nil
}

// Duplicate wraps a key of this TPM for the storage key to, under its policy:
// password is the key's, if the policy asks for it; inner is the key of an inner
// wrapping or nil. The key stays where it is, too. Errors are *fault.Error, with the
// causes ErrPolicy, ErrPassword, ErrLocked, ErrOther or ErrAltered.
func (d *Device) Duplicate(k *Key, to *StorageKey, password, inner []byte) (*Duplicate, error) {
	policy, err := moveOf(k, to)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkPassword(password), checkInner(k.area, inner)); err != nil {
		return nil, err
	}
	if policy.password && len(password) == 0 {
		return nil, refused(ErrPassword, fault.Denied, "the key moves under its password only, and none was given")
	}
	p, err := d.storageNamed(k.parentName)
	if err != nil {
		return nil, err
	}
	defer p.flush()
	loaded, err := d.load(p, k)
	if err != nil {
		return nil, err
	}
	defer d.flush(loaded.ObjectHandle)
	newParent, err := tpm2.LoadExternal{InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](to.bytes), Hierarchy: tpm2.TPMRHNull}.Execute(d)
	if err != nil {
		return nil, d.explain(err, "load the storage key of the destination")
	}
	defer d.flush(newParent.ObjectHandle)
	rsp, err := tpm2.Duplicate{
		ObjectHandle:    tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: policy.session(password, loaded.Name)},
		NewParentHandle: tpm2.NamedHandle{Handle: newParent.ObjectHandle, Name: newParent.Name},
		EncryptionKeyIn: tpm2.TPM2BData{Buffer: inner},
		Symmetric:       innerCipher(inner),
	}.Execute(d, p.encrypted(inner)...)
	if err != nil {
		return nil, d.notDuplicated(err)
	}
	x := &Duplicate{
		parentName: to.name, public: k.public, duplicate: rsp.Duplicate.Buffer, seed: rsp.OutSymSeed.Buffer,
		inner: inner != nil, password: k.password,
	}
	return x, fault.Wrap(fault.Unavailable, x.check(), "take a duplicate of the TPM %s", d.name)
}

// encrypted is a session that hides a secret parameter on the way to the TPM.
func (p *parent) encrypted(secret []byte) []tpm2.Session {
	if secret == nil {
		return nil
	}
	return []tpm2.Session{tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, inbound, tpm2.Salted(p.handle, p.public))}
}

// load brings a key into the TPM. The caller flushes it.
func (d *Device) load(p *parent, k *Key) (*tpm2.LoadResponse, error) {
	loaded, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: p.handle, Name: p.name, Auth: p.session(nil, inbound)},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: k.private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](k.public),
	}.Execute(d)
	if err != nil {
		return nil, d.notTaken(err, "the key", "load a key")
	}
	return loaded, nil
}

func (d *Device) notDuplicated(err error) error {
	if errors.Is(err, tpm2.TPMRCPolicyFail) {
		return refused(ErrPolicy, fault.Denied, "the TPM %s refuses: the policy of the key does not allow this duplication", d.name)
	}
	return d.explain(err, "duplicate a key")
}

// notTaken explains the refusal of a thing that comes from a file: what the TPM
// finds wrong with a parameter is wrong with the file.
func (d *Device) notTaken(err error, thing, what string) error {
	code, _ := errors.AsType[tpm2.TPMRC](err)
	var detail tpm2.TPMFmt1Error
	if code.As(&detail) {
		if about, _ := detail.Parameter(); about {
			return refused(ErrAltered, fault.Invalid, "the TPM %s does not accept %s: its file was altered, or its inner key is another", d.name, thing)
		}
	}
	return d.parentRefused(err, what)
}

// parentRefused is explain for a command that only the storage key authorises.
func (d *Device) parentRefused(err error, what string) error {
	if errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth) {
		return fault.New(fault.Unavailable, "the storage key of the TPM %s has a password: such a storage key can't be used", d.name)
	}
	return d.explain(err, what)
}
