package custody

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

	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// pgpKey is a custodian's OpenPGP public key (RFC 9580) that can be encrypted to.
type pgpKey struct {
	entity      *openpgp.Entity
	fingerprint string // of the primary key, in lower-case hex
	time        time.Time
}

func (p *plan) readPGPKeys(req *api.Init, now time.Time) error {
	var err error
	if p.pgpKeys, err = parsePGPKeys(slices.Concat(req.PGPKeys, req.RecoveryPGPKeys), p.n, now); err != nil {
		return err
	}
	if req.RootTokenPGPKey == "" {
		return nil
	}
	key, err := parsePGPKey(req.RootTokenPGPKey, now)
	if err != nil {
		return fault.New(fault.Invalid, "root_token_pgp_key: %v", err)
	}
	p.rootPGPKey = key
	return nil
}

// parsePGPKeys reads the keys of n custodians, or none.
func parsePGPKeys(texts []string, n int, now time.Time) ([]*pgpKey, error) {
	if len(texts) != 0 && len(texts) != n {
		return nil, fault.New(fault.Invalid, "there are %d pgp_keys for %d secret_shares; give one for each share, or none", len(texts), n)
	}
	keys := make([]*pgpKey, 0, len(texts))
	for i, text := range texts {
		key, err := parsePGPKey(text, now)
		if err != nil {
			return nil, fault.New(fault.Invalid, "pgp_keys, key %d of %d: %v", i+1, len(texts), err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// parsePGPKey reads one public key, base64 of its binary form or armored, and
// makes sure that it can be encrypted to at that time. Its errors are for the caller.
func parsePGPKey(text string, now time.Time) (*pgpKey, error) {
	entities, err := readKeyRing(strings.TrimSpace(text))
	switch {
	case err != nil:
		return nil, err
	case len(entities) != 1:
		return nil, fmt.Errorf("there are %d keys in it; give exactly one", len(entities))
	case entities[0].PrivateKey != nil:
		return nil, errors.New("this is a private key; give the public key only, and consider the private key known to others")
	}
	key := &pgpKey{entity: entities[0], fingerprint: hex.EncodeToString(entities[0].PrimaryKey.Fingerprint), time: now}
	if _, err := key.entity.EncryptionKeyWithError(now, pgpConfig(now)); err != nil {
		return nil, fmt.Errorf("the key %s%s can't be encrypted to: %s", key.fingerprint, key.owner(), pgpReason(err))
	}
	return key, nil
}

// maxOwner is how much of a user ID is shown, in characters.
const maxOwner = 100

// owner says whose key it is: the first of its user IDs in the order of the alphabet,
// for none is the primary one for sure in a key that is of no use. "" without any.
func (k *pgpKey) owner() string {
	if len(k.entity.Identities) == 0 {
		return ""
	}
	id := []rune(slices.Min(slices.Collect(maps.Keys(k.entity.Identities))))
	if len(id) > maxOwner {
		id = append(id[:maxOwner], '…')
	}
	return fmt.Sprintf(" (%q)", string(id))
}

const armorStart = "-----BEGIN PGP "

func readKeyRing(text string) (openpgp.EntityList, error) {
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

// pgpReason puts the library's error into words that a custodian understands.
func pgpReason(err error) string {
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

// encrypt returns a binary OpenPGP message, and wipes plain.
func (k *pgpKey) encrypt(plain []byte) ([]byte, error) {
	defer clear(plain)
	var message bytes.Buffer
	w, err := openpgp.Encrypt(&message, []*openpgp.Entity{k.entity}, nil, nil, nil, pgpConfig(k.time))
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt to the OpenPGP key %s: %w", k.fingerprint, err)
	}
	return message.Bytes(), nil
}

func pgpConfig(now time.Time) *packet.Config {
	return &packet.Config{DefaultCipher: packet.CipherAES256, Time: func() time.Time { return now }}
}
