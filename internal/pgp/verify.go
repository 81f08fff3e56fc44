package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// algorithms are the names of what keys are of (RFC 9580 section 9.1).
var algorithms = map[packet.PublicKeyAlgorithm]string{
	packet.PubKeyAlgoRSA: "RSA", packet.PubKeyAlgoRSAEncryptOnly: "RSA", packet.PubKeyAlgoElGamal: "ElGamal",
	packet.PubKeyAlgoECDH: "ECDH", packet.PubKeyAlgoECDSA: "ECDSA", packet.PubKeyAlgoEdDSA: "EdDSA",
	packet.PubKeyAlgoX25519: "X25519", packet.PubKeyAlgoX448: "X448", packet.PubKeyAlgoEd25519: "Ed25519", packet.PubKeyAlgoEd448: "Ed448",
}

// Kind says of what algorithm the part is that is encrypted to, its curve or size in
// bits, and of which version the key is: "RSA 3072, version 4".
func (k *Key) Kind() string {
	part, ok := k.encryptionPart()
	if !ok {
		return "unknown"
	}
	name := algorithms[part.PublicKey.PubKeyAlgo]
	if name == "" {
		name = fmt.Sprintf("algorithm %d", part.PublicKey.PubKeyAlgo)
	}
	if curve, err := part.PublicKey.Curve(); err == nil {
		name += " " + string(curve)
	} else if bits, err := part.PublicKey.BitLength(); err == nil {
		name += fmt.Sprintf(" %d", bits)
	}
	return fmt.Sprintf("%s, version %d", name, k.entity.PrimaryKey.Version)
}

// Expires says when the key can't be encrypted to any more: the earlier end of the
// primary key and of the part that is encrypted to. It is zero if neither has one.
func (k *Key) Expires() time.Time {
	part, ok := k.encryptionPart()
	if !ok {
		return time.Time{}
	}
	end := ends(part.PublicKey, part.SelfSignature)
	self, err := k.entity.PrimarySelfSignature(k.time, config(k.time))
	if err != nil {
		return end
	}
	if primary := ends(k.entity.PrimaryKey, self); end.IsZero() || !primary.IsZero() && primary.Before(end) {
		end = primary
	}
	return end
}

func (k *Key) encryptionPart() (openpgp.Key, bool) {
	part, err := k.entity.EncryptionKeyWithError(k.time, config(k.time))
	return part, err == nil
}

func ends(key *packet.PublicKey, self *packet.Signature) time.Time {
	if self == nil || self.KeyLifetimeSecs == nil || *self.KeyLifetimeSecs == 0 {
		return time.Time{}
	}
	return key.CreationTime.Add(time.Duration(*self.KeyLifetimeSecs) * time.Second).UTC()
}

// Public is the key in binary form.
func (k *Key) Public() ([]byte, error) {
	var b bytes.Buffer
	if err := k.entity.Serialize(&b); err != nil {
		return nil, fmt.Errorf("write the OpenPGP key %s: %w", k.Fingerprint, err)
	}
	return b.Bytes(), nil
}

// MaxSignature is the size of a detached signature in bytes, armored or not.
const MaxSignature = 64 << 10

// Dearmor returns a detached signature in binary form; one that is binary is returned
// as it is.
func Dearmor(signature []byte) ([]byte, error) {
	if len(signature) > MaxSignature {
		return nil, fmt.Errorf("the signature has %d bytes; at most %d are taken", len(signature), MaxSignature)
	}
	if !bytes.HasPrefix(bytes.TrimSpace(signature), []byte(armorStart)) {
		return signature, nil
	}
	block, err := armor.Decode(bytes.NewReader(signature))
	if err != nil {
		return nil, fmt.Errorf("the armor of the signature can't be read: %w", err)
	}
	if block.Type != openpgp.SignatureType {
		return nil, fmt.Errorf("this is a %q and no detached signature", block.Type)
	}
	b, err := io.ReadAll(io.LimitReader(block.Body, MaxSignature))
	if err != nil {
		return nil, fmt.Errorf("the armor of the signature can't be read: %w", err)
	}
	return b, nil
}

// Verify tells when the key made a detached signature of a message, in binary form: one
// signature, nothing else. The key must have been good at that time.
func (k *Key) Verify(message, signature []byte) (time.Time, error) {
	p, err := onlyPacket(signature)
	if err != nil {
		return time.Time{}, err
	}
	if p.SigType != packet.SigTypeBinary && p.SigType != packet.SigTypeText {
		return time.Time{}, errors.New("this is no signature of a document")
	}
	made := p.CreationTime.UTC()
	_, signer, err := openpgp.VerifyDetachedSignature(openpgp.EntityList{k.entity}, bytes.NewReader(message), bytes.NewReader(signature), config(made))
	if err != nil || signer == nil {
		return time.Time{}, fmt.Errorf("the key %s did not sign this: %w", k.Fingerprint, err)
	}
	return made, nil
}

func onlyPacket(signature []byte) (*packet.Signature, error) {
	packets := packet.NewReader(bytes.NewReader(signature))
	p, err := packets.Next()
	sig, ok := p.(*packet.Signature)
	if err != nil || !ok {
		return nil, errors.New("this is no detached OpenPGP signature")
	}
	if _, err := packets.Next(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one signature in it; give exactly one")
	}
	return sig, nil
}
