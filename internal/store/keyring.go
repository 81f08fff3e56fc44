package store

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
)

// Keyring are the storage keys of a store by their terms: the first is term 1.
// What is written is sealed under the last one; all of them open.
type Keyring [][]byte

// Wipe overwrites the keys.
func (k Keyring) Wipe() {
	for _, key := range k {
		clear(key)
	}
}

// maxTerms bounds a keyring: rotating daily it lasts for more than 170 years.
const maxTerms = 1 << 16

const (
	nonceSize = 12
	tagSize   = 16

	formatFirst = 1 // under the storage key of term 1: format ‖ nonce ‖ ciphertext ‖ tag
	formatTerm  = 2 // under that of a later term: format ‖ term ‖ nonce ‖ ciphertext ‖ tag
)

// ring is a keyring in use. It is replaced, never changed, but for its count.
type ring struct {
	terms []termKeys
	used  *atomic.Uint64 // seals under the newest term since it came into use here
}

// termKeys are the keys of one term: of records, and of blobs (see SealBlob).
type termKeys struct{ records, blobs cipher.AEAD }

func newTermKeys(key []byte) (termKeys, error) {
	if len(key) != StorageKeySize {
		return termKeys{}, fmt.Errorf("a storage key has %d bytes, not %d", StorageKeySize, len(key))
	}
	records, err := newGCM(key)
	if err != nil {
		return termKeys{}, fmt.Errorf("storage key: %w", err)
	}
	blobs, err := newBlobAEAD(key)
	if err != nil {
		return termKeys{}, fmt.Errorf("storage key: %w", err)
	}
	return termKeys{records, blobs}, nil
}

// UnsealAll sets the storage keys of all terms, StorageKeySize bytes each. The
// caller wipes its copies.
func (s *Sealed) UnsealAll(keys Keyring) error {
	if len(keys) == 0 || len(keys) > maxTerms {
		return fmt.Errorf("a store has 1 to %d storage keys, not %d", maxTerms, len(keys))
	}
	r := &ring{used: new(atomic.Uint64)}
	for _, key := range keys {
		t, err := newTermKeys(key)
		if err != nil {
			return err
		}
		r.terms = append(r.terms, t)
	}
	s.ring.Store(r)
	return nil
}

// AddTerm adds the storage key of the next term; from now on it seals what is
// written. The caller has made it durable, wipes its copy, and does not call
// this at the same time as UnsealAll or Seal. ErrSealed if no key is known.
func (s *Sealed) AddTerm(key []byte) error {
	before := s.ring.Load()
	if before == nil {
		return ErrSealed
	}
	if len(before.terms) >= maxTerms {
		return fmt.Errorf("a store has at most %d storage keys", maxTerms)
	}
	t, err := newTermKeys(key)
	if err != nil {
		return err
	}
	terms := append(before.terms[:len(before.terms):len(before.terms)], t)
	if !s.ring.CompareAndSwap(before, &ring{terms: terms, used: new(atomic.Uint64)}) {
		return errors.New("the storage keys were changed meanwhile")
	}
	return nil
}

// Seals returns the newest term, and how often its key sealed a record or a blob
// since it became known to s; 0, 0 while sealed.
func (s *Sealed) Seals() (term int, n uint64) {
	r := s.ring.Load()
	if r == nil {
		return 0, 0
	}
	return len(r.terms), r.used.Load()
}

// seal encrypts data under the newest key of the kind that of chooses.
func (r *ring) seal(of func(*termKeys) cipher.AEAD, data []byte, aad func(term int) []byte) []byte {
	term := len(r.terms)
	head := make([]byte, 0, 1+4+nonceSize+len(data)+tagSize)
	if term == 1 {
		head = append(head, formatFirst)
	} else {
		head = binary.BigEndian.AppendUint32(append(head, formatTerm), uint32(term))
	}
	start := len(head)
	head = head[:start+nonceSize]
	rand.Read(head[start:])
	r.used.Add(1)
	return of(&r.terms[term-1]).Seal(head, head[start:], data, aad(term))
}

// open is the reverse of seal; ok is false if the bytes are not authentic.
func (r *ring) open(of func(*termKeys) cipher.AEAD, sealed []byte, aad func(term int) []byte) (data []byte, ok bool) {
	term, rest, ok := cutTerm(sealed)
	if !ok || term > len(r.terms) || len(rest) < nonceSize+tagSize {
		return nil, false
	}
	data, err := of(&r.terms[term-1]).Open(nil, rest[:nonceSize], rest[nonceSize:], aad(term))
	return data, err == nil
}

// cutTerm reads the head of something sealed.
func cutTerm(b []byte) (term int, rest []byte, ok bool) {
	switch {
	case len(b) > 0 && b[0] == formatFirst:
		return 1, b[1:], true
	case len(b) >= 5 && b[0] == formatTerm:
		// Term 1 has one form only.
		n := binary.BigEndian.Uint32(b[1:5])
		return int(n), b[5:], n > 1 && n <= maxTerms
	}
	return 0, nil, false
}

// termAAD begins the associated data: the label with the format, and the term
// where the format has one.
func termAAD(label string, term int) []byte {
	if term == 1 {
		return []byte(label + " 1")
	}
	return binary.BigEndian.AppendUint32([]byte(label+" 2"), uint32(term))
}

func recordKeys(t *termKeys) cipher.AEAD { return t.records }
func blobKeys(t *termKeys) cipher.AEAD   { return t.blobs }
