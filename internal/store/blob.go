package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// blobInfo is the HKDF info (RFC 5869) of the key that blobs are sealed under.
const blobInfo = "claviger blob 1"

// SealBlob encrypts data that leaves the store and comes back later, such as
// the backup of a key. A blob is
//
//	format (1 byte, 1) ‖ nonce (12 bytes) ‖ AES-256-GCM(data) ‖ tag (16 bytes)
//
// under HKDF-SHA256 of the storage key, with the associated data
//
//	"claviger blob 1" ‖ len(purpose) ‖ purpose
//
// (the length as 8 bytes, big endian); under the storage key of a later term the
// format and the associated data differ as those of records do. Only a store that
// has the storage key of that term opens it, and only for the same purpose.
func (s *Sealed) SealBlob(purpose string, data []byte) ([]byte, error) {
	r := s.ring.Load()
	if r == nil {
		return nil, ErrSealed
	}
	return r.seal(blobKeys, data, func(term int) []byte { return blobAAD(term, purpose) }), nil
}

// OpenBlob is the reverse of SealBlob. ErrCorrupt if the blob was altered, made
// for another purpose or under another storage key.
func (s *Sealed) OpenBlob(purpose string, blob []byte) ([]byte, error) {
	r := s.ring.Load()
	if r == nil {
		return nil, ErrSealed
	}
	data, ok := r.open(blobKeys, blob, func(term int) []byte { return blobAAD(term, purpose) })
	if !ok {
		return nil, fmt.Errorf("blob for %s: %w", purpose, ErrCorrupt)
	}
	return data, nil
}

func blobAAD(term int, purpose string) []byte {
	b := binary.BigEndian.AppendUint64(termAAD("claviger blob", term), uint64(len(purpose)))
	return append(b, purpose...)
}

// newBlobAEAD derives the key of blobs from a storage key.
func newBlobAEAD(storageKey []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, storageKey, nil, blobInfo, StorageKeySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return newGCM(key)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
