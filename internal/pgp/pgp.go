// Package pgp is what custodians' OpenPGP keys (RFC 9580) are used for: a secret is
// encrypted to one of them, and a signature of one of them is verified.
//
// Promise: a key that can't be encrypted to (expired, revoked, without a part for
// encryption) is refused by name; a private key is refused; nothing but the public
// key is kept.
package pgp

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Key is an OpenPGP public key that can be encrypted to.
type Key struct {
	Fingerprint string // of the primary key, in lower-case hexadecimal

	entity *openpgp.Entity
	time   time.Time
}

// Parse reads one public key, base64 of its binary form or armored, and
// makes sure that it can be encrypted to at that time. Its errors are for the caller.
func Parse(text string, now time.Time) (*Key, error) {
	entities, err := readRing(strings.TrimSpace(text))
	switch {
	case err != nil:
		return nil, err
	case len(entities) != 1:
		return nil, fmt.Errorf("there are %d keys in it; give exactly one", len(entities))
	case entities[0].PrivateKey != nil:
		return nil, errors.New("this is a private key; give the public key only, and consider the private key known to others")
	}
	key := &Key{entity: entities[0], Fingerprint: hex.EncodeToString(entities[0].PrimaryKey.Fingerprint), time: now}
	if _, err := key.entity.EncryptionKeyWithError(now, config(now)); err != nil {
		return nil, fmt.Errorf("the key %s%s can't be encrypted to: %s", key.Fingerprint, key.ownerNote(), reason(err))
	}
	return key, nil
}

// maxOwner is how much of a user ID is shown, in characters.
const maxOwner = 100

// Owner says whose key it is: the first of its user IDs in the order of the alphabet,
// for none is the primary one for sure in a key that is of no use. "" without any.
func (k *Key) Owner() string {
	if len(k.entity.Identities) == 0 {
		return ""
	}
	id := []rune(strings.Map(visible, slices.Min(slices.Collect(maps.Keys(k.entity.Identities)))))
	if len(id) > maxOwner {
		id = append(id[:maxOwner], '…')
	}
	return string(id)
}

// visible takes from a user ID what could make other lines of it.
func visible(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}

func (k *Key) ownerNote() string {
	if owner := k.Owner(); owner != "" {
		return fmt.Sprintf(" (%q)", owner)
	}
	return ""
}

// ID is the key ID of the primary key, 16 hexadecimal digits in upper case.
func (k *Key) ID() string { return fmt.Sprintf("%016X", k.entity.PrimaryKey.KeyId) }

const armorStart = "-----BEGIN PGP "

func readRing(text string) (openpgp.EntityList, error) {
	data := []byte(text)
	if !strings.HasPrefix(text, armorStart) {
		var err error
		if data, err = base64.StdEncoding.DecodeString(text); err != nil || len(data) == 0 {
			return nil, errors.New("it is neither base64 of an OpenPGP public key nor an armored one")
		}
	}
	read := openpgp.ReadKeyRing
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte(armorStart)) {
		read = openpgp.ReadArmoredKeyRing
	}
	entities, err := read(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("it is no OpenPGP public key that can be read: %w", err)
	}
	return entities, nil
}

// reason puts the library's error into words that a custodian understands.
func reason(err error) string {
	sel, ok := errors.AsType[pgperrors.ErrEncryptionKeySelection](err)
	if p, isPointer := errors.AsType[*pgperrors.ErrEncryptionKeySelection](err); isPointer && p != nil {
		sel, ok = *p, true
	}
	if ok {
		switch {
		case sel.PrimaryKeyErr != nil:
			err = sel.PrimaryKeyErr
		case sel.EncSelectionKeyId == nil:
			return "it has no part that is meant for encryption and of an algorithm that is accepted"
		default:
			err = sel.EncSelectionErr
		}
	}
	switch {
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return "it has expired"
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return "it was revoked"
	}
	return err.Error()
}

// Encrypt returns a binary OpenPGP message, and wipes plain.
func (k *Key) Encrypt(plain []byte) ([]byte, error) {
	defer clear(plain)
	var message bytes.Buffer
	w, err := openpgp.Encrypt(&message, []*openpgp.Entity{k.entity}, nil, nil, nil, config(k.time))
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt to the OpenPGP key %s: %w", k.Fingerprint, err)
	}
	return message.Bytes(), nil
}

func config(now time.Time) *packet.Config {
	return &packet.Config{DefaultCipher: packet.CipherAES256, Time: func() time.Time { return now }}
}
