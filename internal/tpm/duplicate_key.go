package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/hex"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/claviger/claviger/internal/fault"
)

const keyFormat = "claviger-tpm-key-1"

// The types of keys that can be made or wrapped.
const (
	RSA2048   = "rsa-2048"
	ECDSAP256 = "ecdsa-p256"
)

// What a key may do. tpm2-pkcs11 signs with RSA keys only that also decrypt.
const (
	UsageSign    = "sign"
	UsageDecrypt = "decrypt"
	UsageBoth    = "both"
)

// Key is a key pair of a TPM: its private area opens only under the storage key
// with the name ParentName. It is no secret itself.
type Key struct {
	parentName []byte
	public     []byte // TPMT_PUBLIC
	private    []byte // content of TPM2B_PRIVATE
	password   bool
	area       *tpm2.TPMTPublic
}

type keyFile struct {
	Format     string `json:"format"`
	ParentName []byte `json:"parent_name"`
	Public     []byte `json:"public"`
	Private    []byte `json:"private"`
	Password   bool   `json:"password"`
}

// NewKey makes a Key of what TPM2_Create gave (TPM2B_PUBLIC and TPM2B_PRIVATE, as
// tpm2_create writes them) under the storage key parent; password tells whether it
// has one. An error is a *fault.Error of kind Invalid.
func NewKey(parent *StorageKey, public, private []byte, password bool) (*Key, error) {
	k := &Key{parentName: parent.name, password: password}
	var err error
	if k.public, err = unsized("TPM2B_PUBLIC", public); err != nil {
		return nil, err
	}
	if k.private, err = unsized("TPM2B_PRIVATE", private); err != nil {
		return nil, err
	}
	return k, badFile("a key of a TPM", k.check())
}

// check sees that the parts have the right form, and fills area.
func (k *Key) check() error {
	if err := checkName(k.parentName); err != nil {
		return err
	}
	if len(k.private) == 0 {
		return fault.New(fault.Invalid, "its private area is missing")
	}
	var err error
	k.area, err = pairArea(k.public)
	return err
}

// pairArea reads the public area of a pair that signs or decrypts.
func pairArea(public []byte) (*tpm2.TPMTPublic, error) {
	area, err := publicArea(public)
	if err != nil {
		return nil, err
	}
	a := area.ObjectAttributes
	if a.Restricted || !a.SignEncrypt && (!a.Decrypt || area.Type != tpm2.TPMAlgRSA) {
		return nil, fault.New(fault.Invalid, "it is no key that signs, nor an RSA key that decrypts")
	}
	_, err = publicKey(area)
	return area, err
}

// publicKey returns *rsa.PublicKey or *ecdsa.PublicKey; a point is on its curve.
func publicKey(area *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	public, err := tpm2.Pub(*area)
	if err != nil {
		return nil, fault.New(fault.Invalid, "it has no RSA or EC key: %v", err)
	}
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 || k.N.BitLen() > 4096 || k.N.Bit(0) == 0 {
			return nil, fault.New(fault.Invalid, "its RSA modulus has %d bits; 2048 to 4096 are possible", k.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if _, err := k.ECDH(); err != nil {
			return nil, fault.New(fault.Invalid, "its point is not on the curve")
		}
	}
	return public, nil
}

func typeOf(area *tpm2.TPMTPublic) string {
	public, err := publicKey(area)
	if err != nil {
		return "unknown"
	}
	if k, ok := public.(*ecdsa.PublicKey); ok {
		return fmt.Sprintf("ecdsa-p%d", k.Curve.Params().BitSize)
	}
	return fmt.Sprintf("rsa-%d", public.(*rsa.PublicKey).N.BitLen())
}

// Type returns "rsa-2048", "ecdsa-p256" or the like.
func (k *Key) Type() string { return typeOf(k.area) }

// PublicKey returns an *rsa.PublicKey or *ecdsa.PublicKey.
func (k *Key) PublicKey() (crypto.PublicKey, error) { return publicKey(k.area) }

// ParentName returns the name of the storage key above it, in hexadecimal.
func (k *Key) ParentName() string { return hex.EncodeToString(k.parentName) }

// NeedsPassword tells whether its use needs a password.
func (k *Key) NeedsPassword() bool { return k.password }

// Public returns it as TPM2B_PUBLIC.
func (k *Key) Public() []byte { return sized(k.public) }

// Private returns it as TPM2B_PRIVATE.
func (k *Key) Private() []byte { return sized(k.private) }

// Encode returns the text of a file that ParseKey reads.
func (k *Key) Encode() ([]byte, error) {
	return encodeFile(keyFile{
		Format: keyFormat, ParentName: k.parentName, Public: k.public, Private: k.private, Password: k.password,
	})
}

// ParseKey reads what Encode wrote. An error is a *fault.Error of kind Invalid.
func ParseKey(text []byte) (*Key, error) {
	const what = "a key of a TPM"
	var f keyFile
	if err := decodeFile(text, &f); err != nil {
		return nil, badFile(what, err)
	}
	if f.Format != keyFormat {
		return nil, badFile(what, fault.New(fault.Invalid, "its format is %q, not %q", f.Format, keyFormat))
	}
	k := &Key{parentName: f.ParentName, public: f.Public, private: f.Private, password: f.Password}
	return k, badFile(what, k.check())
}

// KeyOptions say what a key may do.
type KeyOptions struct {
	// Usage is what the key is for; "" is UsageSign. The others are for RSA keys.
	Usage string
	// Password has 0 to 32 bytes. The TPM counts wrong ones, and locks after some.
	Password []byte
	// MoveTo are the storage keys under which the key may be duplicated: none, one,
	// or with MoveAnywhere all, which needs a password.
	MoveTo       *StorageKey
	MoveAnywhere bool
	// InnerKey makes every duplication need a second key, which travels another way
	// than the duplicate.
	InnerKey bool
}

func (o *KeyOptions) decrypts() bool { return o.Usage == UsageDecrypt || o.Usage == UsageBoth }

func (o *KeyOptions) check(keyType string) error {
	if err := checkPassword(o.Password); err != nil {
		return err
	}
	switch {
	case keyType != RSA2048 && keyType != ECDSAP256:
		return fault.New(fault.Invalid, "a TPM is given keys of the types %s and %s, not %q", RSA2048, ECDSAP256, keyType)
	case o.Usage != "" && o.Usage != UsageSign && o.Usage != UsageDecrypt && o.Usage != UsageBoth:
		return fault.New(fault.Invalid, "a key is for %s, %s or %s, not for %q", UsageSign, UsageDecrypt, UsageBoth, o.Usage)
	case o.decrypts() && keyType != RSA2048:
		return fault.New(fault.Invalid, "only an RSA key decrypts")
	case o.MoveTo != nil && o.MoveAnywhere:
		return fault.New(fault.Invalid, "a key may move either to one storage key or anywhere")
	case o.MoveAnywhere && len(o.Password) == 0:
		return fault.New(fault.Invalid, "a key that may move anywhere needs a password: without one, who uses its TPM could take it along")
	}
	return nil
}

// area is the public area of a key of that kind, without its public key.
func (o *KeyOptions) area(keyType string, made bool) (*tpm2.TPMTPublic, error) {
	policy, err := o.policy()
	if err != nil {
		return nil, err
	}
	area := &tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
		ObjectAttributes: tpm2.TPMAObject{
			SensitiveDataOrigin: made, UserWithAuth: true, EncryptedDuplication: o.InnerKey,
			// Without a password there is nothing to guess, and no lock to suffer from.
			NoDA:        len(o.Password) == 0,
			SignEncrypt: o.Usage != UsageDecrypt, Decrypt: o.decrypts(),
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048}),
		Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{}),
	}
	if keyType == ECDSAP256 {
		area.Type = tpm2.TPMAlgECC
		area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256})
		area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	}
	return area, nil
}

// Create makes a key pair in the TPM, under the storage key which (as in
// StorageKey), that may be duplicated as o says. It changes nothing in the TPM.
func (d *Device) Create(which, keyType string, o KeyOptions) (*Key, error) {
	if err := o.check(keyType); err != nil {
		return nil, err
	}
	if o.MoveTo == nil && !o.MoveAnywhere {
		return nil, fault.New(fault.Invalid, "the key would stay in this TPM for ever: say where it may move")
	}
	area, err := o.area(keyType, true)
	if err != nil {
		return nil, err
	}
	p, err := d.storage(which)
	if err != nil {
		return nil, err
	}
	defer p.flush()
	created, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: p.handle, Name: p.name, Auth: p.session(nil, inbound)},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: o.Password},
		}},
		InPublic: tpm2.New2B(*area),
	}.Execute(d)
	if err != nil {
		return nil, d.parentRefused(err, "make a key")
	}
	k := &Key{
		parentName: p.name.Buffer, public: created.OutPublic.Bytes(), private: created.OutPrivate.Buffer, password: len(o.Password) > 0,
	}
	return k, fault.Wrap(fault.Unavailable, k.check(), "take a key of the TPM %s", d.name)
}
