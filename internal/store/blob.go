package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// blobInfo is the HKDF info (RFC 5869) of the key that blobs are sealed under.
const blobInfo = "claviger blob 1"

const blobOverhead = 1 + 12 + 16 // bytes: format, nonce, tag

// SealBlob encrypts data that leaves the store and comes back later, such as
// the backup of a key. A blob is
//
//	format (1 byte, 1) ‖ nonce (12 bytes) ‖ AES-256-GCM(data) ‖ tag (16 bytes)
//
// under HKDF-SHA256 of the storage key, with the associated data
//
//	"claviger blob 1" ‖ len(purpose) ‖ purpose
//
// (the length as 8 bytes, big endian). Only a store with the same storage key
// opens it, and only for the same purpose.
func (s *Sealed) SealBlob(purpose string, data []byte) ([]byte, error) {
	aead := s.blobs.Load()
	if aead == nil {
		return nil, ErrSealed
	}
	out := make([]byte, 1+12, blobOverhead+len(data))
	out[0] = 1
	rand.Read(out[1:13])
	return (*aead).Seal(out, out[1:13], data, blobAAD(purpose)), nil
}

// OpenBlob is the reverse of SealBlob. ErrCorrupt if the blob was altered, made
// for another purpose or under another storage key.
func (s *Sealed) OpenBlob(purpose string, blob []byte) ([]byte, error) {
	aead := s.blobs.Load()
	if aead == nil {
		return nil, ErrSealed
	}
	if len(blob) < blobOverhead || blob[0] != 1 {
		return nil, fmt.Errorf("blob for %s: %w", purpose, ErrCorrupt)
	}
	data, err := (*aead).Open(nil, blob[1:13], blob[13:], blobAAD(purpose))
	if err != nil {
		return nil, fmt.Errorf("blob for %s: %w", purpose, ErrCorrupt)
	}
	return data, nil
}

func blobAAD(purpose string) []byte {
	b := binary.BigEndian.AppendUint64([]byte(blobInfo), uint64(len(purpose)))
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
