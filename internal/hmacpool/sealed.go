package hmacpool

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/claviger/claviger/internal/fault"
)

const (
	// HeaderFile is the name of a sealed pool's header.
	HeaderFile   = "pool.json"
	headerFormat = "claviger hmacpool 1"
	keyLabel     = "claviger hmacpool key 1\x00"
	chunkLabel   = "claviger hmacpool chunk 1\x00"

	// KeySize is the length of a pool key in bytes.
	KeySize    = 32
	idSize     = 16
	nonceSize  = 12
	tagSize    = 16
	perChunk   = 16 // secrets
	maxHeader  = 64 << 10
	chunkExtra = nonceSize + tagSize
)

// errAltered: a chunk is not what was written there.
var errAltered = errors.New("the record is not authentic: it was altered, moved, or belongs to another pool")

// Header is pool.json, the description of a sealed pool.
type Header struct {
	Format string `json:"format"` // "claviger hmacpool 1"
	ID     string `json:"id"`     // 32 hexadecimal digits, chosen at random
	Mode   string `json:"mode"`
	// Mount and Key name the key that opens Wrapped: "transit", "hmacpool".
	Mount string `json:"mount"`
	Key   string `json:"key"`
	// Wrapped is the pool key as the operation encrypt returned it.
	Wrapped string `json:"wrapped"`
}

// newHeader makes the header of a new sealed pool, still without Wrapped.
func newHeader(m Mode, mount, key string) *Header {
	var id [idSize]byte
	rand.Read(id[:])
	return &Header{Format: headerFormat, ID: hex.EncodeToString(id[:]), Mode: m.String(), Mount: mount, Key: key}
}

// ParseHeader reads pool.json. Its errors are *fault.Error of kind Invalid.
func ParseHeader(text []byte) (*Header, error) {
	h := &Header{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(h); err != nil {
		return nil, headerFault("%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, headerFault("there is something after the object")
	}
	if h.Format != headerFormat {
		return nil, headerFault("format %.40q is not %q", h.Format, headerFormat)
	}
	if _, err := h.id(); err != nil {
		return nil, err
	}
	if _, err := ParseMode(h.Mode); err != nil {
		return nil, headerFault("%s", fault.Message(err))
	}
	if strings.Trim(h.Mount, "/") == "" || h.Key == "" || strings.Contains(h.Key, "/") || h.Wrapped == "" {
		return nil, headerFault("mount, key and wrapped must say how the pool key is opened")
	}
	return h, nil
}

func headerFault(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "%s is not the header of a sealed pool: %s", HeaderFile, fmt.Sprintf(format, args...))
}

func (h *Header) id() ([]byte, error) {
	id, err := hex.DecodeString(h.ID)
	if err != nil || len(id) != idSize || hex.EncodeToString(id) != h.ID {
		return nil, headerFault("id %.40q is not %d lower-case hexadecimal digits", h.ID, 2*idSize)
	}
	return id, nil
}

// KeyAAD is the associated data under which the pool key is wrapped. The header
// must be one that ParseHeader accepts, but for Wrapped.
func (h *Header) KeyAAD() ([]byte, error) { return h.aad(keyLabel) }

func (h *Header) aad(label string) ([]byte, error) {
	id, err := h.id()
	if err != nil {
		return nil, err
	}
	m, err := ParseMode(h.Mode)
	if err != nil {
		return nil, err
	}
	return append(append([]byte(label), id...), byte(m)), nil
}

// seal encrypts the chunks of one pool. It is safe for concurrent use.
type seal struct {
	aead cipher.AEAD
	aad  []byte // without the place
}

// newSeal takes the pool key, KeySize bytes; the caller wipes it.
func newSeal(h *Header, key []byte) (*seal, error) {
	if len(key) != KeySize {
		return nil, fault.New(fault.Invalid, "the pool key has %d bytes, not %d", len(key), KeySize)
	}
	aad, err := h.aad(chunkLabel)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("opening the pool: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("opening the pool: %w", err)
	}
	return &seal{aead, aad}, nil
}

func (s *seal) appendAAD(b []byte, file, chunk uint16) []byte {
	b = append(b, s.aad...)
	b = binary.BigEndian.AppendUint16(b, file)
	return binary.BigEndian.AppendUint16(b, chunk)
}

// append appends the sealed form of secrets to b.
func (s *seal) append(b, secrets []byte, file, chunk uint16) []byte {
	var nonce [nonceSize]byte
	rand.Read(nonce[:])
	b = append(b, nonce[:]...)
	return s.aead.Seal(b, nonce[:], secrets, s.appendAAD(nil, file, chunk))
}

// open decrypts a chunk in place and returns its secrets, a part of sealed.
func (s *seal) open(sealed []byte, file, chunk uint16) ([]byte, error) {
	if len(sealed) < chunkExtra {
		return nil, errAltered
	}
	var room [64]byte
	body := sealed[nonceSize:]
	secrets, err := s.aead.Open(body[:0], sealed[:nonceSize], body, s.appendAAD(room[:0], file, chunk))
	if err != nil {
		return nil, errAltered
	}
	return secrets, nil
}

// chunkSecrets is the number of secrets in a chunk of a pool.
func chunkSecrets(m Mode) int { return min(perChunk, m.PerFile()) }

// chunkSize is the size of a sealed chunk in bytes.
func chunkSize(m Mode) int { return chunkExtra + chunkSecrets(m)*SecretSize }

// fileSize is the size of each file of a pool in bytes.
func fileSize(m Mode, sealed bool) int64 {
	if sealed {
		return int64(m.PerFile()/chunkSecrets(m)) * int64(chunkSize(m))
	}
	return int64(m.PerFile()) * SecretSize
}
